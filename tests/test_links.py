"""Pipes, devices and links where files and folders should be: no command hangs, and none leaves the folder."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ONE_MACHINE
from PIL import Image
from skips import needs_system

import ganzoo
from ganzoo.errors import RecordError
from ganzoo.records.folder import claim
from ganzoo.types import DatasetRequest
from ganzoo.util.files import NotRegular, open_regular, read_regular, sha256_of_file
from ganzoo_plugins.datasets import folder as image_folder
from ganzoo_plugins.datasets import torchvision_datasets

pytestmark = needs_system(os.name == "posix", "pipes and links as POSIX has them")

LINK = "a symbolic link, which is not followed"

KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "not a plain file"),
    "folder": (lambda path: path.mkdir(), "not a plain file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), LINK),
    "private": (lambda path: path.symlink_to(path.parent.parent / "private"), LINK),
}
"""What may lie in the place of a file, and what is said of it."""


@pytest.fixture
def runs(tmp_path) -> Path:
    """A copy of a committed run, and a private file beside it."""
    (source,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
    shutil.copytree(source, tmp_path / "runs" / source.parent.name / source.name)
    (tmp_path / "private").write_text("secret")
    return tmp_path / "runs"


@pytest.fixture
def run(runs) -> Path:
    (folder,) = runs.glob("*/mlp-*")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_plain_file_is_opened(kind, tmp_path):
    put, what = KINDS[kind]
    (tmp_path / "folder").mkdir()
    place = tmp_path / "folder" / "file"
    put(place)
    for read in (open_regular, lambda path: read_regular(path, 10), lambda path: sha256_of_file(path, links=False)):
        with pytest.raises(NotRegular) as caught:
            read(place)
        assert caught.value.strerror == what
    (tmp_path / "private").write_text("0123456789a")
    (tmp_path / "link").symlink_to("private")
    assert sha256_of_file(tmp_path / "link") == sha256_of_file(tmp_path / "private")
    with pytest.raises(NotRegular, match="larger than 0 MiB"):
        read_regular(tmp_path / "private", 10)


@pytest.mark.parametrize("kind", KINDS)
def test_no_command_reads_anything_but_a_plain_file_in_a_folder_of_results(kind, runs, run, invoke, tmp_path):
    put, what = KINDS[kind]
    put(runs / "README.md")
    outcome = invoke("leaderboard", "runs")
    assert (outcome.code, outcome.error) == (2, f"ganzoo: runs/README.md: cannot be read: {what}")
    put(tmp_path / "suite.toml")
    outcome = invoke("bench", "--suite", "suite.toml")
    assert outcome.code == 2
    assert outcome.error.startswith("ganzoo: --suite suite.toml: ")
    for name in ("samples.png", "generator.safetensors", "checkpoint.safetensors"):
        (run / name).unlink(missing_ok=True)
        put(run / name)
    found = invoke("doctor", "runs").out
    for name in ("samples.png", "generator.safetensors"):
        assert f"{name}: is {what}\n" in found
    if kind != "folder":
        assert f"checkpoint.safetensors: is {what}\n" in found
    assert f"{run.name}/generator.safetensors: " in invoke("sample", run).error
    assert invoke("report", "runs").code == 0
    assert "secret" not in (tmp_path / "report.html").read_text()
    (run / "record.json").rename(tmp_path / "record.json")
    put(run / "record.json")
    for command in (("compare", "runs"), ("diff", run, run), ("show", run), ("sample", run)):
        outcome = invoke(*command)
        assert outcome.code == 2
        if kind != "folder":
            assert f"record.json: cannot be read: {what}" in outcome.err
    assert (tmp_path / "private").read_text() == "secret"


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(runs, invoke, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    for name in ("pipe", "null"):
        for command in (("compare", "runs"), ("report", "runs")):
            outcome = invoke(*command, "-o", name, "--force")
            assert outcome.code == 2
            assert f"-o {name}: " in outcome.error
            assert "not a plain file" in outcome.error
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert (tmp_path / "null").is_symlink()


def listing(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_folders_that_links_lead_to_are_named_and_left_alone(runs, run, invoke, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run.parent, elsewhere)
    (runs / "machine").symlink_to(elsewhere)
    outcome = invoke("compare", "runs", "--format", "json")
    assert outcome.code == 0
    assert outcome.err == f"ganzoo: left out: runs/machine: {LINK}\n"
    assert f"runs/machine: is {LINK}; put what it leads to in its place\n" in invoke("doctor", "runs").out
    # A link that a user names is followed.
    assert invoke("compare", runs / "machine", "--format", "json").err == ""


def test_doctor_moves_nothing_out_of_the_folder(runs, run, invoke, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (runs / "quarantine").symlink_to(tmp_path / "elsewhere")
    (run / "samples.png").unlink()
    before = listing(tmp_path)
    outcome = invoke("doctor", "runs", "--fix")
    assert (outcome.code, outcome.error) == (
        2,
        f"ganzoo: runs/quarantine: is {LINK}; remove it, or put a folder in its place",
    )
    (runs / "quarantine").unlink()
    (runs / "quarantine").mkdir()
    (runs / "quarantine" / run.parent.name).symlink_to(tmp_path / "elsewhere")
    assert f"{run.parent.name}: is {LINK}" in invoke("doctor", "runs", "--fix").error
    assert [path for path in listing(tmp_path) if "quarantine" not in path.parts] == [
        path for path in before if "quarantine" not in path.parts
    ]


@pytest.mark.parametrize("planted", [".claims", "HARDWARE", "HARDWARE/RUN", "HARDWARE/RUN.before"])
def test_a_bench_writes_nothing_out_of_the_folder(planted, invoke, tmp_path):
    from ganzoo.planning.request import BenchPlan
    from ganzoo.running.bench import prepare_bench
    from ganzoo.running.identified import RunsOfPlan

    plan = BenchPlan(("mlp",), device="cpu", throughput_only=True, threads=1)
    bench = prepare_bench(plan, print)
    (identified,) = RunsOfPlan(bench.resolved, bench.registry, tmp_path / "runs")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "record.json").write_text("mine")
    place = planted.replace("HARDWARE", identified.folder.parent.name).replace("RUN", identified.folder.name)
    (tmp_path / "runs" / place).parent.mkdir(parents=True)
    (tmp_path / "runs" / place).symlink_to(tmp_path / "elsewhere")
    before = listing(tmp_path)
    for force in ((), ("--force",)):
        outcome = invoke("bench", "--models", "mlp", "--device", "cpu", "--throughput-only", "--threads", 1, *force)
        assert outcome.code == 2
        assert outcome.error == f"ganzoo: {tmp_path}/runs/{place}: is {LINK}; remove it, or put a folder in its place"
    assert listing(tmp_path) == before


def test_a_lock_is_no_link(tmp_path):
    (tmp_path / ".claims").mkdir()
    (tmp_path / ".claims" / "0123456789abcdef.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match=LINK), claim(tmp_path, "0123456789abcdef"):
        pass
    assert not (tmp_path / "elsewhere").exists()


# --- images -----------------------------------------------------------------------------------------------------------


def test_links_to_images_are_followed_and_the_record_says_how_many_lie_outside(tmp_path):
    for place in ("photos/cat/1.png", "photos/dog/1.png", "far/2.png", "other/dog/3.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / place)
    photos = tmp_path / "photos"
    (photos / "cat" / "here.png").symlink_to(photos / "cat" / "1.png")
    loaded = image_folder.read_folder(photos, 8)
    assert "links" not in loaded.notes
    (photos / "cat" / "2.png").symlink_to(tmp_path / "far" / "2.png")
    (photos / "fox").symlink_to(tmp_path / "other" / "dog")
    (tmp_path / "named").symlink_to(photos)
    loaded = image_folder.read_folder(tmp_path / "named", 8)
    assert loaded.notes["links"] == ("2 of 5 images lie outside of the folder, where links lead (cat/2.png, fox/3.png)")


@pytest.mark.parametrize("linked", [False, True])
def test_classes_that_move_up_within_the_folder_are_another_dataset(linked, tmp_path):
    """Where links lead to them the files, and their names below the folder that they share, are the same as before."""
    photos = tmp_path / "photos"
    for name in ("a", "b"):
        place = (tmp_path / "far" if linked else photos / "train") / name
        place.mkdir(parents=True)
        Image.new("L", (8, 8)).save(place / "1.png")
        if linked:
            (photos / "train").mkdir(parents=True, exist_ok=True)
            (photos / "train" / name).symlink_to(place)
    request = DatasetRequest(tmp_path, str(photos), 8, hold_out=0)
    before = image_folder.fingerprint(request)
    assert image_folder.load(request).class_names == ("train",)
    for name in ("a", "b"):
        (photos / "train" / name).rename(photos / name)
    (photos / "train").rmdir()
    assert image_folder.load(request).class_names == ("a", "b")
    assert image_folder.fingerprint(request) != before


def test_a_pipe_among_the_files_of_a_dataset_is_refused(tmp_path):
    cifar = next(source for source in torchvision_datasets.SOURCES if source.name == "cifar10")
    raw = tmp_path / cifar.unpacked_folder
    raw.mkdir()
    for name in cifar.unpacked:
        os.mkfifo(raw / name)
    with pytest.raises(ganzoo.DataUnavailable, match=r"cifar10 cannot be read: .*not a plain file"):
        torchvision_datasets.read(cifar, tmp_path)
    (tmp_path / "celeba").mkdir()
    os.mkfifo(tmp_path / "celeba" / "1.jpg")
    with pytest.raises(OSError, match="is not a plain file"):
        torchvision_datasets.check_regular(tmp_path / "celeba")
