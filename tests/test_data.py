"""Prepared datasets and batches: the cache, endless batches of one size, streaming, flips."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ganzoo.data.batches import Batches
from ganzoo.data.prepared import prepare
from ganzoo.errors import DataUnavailable, PluginError
from ganzoo.types import Dataset, DatasetRequest, LabelledImages

REQUEST = DatasetRequest(Path("nowhere"), "", 16, hold_out=0)


def counted(images, labels=None, fingerprint="1", independent=False):
    """A dataset that counts how often it is loaded."""
    loads = []

    def load(request):
        loads.append(request)
        return LabelledImages(images, labels, source="a test", independent=independent)

    return Dataset("counted", load, lambda request: fingerprint), loads


def numbered(count: int, shape=(1, 16, 16)) -> np.ndarray:
    """Images that differ in the value of their pixels."""
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones(shape, dtype=np.uint8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def ten(cache):
    dataset, _ = counted(numbered(10), labels=np.arange(10) % 3)
    return prepare(dataset, REQUEST, None)


def test_dataset_is_loaded_once_and_then_read_from_the_cache(cache):
    dataset, loads = counted(numbered(10))
    first, again = prepare(dataset, REQUEST, None), prepare(dataset, REQUEST, None)
    assert len(loads) == 1
    assert first == again
    assert (first.image_shape, first.count, first.classes) == ((1, 16, 16), 10, 0)
    np.testing.assert_array_equal(first.images(), numbered(10))
    assert first.labels() is None


def test_cache_key_depends_on_source_plugin_and_size(cache):
    dataset, loads = counted(numbered(10))
    prepare(dataset, REQUEST, None)
    prepare(dataset, REQUEST, "another source of the plugin")
    prepare(dataset, DatasetRequest(Path("nowhere"), "", 32, hold_out=0), None)
    changed, more = counted(numbered(10), fingerprint="2")
    prepare(changed, REQUEST, None)
    assert (len(loads), len(more)) == (3, 1)


def test_dataset_sha256_covers_shape_pixels_and_labels(cache):
    def sha256(name, images, labels=None):
        dataset, _ = counted(images, labels, fingerprint=name)
        return prepare(dataset, REQUEST, None).sha256

    plain = sha256("plain", numbered(10))
    assert sha256("same", numbered(10)) == plain
    changed = numbered(10)
    changed[3, 0, 5, 5] += 1
    others = [
        sha256("pixel", changed),
        sha256("labels", numbered(10), np.zeros(10, dtype=int)),
        sha256("shape", numbered(10).reshape(10, 1, 8, 32)),
    ]
    assert len({plain, *others}) == 4


def test_class_names_count_the_classes_and_are_part_of_the_dataset(cache):
    labels = np.arange(10) % 3

    def prepared(*names):
        dataset = Dataset(
            "named", lambda asked: LabelledImages(numbered(10), labels, class_names=names), lambda _: str(names)
        )
        return prepare(dataset, REQUEST, None)

    assert (prepared().classes, prepared().class_names) == (3, ())
    assert (prepared("a", "b", "c", "d").classes, prepared("a", "b", "c", "d").class_names) == (4, ("a", "b", "c", "d"))
    assert len({prepared().sha256, prepared("a", "b", "c").sha256, prepared("a", "b", "d").sha256}) == 3


def test_a_label_that_leaves_a_gap_makes_a_note(cache):
    dataset, _ = counted(numbered(10), np.where(np.arange(10) < 5, 0, 255))
    prepared = prepare(dataset, REQUEST, None)
    assert prepared.classes == 256
    (remark,) = prepared.remarks
    assert remark.startswith("labels go up to 255 and make 256 classes, of which 2 have an image; number them from 0")


def test_another_background_is_another_dataset(cache):
    dataset, loads = counted(numbered(10))
    for colour in ("#ffffff", "#000000", "#ffffff"):
        prepare(dataset, DatasetRequest(Path("nowhere"), "", 16, background=colour, hold_out=0), None)
    assert [asked.background for asked in loads] == ["#ffffff", "#000000"]


def test_damaged_dataset_cache_is_rebuilt(ten, cache):
    dataset, loads = counted(numbered(10), labels=np.arange(10) % 3)
    (Path(ten.folder) / "dataset.json").write_text('{"name": ')
    again = prepare(dataset, REQUEST, None)
    assert len(loads) == 1
    assert again.sha256 == ten.sha256
    assert json.loads((Path(again.folder) / "dataset.json").read_text())["count"] == 10
    assert [path.name for path in (cache / "datasets").iterdir()] == [Path(again.folder).name]


class Lazy:
    """Lazily decoded images, of which the fourth is broken."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 3:
            raise OSError("truncated file")
        return numbered(6)[index]


class Many:
    """Images whose pixels hold the id of the process that decoded them."""

    broken: int | None = None

    def __len__(self):
        return 600

    def __getitem__(self, index):
        if index == self.broken:
            raise OSError("truncated file")
        image = np.full((1, 16, 16), index % 256, dtype=np.uint8)
        image[0, 0, 0] = index // 256
        image[0, 1] = np.frombuffer(os.getpid().to_bytes(16, "little"), dtype=np.uint8)
        return image


def test_many_images_are_decoded_by_processes_in_order(cache, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    dataset, _ = counted(Many(), independent=True)
    images = prepare(dataset, REQUEST, None).images()
    assert [int(image[0, 5, 5]) + 256 * int(image[0, 0, 0]) for image in images] == list(range(600))
    decoders = {int.from_bytes(image[0, 1].tobytes(), "little") for image in images[1:]}
    assert len(decoders) == 2
    assert os.getpid() not in decoders
    alone, _ = counted(Many(), fingerprint="alone")
    images = prepare(alone, REQUEST, None).images()
    assert {int.from_bytes(image[0, 1].tobytes(), "little") for image in images} == {os.getpid()}


def test_image_that_a_decoding_process_cannot_read_is_named(cache):
    many = Many()
    many.broken = 555
    dataset, _ = counted(many, independent=True)
    with pytest.raises(DataUnavailable, match="image 555 cannot be read: OSError: truncated file"):
        prepare(dataset, REQUEST, None)
    assert list((cache / "datasets").iterdir()) == []


def test_dataset_size_is_reported_and_checked_against_the_disk_before_decoding(cache, monkeypatch):
    told = []
    dataset, _ = counted(numbered(10))
    prepare(dataset, REQUEST, None, lambda *progress: told.append(progress))
    assert told[0] == (0, 10, 10 * 256)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    other, _ = counted(numbered(11), fingerprint="other")
    with pytest.raises(DataUnavailable, match="free; free space there or set GANZOO_CACHE"):
        prepare(other, REQUEST, None)


def test_image_that_cannot_be_decoded_is_named_and_leaves_no_cache(cache):
    dataset, _ = counted(Lazy())
    with pytest.raises(DataUnavailable, match="image 3 cannot be read: OSError: truncated file"):
        prepare(dataset, REQUEST, None)
    assert list((cache / "datasets").iterdir()) == []


def test_killed_decoding_process_is_one_error_line(cache):
    class Deadly(Many):
        def __getitem__(self, index):
            return os._exit(3) if index == 400 else super().__getitem__(index)

    dataset, _ = counted(Deadly(), independent=True)
    with pytest.raises(DataUnavailable, match="cannot be decoded: DataLoader worker"):
        prepare(dataset, REQUEST, None)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (numbered(4).astype(np.float32), None),
        (numbered(4)[:, 0], None),
        (numbered(4), np.array([0, 1])),
        (numbered(4), np.array([0, 1, 2, -1])),
    ],
)
def test_dataset_that_does_not_yield_images_and_labels_is_a_plugin_error(cache, images, labels):
    dataset, _ = counted(images, labels)
    with pytest.raises(PluginError, match="must be"):
        prepare(dataset, REQUEST, None)


@pytest.mark.parametrize(
    ("loaded", "complaint"),
    [
        (None, "load gave NoneType; it must give ganzoo.LabelledImages"),
        ((numbered(4), None), "load gave tuple; it must give ganzoo.LabelledImages"),
        (LabelledImages(numbered(4), source=Path("there")), r"source is PosixPath\('there'\); it must be str"),
        (LabelledImages(numbered(4), split=None), "split is None; it must be str"),
        (LabelledImages(numbered(4), skipped="bad.png"), r"skipped is 'bad.png'; it must be tuple"),
        (LabelledImages(iter(numbered(4))), "images must be an array or a sequence: TypeError"),
        (LabelledImages(numbered(4), ["cat", "dog", "cat", "dog"]), r"labels must be \(4,\) integers from 0; got <U3"),
        (LabelledImages(numbered(4), [0.5, 1.5, 0.0, 1.0]), r"labels must be \(4,\) integers from 0; got float64"),
        (LabelledImages(numbered(4), [[0], [1, 2], [3], []]), r"labels must be \(4,\) integers from 0: ValueError"),
        (LabelledImages(numbered(4), [0, 1, -1, 0]), r"labels must be \(4,\) integers from 0; got -1"),
        (
            LabelledImages(numbered(4), [0, 1, 2, 0], class_names=("a", "b")),
            "2 names, and labels go up to 2; name each",
        ),
        (
            LabelledImages(numbered(4), [0, 1, 1, 0], class_names=("a", "a")),
            "1 names, and labels go up to 1; name each",
        ),
        (LabelledImages(numbered(4), [0, 1, 1, 0], class_names="ab"), "class_names is 'ab'; it must be tuple"),
    ],
)
def test_dataset_plugin_output_is_checked_before_use(loaded, complaint, cache):
    with pytest.raises(PluginError, match=f"dataset odd: .*{complaint}"):
        prepare(Dataset("odd", lambda request: loaded, lambda request: "1"), REQUEST, None)
    assert list((cache / "datasets").iterdir()) == []


def test_a_fingerprint_is_text(cache):
    with pytest.raises(PluginError, match="dataset odd: fingerprint gave NoneType; it must give a text"):
        prepare(Dataset("odd", lambda request: LabelledImages(numbered(4)), lambda request: None), REQUEST, None)


def test_an_empty_dataset_is_refused(cache):
    dataset, _ = counted(numbered(0))
    with pytest.raises(DataUnavailable, match="holds no image"):
        prepare(dataset, REQUEST, None)


@pytest.mark.parametrize("resident", [True, False])
def test_every_epoch_shows_every_image_once_and_batches_wrap_around(ten, resident):
    batches = Batches(ten, 4, seed=0, device="cpu", resident=resident)
    seen = []
    for _ in range(10):
        real, labels = next(batches)
        assert real.shape == (4, 1, 16, 16)
        assert real.dtype == torch.float32
        value = ((real[:, 0, 0, 0] + 1) * 127.5).round().int()
        assert torch.equal(labels, value.long() % 3)
        seen += value.tolist()
    assert batches.drawn == 40
    for epoch in range(4):
        assert sorted(seen[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert seen[:10] != seen[10:20]


def test_streamed_batches_equal_resident_batches(ten):
    resident = Batches(ten, 4, seed=7, device="cpu", flips=True, resident=True)
    streamed = Batches(ten, 4, seed=7, device="cpu", flips=True, resident=False)
    for _ in range(8):
        for ours, theirs in zip(next(resident), next(streamed), strict=True):
            assert torch.equal(ours, theirs)


def test_channels_last_batches_are_equal_in_value(cache):
    dataset, _ = counted(np.random.default_rng(0).integers(0, 256, (12, 3, 16, 16), dtype=np.uint8))
    prepared = prepare(dataset, REQUEST, None)
    plain = Batches(prepared, 5, seed=3, device="cpu", resident=True)
    for resident in (True, False):
        last = Batches(prepared, 5, seed=3, device="cpu", flips=False, resident=resident, channels_last=True)
        plain = Batches(prepared, 5, seed=3, device="cpu", resident=True)
        for _ in range(4):
            ours, theirs = next(last)[0], next(plain)[0]
            assert torch.equal(ours, theirs)
            assert ours.is_contiguous(memory_format=torch.channels_last)


def test_waiting_for_streamed_images_is_counted(ten, monkeypatch):
    import ganzoo.data.batches

    class Clock:
        """A clock that advances only while images are gathered; `asked` is set by the first look at it."""

        now, asked = 0.0, threading.Event()

        def perf_counter(self):
            self.asked.set()
            return self.now

    clock = Clock()
    monkeypatch.setattr(ganzoo.data.batches, "time", clock)
    quick = Batches(ten, 4, seed=0, device="cpu", resident=False)
    next(quick)
    assert quick.wait_seconds == 0
    slow = Batches(ten, 4, seed=0, device="cpu", resident=False)
    mapped = slow._mapped
    clock.asked.clear()

    class Slow:
        def __getitem__(self, index):
            clock.asked.wait()
            clock.now += 1
            return mapped[index]

    slow._mapped = Slow()
    for _ in range(4):
        next(slow)
    # The first batch is waited for: at least one image, at most its four and the three read ahead.
    assert 1 <= slow.wait_seconds <= 7
    resident = Batches(ten, 4, seed=0, device="cpu", resident=True)
    next(resident)
    assert resident.wait_seconds == 0


def test_flips_mirror_about_half_of_the_images(cache):
    images = np.zeros((8, 1, 16, 16), dtype=np.uint8)
    images[..., 0] = 255
    dataset, _ = counted(images)
    batches = Batches(prepare(dataset, REQUEST, None), 8, seed=0, device="cpu", flips=True)
    sides = Counter()
    for _ in range(50):
        real, _ = next(batches)
        sides.update((real[:, 0, 0, 0] > 0).tolist())
    assert 150 < sides[True] < 250
    assert sides[True] + sides[False] == 400


def test_dataset_larger_than_the_resident_share_is_streamed(ten, monkeypatch):
    import ganzoo.data.batches

    assert Batches(ten, 4, seed=0, device="cpu").resident
    monkeypatch.setattr(ganzoo.data.batches, "RESIDENT_SHARE", 0.0)
    assert not Batches(ten, 4, seed=0, device="cpu").resident


def test_uint8_round_trip_through_the_unit_range():
    from ganzoo.util.images import to_uint8, to_unit_range

    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_unit_range(every)), every)
    assert to_unit_range(every).min() == -1
    assert to_unit_range(every).max() == 1
    assert to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]
