"""Datasets: published facts of the real ones, image folders of every kind, and the errors when data is missing."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import importlib.machinery
import io
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
import types
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from skips import needs_system
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, STL10, SVHN, CelebA, FashionMNIST

import ganzoo
from ganzoo.data.finding import find_dataset, prepare_dataset
from ganzoo.data.prepared import prepare
from ganzoo.registry.discovery import discover
from ganzoo_plugins.datasets import digits, folder, mnist, stacked_mnist, torchvision_datasets

DATASETS = {
    dataset.name: dataset
    for plugin in (digits, mnist, stacked_mnist, torchvision_datasets, folder)
    for dataset in plugin.ganzoo_datasets()
}
needs_data = pytest.mark.skipif("GANZOO_DATA" not in os.environ, reason="GANZOO_DATA is unset: no MNIST, no CIFAR here")


def request(root="", argument="", size=32, skip_bad_images=False) -> ganzoo.DatasetRequest:
    return ganzoo.DatasetRequest(Path(root), str(argument), size, skip_bad_images)


def data_root() -> str:
    return os.environ["GANZOO_DATA"]


def sha256(images: torch.Tensor) -> str:
    return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()


@pytest.fixture
def offline(monkeypatch):
    """A network that drops every packet: a name lookup blocks for the whole test."""
    over = threading.Event()

    def look_up(*arguments, **options):
        over.wait()
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    over.set()


# --- digits -------------------------------------------------------------------------------------------------------


def everything(loaded):
    """The images and labels of both splits of the digits in scikit-learn's order, in which every fifth is held out."""
    test = torch.arange(len(loaded.images) + len(loaded.test_images)) % 5 == 4
    images = torch.empty(len(test), *loaded.images.shape[1:], dtype=torch.uint8)
    labels = torch.empty(len(test), dtype=torch.int64)
    images[~test], images[test] = loaded.images, loaded.test_images
    labels[~test], labels[test] = loaded.labels, loaded.test_labels
    return images, labels


def test_digits_are_all_1797_with_the_published_counts():
    from sklearn.datasets import load_digits

    loaded = digits.load(request(size=16))
    assert (len(loaded.images), len(loaded.test_images), loaded.split) == (1438, 359, "train")
    images, labels = everything(loaded)
    assert images.shape == (1797, 1, 16, 16)
    assert images.dtype == torch.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert labels.tolist() == load_digits().target.tolist()


def test_digits_keep_their_originals_at_8_px_and_their_means_at_others():
    from sklearn.datasets import load_digits

    shades = torch.from_numpy(load_digits().images)
    originals, _ = everything(digits.load(request(size=8)))
    assert torch.equal(originals[:, 0], (shades * 255 / 16).float().round().to(torch.uint8))
    for size in (16, 28, 32):
        images, _ = everything(digits.load(request(size=size)))
        assert images.shape == (1797, 1, size, size)
        assert images.double().mean().item() == pytest.approx(shades.mean().item() * 255 / 16, rel=0.05)


# --- MNIST and its stacks -----------------------------------------------------------------------------------------


@needs_data
def test_mnist_is_the_training_split_in_its_order():
    loaded = mnist.load(request(data_root(), size=28))
    assert loaded.images.shape == (60_000, 1, 28, 28)
    assert loaded.images.dtype == torch.uint8
    assert loaded.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert loaded.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert loaded.images.double().mean().item() / 255 == pytest.approx(0.1307, abs=5e-5)
    header = bytes.fromhex("00000803 0000ea60 0000001c 0000001c")
    digest = hashlib.md5(header + loaded.images.numpy().tobytes())
    assert digest.hexdigest() == "6bbc9ace898e44ae57da46a324031adb", "the md5 of the original IDX file"


@needs_data
def test_stacked_mnist_has_its_1000_modes_and_labels_that_name_the_channels():
    loaded = stacked_mnist.load(request(data_root(), size=28))
    single = mnist.load(request(data_root(), size=28))
    assert loaded.images.shape == (60_000, 3, 28, 28)
    assert loaded.labels.unique().tolist() == list(range(1000))
    digit_of = {image.numpy().tobytes(): int(digit) for image, digit in zip(single.images, single.labels, strict=True)}
    for image, label in zip(loaded.images[:500], loaded.labels[:500].tolist(), strict=True):
        red, green, blue = (digit_of[channel.numpy().tobytes()] for channel in image)
        assert label == 100 * red + 10 * green + blue
    # Every digit once in each channel, so the channels have the histogram of MNIST.
    for place in (100, 10, 1):
        assert torch.equal((loaded.labels // place % 10).bincount(), single.labels.bincount())


@needs_data
def test_stacked_mnist_labels_are_reproducible():
    labels = stacked_mnist.load(request(data_root(), size=8)).labels
    assert labels[:5].tolist() == [988, 236, 53, 722, 621]


@needs_data
def test_fingerprint_changes_with_the_files(tmp_path):
    fingerprint = DATASETS["mnist"].fingerprint
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in torchvision_datasets.IDX_FILES:
        (raw / name).symlink_to(Path(data_root()).resolve() / "MNIST" / "raw" / name)
    assert fingerprint(request(tmp_path)) == fingerprint(request(data_root()))
    (raw / torchvision_datasets.IDX_FILES[1]).unlink()
    (raw / torchvision_datasets.IDX_FILES[1]).write_bytes(b"other labels")
    assert fingerprint(request(tmp_path)) != fingerprint(request(data_root()))


# --- what torchvision downloads -----------------------------------------------------------------------------------


def write_idx(path: Path, array: np.ndarray, packed: bool = False) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if packed else content)


@pytest.fixture
def fashion(tmp_path):
    """Five pictures in the files of Fashion-MNIST."""
    pictures = np.random.default_rng(0).integers(0, 256, (5, 28, 28))
    for name in torchvision_datasets.IDX_FILES:
        write_idx(tmp_path / "FashionMNIST" / "raw" / name, pictures if "images" in name else np.arange(5))
    return tmp_path, pictures


def test_files_on_disk_are_read_without_network(fashion, offline):
    root, pictures = fashion
    loaded = DATASETS["fashion-mnist"].load(request(root, size=28))
    assert len(loaded.images) == 5
    assert torch.equal(torch.stack(list(loaded.images)), torch.from_numpy(pictures).to(torch.uint8)[:, None])
    assert loaded.labels.tolist() == [0, 1, 2, 3, 4]
    assert DATASETS["fashion-mnist"].load(request(root, size=16)).images[0].shape == (1, 16, 16)


def test_damaged_file_is_reported_with_the_fix(fashion, offline):
    root, _ = fashion
    (root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03 cut short")
    with pytest.raises(
        ganzoo.DataUnavailable, match=r"fashion-mnist cannot be read: .*; delete .*FashionMNIST/raw"
    ) as caught:
        DATASETS["fashion-mnist"].load(request(root, size=28))
    assert "\n" not in str(caught.value)


@pytest.fixture
def trust_files(monkeypatch):
    """`trust_files("celeba", folder)`: accept the files in the folder as the published ones."""

    def trust_files(name: str, folder: Path) -> None:
        (source,) = (source for source in torchvision_datasets.SOURCES if source.name == name)
        for file in source.downloads:
            monkeypatch.setitem(source.downloads, file, ganzoo.sha256_of_file(folder / file))

    return trust_files


def test_packed_files_put_there_by_hand_are_unpacked_without_a_network(tmp_path, monkeypatch, offline, trust_files):
    files = torchvision_datasets.IDX_FILES
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.resources", [(f"{name}.gz", None) for name in files])
    for name in files:
        array = np.zeros((2, 28, 28)) if "images" in name else np.arange(2)
        write_idx(tmp_path / "FashionMNIST" / "raw" / f"{name}.gz", array, packed=True)
    trust_files("fashion-mnist", tmp_path / "FashionMNIST" / "raw")
    assert DATASETS["fashion-mnist"].load(request(tmp_path)).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "file", "place"),
    [
        ("mnist", "train-images-idx3-ubyte.gz", "MNIST/raw"),
        ("stacked-mnist", "train-images-idx3-ubyte.gz", "MNIST/raw"),
        ("fashion-mnist", "train-images-idx3-ubyte.gz", "FashionMNIST/raw"),
        ("cifar10", "cifar-10-python.tar.gz", "."),
        ("cifar100", "cifar-100-python.tar.gz", "."),
        ("svhn", "train_32x32.mat", "."),
        ("stl10", "stl10_binary.tar.gz", "."),
        ("celeba", "img_align_celeba.zip", "celeba"),
    ],
)
def test_missing_data_offline_fails_at_once_and_names_the_files_to_get(name, file, place, tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    # There is no delayed second attempt either.
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"it waits for {seconds} s"))
    for ask in (DATASETS[name].load, DATASETS[name].fingerprint):
        with pytest.raises(ganzoo.DataUnavailable) as caught:
            ask(request(tmp_path))
        message = str(caught.value)
        assert file in message
        assert message.endswith(f"into {tmp_path / place}")
        assert "https://" in message or "http://" in message
        assert "\n" not in message
        assert len(message) < 500
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def celeba(tmp_path, monkeypatch, trust_files):
    """The folder of CelebA's files, not unpacked, with three aligned faces, one of them for validation."""
    folder = tmp_path / "celeba"
    folder.mkdir()
    names = ["000001.jpg", "000002.jpg", "000003.jpg"]
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for index, name in enumerate(names):
            stream = io.BytesIO()
            Image.new("RGB", (178, 218), (100 * index, 0, 0)).save(stream, format="PNG")
            archive.writestr(f"img_align_celeba/{name}", stream.getvalue())
    for table in torchvision_datasets.CELEBA_TABLES:
        header = "" if table.startswith(("identity", "list_eval")) else "3\nfirst second\n"
        split = {"000002.jpg": 1}
        rows = [f"{name} {split.get(name, 0)}" for name in names]
        (folder / table).write_text(header + "\n".join(rows) + "\n")
    files = [(file_id, None, name) for file_id, _, name in CelebA.file_list]
    monkeypatch.setattr(CelebA, "file_list", files)
    trust_files("celeba", folder)
    return folder


@pytest.fixture
def asked(monkeypatch):
    """The addresses whose reachability is checked; none is reachable."""
    addresses = []
    monkeypatch.setattr("ganzoo.util.download.reachable", addresses.append)
    return addresses


def module(monkeypatch, name, **contents):
    """Put a stub module with these contents into `sys.modules`."""
    stub = types.ModuleType(name)
    stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(stub).update(contents)
    monkeypatch.setitem(sys.modules, name, stub)


def test_celeba_put_there_by_hand_needs_neither_gdown_nor_a_network(celeba, monkeypatch, asked):
    monkeypatch.setitem(sys.modules, "gdown", None)
    loaded = DATASETS["celeba"].load(request(celeba.parent, size=16))
    assert [image[0, 8, 8].item() for image in loaded.images] == [0, 200], "the second face is not for training"
    assert loaded.images[0].shape == (3, 16, 16)
    assert loaded.labels is None
    assert asked == []
    assert DATASETS["celeba"].fingerprint(request(celeba.parent)) == DATASETS["celeba"].fingerprint(
        request(celeba.parent)
    )


def test_broken_celeba_archive_is_refused_and_names_the_files_to_get(celeba, monkeypatch, asked, trust_files):
    monkeypatch.setitem(sys.modules, "gdown", None)
    (celeba / "img_align_celeba.zip").write_bytes(b"<html>quota exceeded</html>")
    with pytest.raises(ganzoo.DataUnavailable, match=r"^celeba cannot be unpacked: .*zip has sha256 ab6d701c04f2"):
        DATASETS["celeba"].load(request(celeba.parent))
    trust_files("celeba", celeba)
    with pytest.raises(
        ganzoo.DataUnavailable,
        match=r"^celeba cannot be unpacked: File is not a zip file; put \{img_align_celeba\.zip,",
    ):
        DATASETS["celeba"].load(request(celeba.parent))
    assert asked == []


def test_celeba_without_gdown_is_refused_before_the_network_is_tried(celeba, monkeypatch, asked):
    monkeypatch.setitem(sys.modules, "gdown", None)
    (celeba / "list_bbox_celeba.txt").unlink()
    for ask in (DATASETS["celeba"].load, DATASETS["celeba"].fingerprint):
        with pytest.raises(ganzoo.DataUnavailable) as caught:
            ask(request(celeba.parent))
        message = str(caught.value)
        assert "Google Drive" in message
        assert "; pip install gdown, or put {img_align_celeba.zip,identity_CelebA.txt," in message
        assert message.endswith(f"into {celeba}")
        assert "\n" not in message
        assert len(message) < 500
    assert asked == []


def test_reachability_check_asks_the_download_host(tmp_path, monkeypatch, asked):
    module(monkeypatch, "gdown")
    expected = {
        "mnist": MNIST.mirrors[0],
        "fashion-mnist": FashionMNIST.mirrors[0],
        "cifar10": CIFAR10.url,
        "cifar100": CIFAR100.url,
        "svhn": SVHN.split_list["train"][0],
        "stl10": STL10.url,
        "celeba": "https://drive.google.com/",
    }
    for name, url in expected.items():
        with pytest.raises(ganzoo.DataUnavailable, match="network out of reach"):
            DATASETS[name].load(request(tmp_path))
        assert urlsplit(asked.pop()).netloc == urlsplit(url).netloc, name
        assert asked == []


def test_gdown_error_is_one_line(tmp_path, monkeypatch):
    class FileURLRetrievalError(Exception):
        """gdown's exception, which is neither an OSError nor a RuntimeError."""

    def download(**options):
        raise FileURLRetrievalError(
            "Failed to retrieve file url:\n\n\tToo many users have viewed this file.\n\n" + 99 * "x "
        )

    monkeypatch.setattr("ganzoo.util.download.reachable", lambda url: True)
    module(monkeypatch, "gdown", download=download)
    with pytest.raises(
        ganzoo.DataUnavailable,
        match=r"^celeba cannot be downloaded: Failed to retrieve file url: Too many users have viewed this file\. x",
    ) as caught:
        DATASETS["celeba"].load(request(tmp_path))
    message = str(caught.value)
    assert "; put {img_align_celeba.zip," in message
    assert "\n" not in message
    assert len(message) < 700


def test_unresponsive_network_times_out_quickly(offline):
    assert not ganzoo.reachable("https://example.org/file", seconds=0.5)


def test_a_host_that_listens_is_reachable_also_through_a_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert ganzoo.reachable(f"http://{address}/file")
        monkeypatch.setenv("http_proxy", f"http://{address}")
        assert ganzoo.reachable("http://nowhere.invalid/file")


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A local server in place of CIFAR-10's: it sends `content` and claims `claimed` bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(server.claimed))
            self.end_headers()
            self.wfile.write(server.content)

        def log_message(self, *arguments):
            """Log nothing."""

    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.claimed = b"", 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (source,) = (source for source in torchvision_datasets.SOURCES if source.name == "cifar10")
    server.source = replace(source, url=f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.shutdown()
    server.server_close()


def test_incomplete_download_names_the_files_to_get(server, tmp_path):
    server.content, server.claimed = b"half of it", 1000
    with pytest.raises(
        ganzoo.DataUnavailable, match=r"^cifar10 cannot be downloaded: .*; put cifar-10-python"
    ) as caught:
        torchvision_datasets.fetch(server.source, tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == [], "nothing of it is kept"


def test_download_with_a_wrong_sha256_is_not_opened(server, tmp_path, monkeypatch):
    def opened(*arguments, **options):
        pytest.fail("the archive of a stranger was opened")

    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", opened)
    server.content = b"an archive with a pickle in it"
    server.claimed = len(server.content)
    complaint = r"gave a file with sha256 \w+, expected 6d958be0745778\w+; not kept"
    with pytest.raises(ganzoo.DataUnavailable, match=complaint):
        torchvision_datasets.fetch(server.source, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_every_download_has_its_sha256():
    sources = [*torchvision_datasets.SOURCES, mnist.MNIST]
    hashes = [sha256 for source in sources for sha256 in source.downloads.values()]
    assert len(hashes) == len(set(hashes)) == 18
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in hashes)


def test_protocol_names_the_split_of_each_dataset():
    splits = {source.name: source.split for source in torchvision_datasets.SOURCES}
    assert splits.pop("stl10") == "unlabeled"
    assert set(splits.values()) == {"train"}


# --- LSUN ---------------------------------------------------------------------------------------------------------


def test_lsun_reads_the_database_of_a_class(tmp_path):
    import lmdb

    with lmdb.open(str(tmp_path / "bedroom_train_lmdb")) as environment, environment.begin(write=True) as transaction:
        for index in range(3):
            stream = io.BytesIO()
            Image.new("RGB", (90, 60), (index * 100, 0, 0)).save(stream, format="WEBP", lossless=True)
            transaction.put(f"key{index}".encode(), stream.getvalue())
    asked = request(tmp_path, "bedroom", size=16)
    loaded = DATASETS["lsun"].load(asked)
    assert [image[0, 8, 8].item() for image in loaded.images] == [0, 100, 200]
    assert loaded.images[0].shape == (3, 16, 16)
    assert loaded.labels is None
    assert DATASETS["lsun"].fingerprint(asked) == DATASETS["lsun"].fingerprint(asked)


def test_lsun_puts_transparent_images_on_the_background_and_counts_them(tmp_path):
    import lmdb

    pictures = [
        (Image.new("RGBA", (20, 20), (0, 100, 200, 51)), "WEBP"),
        (Image.new("LA", (20, 20), (7, 0)), "PNG"),
        (Image.new("L", (20, 20), 9), "PNG"),
        (Image.new("RGB", (20, 20), (1, 2, 3)), "PNG"),
    ]
    for scene in ("tower", "kitchen"):
        folder = str(tmp_path / f"{scene}_train_lmdb")
        with lmdb.open(folder) as environment, environment.begin(write=True) as transaction:
            for index, (image, kind) in enumerate(pictures):
                stream = io.BytesIO()
                image.save(stream, format=kind, lossless=True)
                transaction.put(f"key{index}".encode(), stream.getvalue())
    loaded = DATASETS["lsun"].load(request(tmp_path, "tower", size=8))
    shown = [image[:, 0, 0].tolist() for image in loaded.images]
    assert shown == [[204, 224, 244], [255, 255, 255], [9, 9, 9], [1, 2, 3]]
    assert loaded.with_alpha == 2
    assert loaded.notes == {"alpha": "2 of 4 images have transparency; put on #ffffff, see --background"}
    black = DATASETS["lsun"].load(replace(request(tmp_path, "kitchen", size=8), background="#000000"))
    assert [image[:, 0, 0].tolist() for image in black.images][:2] == [[0, 20, 40], [0, 0, 0]]


def test_lsun_refuses_images_that_would_be_cut_off(tmp_path):
    import lmdb

    with lmdb.open(str(tmp_path / "tower_train_lmdb")) as environment, environment.begin(write=True) as transaction:
        stream = io.BytesIO()
        Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(stream, format="PNG")
        transaction.put(b"key", stream.getvalue())
    with pytest.raises(ganzoo.DataUnavailable, match=r"image 0 of lsun:tower cannot be read: its mode is I(;16)?, not"):
        DATASETS["lsun"].load(request(tmp_path, "tower")).images[0]


def test_lsun_without_class_or_database_is_refused_with_the_fix(tmp_path):
    with pytest.raises(ganzoo.UsageError, match="lsun:church_outdoor"):
        DATASETS["lsun"].load(request(tmp_path))
    database = tmp_path / "bedroom_train_lmdb" / "data.mdb"
    for ask in (DATASETS["lsun"].load, DATASETS["lsun"].fingerprint):
        with pytest.raises(ganzoo.DataUnavailable) as caught:
            ask(request(tmp_path, "bedroom"))
        assert str(caught.value) == (
            "lsun:bedroom is absent and never downloaded automatically; "
            "unpack http://dl.yf.io/lsun/scenes/bedroom_train_lmdb.zip "
            f"so that {database} is there, and pip install 'ganzoo[lsun]' to read it"
        )
    with pytest.raises(
        ganzoo.DataUnavailable, match=r"^lsun:church is absent .* no scene of LSUN's: .* church_outdoor, "
    ):
        DATASETS["lsun"].load(request(tmp_path, "church"))


def test_lsun_scenes_equal_those_of_torchvision():
    from torchvision.datasets import LSUN

    known = LSUN._verify_classes(None, "train")
    assert [f"{scene}_train" for scene in torchvision_datasets.SCENES] == known


def test_lsun_without_the_lmdb_package_is_refused_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    (tmp_path / "tower_train_lmdb").mkdir()
    (tmp_path / "tower_train_lmdb" / "data.mdb").write_bytes(b"")
    DATASETS["lsun"].fingerprint(request(tmp_path, "tower"))
    with pytest.raises(
        ganzoo.DataUnavailable, match=r"^lsun is read with the package lmdb: pip install 'ganzoo\[lsun\]'$"
    ):
        DATASETS["lsun"].load(request(tmp_path, "tower"))


def test_invalid_lsun_database_is_refused(tmp_path):
    (tmp_path / "tower_train_lmdb").mkdir()
    (tmp_path / "tower_train_lmdb" / "data.mdb").write_bytes(b"cut short")
    with pytest.raises(ganzoo.DataUnavailable, match=r"tower_train_lmdb cannot be read: .*; unpack it again$"):
        DATASETS["lsun"].load(request(tmp_path, "tower"))


# --- folders ------------------------------------------------------------------------------------------------------


def picture(path: Path, size=(40, 30), mode="RGB", colour=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.new(mode, size, colour) if colour is not None else Image.fromarray(pixels).convert(mode)
    image.save(path)
    return path


def test_a_flat_folder_is_rgb_unlabelled_and_in_the_order_of_names(tmp_path):
    for index, name in enumerate(["b.png", "a.png", "c.bmp"]):
        picture(tmp_path / name, colour=(index, 0, 0))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image either")
    loaded = folder.load(request(argument=tmp_path, size=16))
    assert [image[0, 0, 0].item() for image in loaded.images] == [1, 0, 2]
    assert loaded.images[0].dtype == torch.uint8
    assert loaded.images[0].shape == (3, 16, 16)
    assert loaded.labels is None
    assert loaded.skipped == ()


def test_subfolders_are_the_labels_only_if_they_hold_every_image(tmp_path):
    for place in ("dog/1.png", "cat/deep/1.png", "cat/2.png", ".cache/thumbnail.png"):
        picture(tmp_path / place)
    loaded = folder.load(request(argument=tmp_path))
    assert [path.relative_to(tmp_path).as_posix() for path in loaded.images.paths] == [
        "cat/2.png",
        "cat/deep/1.png",
        "dog/1.png",
    ]
    assert loaded.labels.tolist() == [0, 0, 1]
    assert loaded.class_names == ("cat", "dog")
    picture(tmp_path / "stray.png")
    loaded = folder.load(request(argument=tmp_path))
    assert (loaded.labels, loaded.class_names) == (None, ())
    beside = "1 of 4 images lies beside the subfolders (stray.png), so the subfolders are no labels"
    assert loaded.notes["labels"] == f"{beside}; move it into one, or out of the folder"


@pytest.mark.parametrize(
    ("modes", "channels"), [(["L", "1"], 1), (["L", "RGB"], 3), (["P"], 3), (["RGBA", "L"], 3), (["LA", "L"], 1)]
)
def test_folder_is_rgb_unless_every_image_is_grey(modes, channels, tmp_path):
    for index, mode in enumerate(modes):
        picture(tmp_path / f"{index}.png", mode=mode)
    loaded = folder.load(request(argument=tmp_path, size=16))
    assert all(image.shape == (channels, 16, 16) for image in loaded.images)


def test_images_are_center_cropped_and_rotated_by_exif(tmp_path):
    strip = np.zeros((10, 30, 3), np.uint8)
    strip[:, 10:20] = 200
    Image.fromarray(strip).save(tmp_path / "strip.png")
    assert (folder.load(request(argument=tmp_path, size=5)).images[0] == 200).all()

    corner = np.zeros((16, 16, 3), np.uint8)
    corner[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF orientation of a camera held on its side: turn by 90 degrees
    Image.fromarray(corner).save(tmp_path / "turned.png", exif=exif)
    turned = folder.load(request(argument=tmp_path, size=16)).images[1]
    assert turned[0, 2, 13] == 255
    assert turned[0, 2, 2] == 0


def test_images_are_decoded_lazily(tmp_path, monkeypatch):
    for index in range(20):
        picture(tmp_path / f"{index:02d}.png")
    decoded = []
    monkeypatch.setattr(folder, "square", lambda *arguments: decoded.append(arguments) or torch.zeros(3, 16, 16))
    images = folder.load(request(argument=tmp_path, size=16)).images
    assert len(images) == 20
    assert decoded == []
    images[7]
    assert len(decoded) == 1


def test_a_file_that_is_no_image_is_refused_by_name_or_skipped_and_counted(tmp_path):
    picture(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"<html>404</html>")
    with pytest.raises(ganzoo.DataUnavailable) as caught:
        folder.load(request(argument=tmp_path))
    assert str(caught.value) == (
        f"{tmp_path / 'bad.png'} cannot be read as an image: none of BMP, JPEG, PNG, PPM, TIFF, WEBP; "
        "remove it or pass --skip-bad-images"
    )
    loaded = folder.load(request(argument=tmp_path, skip_bad_images=True))
    assert len(loaded.images) == 1
    assert loaded.skipped == (str(tmp_path / "bad.png"),)


def test_truncated_image_is_refused_when_decoded_or_skipped(tmp_path):
    picture(tmp_path / "good.png")
    whole = picture(tmp_path / "short.png", size=(200, 200)).read_bytes()
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ganzoo.DataUnavailable, match=r"short\.png cannot be read as an image: .*--skip-bad-images$"):
        list(folder.load(request(argument=tmp_path)).images)
    loaded = folder.load(request(argument=tmp_path, skip_bad_images=True))
    assert loaded.skipped == (str(tmp_path / "short.png"),)
    assert len(list(loaded.images)) == 1


def test_oversized_image_is_refused_before_it_is_decoded(tmp_path):
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (10_000, 100_000):  # below and above what Pillow itself refuses
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        with pytest.raises(ganzoo.DataUnavailable, match=r"bomb\.png cannot be read as an image: .* pixels"):
            folder.load(request(argument=tmp_path))


def test_an_image_deeper_than_8_bits_is_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ganzoo.DataUnavailable, match=r"deep\.png .* convert it to 8 bits"):
        folder.load(request(argument=tmp_path))


def test_unusable_image_folder_is_one_error_line(tmp_path):
    (tmp_path / "empty" / "subfolder").mkdir(parents=True)
    (tmp_path / "images.zip").write_bytes(b"PK")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_bytes(b"")
    expected = {"absent": "not there", "empty": "holds no image", "images.zip": "unpack it", "bad": "cannot be read"}
    for name, words in expected.items():
        with pytest.raises(ganzoo.DataUnavailable, match=words) as caught:
            folder.load(request(argument=tmp_path / name, skip_bad_images=True))
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ganzoo.UsageError, match="folder:PATH"):
        folder.load(request())


def test_symlinks_are_followed_once(tmp_path):
    picture(tmp_path / "images" / "cat" / "1.png")
    (tmp_path / "linked").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "cat" / "loop").symlink_to(tmp_path / "images")
    assert len(folder.load(request(argument=tmp_path / "linked")).images) == 1


def test_the_fingerprint_follows_the_images_and_their_labels(tmp_path):
    picture(tmp_path / "cat" / "1.png")
    picture(tmp_path / "dog" / "1.png")
    seen = {folder.fingerprint(request(argument=tmp_path))}
    (tmp_path / "dog").rename(tmp_path / "ant")
    seen.add(folder.fingerprint(request(argument=tmp_path)))
    picture(tmp_path / "cat" / "1.png", size=(50, 50))
    seen.add(folder.fingerprint(request(argument=tmp_path)))
    (tmp_path / "cat" / "1.png").unlink()
    seen.add(folder.fingerprint(request(argument=tmp_path)))
    assert len(seen) == 4


@needs_data
def test_symlinked_jpeg_folders_are_labelled_by_class(tmp_path):
    for name in ("airplane", "truck"):
        (tmp_path / name).symlink_to(Path(data_root()).resolve() / "cifar10-train-jpeg" / name)
    loaded = folder.load(request(argument=tmp_path))
    assert len(loaded.images) == 10_000
    assert loaded.labels.bincount().tolist() == [5000] * 2
    assert loaded.images[9_999].shape == (3, 32, 32)


# --- another folder is another dataset --------------------------------------------------------------------------------


def stamped(folder: Path, seed: int, count: int = 12) -> Path:
    """Grey BMP files, so all of one length, with the date that a reproducible archive gives them."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 16, 16), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:02d}.bmp")
        os.utime(folder / f"{index:02d}.bmp", (946_684_800, 946_684_800))
    return folder


def test_folders_of_one_name_in_two_places_are_scored_apart(tmp_path, invoke, monkeypatch):
    def fid(place: Path) -> float:
        monkeypatch.chdir(place)
        outcome = invoke("score", "photos", "--dataset", "digits", "--metrics", "fid", "--device", "cpu", "--json")
        assert outcome.code == 0, outcome.err
        return json.loads(outcome.out)["scores"][0]["value"]

    for seed, place in enumerate(("here", "there")):
        stamped(tmp_path / place / "photos", seed)
    first, second = fid(tmp_path / "here"), fid(tmp_path / "there")
    assert first != second
    assert fid(tmp_path / "here") == first
    # Other files of the same lengths, names and dates in the same place.
    shutil.rmtree(tmp_path / "here" / "photos")
    stamped(tmp_path / "here" / "photos", seed=1)
    assert fid(tmp_path / "here") == second


def test_fingerprint_tells_files_apart_that_agree_in_name_length_and_date(tmp_path):
    def seen(folder: Path) -> str:
        return ganzoo.fingerprint_files(sorted(folder.iterdir()))

    here, there = stamped(tmp_path / "here" / "photos", 0), stamped(tmp_path / "there" / "photos", 0)
    before = seen(here)
    assert seen(here) == before
    assert seen(there) != before
    (tmp_path / "link").symlink_to(here)
    assert seen(tmp_path / "link") == before
    (here / "00.bmp").write_bytes((here / "01.bmp").read_bytes())
    os.utime(here / "00.bmp", (946_684_800, 946_684_800))
    assert seen(here) != before


def test_a_careless_dataset_of_a_stranger_is_told_apart_by_the_place_of_its_folder(tmp_path, monkeypatch):
    """Its fingerprint is the number of files."""
    careless = ganzoo.Dataset(
        "careless",
        lambda asked: ganzoo.LabelledImages(np.full((4, 1, 8, 8), len(os.getcwd()), np.uint8)),
        lambda asked: str(len(list(Path(asked.argument).iterdir()))),
        argument="PATH",
    )
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    found = []
    for place in ("here", "there"):
        stamped(tmp_path / place / "photos", 0)
        monkeypatch.chdir(tmp_path / place)
        found.append(prepare(careless, request(argument="photos", size=8), None).sha256)
    assert found[0] != found[1]


def test_folders_named_by_digits_meet_the_classes_of_the_extractor(tmp_path, invoke):
    """Without an 8 the label of 9 is 8. Folders 10 and 11 are no digits."""

    def scores(real: str) -> dict[str, float | str]:
        outcome = invoke(
            *("score", "fakes", "--dataset", f"folder:{real}", "--image-size", 16, "--features", "digits-cnn"),
            *("--hold-out", 0, "--metrics", "modes", "--device", "cpu", "--json"),
        )
        assert outcome.code == 0, outcome.err
        return {score["metric"]: score.get("reason", score["value"]) for score in json.loads(outcome.out)["scores"]}

    loaded = digits.load(request(size=16))
    for index, (image, label) in enumerate(zip(loaded.images[:150], loaded.labels[:150].tolist(), strict=True)):
        if label != 8:
            for place in ("fakes", f"real/{label}", f"twelve/{label}"):
                (tmp_path / place).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image[0].numpy()).save(tmp_path / place / f"{index}.png")
    for label in (10, 11):
        picture(tmp_path / "twelve" / f"{label}" / "1.png", mode="L")
    assert scores("real") == pytest.approx({"modes": 9, "kl": 0}, abs=0.01)
    reason = "the extractor has no class called 10, 11; its 10 are 0, 1, 2, 3, 4, …"
    assert scores("twelve") == {"modes": reason, "kl": reason}


# --- what a user may not expect of a folder ---------------------------------------------------------------------------


def shown(path: Path, background: str = "#ffffff", size: int = 2) -> torch.Tensor:
    """The only image of a folder as it is read."""
    (image,) = folder.read_folder(path, size, background=background).images
    return image


def half_transparent(mode: str) -> Image.Image:
    """2 x 2 pixels, dark grey: the left ones are opaque, the right ones transparent and bright beneath."""
    grey = np.array([[10, 250], [10, 250]], np.uint8)
    alpha = np.array([[255, 0], [255, 0]], np.uint8)
    layers = Image.fromarray(np.stack([grey, alpha], -1), mode="LA")
    if mode == "P":
        image = Image.fromarray(np.array([[0, 1], [0, 1]], np.uint8), mode="P")
        image.putpalette([10, 10, 10, 250, 250, 250])
        image.info["transparency"] = 1
        return image
    return layers.convert(mode)


@pytest.mark.parametrize(("mode", "channels"), [("LA", 1), ("RGBA", 3), ("P", 3)])
@pytest.mark.parametrize(
    ("background", "beneath"), [("#ffffff", [255] * 3), ("#808080", [128] * 3), ("#ff0000", [255, 0, 0])]
)
def test_transparent_pixels_show_the_background(mode, channels, background, beneath, tmp_path):
    half_transparent(mode).save(tmp_path / "a.png")
    image = shown(tmp_path, background)
    grey = channels == 1 and len(set(beneath)) == 1
    assert len(image) == (1 if grey else 3)
    assert image[:, :, 0].unique().tolist() == [10]
    assert image[:, 0, 1].tolist() == ([beneath[0]] if grey else beneath)


def test_grey_with_a_transparent_shade_stays_grey(tmp_path):
    Image.fromarray(np.array([[10, 250], [10, 250]], np.uint8)).save(tmp_path / "a.png", transparency=10)
    assert shown(tmp_path).tolist() == [[[255, 250], [255, 250]]]


def test_half_opaque_pixels_are_mixed_with_the_background(tmp_path):
    Image.new("RGBA", (2, 2), (0, 100, 200, 51)).save(tmp_path / "a.png")
    assert shown(tmp_path)[:, 0, 0].tolist() == [204, 224, 244]


def mixed(place: Path) -> Path:
    """Ten grey pictures of 16 x 16 pixels in a folder."""
    for index in range(10):
        picture(place / f"{index}.png", size=(16, 16), mode="L", colour=index)
    return place


def test_a_folder_says_what_is_not_as_it_seems(tmp_path):
    assert folder.load(request(argument=mixed(tmp_path / "plain"), size=16)).notes == {}
    place = mixed(tmp_path / "odd")
    half_transparent("LA").resize((16, 16)).save(place / "alpha.png")
    picture(place / "grid.png", size=(146, 146), mode="L")
    pages = [Image.new("L", (16, 16), shade) for shade in (1, 2, 3)]
    pages[0].save(place / "pages.tif", save_all=True, append_images=pages[1:])
    picture(place / "red.png", size=(16, 16), colour=(255, 0, 0))
    for name in ("a.gif", "b.GIF", "c.heic", "d.avif", "samples.npz", "notes.txt", ".hidden.gif"):
        (place / name).write_bytes(b"not opened")
    loaded = folder.load(request(argument=place, size=16))
    assert (len(loaded.images), loaded.with_alpha) == (14, 1)
    assert loaded.notes == {
        "alpha": "1 of 14 images has transparency (alpha.png); put on #ffffff, see --background",
        "channels": "1 of 14 images is in colour (red.png) and the others are not, so all are read as RGB",
        "pages": "1 of 14 images holds several pictures (pages.tif), of which the first is taken",
        "sizes": "1 of 14 images is not of 16x16 pixels like most (grid.png), cropped and resized",
        "passed over": "passed over 5 files, 1 .avif and 2 .gif and 1 .heic and 1 .npz (a.gif, b.GIF, c.heic, …); "
        "save them as PNG to have them read",
    }
    assert loaded.images[loaded.images.paths.index(place / "pages.tif")].unique().tolist() == [1]


def test_a_folder_says_that_its_images_are_resized(tmp_path):
    place = mixed(tmp_path / "plain")
    assert folder.load(request(argument=place, size=8)).notes == {
        "resized": "10 of 10 images, most of them of 16x16 pixels, are resized to 8x8"
    }


def test_what_is_passed_over_is_named_where_there_is_nothing_else(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"not opened")
    with pytest.raises(ganzoo.DataUnavailable, match=r"holds no image.*; passed over 1 file, 1 \.heic \(a\.heic\)\)$"):
        folder.load(request(argument=tmp_path))


def test_a_passed_over_file_that_comes_later_is_noticed(tmp_path):
    place = mixed(tmp_path / "plain")
    before = folder.fingerprint(request(argument=place))
    (place / "a.heic").write_bytes(b"not opened")
    assert folder.fingerprint(request(argument=place)) != before


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("samples.npz", r"is a \.npz file; save its images as PNG files and give their folder$"),
        ("samples.tar.gz", "is an archive; unpack it and give the folder$"),
        ("sample.png", "is a file; give the folder that holds the images$"),
    ],
)
def test_a_file_in_place_of_a_folder_gets_the_advice_that_fits(name, what, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ganzoo.DataUnavailable, match=what):
        folder.load(request(argument=tmp_path / name))


def test_a_link_that_leads_nowhere_is_named_or_skipped(tmp_path):
    """Also one to a folder of images, which would be missed without a word."""
    place = mixed(tmp_path / "plain")
    for name in ("gone.png", "cats"):
        (place / name).symlink_to(tmp_path / "nowhere" / name)
        asked = request(argument=place, size=16)
        folder.fingerprint(asked)
        with pytest.raises(
            ganzoo.DataUnavailable, match=rf"{name} cannot be read as an image: a link that leads nowhere"
        ):
            folder.load(asked)
        loaded = folder.load(replace(asked, skip_bad_images=True))
        assert (len(list(loaded.images)), loaded.skipped) == (10, (str(place / name),))
        (place / name).unlink()
    (place / "notes.txt").symlink_to("nowhere")
    assert folder.load(request(argument=place)).skipped == ()


@needs_system(sys.platform == "linux", "other systems refuse such names")
def test_names_that_are_not_utf_8_are_read_or_skipped_by_name(tmp_path, invoke):
    place = mixed(tmp_path / "photos")
    (place / "0.png").rename(os.fsdecode(os.fsencode(place) + b"/\xe9t\xe9.png"))
    score = ("score", "photos", "--dataset", "digits", "--metrics", "fid", "--device", "cpu", "--json")
    outcome = invoke(*score)
    assert (outcome.code, outcome.err) == (0, "")
    Path(os.fsdecode(os.fsencode(place) + b"/b\xe9d.png")).write_bytes(b"no image")
    assert r"photos/b\udce9d.png cannot be read as an image" in invoke(*score).error
    outcome = invoke(*score, "--skip-bad-images")
    assert (outcome.code, outcome.err) == (0, "ganzoo: photos: skipped 1 unreadable image(s): photos/b\\udce9d.png\n")


def test_a_closed_folder_is_named_or_skipped(tmp_path, monkeypatch):
    """Whoever runs as root may open any folder, so the refusal is made here."""
    place = mixed(tmp_path / "plain")
    (place / "closed").mkdir()
    scan = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    asked = request(argument=place, size=16)
    folder.fingerprint(asked)
    with pytest.raises(
        ganzoo.DataUnavailable, match="closed cannot be looked into: Permission denied; make it readable"
    ):
        folder.load(asked)
    assert folder.load(replace(asked, skip_bad_images=True)).skipped == (str(place / "closed"),)


def test_an_image_that_is_skipped_is_one_that_cannot_be_shown(tmp_path, monkeypatch):
    """It decodes, but its EXIF data are broken: to turn it by them fails as well."""
    from PIL import ImageOps

    place = mixed(tmp_path / "plain")

    def turn(image):
        if Path(image.fp.name).name == "3.png":
            raise SyntaxError("not a TIFF file")
        return image

    monkeypatch.setattr(ImageOps, "exif_transpose", turn)
    loaded = folder.load(request(argument=place, size=16, skip_bad_images=True))
    assert loaded.skipped == (str(place / "3.png"),)
    assert len(list(loaded.images)) == 9


def test_what_a_record_says_of_the_images_is_kept_in_the_cache(tmp_path, monkeypatch):
    """The run's process reads it from there."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    place = mixed(tmp_path / "odd")
    half_transparent("LA").resize((16, 16)).save(place / "alpha.png")
    (place / "a.gif").write_bytes(b"not opened")
    (place / "broken.png").write_bytes(b"no image")
    registry = discover()
    for _ in range(2):
        found = find_dataset(registry, f"folder:{place}")
        prepared = prepare_dataset(registry, *found, image_size=16, skip_bad_images=True, background="black")
        assert (prepared.with_alpha, prepared.background) == (1, "#000000")
        assert [remark.partition(":")[0] for remark in prepared.remarks] == [
            "skipped 1 unreadable image(s)",
            "1 of 11 images has transparency (alpha.png); put on #000000, see --background",
            "passed over 1 file, 1 .gif (a.gif); save them as PNG to have them read",
        ]
