"""The datasets that torchvision downloads: fashion-mnist, cifar10, cifar100, svhn, stl10, celeba; and lsun.

They lie where torchvision puts them, so a copy that another project has downloaded is used. Only absent files are
downloaded, and only if the server answers within seconds. celeba comes from Google Drive, by the package gdown; lsun is
read and never downloaded.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import os
import socket
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets.folder import EIGHT_BIT, FORMATS, WHITE, put_on, square


@dataclass(frozen=True)
class Source:
    """Where torchvision gets a dataset from, where it keeps it under the data root, and what ganzoo makes of it.

    `kind` is the class in `torchvision.datasets`, made with `arguments`, and with `test_arguments` for the test split;
    empty where that lies in other files, or is not of the same kind. `downloads` names the files at `url` that belong
    into `folder`, with their sha256, and `unpacked` what must be in `unpacked_folder` in the end. `labels` is the
    attribute that holds the labels; empty where there are none, or none that tell what is seen. `on_google_drive`
    says that `url` is a page for people, and that torchvision downloads from Google Drive with the package gdown.
    """

    name: str
    kind: str
    url: str
    folder: str
    downloads: Mapping[str, str]
    unpacked_folder: str
    unpacked: Sequence[str]
    arguments: Mapping[str, Any] = field(default_factory=lambda: {"train": True})
    test_arguments: Mapping[str, Any] = field(default_factory=lambda: {"train": False})
    labels: str = "targets"
    split: str = "train"
    image_size: int = 32
    fakes: int = 50_000
    summary: str = ""
    reference: str = ""
    on_google_drive: bool = False
    images: str = "natural"

    def open(self, root: Path, download: bool = False) -> Any:
        """The torchvision dataset of (image, target) pairs; it checks what is there, and the md5 of most files."""
        from torchvision import datasets

        return getattr(datasets, self.kind)(str(root), **self.arguments, download=download)


GOOGLE_DRIVE = "https://drive.google.com/"

IDX_FILES = [
    f"{part}-ubyte" for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
]
"""What MNIST and Fashion-MNIST consist of, unpacked."""

LARGEST_IDX = 1 << 28
"""Bytes of the largest of them, and then some: 60 000 images of 28 x 28 pixels are 47 million."""

CELEBA_TABLES = {
    "identity_CelebA.txt": "c6143857c3e2630ac2da9f782e9c1232e5e59be993a9d44e8a7916c78a6158c0",
    "list_attr_celeba.txt": "f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0",
    "list_bbox_celeba.txt": "7487a82e57c4bb956c5445ae2df4a91ffa717e903c5fa22874ede0820c8ec41b",
    "list_eval_partition.txt": "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
    "list_landmarks_align_celeba.txt": "6c02a87569907f6db2ba99019085697596730e8129f67a3d61659f198c48d43b",
}

SOURCES = [
    Source(
        "fashion-mnist",
        kind="FashionMNIST",
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        folder="FashionMNIST/raw",
        downloads={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        unpacked_folder="FashionMNIST/raw",
        unpacked=IDX_FILES,
        image_size=28,
        fakes=10_000,
        summary="60 000 pictures of clothes, 28 px grey, 10 classes",
        reference="Xiao et al. 2017, arXiv:1708.07747",
    ),
    Source(
        "cifar10",
        kind="CIFAR10",
        url="https://www.cs.toronto.edu/~kriz/",
        folder="",
        downloads={"cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"},
        unpacked_folder="cifar-10-batches-py",
        unpacked=["batches.meta", *(f"data_batch_{part}" for part in range(1, 6)), "test_batch"],
        summary="50 000 photographs, 32 px, 10 classes",
        reference="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    Source(
        "cifar100",
        kind="CIFAR100",
        url="https://www.cs.toronto.edu/~kriz/",
        folder="",
        downloads={"cifar-100-python.tar.gz": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"},
        unpacked_folder="cifar-100-python",
        unpacked=["meta", "test", "train"],
        summary="50 000 photographs, 32 px, 100 classes",
        reference="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    Source(
        "svhn",
        kind="SVHN",
        url="http://ufldl.stanford.edu/housenumbers/",
        folder="",
        downloads={"train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"},
        unpacked_folder="",
        unpacked=["train_32x32.mat"],
        arguments={"split": "train"},
        test_arguments={},
        labels="labels",
        images="",  # photographs, and of digits
        summary="73 257 house numbers, 32 px, 10 classes",
        reference="Netzer et al. 2011, Reading Digits in Natural Images with Unsupervised Feature Learning",
    ),
    Source(
        "stl10",
        kind="STL10",
        url="http://ai.stanford.edu/~acoates/stl10/",
        folder="",
        downloads={"stl10_binary.tar.gz": "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866"},
        unpacked_folder="stl10_binary",
        unpacked=["test_X.bin", "test_y.bin", "train_X.bin", "train_y.bin", "unlabeled_X.bin"],
        arguments={"split": "unlabeled"},
        test_arguments={},
        labels="",
        split="unlabeled",
        image_size=64,
        summary="100 000 unlabelled photographs, 96 px resized to 64",
        reference="Coates et al. 2011, An Analysis of Single-Layer Networks in Unsupervised Feature Learning",
    ),
    Source(
        "celeba",
        kind="CelebA",
        url="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        folder="celeba",
        downloads={
            "img_align_celeba.zip": "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
            **CELEBA_TABLES,
        },
        unpacked_folder="celeba",
        unpacked=["img_align_celeba", *CELEBA_TABLES],
        arguments={"split": "train", "target_type": []},
        test_arguments={"split": "test", "target_type": []},
        labels="",
        image_size=64,
        summary="162 770 aligned faces, the central 178 px resized to 64, unlabelled (downloaded with gdown)",
        reference="Liu et al. 2015, arXiv:1411.7766",
        on_google_drive=True,
    ),
]


class Squares(Sequence[Tensor]):
    """The images of a sequence of (Pillow image, target) pairs as uint8 (C, size, size), decoded when asked for.

    Transparent ones are put on `background`. Without a `mode` grey images stay grey, and all others become RGB.
    """

    def __init__(self, pairs: Any, size: int, name: str, background: str = WHITE, mode: str = ""):
        self.pairs, self.size, self.name, self.background, self.mode = pairs, size, name, background, mode

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]  # one image at a time, no slices
        try:
            image = self.pairs[index][0]
            # torchvision opens CelebA's pictures in any format; they are decoded here.
            if image.format not in (None, *FORMATS):
                raise OSError(f"it is {image.format}, none of {', '.join(FORMATS)}")
            if image.mode not in EIGHT_BIT:
                raise OSError(f"its mode is {image.mode}, not 8 bits per channel")
            mode = self.mode or ("L" if image.mode == "L" else "RGB")
            return square(image, self.size, mode, self.background)
        except OSError as error:
            raise ganzoo.DataUnavailable(f"image {index} of {self.name} cannot be read: {error}") from error


def fetch(source: Source, root: Path) -> list[Path]:
    """The paths that `source` unpacks to, downloaded first where one is absent; progress on stderr.

    Raises `DataUnavailable`, naming what to put where, when that is impossible: within seconds where the network is
    not there, at once where a package is missing.
    """
    unpacked = [root / source.unpacked_folder / name for name in source.unpacked]
    if all(path.exists() for path in unpacked):
        return unpacked
    folder = root / source.folder
    packed = all((folder / name).exists() for name in source.downloads)
    fix = f"put {braced([*source.downloads])} from {source.url}, packed or unpacked, into {folder}"
    if not packed and source.on_google_drive and importlib.util.find_spec("gdown") is None:
        raise ganzoo.DataUnavailable(
            f"{source.name} is absent and comes from Google Drive with the package gdown; pip install gdown, or {fix}"
        )
    if not packed and not ganzoo.reachable(GOOGLE_DRIVE if source.on_google_drive else source.url):
        raise ganzoo.DataUnavailable(f"{source.name} is absent and the network out of reach; {fix}")
    try:
        with contextlib.redirect_stdout(sys.stderr), socket_timeout(30):
            if not packed:
                download(source, folder)
            check(source, folder)
            unpack(source, root)
    except Exception as error:  # gdown's errors, and those of broken archives, share no base with the network's
        failed = "unpacked" if packed else "downloaded"
        raise ganzoo.DataUnavailable(f"{source.name} cannot be {failed}: {one_line(error)}; {fix}") from error
    return unpacked


def download(source: Source, folder: Path) -> None:
    """Fetch what `source` has to download. From Google Drive torchvision fetches it, with the package gdown."""
    if not source.on_google_drive:
        for name, sha256 in source.downloads.items():
            ganzoo.download(source.url + name, folder / name, sha256)
        return
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive

    for identity, md5, name in CelebA.file_list:
        download_file_from_google_drive(identity, folder, name, md5)


def check(source: Source, folder: Path) -> None:
    """Raise `DataUnavailable` if a download does not have its sha256, before anything opens the file."""
    for name, sha256 in source.downloads.items():
        if (actual := ganzoo.sha256_of_file(folder / name)) != sha256:
            raise ganzoo.DataUnavailable(f"{folder / name} has sha256 {actual}, not {sha256}; delete it")


def unpack(source: Source, root: Path) -> None:
    """Unpack the downloads. torchvision wants gdown for CelebA also where there is nothing to download."""
    from torchvision.datasets.utils import extract_archive

    if source.on_google_drive:
        extract_archive(root / source.folder / "img_align_celeba.zip")
    else:
        source.open(root, download=True)


def read(source: Source, root: Path) -> Any:
    """`source.open(root)` of what `fetch` finds. Raises `DataUnavailable` where the files are damaged."""
    files = fetch(source, root)
    try:
        for path in files:
            check_regular(path)
            if path.name in IDX_FILES:
                check_idx(path)
        return source.open(root)
    except Exception as error:  # what a damaged file raises depends on its format
        raise ganzoo.DataUnavailable(
            f"{source.name} cannot be read: {one_line(error)}; delete {braced(source.unpacked)} in {files[0].parent} "
            "to have them downloaded again"
        ) from error


def check_regular(path: Path) -> None:
    """Raise `OSError` unless a file, or all in a folder, is a regular file: torchvision would wait for a pipe."""
    if path.is_dir():
        with os.scandir(path) as entries:
            odd = next((entry.name for entry in entries if not entry.is_file()), None)
        if odd is not None:
            raise OSError(f"{path / odd} is not a plain file")
        return
    ganzoo.open_regular(path, links=True).close()


def check_idx(path: Path) -> None:
    """Raise `ValueError` unless an IDX file is as long as its header says, and no longer than MNIST's kind is.

    torchvision reads the whole file before it looks at the header.
    """
    with ganzoo.open_regular(path, links=True) as stream:
        begin = stream.read(16)
    dimensions = min(3, begin[3]) if begin[:3] == b"\0\0\x08" and len(begin) > 3 else 0
    sizes = [int.from_bytes(begin[4 * index : 4 * index + 4], "big") for index in range(1, dimensions + 1)]
    size, wanted = path.stat().st_size, 4 + 4 * len(sizes) + math.prod(sizes)
    if not sizes or size != wanted:
        raise ValueError(f"{path.name} is {size:,} bytes long, and its header claims {wanted:,}")
    if size > LARGEST_IDX:
        raise ValueError(f"{path.name} is {size:,} bytes long, and no such dataset needs more than {LARGEST_IDX:,}")


def load(source: Source, request: ganzoo.DatasetRequest) -> ganzoo.LabelledImages:
    """The central squares of the images, resized; grey ones have one channel."""
    images, labels = squares_of(source, request)
    test = replace(source, arguments=source.test_arguments)
    test_images, test_labels = squares_of(test, request) if source.test_arguments else (None, None)
    return ganzoo.LabelledImages(
        images,
        labels,
        test_images,
        test_labels,
        source=f"torchvision.datasets.{source.kind}",
        split=source.split,
        independent=True,
    )


def squares_of(source: Source, request: ganzoo.DatasetRequest) -> tuple[Squares, Tensor | None]:
    """The images of one split, and their labels where the source has some."""
    pairs = read(source, request.root)
    labels = torch.as_tensor(getattr(pairs, source.labels)).long() if source.labels else None
    return Squares(pairs, request.image_size, source.name, request.background), labels


def fingerprint(source: Source, request: ganzoo.DatasetRequest) -> str:
    """Place and state of the files, which are downloaded first where they are absent."""
    return ganzoo.fingerprint_files(fetch(source, request.root))


@contextlib.contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Give sockets that name no timeout, as torchvision's do, one of `seconds`; gdown's name that they want none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def braced(names: Sequence[str]) -> str:
    """Names as a shell would expand them: `{a,b}`."""
    return names[0] if len(names) == 1 else "{" + ",".join(names) + "}"


def one_line(error: Exception) -> str:
    """The message of `error` as one line of 300 characters at most, or its type if it has none."""
    return textwrap.shorten(str(error), 300, placeholder=" …") or type(error).__name__


# --- LSUN: one database per class, never downloaded because the smallest takes gigabytes ----------------------------

SCENES = [
    "bedroom",
    "bridge",
    "church_outdoor",
    "classroom",
    "conference_room",
    "dining_room",
    "kitchen",
    "living_room",
    "restaurant",
    "tower",
]


class Lmdb(Sequence[tuple[Any, None]]):
    """The (Pillow image, None) pairs of an LSUN database.

    torchvision's own class is not used: it leaves a pickle of the keys in the working directory.
    """

    def __init__(self, folder: Path):
        import lmdb

        self.environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
        with self.environment.begin() as transaction:
            self.keys = list(transaction.cursor().iternext(values=False))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[Any, None]:  # type: ignore[override]  # no slices
        from PIL import Image

        with self.environment.begin() as transaction:
            encoded = io.BytesIO(transaction.get(self.keys[index]) or b"")
        return Image.open(encoded, formats=FORMATS), None

    def transparent(self) -> int:
        """How many of the images have transparency, by their headers; what cannot be read is left to be decoded."""
        count = 0
        for index in range(len(self)):
            with contextlib.suppress(OSError):
                count += self[index][0].has_transparency_data
        return count


def lsun_folder(request: ganzoo.DatasetRequest) -> Path:
    """The training database of a class, `ROOT/bedroom_train_lmdb`. Raises `DataUnavailable` where it is not there."""
    if not request.argument:
        raise ganzoo.UsageError("the lsun dataset needs a class: --dataset lsun:church_outdoor")
    folder = request.root / f"{request.argument}_train_lmdb"
    database = folder / "data.mdb"
    if database.exists():
        return folder
    if request.argument not in SCENES:
        raise ganzoo.DataUnavailable(
            f"lsun:{request.argument} is absent ({database}) and no scene of LSUN's: {', '.join(SCENES)}"
        )
    raise ganzoo.DataUnavailable(
        f"lsun:{request.argument} is absent and never downloaded automatically; unpack "
        f"http://dl.yf.io/lsun/scenes/{folder.name}.zip so that {database} is there, "
        "and pip install 'ganzoo[lsun]' to read it"
    )


def load_lsun(request: ganzoo.DatasetRequest) -> ganzoo.LabelledImages:
    """The training images of one class of LSUN, unlabelled: their central squares, on the background, resized."""
    folder = lsun_folder(request)
    try:
        check_regular(folder / "data.mdb")
        pairs = Lmdb(folder)
        transparent = pairs.transparent()
    except ImportError as error:
        raise ganzoo.DataUnavailable("lsun is read with the package lmdb: pip install 'ganzoo[lsun]'") from error
    except Exception as error:  # lmdb's errors share no built-in base
        raise ganzoo.DataUnavailable(f"{folder} cannot be read: {one_line(error)}; unpack it again") from error
    has = "has" if transparent == 1 else "have"
    what = put_on(f"{transparent} of {len(pairs)} images {has} transparency", request.background)
    return ganzoo.LabelledImages(
        Squares(pairs, request.image_size, f"lsun:{request.argument}", request.background, "RGB"),
        source=str(folder),
        with_alpha=transparent,
        notes={"alpha": what} if transparent else {},
    )


def fingerprint_lsun(request: ganzoo.DatasetRequest) -> str:
    """Place and state of the database."""
    return ganzoo.fingerprint_files([lsun_folder(request) / "data.mdb"])


@ganzoo.hookimpl
def ganzoo_datasets() -> Iterator[ganzoo.Dataset]:
    """`--dataset cifar10`, and so on: the training split in each case but stl10's, of which few are labelled."""
    for source in SOURCES:
        yield ganzoo.Dataset(
            source.name,
            partial(load, source),
            partial(fingerprint, source),
            summary=source.summary,
            reference=source.reference,
            image_size=source.image_size,
            fakes=source.fakes,
            images=source.images,
        )
    yield ganzoo.Dataset(
        "lsun",
        load_lsun,
        fingerprint_lsun,
        summary="a class of LSUN (lsun:church_outdoor), 64 px, unlabelled; downloaded by hand, read with ganzoo[lsun]",
        reference="Yu et al. 2015, arXiv:1506.03365",
        image_size=64,
        fakes=50_000,
        argument="CLASS",
        images="natural",
    )
