"""The build backend: setuptools, but an editable install finds `ganzoo` from any folder.

`plugins/` is installed as `ganzoo_plugins`, so setuptools redirects the imports of an editable install by a finder, and
that finder is asked last. In the folder above a checkout called `ganzoo` Python has found something by then: the
checkout itself, which it takes for a namespace package, an empty one. So the checkout goes on `sys.path` as well: a
package with an `__init__.py` that lies anywhere on the path goes before a namespace package.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

CHECKOUT = Path(__file__).resolve().parents[1]
PATH_FILE = "ganzoo-checkout.pth"


def build_editable(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """The wheel of setuptools, with a file that puts the checkout on `sys.path`."""
    name: str = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    wheel = Path(wheel_directory, name)
    with zipfile.ZipFile(wheel) as archive:
        files = {file: archive.read(file) for file in archive.namelist()}
    content = f"{CHECKOUT}\n".encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    record = next(file for file in files if file.endswith(".dist-info/RECORD"))
    files[record] += f"{PATH_FILE},sha256={digest},{len(content)}\n".encode()
    files[PATH_FILE] = content
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, data in files.items():
            archive.writestr(file, data)
    return name
