"""Fuzzing: any input gives one clear error or none, and writes no file outside the given folders.

Each target has a strategy of Hypothesis and a function that gets what it draws. A `GanzooError` is a valid answer; any
other exception is a fault, and so is too much CPU or wall time, or a write outside the folders that the target
allows.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ONE_MACHINE, STRANGERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from test_doctor import checkpoint

import ganzoo
import ganzoo_plugins
from ganzoo.comparing.comparison import compare
from ganzoo.comparing.diff import diff_records
from ganzoo.comparing.machines import by_hardware
from ganzoo.comparing.table import comparison_table, records_table
from ganzoo.comparing.targets import Goal
from ganzoo.data.prepared import PreparedDataset, prepare
from ganzoo.errors import GanzooError
from ganzoo.evaluation.sampling import generator_of
from ganzoo.output.comparison import comparison_tables, diff_tables
from ganzoo.output.markdown import updated_page
from ganzoo.output.report.report import write_report
from ganzoo.output.tables import plugins_page, run_page
from ganzoo.planning.describe import describe_offer, find_by_name
from ganzoo.planning.overrides import parse_overrides
from ganzoo.planning.plan import resolve
from ganzoo.planning.recipe import resolve_recipe
from ganzoo.planning.request import BenchPlan
from ganzoo.planning.selection import select
from ganzoo.records.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ganzoo.records.doctor import CHECKPOINT, examine, quarantine
from ganzoo.records.store import GENERATOR, RECORD, find_records, find_run, read_content
from ganzoo.registry.discovery import discover
from ganzoo.registry.registry import KINDS, Registry
from ganzoo.running.resuming import kept_outcome
from ganzoo.running.suites import read_suite, with_options
from ganzoo.runs import RunSpec
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import TermLog, TrainResult, run_step, train
from ganzoo.training.snapshot import restore, snapshot
from ganzoo.types import Dataset, DatasetRequest, LabelledImages
from ganzoo.util.files import cache_folder
from ganzoo.util.text import did_you_mean, printable, slug
from ganzoo_plugins.datasets import folder as image_folder
from ganzoo_plugins.datasets import torchvision_datasets

SECONDS = 20
"""CPU time for one input; most take some milliseconds."""

WAITING_SECONDS = 120
"""Wall time for one input, on a busy machine."""


# --- what every input must satisfy ------------------------------------------------------------------------------------


class Watch:
    """Records files that this process writes, creates, moves or removes. One per process: audit hooks are permanent."""

    WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")

    def __init__(self) -> None:
        self.allowed: tuple[Path, ...] | None = None
        self.strays: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        # With a folder's descriptor in place of a path, shutil.rmtree is inside a folder that was checked already.
        beneath = event in self.WRITES and arguments[-1] not in (-1, None) and not isinstance(arguments[-1], str)
        if (writing or event in self.WRITES) and not beneath:
            paths = arguments[:2] if event in ("os.rename", "os.link") else arguments[:1]
            for path in paths:
                if isinstance(path, (str, bytes, os.PathLike)) and not self.fits(absolute(path)):
                    self.strays.append(f"{event} {os.fsdecode(path)}")

    def fits(self, path: Path) -> bool:
        assert self.allowed is not None
        compiled = "__pycache__" in path.parts and any(path.is_relative_to(root) for root in CODE)
        return compiled or any(path.is_relative_to(place) for place in (*self.allowed, Path("/dev"), Path("/proc")))


def absolute(path: str | bytes | os.PathLike[Any]) -> Path:
    return Path(os.path.abspath(os.fsdecode(path)))


WATCH = Watch()

CODE = [absolute(place) for place in (*sys.path, *ganzoo.__path__, *ganzoo_plugins.__path__, STRANGERS) if place]
"""Folders below which Python may write `__pycache__`."""


class TooLong(BaseException):
    """Interrupts a call that takes too long. Code that catches every exception catches this one too."""


class Alarm:
    """Raises `TooLong` after `SECONDS` of CPU time or `WAITING_SECONDS` of wall time, and remembers that it did."""

    def __init__(self) -> None:
        self.rang = False

    def __enter__(self) -> Alarm:
        self.before = signal.signal(signal.SIGVTALRM, self.ring)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, SECONDS)
        # pytest-timeout uses SIGALRM. A signal also interrupts a blocking call.
        main = threading.main_thread().ident
        self.waiting = threading.Timer(WAITING_SECONDS, signal.pthread_kill, (main, signal.SIGVTALRM))
        self.waiting.daemon = True
        self.waiting.start()
        return self

    def __exit__(self, *exception: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        self.waiting.cancel()
        self.waiting.join()
        signal.signal(signal.SIGVTALRM, self.before)

    def ring(self, signal_number: int, frame: object) -> None:
        self.rang = True
        raise TooLong


@contextlib.contextmanager
def no_faults(*allowed: Path) -> Iterator[None]:
    """Accept a `GanzooError`; fail on any other exception, on a write outside `allowed`, and on a timeout."""
    WATCH.strays.clear()
    answer = ""
    with contextlib.suppress(TooLong), Alarm() as alarm:
        WATCH.allowed = tuple(map(absolute, allowed))
        try:
            yield
        except GanzooError as error:
            answer = str(error)
        finally:
            WATCH.allowed = None
    inert(answer)
    assert not alarm.rang, f"an input took more than {SECONDS} s of computing, or {WAITING_SECONDS} s in all"
    assert WATCH.strays == []


def inert(text: str) -> None:
    """Check that the text holds no control characters for a terminal."""
    assert all(line.isprintable() for line in text.split("\n"))


def shown(*parts: object) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=200, highlight=False)
    for part in parts:
        console.print(part)
    return stream.getvalue()


# --- strategies -------------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return text.split()


NASTY = [
    *("", "../../escape", "/etc/passwd", "C:\\x", "a\0b", "\x1b[2J\x1b]0;owned\x07", "[red]x[/red]", "[/]", "[link=x]"),
    *("<script>alert(1)</script>", "a|b", "`rm`", "=cmd()", "\ud800", "\u202eevil", "\u009b31m", "x" * 3000, "fid/ema"),
    *("ok", "crashed", "{}", "%s%n", "é\u0301", "NaN", "-1", "1e999", "record.json", "-", "--", " ", "\r\n"),
]
NUMBERS = [0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 2**127, 2**128, 10**400, 0.0, -0.0, 1e308, -1e308, 5e-324, 0.5]

texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=20))
scalars = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.integers(), st.floats(), texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


EXTREMES = [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\1\0\0", b"\1\0\0\0"]


@st.composite
def damaged_bytes(draw: Callable[..., Any], originals: list[bytes]) -> bytes:
    """One of the originals with bytes changed, truncated, inserted or repeated, or arbitrary bytes."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 5))):
        # Most damage goes to the beginning, where the headers are.
        reach = draw(st.sampled_from([16, 64, 400, len(data)]))
        place = draw(st.integers(0, max(0, min(reach, len(data)) - 1)))
        match draw(st.sampled_from(["flip", "number", "cut", "insert", "double", "drop"])):
            case "flip":
                data[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case "number":
                data[place : place + 4] = draw(
                    st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\1\0\0"])
                )
            case "cut":
                del data[place:]
            case "insert":
                data[place:place] = draw(st.binary(max_size=12))
            case "double":
                data[place:place] = data[place : place + 64]
            case "drop":
                del data[place : place + draw(st.integers(1, 40))]
    return bytes(data) if draw(st.integers(0, 40)) else draw(st.binary(max_size=200))


def committed(name: str) -> dict[str, Any]:
    (path,) = ONE_MACHINE.glob(f"*/{name}-s0-*/{RECORD}")
    content = read_content(path)
    # Short curves and few samples: only the structure matters, and small records allow more tries.
    content["training"]["curves"] = {name: curve[:3] for name, curve in content["training"]["curves"].items()}
    return content


def failed(content: dict[str, Any]) -> dict[str, Any]:
    empty = {"scores": [], "protocols": {}, "throughput": {}, "training": {}, "hardware": {}, "parameters": {}}
    error = {"type": "SIGSEGV", "message": "the run's process ended by SIGSEGV", "tail": "…"}
    return content | empty | {"status": "crashed", "error": error}


BASES = [
    committed("mlp-digits"),
    committed("wgan-gp-digits"),
    committed("infogan-digits"),
    failed(committed("mlp-digits")),
]


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths_of(item, (*path, key))


PATHS = [list(paths_of(base))[1:] for base in BASES]


@st.composite
def damaged_records(draw: Callable[..., Any]) -> str:
    """The text of a record with some values replaced, removed or moved, or of a truncated record."""
    which = draw(st.integers(0, len(BASES) - 1))
    record = copy.deepcopy(BASES[which])
    for _ in range(draw(st.integers(1, 4))):
        *parents, last = draw(st.sampled_from(PATHS[which]))
        holder: Any = record
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for key in parents:
                holder = holder[key]
            match draw(st.sampled_from(["set", "set", "set", "drop", "add", "deep"])):
                case "set":
                    holder[last] = draw(values)
                case "drop":
                    del holder[last]
                case "add" if isinstance(holder, dict):
                    holder[draw(texts)] = draw(values)
                case "deep":
                    for _ in range(draw(st.sampled_from([10, 40, 2000]))):
                        holder[last] = [holder[last]]
    try:
        text = json.dumps(record)
    except (RecursionError, ValueError):
        return "[" * 5000
    return text if draw(st.integers(0, 20)) else text[: draw(st.integers(0, len(text)))]


WORDS = [
    *words("dcgan mlp wgan* all ! !* + hinge r1 , : losses: * ? [ ] [a- ]z infogan cdcgan softmax . = dcgan+hinge"),
    *("conv-", " ", "../", "DCGAN", "dcgna", "\0", "\x1b[2J"),
]
model_texts = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=7).map("".join),
    st.lists(st.sampled_from(WORDS), max_size=7).map(",".join),
    st.text(max_size=30),
)
FIELDS = [
    *words("batch_size learning_rate optimizer. betas kind discriminator.repeats r1.gamma gamma penalties loss lazy."),
    *words("architecture rate_decay schedules. latent flips ema_half_life_kimg options. base_channels every phases"),
    *("discriminator_optimizer.", "momentum", "hyper", "image_sizes", "", "."),
]
SUITE_KEYS = [
    *words("models dataset kimg seeds seed device threads batch_size metrics set plugins optional fakes precision"),
    *words("resume summary weights data_root throughput_only sweep_batch modles 'a b' step_mode"),
]
SUITE_VALUES = [
    *('["dcgan"]', '"dcgan"', "[]", "[1]", "3", "-1", "1e999", "nan", "true", '"full"', '"auto"', "[[]]", "{}", ""),
    *('"""x"""', "'\\u001b'", '"\\u001b[2J"', '["../../x.py"]', "0x10", "9" * 400, "[" * 300, "{a = {b = 1}}"),
    "1979-05-27",
]
suite_texts = st.lists(
    st.one_of(
        st.sampled_from(["[[bench]]", "[bench]", "[[bench", 'summary = "x"', "bench = 3", "[[bench.x]]", "# \ud800"]),
        st.tuples(st.sampled_from(SUITE_KEYS), st.sampled_from(SUITE_VALUES)).map(" = ".join),
        st.text(max_size=12),
    ),
    max_size=9,
).map("\n".join)
GIVEN = [*words("0 -1 1e999 nan 0.5,0.9 1,2,3 true hinge r1,r2 linear sgd 0x10 1_0 ٣"), "9" * 5000, ""]
set_texts = st.one_of(
    st.tuples(
        st.sampled_from(["mlp", "wgan-gp", "*", "mlp*", "[", "no", ""]),
        st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3).map("".join),
        st.one_of(st.sampled_from(GIVEN), texts),
    ).map(lambda parts: f"{parts[0]}.{parts[1]}={parts[2]}"),
    st.text(max_size=30),
)


# --- targets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A fuzz target: `check` gets an input drawn from `inputs`, a new folder, and the registry."""

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any, Path, Registry], None]
    many: int
    """Inputs of the long run."""
    few: int = 60
    """Inputs of the ordinary one."""


def write_beside_healthy_record(text: str, folder: Path) -> Path:
    """A results folder with a record of this text beside a healthy one."""
    results = folder / "results"
    if not (results / "healthy").exists():
        (source,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
        shutil.copytree(source, results / "healthy")
    (results / "fuzzed").mkdir(exist_ok=True)
    (results / "fuzzed" / RECORD).write_text(text, encoding="utf-8", errors="surrogatepass")
    return results


def check_comparison(text: str, folder: Path, registry: Registry) -> None:
    """Read a record, compare it in every format, and sample from its run."""
    results = write_beside_healthy_record(text, folder)
    with no_faults(results):
        records, complaints = find_records([results])
        inert("\n".join(complaints))
        assert len(records) + len(complaints) == 2
        table = comparison_table(compare(records))
        inert(shown(*comparison_tables(records, goal=Goal("fid", 20.0))))
        records_table(records)
        for record in records:
            inert(shown(*run_page(record)))
            inert(shown(*diff_tables(diff_records(records[0], record), ("A", "B"))))
        for offer in registry.offers["reporters"]:
            inert(offer.record.render(table))
    with no_faults(results):
        comparison_table(by_hardware(records)[0])
    with no_faults(results):
        updated_page(results, records)
    with no_faults(results):
        find_run(text[:20], results)
    with no_faults(results):
        generator_of(find_run(results / "fuzzed"), registry, "cpu")


def check_report(text: str, folder: Path, registry: Registry) -> None:
    """Render the report of a record; all markup of the page must be ganzoo's."""
    results = write_beside_healthy_record(text, folder)
    records, complaints = find_records([results])
    # The report looks for real images in the cache and creates its folders.
    with no_faults(folder, cache_folder()):
        write_report(records, complaints, [text[:50]], folder / "report.html", force=True)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "</body>" in page


def check_suite(text: str, folder: Path, registry: Registry) -> None:
    """Read a suite and apply options; it becomes plans or is refused."""
    (folder / "suite.toml").write_text(text, encoding="utf-8", errors="surrogatepass")
    with no_faults(folder):
        suite = with_options(read_suite(str(folder / "suite.toml")), {"seeds": 2})
        assert suite.parts
        assert all(part.plan.seeds == 2 for part in suite.parts)


@cache
def small_run() -> tuple[RunSpec, PreparedDataset, Registry]:
    registry = discover()
    plan = BenchPlan(("mlp",), batch_size=4, kimg=0.02, device="cpu", throughput_only=True, set=("mlp.latent=2",))
    resolved = resolve(plan, registry)
    return resolved.runs[0].spec, resolved.dataset, registry


@cache
def run_snapshot() -> tuple[dict[str, torch.Tensor], str]:
    """Tensors and state of a run after a few steps, with the outcome that a checkpoint holds."""
    spec, dataset, registry = small_run()
    run, log = assemble(spec, registry, dataset), TermLog(TrainResult())
    train(run, 0.02, log=log)
    run_step(run, log)
    tensors, state = snapshot(run, log)
    kept = {"scores": [], "protocols": {}, "throughput": {"flags": []}}
    return tensors, json.dumps({**state, "outcome": kept})


@st.composite
def damaged_states(draw: Callable[..., Any]) -> tuple[dict[str, torch.Tensor], Any]:
    """Tensors and state of a checkpoint with some entries replaced or removed."""
    tensors, text = run_snapshot()
    tensors, state = dict(tensors), json.loads(text)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(tensors)))
        other = draw(st.sampled_from([None, torch.zeros(0), torch.zeros(3, dtype=torch.uint8), torch.tensor(7)]))
        if other is None:
            tensors.pop(name, None)
        else:
            tensors[draw(st.sampled_from([name, f"{name}/more", "optimizer/generator/99/step"]))] = other
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from([path for path in paths_of(state) if path] or [("step",)]))
        holder: Any = state
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for key in parents:
                holder = holder[key]
            if draw(st.booleans()):
                holder[last] = draw(values)
            else:
                del holder[last]
    return tensors, state


def check_checkpoint(drawn: tuple[dict[str, torch.Tensor], Any], folder: Path, registry: Registry) -> None:
    """Write and read an intact checkpoint file with damaged content; it is restored or refused."""
    spec, dataset, plugins = small_run()
    tensors, state = drawn
    path = folder / CHECKPOINT
    with contextlib.suppress(ValueError, RecursionError, UnicodeEncodeError, OverflowError):
        write_checkpoint(path, Checkpoint("ab" * 32, tensors, state))
    if not path.exists():
        return
    run = assemble(spec, plugins, dataset)
    with no_faults(folder):
        saved = read_checkpoint(path)
        kept_outcome(saved)
        restore(run, saved.tensors, saved.state)
    path.unlink()


def check_doctor(text: str, folder: Path, registry: Registry) -> None:
    """Let the doctor quarantine a faulty record; afterwards all is healthy."""
    results = write_beside_healthy_record(text, folder)
    with no_faults(results):
        examination = examine(results)
        inert("\n".join(f"{printable(one.path)}: {printable(one.what)}" for one in examination.findings))
        json.dumps([one.what for one in examination.findings])
        assert quarantine(examination), "the folders of both are called otherwise than the runs"
        assert not examine(results).findings
    shutil.rmtree(results)


def check_weights(data: bytes, folder: Path, registry: Registry) -> None:
    """Put damaged weights and a damaged checkpoint into the folder of a healthy run."""
    results = folder / "results"
    (source,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
    run = results / source.parent.name / source.name
    if not run.exists():
        shutil.copytree(source, run)
    (run / GENERATOR).write_bytes(data)
    (run / CHECKPOINT).write_bytes(data)
    with no_faults(results):
        generator_of(find_run(run), registry, "cpu")
    with no_faults(results):
        examination = examine(results)
        inert("\n".join(one.what for one in examination.findings))
        assert {one.path.name for one in examination.findings} <= {GENERATOR, CHECKPOINT}


def check_models(text: str, folder: Path, registry: Registry) -> None:
    with no_faults(folder):
        selections = select(registry, [text])
        assert selections
        for selection in selections[:3]:
            slug(selection.label)
            resolve_recipe(selection, registry, (), None, None)
    with no_faults(folder):
        for kind, offer in find_by_name(registry, text):
            json.dumps(describe_offer(offer, kind))
    inert(did_you_mean(text, registry.names("variants")))


def check_set(text: str, folder: Path, registry: Registry) -> None:
    selections = select(registry, ["mlp,wgan-gp"])
    with no_faults(folder):
        for override in parse_overrides([text], ["mlp", "wgan-gp"]):
            inert(str(override))
            for selection in selections:
                with contextlib.suppress(GanzooError):
                    json.dumps(resolve_recipe(selection, registry, [override], None, None), allow_nan=False)


def check_image(data: bytes, folder: Path, registry: Registry, watched: bool = True) -> None:
    """Read a damaged image, with and without `--skip-bad-images`."""
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    (pictures / "image.png").write_bytes(data)
    for skip in (False, True):
        with no_faults() if watched else contextlib.nullcontext():
            loaded = image_folder.read_folder(pictures, 8, skip_bad_images=skip)
            for image in loaded.images:
                assert image.shape[1:] == (8, 8)


def check_plugin(source: str, folder: Path, registry: Registry) -> None:
    """Load and list a plugin file beside a healthy one."""
    path = folder / "plugin.py"
    path.write_text(source, encoding="utf-8", errors="surrogatepass")
    # In the cache stands which plugin is being imported.
    allowed = (folder, cache_folder())
    with pytest.MonkeyPatch.context() as patch, no_faults(*allowed), contextlib.redirect_stderr(io.StringIO()):
        patch.setenv("GANZOO_PLUGINS", "")
        found = discover([str(path), str(STRANGERS / "healthy.py")])
        fuzzed, healthy = (status for status in found.statuses if status.state != "disabled")
        assert (fuzzed.name, healthy.state) == ("plugin.py", "ok")
        inert(fuzzed.error or "")
        inert(shown(*plugins_page(found)))
        for kind in KINDS:
            for offer in found.offers[kind]:
                json.dumps(describe_offer(offer, kind))
        assert found.get("variants", "healthy.py:healthy").plugin == "healthy.py"


def check_cache(data: bytes, folder: Path, registry: Registry) -> None:
    """Read a prepared dataset with one damaged file, and damaged files in the format of MNIST."""
    images = np.arange(10 * 64, dtype=np.uint8).reshape(10, 1, 8, 8)
    loaded = LabelledImages(images, torch.arange(10) % 3)
    dataset = Dataset("fuzzed", lambda request: loaded, lambda request: "1", image_size=8)
    request = DatasetRequest(folder, "", 8, hold_out=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_CACHE", str(folder / "cache"))
        with no_faults(folder / "cache"):
            place = Path(prepare(dataset, request, None).folder)
        for name in ("dataset.json", "images.npy", "labels.npy"):
            (place / name).write_bytes(data)
            with no_faults(folder / "cache"):
                prepared = prepare(dataset, request, None)
                assert prepared.images().shape == (10, 1, 8, 8)
                assert prepared.labels() is not None
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in torchvision_datasets.IDX_FILES:
        (raw / name).write_bytes(data)
    (source,) = (source for source in torchvision_datasets.SOURCES if source.name == "fashion-mnist")
    with no_faults():
        torchvision_datasets.load(source, DatasetRequest(folder, "", 8))


def encoded(kind: str, mode: str) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((24, 20)).convert(mode).save(stream, format=kind)
    return stream.getvalue()


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def safetensors_bytes() -> list[bytes]:
    from safetensors.numpy import save

    network = {"0.weight": np.zeros((512, 100), np.float32), "0.bias": np.ones(512, np.float32)}
    return [save(network), save({}), checkpoint(), checkpoint(schema="1"), b"PK\3\4" + bytes(60), b"\x80\x04N."]


IMAGES = [encoded("PNG", mode) for mode in ("L", "P", "RGBA")]
IMAGES += [encoded(kind, "RGB") for kind in ("JPEG", "BMP", "TIFF", "WEBP", "PPM", "EPS")]

IDX = [
    bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (2, 28, 28)) + bytes(2 * 784),
    bytes([0, 0, 8, 1]) + (2).to_bytes(4, "big") + bytes(2),
]
FACTS: dict[str, Any] = {"name": "fuzzed", "folder": "x", "image_shape": [1, 8, 8], "count": 10, "classes": 3}
NOTED = json.dumps(FACTS | {"sha256": "0" * 64, "source": "", "split": "train", "skipped": []}).encode()
ARRAYS = [saved(np.zeros((10, 1, 8, 8), np.uint8)), saved(np.zeros(10, np.int64)), saved(np.array([None, {}], object))]

HOOKS = words("variants architectures losses datasets feature_extractors metrics reporters event variant nonsense")
KNOWN = words("Variant Architecture Loss Penalty Dataset FeatureExtractor Metric Reporter Optimizer Phase")
NAMED = words("name batch_size optimizer penalties hyper loss architecture options summary")
EXPRESSIONS = [
    *("build", "lambda *a, **k: None", "ganzoo", "object()", "Odd()", "Odd", "ganzoo.Variant", "'dcgan'", "'hinge'"),
    *("{Odd(): 1}", "range(3)", "(yield)", "1/0", "[].x", "float('inf')", "b'x'", "...", "print"),
]
literals = st.one_of(values.map(repr), st.sampled_from(EXPRESSIONS))
PREAMBLE = """\
import ganzoo
class Odd:
    def __repr__(self): raise BaseException("no")
def build(*a, **k): pass
"""


@st.composite
def plugin_sources(draw: Callable[..., Any]) -> str:
    """The source of a plugin whose hooks yield records with arbitrary fields; sometimes truncated."""
    lines = []
    for _ in range(draw(st.integers(0, 3))):
        lines.append(draw(st.sampled_from(["@ganzoo.hookimpl"] * 6 + ["@ganzoo.hookimpl(wrapper=True)", "", "@Odd()"])))
        arguments = draw(st.sampled_from([""] * 5 + ["event", "*a", "x=1"]))
        lines += [f"def ganzoo_{draw(st.sampled_from(HOOKS))}({arguments}):", "    if False: yield"]
        for _ in range(draw(st.integers(0, 3))):
            given = draw(st.lists(literals, max_size=4))
            named = draw(st.dictionaries(st.sampled_from(NAMED), literals, max_size=2))
            fields = ", ".join([*given, *(f"{name}={value}" for name, value in named.items())])
            record = f"ganzoo.{draw(st.sampled_from(KNOWN))}({fields})"
            lines.append(f"    yield {record if draw(st.integers(0, 5)) else draw(literals)}")
    source = PREAMBLE + "\n".join(lines) + "\n"
    return source if draw(st.integers(0, 8)) else source[: draw(st.integers(0, len(source)))] + draw(texts)


TARGETS = {
    "compare": Target(damaged_records(), check_comparison, 8_000),
    "report": Target(damaged_records(), check_report, 1_500, few=6),
    "doctor": Target(damaged_records(), check_doctor, 8_000),
    "checkpoints": Target(damaged_states(), check_checkpoint, 2_000),
    "suites": Target(suite_texts, check_suite, 20_000),
    "weights": Target(damaged_bytes(safetensors_bytes()), check_weights, 16_000),
    "models": Target(model_texts, check_models, 25_000),
    "set": Target(set_texts, check_set, 25_000),
    "images": Target(damaged_bytes(IMAGES), check_image, 14_000),
    "plugins": Target(plugin_sources(), check_plugin, 6_000),
    "caches": Target(damaged_bytes([*IDX, NOTED, *ARRAYS]), check_cache, 6_000),
}


@pytest.fixture(scope="module")
def registry(session_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """All plugins. Packages that create folders on first use are imported here, before the watch."""
    (tmp_path_factory.getbasetemp() / "warm").mkdir()
    check_image(IMAGES[0], tmp_path_factory.getbasetemp() / "warm", discover(), watched=False)
    return discover()


def fuzz(target: Target, count: int, folder: Path, registry: Registry) -> int:
    """Try `count` inputs from a fixed seed; return how many were tried."""
    tried = 0

    def one(drawn: Any) -> None:
        nonlocal tried
        tried += 1
        target.check(drawn, folder, registry)

    derandomized = settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    derandomized(given(target.inputs)(one))()
    return tried


@pytest.mark.parametrize("name", TARGETS)
def test_short_fuzz_of_every_target(name, tmp_path, registry):
    few = TARGETS[name].few
    assert fuzz(TARGETS[name], few, tmp_path, registry) >= 0.8 * few


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", TARGETS)
def test_long_fuzz_of_every_target(name, tmp_path, registry):
    tried = fuzz(TARGETS[name], TARGETS[name].many, tmp_path, registry)
    print(f"{name}: {tried:,} inputs")
    assert tried >= 0.9 * TARGETS[name].many


def test_long_fuzz_has_a_hundred_thousand_inputs():
    assert sum(target.many for target in TARGETS.values()) >= 100_000


def test_watch_reports_a_write_outside_the_folders(tmp_path):
    """`no_faults` fails on a write elsewhere, on another exception and on a timeout."""
    (tmp_path / "inside").mkdir()
    with no_faults(tmp_path / "inside"):
        (tmp_path / "inside" / "file").write_text("fine")
    for stray in (
        lambda: (tmp_path / "outside").write_text("not fine"),
        lambda: (tmp_path / "folder").mkdir(),
        lambda: (tmp_path / "inside" / "file").rename(tmp_path / "moved"),
        lambda: (tmp_path / "inside-out").write_text("not fine"),
        lambda: (tmp_path / "__pycache__").mkdir(),
    ):
        with pytest.raises(AssertionError), no_faults(tmp_path / "inside"):
            stray()
    with pytest.raises(ZeroDivisionError), no_faults(tmp_path):
        raise ZeroDivisionError
    with no_faults(tmp_path):
        raise GanzooError("an answer")


def compute() -> None:
    while True:
        pass


def wait() -> None:
    time.sleep(600)


@pytest.mark.parametrize("hang", [compute, wait])
def test_hang_is_reported_even_if_every_exception_is_caught(hang, tmp_path, monkeypatch):
    def answered() -> None:
        try:
            hang()
        except BaseException as error:
            raise GanzooError("an answer") from error

    monkeypatch.setattr(f"{__name__}.SECONDS", 0.1)
    monkeypatch.setattr(f"{__name__}.WAITING_SECONDS", 1)
    with pytest.raises(AssertionError, match="took more than"), no_faults(tmp_path):
        hang()
    with pytest.raises(AssertionError, match="took more than"), no_faults(tmp_path):
        answered()
    with pytest.raises(AssertionError, match="took more than"), no_faults(tmp_path), contextlib.suppress(BaseException):
        hang()
