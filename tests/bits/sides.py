"""The two sides of the bits test: the weights that today's code trains, and those of commit ab3026a.

`hashes.json` keeps the commit's side by torch version and kind of processor. To add this machine's:

    python tests/bits/sides.py

To change a hash is to decide that ganzoo trains to other bits from now on: say why in the commit that does it.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COMMIT = "ab3026a439940fde06551a20a04eb4f07fe5c8bf"
ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("train_and_hash.py")
STORED = Path(__file__).with_name("hashes.json")

Hashes = dict[str, str]
"""By variant."""


class NoHistory(Exception):
    """The reference commit, which is needed to make its hashes, is not in this clone."""


def hashes_of_installed() -> Hashes:
    """Hashes of the weights that the installed `ganzoo` trains, of the variants that the commit has."""
    return _train_and_hash(os.environ, sorted(next(iter(next(iter(_read(STORED).values())).values()))))["hashes"]


def hashes_of_commit() -> Hashes:
    """Hashes of the weights that the commit trains, from a temporary folder. Raises `NoHistory` without the commit."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        install_packages(tree, COMMIT)
        # PYTHONPATH comes before every installed package, editable ones included.
        path = os.pathsep.join(filter(None, [str(tree), os.environ.get("PYTHONPATH")]))
        result = _train_and_hash({**os.environ, "PYTHONPATH": path})
        assert Path(result["ganzoo"]).parent.samefile(tree), f"{result['ganzoo']} is not the commit's"
        return result["hashes"]


def stored_hashes(path: Path = STORED) -> Hashes | None:
    """The commit's hashes for this torch version and kind of processor; None if nobody has added them."""
    return _read(path).get(torch_version(), {}).get(processor_kind())


def store(hashes: Hashes, path: Path = STORED) -> None:
    """Add the commit's hashes under this torch version and kind of processor."""
    known = _read(path) if path.exists() else {}
    known.setdefault(torch_version(), {})[processor_kind()] = hashes
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def differences(today: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Names of the variants whose weights changed, including those that no longer exist.

    A variant that the commit does not have is not compared. Raises `ValueError` if no variant is left to compare.
    """
    if not before:
        raise ValueError("there is nothing to compare: the commit's side has no variant")
    return sorted(variant for variant, hash_ in before.items() if today.get(variant) != hash_)


def torch_version() -> str:
    """torch's version with its build, such as 2.14.1+cpu: another compiler makes other bits."""
    import torch

    return str(torch.__version__)


def processor_kind() -> str:
    """Everything about the processor that decides the order of summation, and so the bits.

    torch's kernels depend on the vector instructions (its "capability"), MKL on the vendor as well, and oneDNN cuts
    its loops by the size of the caches, which may differ between virtual machines of one model.
    """
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return " ".join([platform.machine(), *_model(), capability])


def _model() -> list[str]:
    """Vendor, family, model and level 2 cache on Linux; the system's name of the processor elsewhere."""
    cpuinfo, cache = Path("/proc/cpuinfo"), Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    if not cpuinfo.exists():
        return [platform.processor() or "unknown"]
    text = cpuinfo.read_text(encoding="utf-8")
    fields = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    found = [match[1] for name in fields if (match := re.search(rf"^{name}\s*: (.+)$", text, re.M))]
    return [*found, cache.read_text(encoding="utf-8").strip()] if cache.exists() else found


def _read(path: Path) -> dict[str, dict[str, Hashes]]:
    known: dict[str, dict[str, Hashes]] = json.loads(path.read_text(encoding="utf-8"))
    return known


def _train_and_hash(environment: Mapping[str, str], names: Sequence[str] = ()) -> dict[str, Any]:
    environment = {name: value for name, value in environment.items() if name != "GANZOO_PLUGINS"}
    # -P: nothing must be imported from the script's folder.
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPT), *names],
        env=environment | {"OMP_NUM_THREADS": "1"},
        cwd=SCRIPT.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def install_packages(tree: Path, commit: str) -> None:
    """Lay the packages of a commit out in `tree` as an installation does, with entry points.

    Raises `NoHistory` without the commit.
    """
    with zipfile.ZipFile(io.BytesIO(_archive(commit))) as archive:
        archive.extractall(tree)
    (tree / "plugins").rename(tree / "ganzoo_plugins")
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # A version of its own: that of a later commit is read from the code.
    installed = tree / f"{project['name']}-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n", encoding="utf-8"
    )
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _archive(commit: str) -> bytes:
    command = ["git", "-C", str(ROOT), "archive", "--format=zip", commit, "ganzoo", "plugins", "pyproject.toml"]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoHistory(
            f"commit {commit[:7]} is not at hand, and tests/bits/hashes.json has nothing for torch {torch_version()} "
            f"on '{processor_kind()}': fetch the whole history with `git fetch --unshallow`, or run in a clone that "
            "has it"
        ) from error


if __name__ == "__main__":
    store(hashes_of_commit())
    print(f"added torch {torch_version()} on '{processor_kind()}' to {STORED}")
