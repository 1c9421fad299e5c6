"""The cache: it is checked before it is believed, shown in sizes, and emptied without touching any other file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from ganzoo.data.prepared import PreparedDataset, prepare, whole_dataset
from ganzoo.evaluation.extractors import load_extractor
from ganzoo.evaluation.features import RealSample
from ganzoo.registry.discovery import discover
from ganzoo.types import Dataset, DatasetRequest, LabelledImages
from ganzoo.util.download import download
from ganzoo.util.files import cache_folder
from ganzoo.util.tensorfiles import UNSIGNED, signed


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache with a prepared dataset, weights, references and partly written files."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GANZOO_CACHE", str(folder))
    loaded = LabelledImages(np.zeros((10, 1, 8, 8), np.uint8), np.arange(10) % 3)
    dataset = Dataset("zeros", lambda request: loaded, lambda request: "1", image_size=8)
    prepare(dataset, DatasetRequest(tmp_path, "", 8, hold_out=0), None)
    for name, size in {
        "weights/inception.pth": 1000,
        "weights/.inception.pth.a1b2c3d4.part": 36,
        "references/zeros-inception-0123456789abcdef-statistics.safetensors": 200,
        "references/.zeros-inception-0123456789abcdef-features.safetensors.e5f6g7_8.part": 30,
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(bytes(size))
        if name.endswith(".part"):
            make_old(folder / name)
    (folder / "weights" / "inception.pth.fetched").write_text(hashlib.sha256(bytes(1000)).hexdigest())
    return folder


def make_old(path: Path) -> None:
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))


def sizes(invoke) -> dict[str, int]:
    folders = json.loads(invoke("env", "--json").out)["folders"]
    parts = {name: folders[f"{name}_bytes"] for name in ("datasets", "weights", "references")}
    assert folders["cache_bytes"] == sum(parts.values())
    return parts


def test_env_shows_cache_sizes_and_clear_cache_frees_them(cache, invoke):
    before = sizes(invoke)
    assert before["weights"] == 1100
    assert before["references"] == 230
    assert before["datasets"] > 640
    assert "references_bytes" in invoke("env").out
    outcome = invoke("env", "--clear-cache", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == {"freed": before}
    assert sizes(invoke) == dict.fromkeys(before, 0)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert invoke("env", "--clear-cache").out == f"freed 0 MiB in {cache}\n"


def test_cleared_dataset_is_prepared_again(cache, invoke):
    bench = ("bench", "--models", "mlp", "--throughput-only", "--device", "cpu", "--dry-run", "--json")
    first = json.loads(invoke(*bench).out)
    assert sizes(invoke)["datasets"] > 1797 * 256
    invoke("env", "--clear-cache")
    assert sizes(invoke)["datasets"] == 0
    assert json.loads(invoke(*bench).out)[0]["spec"] == first[0]["spec"]


def test_clear_cache_touches_no_other_files(cache, invoke, tmp_path):
    outside = tmp_path / "precious"
    (outside / "deeper").mkdir(parents=True)
    (outside / "file").write_text("mine")
    (outside / "images.npy").write_text("mine")
    (dataset,) = (cache / "datasets").iterdir()
    kept = {
        cache / "notes.txt": "mine",
        cache / "datasets" / "photos" / "images.npy": "mine",
        dataset / "notes.txt": "mine",
        dataset / "images.png": "mine",
        cache / "weights" / "my_phd_resnet.pt": "mine",
        cache / "weights" / "noted.pt.fetched": "of what is not there",
        cache / "weights" / "changed.pt": "mine",
        cache / "weights" / "changed.pt.fetched": hashlib.sha256(b"as it came").hexdigest(),
        cache / "weights" / "thesis.part": "mine",
        cache / "references" / "table.csv": "mine",
        cache / "references" / "my-features.safetensors": "mine",
        cache / "references" / "thesis.part": "mine",
        cache / "references" / ".thesis.tex.a1b2c3d4.part": "mine",
        cache / "plugins-of-others" / "data": "mine",
    }
    for path, text in kept.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    links = {
        cache / "weights" / "linked.pth": outside / "file",
        cache / "weights" / "linked-folder": outside,
        cache / "datasets" / "linked-8-0123456789abcdef": outside,
        cache / "references" / "linked.safetensors": outside / "file",
    }
    for link, target in links.items():
        link.symlink_to(target)
    outcome = invoke("env", "--clear-cache")
    assert outcome.code == 0, outcome.err
    assert {path: path.read_text() for path in kept} == kept
    assert all(link.is_symlink() for link in links)
    assert (outside / "file").read_text() == (outside / "images.npy").read_text() == "mine"
    for path in kept:
        make_old(path)
    assert invoke("env", "--clear-cache").out == f"freed 0 MiB in {cache}\n"
    assert {path: path.read_text() for path in kept} == kept
    assert not (cache / "weights" / "inception.pth").exists()
    assert not (dataset / "images.npy").exists()


def test_clear_cache_leaves_a_symlinked_part_alone(cache, invoke, tmp_path):
    elsewhere = tmp_path / "large-disk"
    (cache / "weights").rename(elsewhere)
    (cache / "weights").symlink_to(elsewhere)
    assert sizes(invoke)["weights"] == 0
    invoke("env", "--clear-cache")
    assert (elsewhere / "inception.pth").exists()


def test_clear_cache_leaves_a_dataset_that_is_being_prepared(cache, invoke):
    making = cache / "datasets" / ".zeros-8-0123456789abcdef.x1y2"
    making.mkdir()
    (making / "images.npy").write_bytes(bytes(10))
    invoke("env", "--clear-cache")
    assert (making / "images.npy").exists()
    make_old(making)
    invoke("env", "--clear-cache")
    assert not making.exists()


def test_clear_cache_removes_downloaded_weights_only(cache, invoke, tmp_path, monkeypatch):
    monkeypatch.setattr("ganzoo.util.download.reachable", lambda url: True)
    content = b"weights" * 1000
    (tmp_path / "published.pth").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    by_hand = cache / "weights" / "by-hand.pth"
    by_hand.write_bytes(content)
    for path in (by_hand, cache / "weights" / "fetched.pth", tmp_path / "elsewhere.pth"):
        assert download((tmp_path / "published.pth").as_uri(), path, sha256).read_bytes() == content
    assert [path.name for path in tmp_path.glob("elsewhere*")] == ["elsewhere.pth"], "outside of the cache no note"
    invoke("env", "--clear-cache")
    assert [path.name for path in (cache / "weights").iterdir()] == ["by-hand.pth"]
    assert by_hand.read_bytes() == content


def test_clear_cache_in_a_home_folder_removes_only_the_cache(cache, invoke, monkeypatch, tmp_path):
    """If GANZOO_CACHE is a folder with other files, those files stay."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "thesis.csv").write_text("years of work")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    invoke("env", "--clear-cache")
    assert (tmp_path / "datasets" / "thesis.csv").read_text() == "years of work"
    assert (cache / "weights" / "inception.pth").exists()


# --- what lies there is checked before it is believed -----------------------------------------------------------------

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 1, 16, 16), dtype=np.uint8)
GREY = Dataset("grey", lambda request: LabelledImages(IMAGES, np.arange(60) % 3), lambda request: "1", image_size=16)


def prepare_grey() -> PreparedDataset:
    return prepare(GREY, DatasetRequest(Path(), "", 16, hold_out=0), None)


@pytest.fixture
def grey(tmp_path, monkeypatch) -> Path:
    """The folder of a prepared dataset in a cache of its own."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    return Path(prepare_grey().folder)


def zero_the_end(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-3000] + bytes(3000))


DAMAGES = {
    "zeroed": zero_the_end,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "absent": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dataset_is_named_by_doctor_and_made_again(damage, grey, invoke, tmp_path):
    (tmp_path / "runs").mkdir()
    assert invoke("doctor").out == "0 record(s), 0 checkpoint(s): all is well\n"
    DAMAGES[damage](grey / "images.npy")
    outcome = invoke("doctor")
    assert outcome.code == 1
    line, verdict = outcome.out.splitlines()
    assert line.startswith(f"{grey}: is damaged: its images and labels do not have the sha256 they came with; ")
    assert verdict == "0 record(s), 0 checkpoint(s): 1 fault(s)"
    again = prepare_grey()
    assert again.folder == str(grey)
    assert np.array_equal(again.images(), IMAGES)
    assert invoke("doctor").code == 0


@pytest.mark.parametrize("fact", [{"classes": 7}, {"with_alpha": 3}, {"background": "#000000"}, {"notes": {"a": "b"}}])
def test_what_a_dataset_says_of_itself_is_checked_too(fact, grey):
    path = grey / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fact))
    assert whole_dataset(grey) is None
    again = prepare_grey()
    assert {name: getattr(again, name) for name in fact} != fact


@pytest.mark.parametrize("obstacle", ["link", "file of a user", "plain file"])
def test_a_damaged_dataset_that_cannot_be_replaced_is_made_in_another_place(obstacle, grey, tmp_path):
    kept = tmp_path / "kept"
    if obstacle == "plain file":
        kept.write_text("mine")
        for path in grey.iterdir():
            path.unlink()
        grey.rmdir()
        kept.rename(grey)
    elif obstacle == "link":
        grey.rename(kept)
        grey.symlink_to(kept)
        assert prepare_grey().folder == str(grey), "a whole one is used where it lies"
        zero_the_end(kept / "images.npy")
    else:
        (grey / "thesis.txt").write_text("mine")
        zero_the_end(grey / "images.npy")
    again = prepare_grey()
    assert again.folder != str(grey)
    assert np.array_equal(again.images(), IMAGES)
    assert prepare_grey().folder == again.folder
    assert grey.exists()
    if obstacle == "file of a user":
        assert (grey / "thesis.txt").read_text() == "mine"
    if obstacle == "link":
        assert (kept / "images.npy").exists()


def reference(kind: str) -> Path:
    (path,) = cache_folder("references").glob(f"*-{kind}.safetensors")
    return path


def with_tensors(path: Path, **tensors: torch.Tensor) -> None:
    """Write the file anew with its metadata and some of its tensors replaced."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({**load_file(path), **tensors}, path, metadata=metadata)


FORGERIES = {
    "mean": ("statistics", lambda path: with_tensors(path, mu=torch.zeros(128, dtype=torch.float64))),
    "plain": ("statistics", lambda path: save_file(load_file(path), path)),
    "shape": ("statistics", lambda path: save_signed(path, mu=torch.zeros(3).double(), sigma=torch.zeros(3).double())),
    "type": ("statistics", lambda path: save_signed(path, mu=torch.zeros(3), sigma=torch.zeros(3, 3))),
    "few": ("features", lambda path: save_signed(path, features=torch.zeros(7, 128), logits=torch.zeros(7, 10))),
    "other": ("features", lambda path: save_signed(path, mu=torch.zeros(3))),
    "zeroed": ("features", zero_the_end),
    "truncated": ("features", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    "pipe": ("features", lambda path: (path.unlink(), os.mkfifo(path))),
    "of another": ("statistics", lambda path: save_signed(path, "other.safetensors", **load_file(path))),
}


def save_signed(path: Path, of: str = "", **tensors: torch.Tensor) -> None:
    """As a forger would who knows how it is done."""
    content = save(tensors, metadata={"of": of or path.name, "sha256": UNSIGNED})
    path.write_bytes(b"".join(signed(content)))


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_damaged_reference_is_named_by_doctor_and_made_again(forgery, grey, invoke, tmp_path):
    extractor = load_extractor(discover().get("features", "digits-cnn").record, "cpu")

    def both() -> list[torch.Tensor]:
        sample = RealSample(prepare_grey(), extractor)
        return [*sample.statistics(), sample.features, sample.logits]

    (tmp_path / "runs").mkdir()
    before = both()
    assert all(torch.equal(one, other) for one, other in zip(both(), before, strict=True))
    assert invoke("doctor").code == 0
    kind, forge = FORGERIES[forgery]
    forge(reference(kind))
    outcome = invoke("doctor")
    if forgery != "few":
        assert outcome.code == 1
        assert outcome.out.startswith(f"{reference(kind)}: ")
    assert all(torch.equal(one, other) for one, other in zip(both(), before, strict=True))
    if forgery != "few":
        assert invoke("doctor").code == 0
