"""Downloads, verified by sha256 before the file appears under its name."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from ganzoo.errors import DataUnavailable
from ganzoo.util.files import cache_place, write_atomically
from ganzoo.util.rights import make_folder, with_owner
from ganzoo.util.streams import unfailing_stderr
from ganzoo.util.text import printable

FETCHED = ".fetched"
"""Suffix of the note that `download` leaves beside weights in the cache: it holds the sha256 they came with."""


def download(url: str, path: Path, sha256: str, timeout: float = 20.0) -> Path:
    """Fetch `url` to `path`, check its sha256, and return `path`; nothing is fetched if `path` exists.

    Beside weights in the cache it leaves a note, which tells them from files that somebody put there by hand. Shows a
    progress bar on stderr. Raises `OSError` when the network cannot be reached, and `DataUnavailable` when the file
    does not have the expected sha256 or may not be written; in each case `path` stays absent.
    """
    if path.exists():
        return path
    from rich.console import Console
    from rich.progress import Progress

    if not reachable(url):
        raise ConnectionError(f"cannot reach {url}")
    in_cache = path.parent == cache_place() / "weights"

    def fetch(stream: BinaryIO) -> None:
        digest = hashlib.sha256()
        console = Console(file=unfailing_stderr())
        with urllib.request.urlopen(url, timeout=timeout) as response, Progress(console=console) as bar:
            task = bar.add_task(path.name, total=int(response.headers.get("Content-Length") or 0) or None)
            while block := response.read(1 << 20):
                digest.update(block)
                stream.write(block)
                bar.update(task, advance=len(block))
        if digest.hexdigest() != sha256:
            raise DataUnavailable(f"{url} gave a file with sha256 {digest.hexdigest()}, expected {sha256}; not kept")

    try:
        make_folder(path.parent)
        write_atomically(path, fetch, shared=in_cache)
    except (TimeoutError, urllib.error.URLError) as error:
        raise ConnectionError(f"cannot reach {url}") from error
    except PermissionError as error:
        raise DataUnavailable(f"cannot write {printable(path)}: {with_owner(error, path.parent)}") from error
    if in_cache:
        with contextlib.suppress(OSError):
            write_atomically(path.with_name(path.name + FETCHED), lambda note: note.write(sha256.encode()), shared=True)
    return path


def reachable(url: str, seconds: float = 4.0) -> bool:
    """Whether the host of `url`, or the proxy in force for it, accepts a connection within `seconds`.

    Runs in a thread, because a DNS lookup has no timeout.
    """
    host = urlsplit(url)
    proxy = urllib.request.getproxies().get(host.scheme)
    if proxy and not urllib.request.proxy_bypass(host.netloc):
        host = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    port = host.port or (443 if host.scheme == "https" else 80)
    answered = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection((host.hostname, port), seconds).close()
            answered.set()

    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(seconds)
    return answered.is_set()
