"""Disks that fill up and folders that become read-only at any moment: no partial file, one error line."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HANGING, ONE_MACHINE
from safetensors.torch import load_file, save, save_file
from skips import OTHER_SYSTEM, needs_system

from ganzoo.data.prepared import prepare
from ganzoo.errors import GanzooError
from ganzoo.records.doctor import examine
from ganzoo.records.store import read_record, read_spec, run_folder, write_record
from ganzoo.runs import SCHEMA
from ganzoo.types import Dataset, DatasetRequest, LabelledImages
from ganzoo.util.files import sha256_of_file, write_atomically
from ganzoo.util.images import grid, save_png

resource = pytest.importorskip("resource", reason=f"{OTHER_SYSTEM}limits on the size of files are a matter of POSIX")

NEWEST = Path(__file__).parent / "records" / f"schema-{SCHEMA}.json"
MOMENTS = 60


def write_a_record(folder: Path, old: bool) -> None:
    (source,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
    write_record(read_record(source), folder / "run")


def write_samples(folder: Path, old: bool) -> None:
    (folder / "run").mkdir(exist_ok=True)
    pictures = torch.full((64, 1, 16, 16), 7 if old else 250, dtype=torch.uint8)
    save_png(grid(pictures), folder / "run" / "samples.png", scale=4)


def write_weights(folder: Path, old: bool) -> None:
    (folder / "run").mkdir(exist_ok=True)
    weights = {"weight": torch.full((300,), float(old))}
    write_atomically(folder / "run" / "generator.safetensors", lambda stream: stream.write(save(weights)))


VERSIONS = itertools.count()
"""A new dataset version for each write: one that is prepared already would be read and not written."""


def prepare_data(folder: Path, old: bool) -> None:
    images = np.arange(20 * 64, dtype=np.uint8).reshape(20, 1, 8, 8)
    loaded = LabelledImages(images, np.arange(20) % 3)
    version = "old" if old else str(next(VERSIONS))
    dataset = Dataset("small", lambda request: loaded, lambda request: version, image_size=8)
    prepared = prepare(dataset, DatasetRequest(folder, "", 8, hold_out=0), None)
    assert np.array_equal(prepared.images(), images)


WRITES: dict[str, Callable[[Path, bool], None]] = {
    "record": write_a_record,
    "samples": write_samples,
    "weights": write_weights,
    "dataset": prepare_data,
}


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """An approximation of a full disk: writing beyond this file size fails, also in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def one_line(error: BaseException) -> None:
    assert isinstance(error, (OSError, GanzooError)), error
    assert str(error).isprintable()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("name", WRITES)
def test_disk_full_at_any_byte_keeps_the_old_file(name, cache):
    write = WRITES[name]
    write(cache, True)
    before = files_below(cache)
    largest = max(map(len, before.values()))
    rng = random.Random(name)
    failed = 0
    for size in (0, *(rng.randrange(largest) for _ in range(MOMENTS))):
        try:
            with no_file_larger_than(size):
                write(cache, False)
        except (OSError, GanzooError) as error:
            one_line(error)
            failed += 1
            assert files_below(cache) == before
        else:
            # The file fitted: the new one is complete.
            write(cache, True)
            before = files_below(cache)
    assert failed > MOMENTS / 2
    write(cache, False)


STEPS = [
    "os.open",
    "os.mkdir",
    "os.fsync",
    "os.replace",
    "pathlib.Path.rename",
    "os.write",
]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("name", WRITES)
def test_failure_at_any_step_of_a_write_keeps_the_old_file(name, code, cache, monkeypatch):
    write = WRITES[name]
    write(cache, True)
    before = files_below(cache)

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    failed = 0
    for step in STEPS:
        with monkeypatch.context() as patch:
            patch.setattr(step, fail)
            try:
                write(cache, False)
            except (OSError, GanzooError) as error:
                one_line(error)
                failed += 1
                assert files_below(cache) == before
            else:
                write(cache, True)
                before = files_below(cache)
    assert failed >= 2, "a write takes several steps"


def test_unwritable_reference_cache_is_a_note_and_scores_remain(cache):
    from ganzoo.evaluation.extractors import load_extractor
    from ganzoo.evaluation.features import RealSample
    from ganzoo.registry.discovery import discover

    images = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16), dtype=np.uint8)
    dataset = Dataset("grey", lambda request: LabelledImages(images), lambda request: "1", image_size=16)
    prepared = prepare(dataset, DatasetRequest(cache, "", 16, hold_out=0), None)
    extractor = load_extractor(discover().get("features", "digits-cnn").record, "cpu")
    wanted = RealSample(prepared, extractor, source_sha256="kept").statistics()
    kept = files_below(cache / "cache" / "references")
    rng = random.Random(0)
    for moment in range(10):
        notes: list[str] = []
        with no_file_larger_than(rng.randrange(10_000)):
            found = RealSample(prepared, extractor, notes.append, source_sha256=f"moment {moment}").statistics()
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
        assert len(notes) == 2
        assert all(note.startswith("cannot keep ") and note.isprintable() for note in notes)
    assert files_below(cache / "cache" / "references") == kept


LEAVES_NO_PLACE = """
import os
import ganzoo

@ganzoo.hookimpl
def ganzoo_event(event):
    if isinstance(event, ganzoo.RunStarted):
        for name in ("samples.png", "generator.safetensors"):
            os.makedirs(os.path.join(event.folder, name))
"""


def test_unwritable_samples_and_weights_are_notes_and_the_run_succeeds(run_cli):
    """Folders in place of the files: as on a full disk, writing fails only after training and scoring."""
    (run_cli.cwd / "taken.py").write_text(LEAVES_NO_PLACE)
    done = run_cli(
        *("bench", "--models", "mlp", "--kimg", "0.1", "--batch-size", "32", "--fakes", "50", "--threads", "1"),
        *("--throughput-seconds", "0.1", "--device", "cpu", "--plugin", "taken.py", "--quiet", "--json"),
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert (record["status"], bool(record["scores"]), record["files"]) == ("ok", True, {})
    for name in ("samples.png", "generator.safetensors"):
        assert f"ganzoo: mlp, seed 0: has no {name}, which could not be written (" in done.stderr
        (place,) = (run_cli.cwd / "runs").rglob(name)
        place.rmdir()
    assert [finding.what for finding in examine(run_cli.cwd / "runs").findings if "mfu" not in finding.what] == []


MOUNTED = """\
import os, subprocess, sys
from pathlib import Path
folder, kind = Path(sys.argv[1]), sys.argv[2]
folder.mkdir(exist_ok=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
sys.path.insert(0, sys.argv[3])
os.environ["GANZOO_CACHE"] = str(folder / "cache")
from test_full_disk import WRITES, files_below
failures = 0
for name, write in WRITES.items():
    write(folder, True)
before = files_below(folder)
for moment in range(12):
    for name, write in WRITES.items():
        if kind == "full":
            # Filled but for a few pages, another number of them each time.
            free = os.statvfs(folder)
            filler = folder / "filler"
            filler.write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - 4096 * (moment % 3))))
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        try:
            write(folder, False)
        except Exception as error:
            assert str(error).isprintable(), error
            failures += 1
            now = {path: data for path, data in files_below(folder).items() if path != "filler"}
            assert now == before, (name, sorted(set(now) ^ set(before)))
        if kind == "full":
            filler.unlink()
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        write(folder, True)
        before = files_below(folder)
print(failures)
"""


PRIVATELY = ("unshare", "--mount")
"""Runs a command with private mounts."""

AS_IF_ROOT = (*PRIVATELY, "--user", "--map-root-user")


def mounting() -> tuple[str, ...] | None:
    """The command by which this user may mount a private disk; None if there is none."""
    for prefix in (PRIVATELY, AS_IF_ROOT):
        command = [*prefix, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(command, capture_output=True, timeout=HANGING).returncode == 0:
            return prefix
    return None


@needs_system(sys.platform == "linux", "mounts for one process are Linux's")
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_real_disk_that_is_full_or_read_only(kind, tmp_path):
    prefix = mounting()
    if prefix is None:
        pytest.skip("this user may mount no small disk; the tests above do without")
    program = [*prefix, sys.executable, "-c", MOUNTED, tmp_path / "disk", kind, Path(__file__).parent]
    done = subprocess.run([*map(str, program)], capture_output=True, text=True, timeout=HANGING)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 12


def test_earlier_records_stay_readable_and_healthy_after_a_full_disk(tmp_path):
    """The files of a run's folder are written repeatedly on a full disk."""
    record = read_record(NEWEST)
    folder = run_folder(tmp_path, read_spec(record.spec), record.run_id)
    folder.mkdir(parents=True)
    save_png(grid(torch.zeros(64, 1, 16, 16, dtype=torch.uint8)), folder / "samples.png", scale=4)
    save_file({"weight": torch.zeros(2_000_000)}, folder / "generator.safetensors")
    hashes = {name: sha256_of_file(folder / name) for name in ("samples.png", "generator.safetensors")}
    record = write_record(replace(record, files=hashes), folder)
    rng = random.Random(1)
    for _ in range(30):
        for write in (
            lambda: write_record(record, folder),
            lambda: save_png(grid(torch.zeros(64, 1, 16, 16, dtype=torch.uint8)), folder / "samples.png", scale=4),
            lambda: write_atomically(folder / "generator.safetensors", lambda stream: stream.write(bytes(10**6))),
        ):
            with contextlib.suppress(OSError, GanzooError), no_file_larger_than(rng.randrange(2000)):
                write()
    assert json.loads((folder / "record.json").read_text())["run_id"] == record.run_id
    assert load_file(folder / "generator.safetensors")["weight"].shape == (2_000_000,)
    assert [finding.what for finding in examine(tmp_path).findings] == []
