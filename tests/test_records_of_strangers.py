"""A record in which one field is anything at all stops no command, changes no other row, and costs little.

Every field of three real records takes the values of `OTHERS`, one at a time: beside good records, through every
command that reads some. Most such records are refused as they are read; then one command is like any other, and
one of them is tried. The ordinary test draws some cases, `-m slow` takes all.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ONE_MACHINE
from safetensors.torch import save_file
from test_doctor import checkpoint

from ganzoo.errors import RecordError
from ganzoo.records.checkpoint import CHECKPOINT
from ganzoo.records.store import GENERATOR, RECORD, read_content, read_record, read_spec
from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import materials_of, spec_players

STORED = Path(__file__).parent / "records"

MOST_MIB = 500
"""The memory that a command may take for one record."""


def deep() -> Any:
    value: Any = 0
    for _ in range(1000):
        value = [value]
    return value


ABSENT = object()
"""In place of a value: the field itself is gone."""

OTHERS: dict[str, Callable[[], Any]] = {
    "absent": lambda: ABSENT,
    "null": lambda: None,
    "true": lambda: True,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "half": lambda: 0.5,
    "denormal": lambda: 5e-324,
    "huge": lambda: 1e308,
    "hugely negative": lambda: -1e308,
    "large": lambda: 1e29,
    "2^63": lambda: 2**63,
    "2^62": lambda: 2**62,
    "text": lambda: "other",
    "empty text": lambda: "",
    "long text": lambda: "x" * 1_000_000,
    "empty list": list,
    "list": lambda: [1, "a", None, {"name": {"x": 1}}, {"name": [1]}],
    "million items": lambda: [0] * 1_000_000,
    "empty object": dict,
    "object": lambda: {"a": [{"name": {"x": 1}}], "b": None, "name": 7},
    "deep": deep,
}


def failed() -> dict[str, Any]:
    (path,) = ONE_MACHINE.glob(f"*/mlp-digits-s0-*/{RECORD}")
    error = {"type": "SIGSEGV", "message": "the run's process ended by SIGSEGV", "tail": "…"}
    parts = {"scores": [], "protocols": {}, "throughput": {}, "training": {}}
    return read_content(path) | parts | {"status": "crashed", "error": error}


BASES = {
    "failed": failed,
    "ok": lambda: read_content(STORED / "schema-3.json"),
    "schema 1": lambda: read_content(STORED / "schema-1.json"),
}


def fields_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values in a record; of a list the first item stands for all."""
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from fields_of(item, (*path, key))


CASES = [(base, path, other) for base, make in BASES.items() for path in fields_of(make()) for other in OTHERS]


def changed(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    holder: Any = content
    for key in path[:-1]:
        holder = holder[key]
    if value is ABSENT:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return content


def text_of(content: dict[str, Any]) -> str:
    """JSON, also of values that are nested deeply."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        return json.dumps(content)
    finally:
        sys.setrecursionlimit(limit)


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("compare", "results"),
    *(("compare", "results", "--format", name) for name in ("csv", "md")),
    ("compare", "results", "--by", "hardware"),
    ("compare", "results", "--baseline", "dcgan", "--doubtful"),
    ("compare", "results", "--target-fid", "20", "--sort", "-images/s"),
    ("compare", "results", "--where", "kimg>0", "--where", "variant=*", "--format", "json"),
    (
        "compare",
        "results",
        "--against",
        "results",
        "--fail-on",
        "fid:5%",
        "--fail-on",
        "images/s:5%",
        "--allow-missing",
    ),
    ("diff", "results/strange", "results/good-0"),
    ("diff", "results/good-0", "results/strange", "--json"),
    ("show", "results/strange"),
    ("show", "results/strange", "--json"),
    ("report", "results", "-o", "page.html", "--force"),
    ("leaderboard", "results"),
    ("doctor", "results"),
    ("doctor", "results", "--json"),
    ("bench", "--resume", "results/strange", "--kimg", "1000", "--dry-run"),
    ("sample", "results/strange", "-n", "1", "-o", "grid.png", "--force"),
)


class Memory:
    """The most memory of this process beyond that at the beginning of the block, in MiB; 0 where nothing says it."""

    def __enter__(self) -> Memory:
        self.known = sys.platform == "linux"
        if self.known:
            Path("/proc/self/clear_refs").write_text("5")
            self.before = self.read("VmRSS")
        return self

    def __exit__(self, *exception: object) -> None:
        self.most = self.read("VmHWM") - self.before if self.known else 0

    def read(self, name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) // 1024


@pytest.fixture
def results(tmp_path, session_environment, monkeypatch) -> Path:
    """Two good rows, one of them on two machines; and beside them the folder of a run without its record."""
    folder = tmp_path / "results"
    (source,) = ONE_MACHINE.glob("*/dcgan-digits-s0-*")
    (other,) = ONE_MACHINE.glob("*/wgan-digits-s0-*")
    for index, (run, hardware) in enumerate([(source, None), (source, "another"), (other, None)]):
        place = folder / f"good-{index}"
        place.mkdir(parents=True)
        content = read_content(run / RECORD)
        content["spec"]["hardware"] = hardware or content["spec"]["hardware"]
        content["run_id"] = f"{index:064x}"
        (place / RECORD).write_text(json.dumps(content))
        shutil.copy(run / "samples.png", place)
    (folder / "strange").mkdir()
    (folder / "strange" / CHECKPOINT).write_bytes(checkpoint())
    # To measure it takes a second, and to import all plugins half of the time of the others.
    monkeypatch.setattr("ganzoo.planning.plan.matrix_product_rate", lambda *arguments: 1e11)
    registry = discover()
    monkeypatch.setattr("ganzoo.running.bench.discover", lambda *arguments, **options: registry)
    return folder


@pytest.fixture(scope="module")
def weights(session_environment, tmp_path_factory) -> dict[str, Path]:
    """The weights of an untrained generator for each of the records."""
    folder, registry = tmp_path_factory.mktemp("weights"), discover()
    paths = {}
    for name, make in BASES.items():
        path = folder / name
        path.write_text(json.dumps(make()))
        spec = read_spec(read_record(path).spec)
        network = spec_players(spec, materials_of(spec, registry)).generator.network
        paths[name] = folder / f"{name}.safetensors"
        save_file(network.state_dict(), paths[name])
    return paths


def good_rows(out: str) -> dict[tuple[str, str], Any]:
    """The figures of the good rows in a comparison as JSON, whatever their columns are called."""
    rows = [row for row in json.loads(out) if row["variant"] in ("dcgan", "wgan")]
    return {(row["variant"], row["hardware"]): [row["n"], row["train_images_per_second"], fids(row)] for row in rows}


def fids(row: dict[str, Any]) -> set[float]:
    names = [name for name in row if name == "fid" or (name.startswith("fid [") and name.endswith("]"))]
    return {row[name] for name in names if row[name] is not None}


def is_accepted(run: Path) -> bool:
    try:
        read_record(run)
    except RecordError:
        return False
    return True


def run_cases(cases, results, weights, invoke, draw: random.Random, tried_of_accepted: int) -> dict[str, int]:
    """Put each case beside the good records and run the commands; count what became of them."""
    table = ("compare", "results", "--format", "json")
    wanted = good_rows(invoke(*table).out)
    assert len(wanted) == 3
    counts = {"refused": 0, "accepted": 0}
    strange = results / "strange"
    contents = {name: make() | {"run_id": "a" * 64} for name, make in BASES.items()}
    for base, path, other in cases:
        case = f"{base}: {'.'.join(map(str, path))} is {other}"
        (strange / RECORD).write_text(text_of(changed(contents[base], path, OTHERS[other]())))
        shutil.copy(weights[base], strange / GENERATOR)
        accepted = is_accepted(strange)
        counts["accepted" if accepted else "refused"] += 1
        commands = draw.sample(COMMANDS, tried_of_accepted if accepted else 1)
        for command in (table, *commands):
            with Memory() as memory:
                outcome = invoke(*command)
            said = f"{case}: {' '.join(command)}: {outcome.err}"
            assert outcome.code in (0, 1, 2, 3), said
            assert "unexpectedly" not in outcome.err, said
            assert "Traceback" not in outcome.out + outcome.err, said
            assert memory.most < MOST_MIB, f"{said} took {memory.most} MiB"
            if command is table:
                assert outcome.code == 0, said
                assert good_rows(outcome.out) == wanted, said
                left_out = [
                    line for line in outcome.err.splitlines() if "left out: results/strange/record.json: " in line
                ]
                assert len(left_out) == (not accepted), said
    return counts


def test_a_changed_field_stops_no_command(results, weights, invoke):
    draw = random.Random(15)
    counts = run_cases(draw.sample(CASES, 250), results, weights, invoke, draw, tried_of_accepted=3)
    assert min(counts.values()) > 20


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("base", BASES)
def test_no_changed_field_stops_any_command(base, results, weights, invoke):
    cases = [case for case in CASES if case[0] == base]
    counts = run_cases(cases, results, weights, invoke, random.Random(0), tried_of_accepted=len(COMMANDS))
    print(f"{base}: {counts}")


# --- what a refusal says ----------------------------------------------------------------------------------------------

REFUSALS = {
    "git": (("environment", "git"), {"a": [1]}, "environment.git is {'a': [1]}; it must be text or null"),
    "flags": (("environment", "flags"), [1, 2], "environment.flags is [1, 2]; it must be an object"),
    "flag": (
        ("environment", "flags", "niceness"),
        [1],
        "environment.flags.niceness is [1]; it must be true or false or",
    ),
    "fid": (("scores", 0, "value"), -5, "score fid at 0.512 kimg is -5, outside of 0 to inf"),
    "best": (("training", "best", "fid/ema", "value"), -5, "training.best.fid/ema is -5, outside of 0 to inf"),
    "rate": (("throughput", "train_images_per_second", "median"), -1, "median is -1; it must be a number from 1e-30"),
    "samples": (
        ("throughput", "train_images_per_second", "samples"),
        [1.0] * 100_000,
        "it must be an array of at most 10,000 items",
    ),
    "latent": (("spec", "recipe", "latent"), -5, "spec.recipe.latent is -5; it must be a whole number from 1"),
    "pixels": (
        ("spec", "image_shape"),
        [1, 100_000, 100_000],
        "image_shape[1] is 100000; it must be a whole number up to 65535",
    ),
    "points": (("spec", "evaluate_at_kimg"), [-1.0], "scoring.evaluate_at_kimg[0] is -1.0; it must be a number from 0"),
    "curve": (("training", "curves", "generator/fool"), [1e308], "fool[0] is 1e+308; it must be a number below 1e+100"),
    "player": (("spec", "recipe", "optimizers", "generator"), ABSENT, "spec.recipe.optimizers lacks 'generator'"),
    "median": (("throughput", "train_images_per_second", "median"), 1e9, "median is 1e+09, and its samples give"),
    "low": (("throughput", "train_images_per_second", "low"), 1e9, "low and .high are not the interval of the median"),
    "mfu": (("throughput", "mfu"), 0.97, "throughput.mfu is not flops_per_image times the median rate over peak_flops"),
    "players": (("spec", "recipe", "optimizers"), {}, "spec.recipe.optimizers lacks 'generator'"),
    "average": (("spec", "recipe", "averages"), {}, "spec.recipe.averages lacks 'generator'"),
    "key": (("anything",), {str(index): 0 for index in range(10_001)}, "an object must be of at most 10,000 keys"),
    "deep": (("spec", "recipe", "options"), deep(), "nests deeper than 10 levels"),
    "many": (("files",), [[]] * 600_000, "holds more than 800,000 values, or 200,000 objects and arrays"),
}


def test_a_refusal_names_the_file_the_field_and_the_way_out(results, invoke):
    for path, value, line in REFUSALS.values():
        (results / "strange" / RECORD).write_text(text_of(changed(BASES["ok"](), path, value)))
        outcome = invoke("compare", "results")
        assert outcome.code == 0
        (said,) = outcome.err.splitlines()
        assert said.startswith("ganzoo: left out: results/strange/record.json: ")
        assert said.endswith("; `ganzoo doctor --fix` moves it aside")
        assert line in said


def test_option_of_any_kind_is_shown(results, invoke):
    """An option of an architecture may be anything; here one that looks like phases or penalties and is none."""
    for seed in (0, 1):
        content = changed(BASES["ok"](), ("spec", "recipe", "options"), {"a": [{"name": {"x": seed}}]})
        (results / str(seed)).mkdir()
        (results / str(seed) / RECORD).write_text(json.dumps(content | {"run_id": f"{seed + 50:064x}"}))
    outcome = invoke("compare", "results")
    assert (outcome.code, outcome.err) == (0, "")
    assert "options.a={'name': {'x': 1}}" in outcome.out


def test_what_a_plugin_raises_for_the_options_of_a_record_is_one_line(results, weights, invoke):
    content = changed(BASES["ok"](), ("spec", "recipe", "options", "slope"), 1e308)
    (results / "strange" / RECORD).write_text(json.dumps(content))
    shutil.copy(weights["ok"], results / "strange" / GENERATOR)
    outcome = invoke("sample", "results/strange", "-n", "1")
    assert outcome.code == 2
    assert "generator.safetensors: does not fit architecture 'mlp': OverflowError: " in outcome.error


def test_a_difference_that_is_infinite_is_null(results, invoke):
    for name, value in (("good-0", 5e-324), ("strange", 1e29)):
        content = read_content(STORED / "schema-3.json") if name == "strange" else read_content(results / name / RECORD)
        for score in content["scores"]:
            score["value"] = value if score["metric"] == "fid" else score["value"]
        (results / name / RECORD).write_text(json.dumps(content))
    for arguments in (
        ("diff", "--json", "results/good-0", "results/strange"),
        ("diff", "results/good-0", "results/strange"),
    ):
        outcome = invoke(*arguments)
        assert (outcome.code, "Infinity" in outcome.out, "inf" in outcome.out) == (0, False, False)


# --- memory is asked for only where the weights are those of the network ----------------------------------------------


@pytest.mark.parametrize("latent", [20_000_000, 10**12])
@pytest.mark.parametrize("whole", [True, False])
def test_sample_looks_at_the_weights_before_it_builds(latent, whole, results, weights, invoke):
    strange = results / "strange"
    (strange / RECORD).write_text(json.dumps(changed(BASES["ok"](), ("spec", "recipe", "latent"), latent)))
    (strange / GENERATOR).write_bytes(weights["ok"].read_bytes() if whole else b"")
    with Memory() as memory:
        outcome = invoke("sample", "results/strange", "-n", "1")
    assert outcome.code == 2
    what = (
        "its networks take"
        if latent == 10**12
        else f"has the shape [256, 100] there, and [256, {latent}] in the network"
    )
    what = what if whole else "is no safetensors file: its header claims more bytes than there are"
    assert "generator.safetensors: does not fit architecture 'mlp': " in outcome.error
    assert what in outcome.error
    assert memory.most < 100
