"""What is trained on and what is held out: the splits of the datasets, what preparation draws, `--reference`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ganzoo.data.prepared import prepare, whole_dataset
from ganzoo.data.splits import splits_of
from ganzoo.errors import DataUnavailable, PluginError
from ganzoo.types import Dataset, DatasetRequest, LabelledImages

MLP = ("bench", "--models", "mlp", "--kimg", 0.256, "--throughput-seconds", 0.01, "--fakes", 50, "--device", "cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))


def images_of(count: int, start: int = 0) -> np.ndarray:
    """Images that tell their number: its hundreds in one pixel, the rest in the others."""
    numbers = np.arange(start, start + count)
    images = np.repeat((numbers % 100).astype(np.uint8), 64).reshape(count, 1, 8, 8)
    images[:, 0, 0, 0] = numbers // 100
    return images


def numbers_of(images: np.ndarray) -> list[int]:
    return (images[:, 0, 0, 0].astype(int) * 100 + images[:, 0, 5, 5]).tolist()


def prepared(loaded: LabelledImages, hold_out: float | None = None):
    request = DatasetRequest(Path(), "", 8, hold_out=hold_out)
    return prepare(
        Dataset("some", lambda request: loaded, lambda request: str(numbers_of(loaded.images))), request, None
    )


@pytest.mark.parametrize(
    ("count", "share", "held_out"),
    [
        *((1, None, 0), (3, None, 0), (4, None, 1), (1999, None, 499)),
        *((2000, None, 500), (5000, None, 500), (5001, None, 500), (6000, None, 600)),
        *((100, 0, 0), (100, 0.3, 30), (100, 0.001, 0)),
    ],
)
def test_preparation_holds_out_a_tenth_at_least_500_or_a_quarter_of_few(count, share, held_out):
    loaded = LabelledImages(images_of(count), np.arange(count) % 7, split="all")
    trained, tested, classes = splits_of(loaded, share, "some")
    assert (len(trained.chosen), len(tested.chosen)) == (count - held_out, held_out)
    assert sorted([*trained.chosen, *tested.chosen]) == list(range(count)), "each image is in one part"
    assert classes == min(7, count)


def test_held_out_images_are_drawn_once_and_for_all_and_keep_their_labels():
    labels = np.arange(400) % 10
    first = prepared(LabelledImages(images_of(400), labels, split="all"))
    assert (first.count, first.split) == (300, "all without those held out")
    assert first.held_out is not None
    assert (first.held_out.count, first.held_out.split, first.held_out.held_out) == (100, "held out", None)
    seen = {}
    for part in (first, first.held_out):
        numbers = numbers_of(part.images())
        assert numbers == sorted(numbers), "in their order"
        assert (part.labels() == np.array(numbers) % 10).all()
        seen[part.split] = set(numbers)
    assert set.union(*seen.values()) == set(range(400))
    # Spread over the whole, not its end: a folder's end may be one class.
    assert 20 < len(seen["held out"] & set(range(200))) < 80
    other = prepared(LabelledImages(images_of(400, start=400), labels, split="all"))
    assert {number + 400 for number in seen["held out"]} == set(numbers_of(other.held_out.images()))


def test_a_test_split_is_taken_as_it_is_and_changes_nothing_of_the_rest():
    labels, test_labels = np.arange(40) % 4, np.arange(7) % 3
    with_test = prepared(LabelledImages(images_of(40), labels, images_of(7, start=100), test_labels))
    assert (with_test.count, with_test.split, with_test.classes) == (40, "train", 4)
    assert (with_test.held_out.count, with_test.held_out.split, with_test.held_out.classes) == (7, "test", 4)
    assert numbers_of(with_test.held_out.images()) == list(range(100, 107))
    assert with_test.held_out.labels().tolist() == test_labels.tolist()
    alone = prepared(LabelledImages(images_of(40), labels), hold_out=0)
    assert (alone.sha256, alone.held_out) == (with_test.sha256, None)


@pytest.mark.parametrize(
    ("loaded", "kind", "said"),
    [
        (LabelledImages(images_of(9), np.arange(9), images_of(3), [0, 1]), PluginError, r"test_labels must be \(3,\)"),
        (LabelledImages(images_of(9), np.arange(9), images_of(3)), PluginError, "test_labels must be there where"),
        (LabelledImages(images_of(9), None, images_of(2), [0, 1]), PluginError, "test_labels must be there where"),
        (LabelledImages(images_of(9), [0] * 9, images_of(2), [0, 1]), PluginError, "and name no other classes"),
        (LabelledImages(images_of(9), None, 7), PluginError, "test_images must be an array or a sequence: TypeError"),
        (LabelledImages(images_of(9), None, images_of(0)), DataUnavailable, "no image in its test split"),
        (
            LabelledImages(images_of(9), None, images_of(2)[:, :, :4]),
            PluginError,
            r"image 0 is \(1, 4, 8\), and the first",
        ),
    ],
)
def test_a_wrong_test_split_is_named(loaded, kind, said):
    with pytest.raises(kind, match=f"dataset some.*{said}"):
        prepared(loaded)


def test_damage_to_what_is_held_out_is_seen(tmp_path):
    first = prepared(LabelledImages(images_of(40)))
    path = Path(first.held_out.folder) / "images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert whole_dataset(Path(first.folder)) is None
    again = prepared(LabelledImages(images_of(40)))
    assert again == first
    assert whole_dataset(Path(first.folder)) == first
    moved = tmp_path / "moved"
    shutil.copytree(first.folder, moved)
    assert numbers_of(whole_dataset(moved).held_out.images()) == numbers_of(first.held_out.images())


def test_another_reference_is_another_protocol_of_the_same_run(invoke, tmp_path, monkeypatch):
    """And nothing is trained for it: what the run has kept is scored against the held-out images, or against all."""
    monkeypatch.chdir(tmp_path)
    for reference in ("train", "test", "both"):
        outcome = invoke(*MLP, "--metrics", "fid", "--reference", reference)
        assert outcome.code == 0, outcome.err
    (path,) = Path("runs").rglob("record.json")
    record = json.loads(path.read_text())
    facts = record["dataset"]
    assert (facts["count"], facts["held_out_count"], facts["held_out_split"]) == (1438, 359, "test")
    used = {score["protocol"] for score in record["scores"] if score["ema"] and score["kimg"] == 0.256}
    compared = {
        content["real_split"]: (content["n_real"], content["dataset_sha256"])
        for identity, content in record["protocols"].items()
        if identity in used
    }
    assert {split: count for split, (count, _) in compared.items()} == {
        "train": 1438,
        "test": 359,
        "train + test": 1797,
    }
    assert compared["train"][1] == facts["sha256"]
    assert compared["test"][1] == facts["held_out_sha256"]
    assert len({sha256 for _, sha256 in compared.values()}) == 3
    values = {score["protocol"]: score["value"] for score in record["scores"] if score["protocol"] in used}
    assert len(set(values.values())) == 3
    outcome = invoke("doctor", "runs")
    assert outcome.code == 0, outcome.out


def test_nothing_held_out_is_nothing_to_compare_with(invoke, tmp_path):
    from PIL import Image

    for index in range(30):
        Image.fromarray(images_of(1, start=index)[0, 0]).save(tmp_path / f"{index}.png")
    data = ("--dataset", f"folder:{tmp_path}", "--image-size", 8, "--features", "digits-cnn", "--batch-size", 4)
    for arguments, said in (
        (("--hold-out", 0, "--reference", "test"), "--reference test: no image of dataset"),
        (("--reference", "validation"), "--reference validation: give train, test, both"),
        (("--hold-out", 0.9), "--hold-out 0.9: give a share of the images, from 0 to 0.5"),
        (("--hold-out", "nan"), "--hold-out nan: give a share of the images, from 0 to 0.5"),
    ):
        outcome = invoke(*MLP, *data, *arguments)
        assert outcome.code == 2
        assert said in outcome.error
