"""The documentation says what the code does: signatures, fields, options, links, and examples that load and run."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pandas
import pytest
import torch
from conftest import ONE_MACHINE

import ganzoo
from ganzoo import runs, types
from ganzoo.cli.main import build_parser
from ganzoo.comparing.baseline import with_baseline
from ganzoo.comparing.comparison import compare
from ganzoo.comparing.machines import by_hardware
from ganzoo.data.prepared import prepare
from ganzoo.evaluation.extractors import load_extractor
from ganzoo.evaluation.features import FeatureSample
from ganzoo.evaluation.scorer import Scorer
from ganzoo.machine import fingerprint
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.records.store import STATUSES, find_records
from ganzoo.registry import hookspecs
from ganzoo.registry.discovery import discover
from ganzoo.registry.registry import PluginStatus, Registry
from ganzoo.running.speed import summary
from ganzoo.training.loop import TrainResult

ROOT = Path(__file__).parent.parent
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
PARSER, COMMANDS = build_parser()
SUBPARSERS = next(action for action in PARSER._actions if isinstance(action, argparse._SubParsersAction)).choices


def prose(text: str) -> str:
    """A page without its blocks of code, in which a comment looks like a heading."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def section(page: str, title: str) -> str:
    """The prose under a heading, down to the next heading of its level or above."""
    text = prose(PAGES[page])
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.M)
    assert found, f"docs/{page}.md has no heading '{title}'"
    return re.split(rf"^#{{1,{len(found[1])}}} ", text[found.end() :], maxsplit=1, flags=re.M)[0]


def table(text: str) -> dict[str, list[str]]:
    """The rows of the tables in `text`, by what stands in code in the first cell; the other cells."""
    rows = [re.split(r"\s*(?<!\\)\|\s*", line.strip().strip("|")) for line in text.splitlines() if line.startswith("|")]
    return {name: [cell.strip() for cell in cells[1:]] for cells in rows for name in re.findall(r"`([^`]+)`", cells[0])}


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.M | re.S)


# --- plugins.md: hooks and records ------------------------------------------------------------------------------------


def test_every_hook_stands_with_its_exact_signature():
    source = Path(hookspecs.__file__).read_text(encoding="utf-8")
    signatures = re.findall(r"^@hookspec\n(def ganzoo_\w+\(.*\) -> [^:]+):", source, re.M)
    assert len(signatures) == len([name for name in vars(hookspecs) if name.startswith("ganzoo_")]) == 8
    for signature in signatures:
        assert PAGES["plugins"].count(signature) == 2, f"in the list and above its section: {signature}"


RECORDS = (
    types.Architecture,
    types.Batch,
    types.Phase,
    types.Penalty,
    types.Loss,
    types.Optimizer,
    types.Schedule,
    types.Variant,
    types.DatasetRequest,
    types.LabelledImages,
    types.Dataset,
    types.FeatureExtractor,
    types.Sample,
    types.Metric,
    types.Reporter,
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_of_a_record_stands_with_its_default(record):
    documented = {name: cells[0] for name, cells in table(section("plugins", record.__name__)).items()}
    assert list(documented) == [field.name for field in fields(record)]
    for field in fields(record):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if default is MISSING:
            assert documented[field.name] == "", f"{field.name} is required"
        elif not callable(default):
            short = f"{type(default).__name__}()" if isinstance(default, (types.Optimizer, types.Schedule)) else None
            assert documented[field.name] == f"`{short or repr(default)}`", field.name


def test_every_argument_of_of_logits_stands_in_its_signature():
    names = [name for name in inspect.signature(types.Loss.of_logits).parameters if name != "name"]
    assert f"`Loss.of_logits(name, *, {', '.join(names)})`" in PAGES["plugins"]


def test_every_event_stands_with_its_fields():
    documented = table(section("plugins", "Observers"))
    assert list(documented) == [event.__name__ for event in get_args(runs.Event)]
    for event in get_args(runs.Event):
        assert re.findall(r"`(\w+)`", documented[event.__name__][0]) == [field.name for field in fields(event)]


def test_the_helpers_are_public():
    documented = set(re.findall(r"`ganzoo\.(\w+)\(", section("plugins", "What you may import")))
    assert documented == {"cache_folder", "download", "fingerprint_files", "resize_images", "sha256_of_file"}
    assert documented <= set(ganzoo.__all__)


# --- plugins.md: examples ---------------------------------------------------------------------------------------------

EXAMPLES = {
    block.split("\n")[0].removeprefix("# "): block
    for block in code_blocks("plugins", "python")
    if re.match(r"# \w+\.py\n", block)
}
"""The plugins of the page: blocks that begin with the name of their file."""


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The zoo, the hello-world and every example, each of these in a file of its own."""
    folder = tmp_path_factory.mktemp("examples")
    paths = [ROOT / "docs" / "examples" / "hinge.py"]
    for name, block in EXAMPLES.items():
        (folder / name).write_text(block, encoding="utf-8")
        paths.append(folder / name)
    return discover([str(path) for path in paths])


def offered(registry: Registry, kind: str) -> Iterator[object]:
    """What the examples offer of a kind."""
    plugins = {*EXAMPLES, "hinge.py"}
    return (offer.record for offer in registry.offers[kind] if offer.plugin in plugins and not offer.inline)


def test_the_first_example_is_the_file_that_is_shipped():
    shipped = (ROOT / "docs" / "examples" / "hinge.py").read_text(encoding="utf-8")
    assert code_blocks("plugins", "python")[0] == shipped
    assert f"```python\n{shipped}```\n" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_is_python(page):
    for block in code_blocks(page, "python"):
        ast.parse(block)


def test_every_example_loads_and_every_hook_has_one(documented):
    states = {status.name: (status.state, status.error) for status in documented.statuses}
    assert {name: states[name] for name in (*EXAMPLES, "hinge.py")} == dict.fromkeys(
        (*EXAMPLES, "hinge.py"), ("ok", None)
    )
    hooks = {hook for status in documented.statuses if status.name in EXAMPLES for hook in status.hooks}
    assert hooks == {name for name in vars(hookspecs) if name.startswith("ganzoo_")}


def test_the_examples_keep_the_contract_that_a_bench_checks(documented):
    # Two examples offer one variant on purpose: the same loss inline and by name.
    models = [
        *("hinge.py:hinge-dcgan", "hinge_by_name.py:hinge-dcgan", "dcgan-r1", "dcgan-lazy-r1", "dcgan+my-hinge"),
        *("tiny+non-saturating", "tiny+wasserstein-drift", "dcgan+hinge+one-sided"),
    ]
    assert {variant.name for variant in offered(documented, "variants")} <= {model.split(":")[-1] for model in models}
    plan = BenchPlan(tuple(models), "quadrants", throughput_only=True, device="cpu", set=("tiny*.width=512",))
    runs = {run.spec.variant: run for run in resolve(plan, documented).runs}
    assert list(runs) == models
    # Every phase went through forward and backward: where that fails, the FLOPs are unknown.
    assert all(run.preflight.flops_per_image for run in runs.values())
    assert runs["hinge.py:hinge-dcgan"].spec.loss == "hinge.py:my-hinge"
    assert runs["tiny+non-saturating"].spec.options == {"width": 512}
    assert runs["dcgan-lazy-r1"].spec.penalties == ({"name": "recipes.py:lazy-r1", "every": 16},)


def test_the_example_dataset_extractor_metric_and_reporter_work_together(documented, tmp_path):
    (dataset,) = offered(documented, "datasets")
    (extractor,) = offered(documented, "features")
    (metric,) = offered(documented, "metrics")
    (reporter,) = offered(documented, "reporters")
    prepared = prepare(dataset, types.DatasetRequest(tmp_path, "", dataset.image_size), None)
    assert (prepared.image_shape, prepared.count, prepared.classes) == ((1, 16, 16), 2000, 4)
    assert dataset.features == extractor.name
    images = torch.from_numpy(prepared.images()[:64].copy())
    features, logits = load_extractor(extractor, "cpu")(iter([images]))
    assert (features.shape, logits.shape) == ((64, 64), (64, 1))
    sample = FeatureSample(features, logits)
    assert metric.score(sample, sample, metric.settings(64, 64)) == dict.fromkeys(metric.better, 0.0)
    assert reporter.render(pandas.DataFrame({"variant": ["a"], "fid": [1.5]})).split() == ["variant", "fid", "a", "1.5"]


def test_the_example_observer_logs_scores(documented, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documented.notify(runs.Scored("0123456789abc", 1.0, [{"metric": "fid", "value": 2.0}]), pytest.fail)
    assert (tmp_path / "scores.log").read_text() == "0123456789 1.0 fid 2.0\n"


def test_the_package_of_the_tutorial_enters_by_the_right_group():
    (block,) = code_blocks("plugins", "toml")
    project = tomllib.loads(block)
    (module,) = project["project"]["entry-points"][hookspecs.PROJECT].values()
    assert project["tool"]["setuptools"]["py-modules"] == [module]
    assert f"{module}.py" in PAGES["plugins"]


# --- metrics.md -------------------------------------------------------------------------------------------------------


def test_every_key_of_a_protocol_stands():
    real = SimpleNamespace(
        dataset=SimpleNamespace(name="d", sha256="", image_shape=(1, 8, 8), split="all", count=50),
        extractor=SimpleNamespace(extractor=SimpleNamespace(name="e", preprocessing=""), weights_sha256=""),
    )
    metric = types.Metric("m", lambda real, fake, settings: {}, better={})
    identity, content = Scorer([metric], real).protocol(metric, 10, ema=True)
    assert list(table(section("metrics", "The protocol"))) == list(content)
    assert re.fullmatch(r"m-e-10-ema-[0-9a-f]{8}", identity)


def test_extractors_stand_with_the_hash_of_their_weights(documented):
    rows = table(section("metrics", "Feature extractors"))
    for name in ("digits-cnn", "mnist-cnn", "inception"):
        assert name in rows
        sha256 = documented.get("features", name).record.sha256
        assert re.search(rf"`{name}`(?:(?!sha256).)*sha256 `{sha256}`", section("metrics", "Feature extractors"), re.S)


def test_datasets_stand_with_their_count_of_fakes(documented):
    rows = table(section("metrics", "How many fakes"))
    extractors = table(section("metrics", "Feature extractors"))
    zoo = [offer.record for offer in documented.offers["datasets"] if offer.plugin != "quadrants.py"]
    assert {name: int(cells[2]) for name, cells in rows.items()} == {dataset.name: dataset.fakes for dataset in zoo}
    for dataset in zoo:
        default_for = extractors[dataset.features][0]
        assert f"`{dataset.name}`" in default_for or default_for == "every other dataset"


def test_metrics_stand_with_their_scores_and_settings(documented):
    rows = table(section("metrics", "The metrics"))
    for offer in documented.offers["metrics"]:
        if offer.plugin == "mean_gap.py":
            continue
        scores, better, settings = rows[offer.record.name]
        assert set(re.findall(r"`(\w+)`", scores)) == set(offer.record.better)
        assert set(re.findall(r"lower|higher", better)) == set(offer.record.better.values())
        assert set(re.findall(r"`(\w+)`", settings)) == set(offer.record.settings(10_000, 10_000))


# --- record.md --------------------------------------------------------------------------------------------------------


def keys_of(title: str) -> list[str]:
    return list(table(section("record", title)))


def test_every_key_of_a_record_stands():
    assert keys_of("The top level") == [field.name for field in fields(runs.RunRecord) if field.name != "path"]
    assert keys_of("spec") == [field.name for field in fields(runs.RunSpec)]
    assert keys_of("Statuses") == list(STATUSES)
    assert f"version of this layout: {runs.SCHEMA}" in section("record", "The top level")
    assert keys_of("training") == [*(field.name for field in fields(TrainResult)), "best", "final"]
    assert f"`{{{', '.join(summary([1.0]))}}}`" in section("record", "throughput")


def test_every_key_of_hardware_and_environment_stands(monkeypatch):
    monkeypatch.setattr(fingerprint, "_git_revision", lambda: None)
    assert keys_of("hardware") == list(fingerprint.hardware_fingerprint("cpu", 1))
    environment = fingerprint.environment({})
    rows = table(section("record", "environment"))
    assert [name for name in rows if name in environment] == list(environment)
    assert all(f"`{name}`" in PAGES["record"] for name in environment["flags"])


def test_every_key_that_a_run_writes_stands():
    """Read off the source, because to measure takes seconds: string keys of the dicts that become parts of a record."""
    core = Path(ganzoo.__file__).parent
    measured = re.findall(r'^        "(\w+)": ', (core / "running" / "speed.py").read_text(encoding="utf-8"), re.M)
    assert {"train_images_per_second", "warmup_seconds"} <= set(measured)
    source = (core / "running" / "stages.py").read_text(encoding="utf-8")
    measured += re.findall(r'throughput(?:"\])?\["(\w+)"\]', source)
    measured += re.findall(r'outcome\["throughput"\] = \{"(\w+)"', source)
    assert {"import_seconds", "evaluation_images_per_second", "peak_memory_bytes"} <= set(measured)
    assert set(measured) <= set(keys_of("throughput"))
    described = re.search(r'outcome\["dataset"\] = \{(.*?)\}', source, re.S)[1]
    later = re.findall(r'outcome\["dataset"\]\["(\w+)"\]', source)
    assert [*re.findall(r'"(\w+)":', described), *dict.fromkeys(later)] == keys_of("parameters and dataset")


# --- comparing.md -----------------------------------------------------------------------------------------------------


def test_every_column_of_a_comparison_stands():
    records, _ = find_records([ONE_MACHINE])
    digits = [record for record in records if record.spec["dataset"] == "digits"]
    better = {"fid": "lower", "is": "higher"}
    table = with_baseline(compare(digits, better, target=20.0), "dcgan").table()
    machines = [record for record in digits if record.spec["variant"] == "dcgan"]
    elsewhere = [replace(record, spec={**record.spec, "hardware": "other"}) for record in machines]
    found = {*table.columns, *by_hardware([*machines, *elsewhere], None, better)[0].table().columns}
    # With one seed each there is no p-value; it stands in the tests of the baseline.
    found |= {f"fid_difference{part}" for part in ("_low", "_high", "_p")}
    columns = {re.sub(r"^(fid|is)(?=_|$)", "SCORE", column) for column in found}
    documented = set(re.findall(r"^\| (`.*?) \|", section("comparing", "Columns"), re.M))
    assert {name for cell in documented for name in re.findall(r"`(\w+)`", cell)} == columns
    assert columns <= set(re.findall(r"`(\w+)`", section("plugins", "Reporter"))), "what a reporter is given"


# --- cli.md -----------------------------------------------------------------------------------------------------------


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}


def test_every_command_has_its_section():
    headings = re.findall(r"^## ganzoo (\w+)$", PAGES["cli"], re.M)
    assert headings == COMMANDS == list(SUBPARSERS)
    for command in COMMANDS:
        assert f"[`{command}`](#ganzoo-{command})" in PAGES["cli"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_stands_in_its_section_or_with_the_shared_ones(command):
    def documented(title: str) -> set[str]:
        return {name.split()[0] for name in table(section("cli", title)) if name.startswith("-")}

    own, shared = documented(f"ganzoo {command}"), documented("Shared options")
    assert options_of(SUBPARSERS[command]) <= own | shared
    assert own <= options_of(SUBPARSERS[command]), "an option that is not there"


OF_PIP = {"--no-deps"}


def test_no_page_names_an_option_that_is_not_there():
    known = set().union(*map(options_of, SUBPARSERS.values())) | {"--version", "--help", *OF_PIP}
    for page, text in PAGES.items():
        unknown = {option for option in re.findall(r"(?<![\w#-])--[a-z][a-z0-9-]*", text) if option not in known}
        assert not unknown, page


def test_defaults_in_the_tables_are_those_of_the_parser():
    for command in COMMANDS:
        rows = table(section("cli", "Shared options")) | table(section("cli", f"ganzoo {command}"))
        told = {name.split()[0]: cells[0].strip("`") for name, cells in rows.items() if name.startswith("-")}
        for action in SUBPARSERS[command]._actions:
            option = next((option for option in action.option_strings if option in told), None)
            if option and isinstance(action.default, (int, float, str)) and not isinstance(action.default, bool):
                assert told[option] == str(action.default).removesuffix(".0"), f"{command} {option}"


def test_what_plugins_gives_as_json_is_listed():
    cells = table(section("cli", "ganzoo plugins"))["--json"]
    assert re.findall(r"`(\w+)`", cells[1]) == [field.name for field in fields(PluginStatus)]


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors of a page as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{name}.md" for name in PAGES)])
def test_relative_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), f"{page}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found.read_text(encoding="utf-8")), f"{page}: {target}"
