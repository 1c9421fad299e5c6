"""Hostile names, archives, pickles and packages: none leaves its folder, runs code or exhausts memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import FRESH, HANGING, ONE_MACHINE
from PIL import EpsImagePlugin, Image, PngImagePlugin, UnidentifiedImageError
from skips import needs_system

import ganzoo
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.records.store import read_spec, run_folder
from ganzoo.registry.discovery import discover
from ganzoo.types import DatasetRequest
from ganzoo_plugins.datasets import folder as image_folder
from ganzoo_plugins.datasets import torchvision_datasets

EVIL = [
    "../../../escape",
    "/etc/absolute",
    "nul\0byte",
    "\x1b[2J\x1b]0;owned\x07",
    "[red]x[/red]",
    "<script>x</script>",
]
"""Names with path traversal, path separators, terminal control characters, or markup for a terminal or a page."""


# --- an empty allow-list runs no third-party code ---------------------------------------------------------------------

GROUPS = [
    "ganzoo",
    "ganzoo.logs",
    "pytest11",
    "torch.backends",
    "torch_dynamo_backends",
    "pandas_plotting_backends",
    "console_scripts",
]
WRITES_WHEN_IMPORTED = """\
import os, pathlib, sys
pathlib.Path(__file__).with_suffix(f".imported-by-{os.getpid()}").touch()

def plugin(*arguments, **options):
    pathlib.Path(__file__).with_suffix(".called").touch()
"""


@pytest.fixture
def stowaway(tmp_path) -> Path:
    """The folder of an installed package with an entry point in every group that ganzoo or a dependency reads."""
    site = tmp_path / "site-packages"
    information = site / "stowaway-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: stowaway\nVersion: 1.0\n")
    lines = []
    for group in GROUPS:
        module = f"stowaway_{group.replace('.', '_')}"
        (site / f"{module}.py").write_text(WRITES_WHEN_IMPORTED)
        lines += [f"[{group}]", f"{module} = {module}:plugin"]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


def traces(site: Path) -> list[str]:
    return sorted(path.name for path in site.iterdir() if "imported-by" in path.name or path.suffix == ".called")


def test_an_empty_allow_list_runs_no_code_of_third_parties(stowaway, run_cli, stranger):
    environment = {"PYTHONPATH": str(stowaway), "GANZOO_PLUGINS": "", "TORCH_DEVICE_BACKEND_AUTOLOAD": None}
    own = [argument for name in ("chatty", "laboratory") for argument in ("--plugin", stranger(name))]
    bench = (
        "bench",
        "--models",
        "chatty",
        "--dataset",
        "stripes",
        "--metrics",
        "mean-gap",
        "--device",
        "cpu",
        "--kimg",
        "0.1",
        "--fakes",
        "100",
        "--json",
    )
    for command in (
        ("list",),
        # Both in the command and in the process of the run.
        (*bench, "--throughput-seconds", "0.1", *own),
        ("sample", "chatty", *own),
    ):
        done = run_cli(*command, env=environment, program=FRESH)
        assert done.returncode == 0, done.stderr
        assert traces(stowaway) == [], command
    # Control: the package is found, and without the allow-list its code runs.
    statuses = json.loads(run_cli("plugins", "--json", env=environment).stdout)
    assert {status["state"] for status in statuses} == {"disabled"}
    assert "stowaway_ganzoo" in {status["name"] for status in statuses}
    run_cli("list", env={**environment, "GANZOO_PLUGINS": None}, program=FRESH)
    found = traces(stowaway)
    assert any(name.startswith("stowaway_ganzoo.imported-by") for name in found)
    assert any(name.startswith("stowaway_torch_backends.imported-by") for name in found)


LOGGED_BENCH = (
    *("bench", "--models", "mlp", "--dataset", "digits", "--throughput-only", "--device", "cpu", "--dry-run", "--log"),
    "stowaway_ganzoo_logs",
)


@pytest.mark.parametrize("allowed", ["", "digits,dcgan"])
def test_third_party_log_must_be_on_the_allow_list(allowed, stowaway, run_cli):
    refused = run_cli(*LOGGED_BENCH, env={"PYTHONPATH": str(stowaway), "GANZOO_PLUGINS": allowed})
    assert refused.returncode == 2
    assert refused.stderr == "ganzoo: --log stowaway_ganzoo_logs: it is of stowaway and not in GANZOO_PLUGINS\n"
    assert not [name for name in traces(stowaway) if "logs" in name]


def test_a_log_that_is_allowed_loads(stowaway, run_cli):
    run_cli(*LOGGED_BENCH, env={"PYTHONPATH": str(stowaway), "GANZOO_PLUGINS": "stowaway_ganzoo_logs"})
    assert any(name.startswith("stowaway_ganzoo_logs.imported-by") for name in traces(stowaway))


def test_log_name_offered_by_two_packages_is_refused(stowaway, run_cli, tmp_path):
    information = tmp_path / "impostor-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: impostor\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[ganzoo.logs]\nstowaway_ganzoo_logs = impostor\n")
    path = os.pathsep.join([str(stowaway), str(tmp_path)])
    done = run_cli(*LOGGED_BENCH, env={"PYTHONPATH": path, "GANZOO_PLUGINS": None})
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "ganzoo: --log stowaway_ganzoo_logs: impostor and stowaway each have a log of that name; uninstall one"
    )
    assert not [name for name in traces(stowaway) if "logs" in name]


def test_plugin_outside_the_allow_list_is_not_imported(fake_distribution, run_cli):
    site = fake_distribution("ganzoo-tracer", {"tracer": WRITES_WHEN_IMPORTED})
    for allowed in ("", "dcgan"):
        done = run_cli("list", "variants", env={"GANZOO_PLUGINS": allowed})
        assert done.returncode == 0, done.stderr
        assert traces(site) == []
    run_cli("list", "variants", env={"GANZOO_PLUGINS": "tracer"})
    assert len(traces(site)) == 1


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(session_environment):
    return resolve(BenchPlan(models=("mlp",), throughput_only=True, device="cpu"), discover()).runs[0].spec.to_json()


@pytest.mark.parametrize("name", EVIL)
def test_hostile_names_keep_a_run_inside_the_results_folder(name, spec, tmp_path):
    hostile = read_spec({**spec, "variant": name, "dataset": name, "hardware": name})
    place = run_folder(tmp_path, hostile, name)
    assert place.resolve().is_relative_to(tmp_path)
    assert len(place.relative_to(tmp_path).parts) == 2
    place.mkdir(parents=True)


@pytest.mark.parametrize("name", EVIL)
def test_markup_and_control_characters_in_a_record_are_inert(name, tmp_path, invoke):
    (source,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
    record = json.loads((source / "record.json").read_text())
    for index, other in enumerate((name, f"{name}2")):
        text = json.dumps(record).replace('"mlp"', json.dumps(other)).replace('"digits"', json.dumps(f"folder:{other}"))
        changed = json.loads(text)
        changed["throughput"]["flags"] = [other]
        for content in changed["protocols"].values():
            content["real_split"] = other
        (tmp_path / "runs" / str(index)).mkdir(parents=True)
        (tmp_path / "runs" / str(index) / "record.json").write_text(json.dumps(changed))
    before = sorted(tmp_path.rglob("*"))
    shown = []
    for command in (("compare",), *(("compare", "--format", name) for name in ("csv", "json", "md")), ("doctor",)):
        outcome = invoke(*command)
        assert outcome.code == (1 if command == ("doctor",) else 0), outcome.err
        shown.append(outcome.out)
        text = outcome.out + outcome.err
        assert all(line.isprintable() for line in text.splitlines()), command
    table, _, _, markdown, _ = shown
    # Markup is shown as text.
    if "[red]" in name:
        assert "[red]x[/red]" in table
        assert "\\[red\\]x\\[/red\\]" in markdown
    if "<script>" in name:
        assert "<script>" not in markdown.replace("\\<", "")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["[red]evil[bold].py", "\x1b[31mevil.py", "$(touch owned).py", "évil\u202e.py"])
def test_plugin_is_named_after_its_file_without_control_characters(name, tmp_path, invoke):
    (tmp_path / name).write_text("raise RuntimeError('\\x1b[2J[red]' * 10_000_000)\n", encoding="utf-8")
    for command in (("plugins",), ("list", "variants"), ("plugins", "--strict")):
        outcome = invoke(*command, "--plugin", tmp_path / name)
        text = outcome.out + outcome.err
        assert all(line.isprintable() for line in text.splitlines())
        assert "Traceback" not in text
        assert len(text) < 40_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


# --- bombs ------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) * 100 + chunk(b"IEND", b"")


def patched(kind: str, size: tuple[int, int]) -> bytes:
    """A small picture whose header claims another size."""
    stream = io.BytesIO()
    Image.new("RGB", (21, 23)).save(stream, format=kind)
    form = {"JPEG": ">HH", "BMP": "<ii"}[kind]
    old, new = ((23, 21), size[::-1]) if kind == "JPEG" else ((21, 23), size)
    data = stream.getvalue()
    assert struct.pack(form, *old) in data
    return data.replace(struct.pack(form, *old), struct.pack(form, *new), 1)


def text_bomb() -> bytes:
    """A PNG with a compressed text of 400 MB."""
    squeezed = zlib.compress(bytes(400 << 20), 1)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(72)))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"zTXt", b"x\0\0" + squeezed) + rows + chunk(b"IEND", b"")


def postscript() -> bytes:
    """A picture in PostScript, a programming language; Pillow decodes it by running Ghostscript."""
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((18, 18)).convert("RGB").save(stream, format="EPS")
    return stream.getvalue()


IMAGE_BOMBS = {
    "script.png": postscript,
    "huge.png": lambda: png(100_000, 100_000),
    "wide.png": lambda: png(2**31 - 1, 1),
    "large.png": lambda: png(12_000, 12_000),
    "text.png": text_bomb,
    "huge.jpg": lambda: patched("JPEG", (65_500, 65_500)),
    "huge.bmp": lambda: patched("BMP", (2**30, 2**30)),
    "huge.ppm": lambda: b"P6 1000000 1000000 255\n" + bytes(100),
}

MEASURE = """\
import resource, sys
from pathlib import Path
import ganzoo
from ganzoo_plugins.datasets import folder
Path("warm").mkdir()
from PIL import Image
Image.new("L", (9, 9)).save("warm/a.png")
list(folder.read_folder(Path("warm"), 8).images)
for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for skip in (False, True):
        try:
            print(len([image.shape for image in folder.read_folder(Path(path), 8, skip_bad_images=skip).images]))
        except ganzoo.DataUnavailable as error:
            print(error)
    print("MiB", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@needs_system(sys.platform == "linux", "ru_maxrss is in KiB on Linux")
def test_decompression_bomb_images_are_refused_before_memory_is_taken(tmp_path):
    folders = []
    for name, make in IMAGE_BOMBS.items():
        folders.append(tmp_path / name.replace(".", "-"))
        folders[-1].mkdir()
        (folders[-1] / name).write_bytes(make())
    program = [sys.executable, "-c", MEASURE, *map(str, folders)]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=HANGING)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 3 * len(folders)
    for path, one, other, memory in zip(folders, lines[::3], lines[1::3], lines[2::3], strict=True):
        for line in (one, other):
            assert line.startswith(f"{next(path.iterdir())} cannot be read as an image"), line
        # The largest picture that is allowed has 89 million pixels.
        assert int(memory.split()[1]) < 200, f"{path.name}: {memory}"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch) -> Path:
    """The file that a fake `gs` on PATH creates when it is run."""
    trace = tmp_path / "ghostscript-was-run"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\n: > '{trace}'\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    monkeypatch.setattr(EpsImagePlugin, "gs_windows_binary", None)
    return trace


@needs_system(sys.platform != "win32", "the trap is a shell script")
def test_postscript_images_run_no_program(tmp_path, ghostscript, invoke):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    script = pictures / "photo.png"
    script.write_bytes(postscript())
    (record,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
    run = tmp_path / "runs" / record.parent.name / record.name
    shutil.copytree(record, run)
    (run / "samples.png").write_bytes(postscript())
    for skip in (False, True):
        with pytest.raises(ganzoo.DataUnavailable, match=r"photo\.png cannot be read as an image: none of BMP, JPEG"):
            image_folder.read_folder(pictures, 8, skip_bad_images=skip)
    grown = image_folder.ImageFiles([script], 8, "RGB")
    with pytest.raises(ganzoo.DataUnavailable, match=r"photo\.png cannot be read as an image"):
        grown[0]
    # A picture that grew after its header was read, to a size at which Pillow only warns.
    script.write_bytes(png(12_000, 12_000))
    with pytest.raises(ganzoo.DataUnavailable, match="decompression bomb"):
        grown[0]
    script.write_bytes(postscript())
    # A picture as torchvision's CelebA returns it.
    opened = torchvision_datasets.Squares([(Image.open(io.BytesIO(postscript())), None)], 8, "celeba")
    with pytest.raises(ganzoo.DataUnavailable, match="image 0 of celeba cannot be read: it is EPS"):
        opened[0]
    assert invoke("score", pictures, "--dataset", "digits", "--device", "cpu").code == 2
    assert "samples.png: is no PNG that can be read" in invoke("doctor").out
    assert invoke("report", "runs").code == 0
    assert not ghostscript.exists()
    # Control: decoding it by Pillow does run `gs`.
    with pytest.raises(UnidentifiedImageError), Image.open(script) as image:
        image.load()
    assert ghostscript.exists()


@pytest.mark.parametrize("make", [lambda: png(12_000, 12_000), lambda: png(100_000, 100_000), text_bomb])
def test_report_decodes_no_decompression_bomb(make, tmp_path, invoke, monkeypatch):
    (record,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
    run = tmp_path / "runs" / record.parent.name / record.name
    shutil.copytree(record, run)
    (run / "samples.png").write_bytes(make())
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("it was decoded"))
    outcome = invoke("report", "runs", "-o", "page.html")
    assert (outcome.code, outcome.err.count("\n")) == (0, 1), outcome.err
    assert "samples.png" in (tmp_path / "page.html").read_text()


def test_idx_header_larger_than_its_file_is_refused(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    claims = {
        "images": struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 28, 28),
        "sparse": struct.pack(">4B3I", 0, 0, 8, 3, 2**30, 28, 28),
        "overflow": struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        "short": b"\0\0\x08",
        "kind": struct.pack(">4B1I", 0, 0, 14, 1, 0),
        "empty": b"",
    }
    (source,) = (source for source in torchvision_datasets.SOURCES if source.name == "fashion-mnist")
    for name, header in claims.items():
        for file in torchvision_datasets.IDX_FILES:
            (raw / file).write_bytes(header)
            if name == "sparse":
                os.truncate(raw / file, 16 + 2**30 * 784)  # sparse: takes no space on the disk
        with pytest.raises(ganzoo.DataUnavailable, match="fashion-mnist cannot be read: train-images-idx3-ubyte is"):
            torchvision_datasets.load(source, DatasetRequest(tmp_path, "", 28))


def gzip_bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(bytes(32 << 20))


def tar_bomb(path: Path) -> None:
    member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    member.size = 2**50
    with gzip.open(path, "wb") as stream:
        stream.write(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escape.txt", "out")
        archive.writestr("img_align_celeba/000001.jpg", bytes(32 << 20))


ARCHIVES = {
    "fashion-mnist": ("FashionMNIST/raw", gzip_bomb),
    "cifar10": ("", tar_bomb),
    "stl10": ("", tar_bomb),
    "celeba": ("celeba", zip_bomb),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_with_a_wrong_checksum_is_not_unpacked(name, tmp_path, monkeypatch):
    place, bomb = ARCHIVES[name]
    (source,) = (source for source in torchvision_datasets.SOURCES if source.name == name)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for file in source.downloads:
        bomb(tmp_path / place / file)
    monkeypatch.setattr("ganzoo.util.download.reachable", lambda url: pytest.fail("the network was asked"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ganzoo.DataUnavailable, match=rf"^{name} cannot be unpacked: .* has sha256 \w+, not"):
        torchvision_datasets.fetch(source, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


# --- pickles and arrays -----------------------------------------------------------------------------------------------


class Payload:
    """An object that creates a folder when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("pickle-was-run",))


def test_weights_with_a_pickle_in_them_are_refused_unread(tmp_path, invoke, strangers_bench, stranger):
    import torch

    archive = io.BytesIO()
    torch.save({"weight": Payload()}, archive)
    source = next(strangers_bench.results.glob("*/hinge-dcgan-*"))
    for data in (pickle.dumps(Payload()), archive.getvalue(), b"\xff" * 7 + b"\x7f"):
        run = tmp_path / "run"
        shutil.copytree(source, run, dirs_exist_ok=True)
        (run / "generator.safetensors").write_bytes(data)
        outcome = invoke("sample", run, "--plugin", stranger("hinge"))
        assert outcome.code == 2
        assert "generator.safetensors: does not fit architecture 'dcgan'" in outcome.error
        (tmp_path / "inception.pth").write_bytes(data)
        options = ("--features", "inception", "--weights", "inception.pth", "--weights-sha256")
        sha256 = ganzoo.sha256_of_file(tmp_path / "inception.pth")
        pictures = tmp_path / "pictures"
        pictures.mkdir(exist_ok=True)
        for index in range(10):
            Image.new("L", (16, 16), 20 * index).save(pictures / f"{index}.png")
        outcome = invoke("score", pictures, *options, sha256, "--device", "cpu")
        assert outcome.code == 2
        assert "inception.pth does not hold torch-fidelity's Inception-v3 weights" in outcome.error
        assert not (tmp_path / "pickle-was-run").exists()


def test_a_file_of_cifar_without_the_published_md5_is_not_unpickled(tmp_path, monkeypatch):
    (cifar,) = (source for source in torchvision_datasets.SOURCES if source.name == "cifar10")
    (tmp_path / cifar.unpacked_folder).mkdir()
    for name in cifar.unpacked:
        (tmp_path / cifar.unpacked_folder / name).write_bytes(pickle.dumps(Payload()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ganzoo.DataUnavailable, match=r"^cifar10 cannot be read: "):
        torchvision_datasets.load(cifar, DatasetRequest(tmp_path, "", 32))
    assert not (tmp_path / "pickle-was-run").exists()


def npy(shape: str, kind: str = "|u1") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    "data",
    [
        npy("(1152921504606846976,)"),
        npy("(10, 1, 1073741824, 1073741824)"),
        npy("(2, 2)", "|O") + pickle.dumps(Payload()),
        npy("(" * 9000),
        b"",
        b"\x93NUMPY\3\0\xff\xff\xff\xff",
    ],
    ids=["long", "large", "pickle", "deep", "empty", "header"],
)
@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_damaged_npy_in_the_cache_is_rebuilt(name, data, tmp_path, monkeypatch):
    from ganzoo.data.prepared import prepare

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    images = np.arange(640, dtype=np.uint8).reshape(10, 1, 8, 8)
    loaded = ganzoo.LabelledImages(images, np.arange(10) % 3)
    dataset = ganzoo.Dataset("small", lambda request: loaded, lambda request: "1", image_size=8)
    prepared = prepare(dataset, DatasetRequest(tmp_path, "", 8, hold_out=0), None)
    (Path(prepared.folder) / name).write_bytes(data)
    again = prepare(dataset, DatasetRequest(tmp_path, "", 8, hold_out=0), None)
    assert np.array_equal(again.images(), images)
    assert again.labels().tolist() == [index % 3 for index in range(10)]
    assert not (tmp_path / "pickle-was-run").exists()


def test_an_image_that_is_a_pipe_or_a_device_is_refused(tmp_path):
    (tmp_path / "pictures").mkdir()
    os.mkfifo(tmp_path / "pictures" / "pipe.png")
    with pytest.raises(ganzoo.DataUnavailable, match=r"pipe\.png cannot be read as an image: not a plain file"):
        image_folder.read_folder(tmp_path / "pictures", 8)
    (tmp_path / "pictures" / "pipe.png").unlink()
    (tmp_path / "pictures" / "endless.png").symlink_to("/dev/zero")
    with pytest.raises(ganzoo.DataUnavailable, match=r"endless\.png cannot be read as an image: not a plain file"):
        image_folder.read_folder(tmp_path / "pictures", 8)
