"""`ganzoo env` shows the sizes of the cache; `--clear-cache` empties it and touches no other file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from ganzoo.data.prepared import prepare
from ganzoo.types import Dataset, DatasetRequest, LabelledImages
from ganzoo.util.download import download


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache with a prepared dataset, weights, references and partly written files."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GANZOO_CACHE", str(folder))
    loaded = LabelledImages(np.zeros((10, 1, 8, 8), np.uint8), np.arange(10) % 3)
    dataset = Dataset("zeros", lambda request: loaded, lambda request: "1", image_size=8)
    prepare(dataset, DatasetRequest(tmp_path, "", 8), None)
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
