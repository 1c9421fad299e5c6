"""The documentation matches the code: signatures, fields, options, links; and its examples load and run."""

from __future__ import annotations

import argparse
import ast
import math
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import generated_tables
import pandas
import pytest
import torch
from conftest import HANGING, ONE_MACHINE
from markdown_it import MarkdownIt
from markdown_it.token import Token

import ganzoo
from ganzoo import runs, types
from ganzoo.cli import parser
from ganzoo.cli.parser import build_parser
from ganzoo.comparing.baseline import with_baseline
from ganzoo.comparing.comparison import compare
from ganzoo.comparing.machines import by_hardware
from ganzoo.comparing.table import comparison_table, meanings
from ganzoo.comparing.targets import Goal
from ganzoo.data.prepared import prepare
from ganzoo.evaluation.extractors import load_extractor
from ganzoo.evaluation.features import FeatureSample
from ganzoo.evaluation.scorer import Scorer
from ganzoo.machine import fingerprint
from ganzoo.planning.plan import PlannedRun, resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.records.store import STATUSES, find_records
from ganzoo.registry import hookspecs
from ganzoo.registry.discovery import discover
from ganzoo.registry.registry import RECORD_TYPES, PluginStatus, Registry
from ganzoo.running.speed import summary
from ganzoo.runs import PenaltyFrequency
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import TrainResult, train

ROOT = Path(__file__).parent.parent
HOOKS = {name for name in vars(hookspecs) if name.startswith("ganzoo_")}
RECORDS = [type_ for _, types_ in RECORD_TYPES.values() for type_ in types_]
PARSER, COMMANDS = build_parser()
SUBPARSERS = next(action for action in PARSER._actions if isinstance(action, argparse._SubParsersAction)).choices


class Page:
    """A Markdown page as markdown-it reads it."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.tokens = MarkdownIt("commonmark").enable("table").parse(self.text)

    def headings(self, level: int) -> list[str]:
        return [
            text.content
            for head, text in pairwise(self.tokens)
            if head.type == "heading_open" and head.tag == f"h{level}"
        ]

    def section(self, title: str) -> list[Token]:
        """The part of the page under a heading, down to the next heading of its level or above."""
        starts = [(i, t.tag) for i, t in enumerate(self.tokens) if t.type == "heading_open"]
        for place, (start, level) in enumerate(starts):
            if self.tokens[start + 1].content == title:
                end = next((later for later, tag in starts[place + 1 :] if tag <= level), None)
                return self.tokens[start + 3 : end]
        raise AssertionError(f"no heading '{title}'")

    def code_blocks(self, language: str) -> list[str]:
        return [token.content for token in self.tokens if token.type == "fence" and token.info == language]


def table(tokens: list[Token]) -> dict[str, list[str]]:
    """The rows of all tables: the other cells, by the code in the first cell."""
    rows: dict[str, list[str]] = {}
    cells: list[Token] = []
    for opening, inline in pairwise(tokens):
        if opening.type == "tr_open":
            cells = []
        elif opening.type in ("td_open", "th_open"):
            cells.append(inline)
        elif opening.type == "tr_close":
            rows |= {name: [cell.content for cell in cells[1:]] for name in codes(cells[:1])}
    return rows


def codes(tokens: Iterable[Token]) -> list[str]:
    """Every piece of code within the text."""
    return [child.content for token in tokens for child in token.children or () if child.type == "code_inline"]


PAGES = {path.stem: Page(path) for path in sorted((ROOT / "docs").glob("*.md"))}


def test_every_promise_of_security_has_tests_that_are_there():
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promised, limited = page.split("## What is promised")[1].split("## What is not")
    bold = re.compile(r"^- \*\*(.+?)\.?\*\*", re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| ([^|]+) \| (`test_[^|]+`) \|$", PAGES["reliability"].text, re.MULTILINE)
    promises = [re.sub(r"\s+", " ", words) for words in bold.findall(promised)]
    assert [promise for promise, _ in rows][: len(promises)] == promises
    assert {promise for promise, _ in rows[len(promises) :]} <= set(bold.findall(limited))
    for file, name in re.findall(r"`(\w+\.py)::(\w+)`", "".join(tests for _, tests in rows)):
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}::{name}"


# --- tables made from the code ----------------------------------------------------------------------------------------


def test_generated_tables_are_up_to_date():
    command = [sys.executable, ROOT / "docs" / "generated_tables.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"run python docs/generated_tables.py\n{done.stdout}{done.stderr}"


def test_check_reports_an_outdated_generated_table(tmp_path):
    for name in ("generated_tables.py", "record.md"):
        shutil.copy(ROOT / "docs" / name, tmp_path / name)
    page = tmp_path / "record.md"
    page.write_text(page.read_text(encoding="utf-8").replace("| `seed` |", "| `sow` |"), encoding="utf-8")
    command = [sys.executable, tmp_path / "generated_tables.py", "--check", page]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 5
    assert "-| `sow` |" in done.stdout
    assert "+| `seed` |" in done.stdout


def test_every_plugin_record_has_a_table_that_explains_every_field():
    parts = (types.Phase, types.Optimizer, types.Schedule, types.Batch, types.Sample, types.Terms)
    for record in (*RECORDS, *parts, types.Weights, types.Reported):
        assert f"tables.field_table(ganzoo.{record.__name__})" in PAGES["plugins"].text
        assert set(generated_tables.meanings_of(record)) == {field.name for field in fields(record)}, record.__name__


def test_every_hook_has_a_section():
    for name in HOOKS:
        assert f'tables.hook("{name}")' in PAGES["plugins"].text


def test_documented_helpers_are_public():
    documented = {
        name.removeprefix("ganzoo.").split("(")[0]
        for name in table(PAGES["plugins"].section("What you may import"))
        if not name.startswith("ganzoo.losses") and "(" in name
    }
    helpers = {"cache_folder", "download", "fingerprint_files", "open_regular", "resize_images", "sha256_of_file"}
    assert documented == helpers | {"weights_file"}
    assert documented <= set(ganzoo.__all__)


# --- plugins.md: examples ---------------------------------------------------------------------------------------------


def files_of(page: str) -> dict[str, str]:
    """The files in a page: code blocks that begin with the name of their file."""
    blocks = PAGES[page].code_blocks("python")
    return {block.split("\n")[0].removeprefix("# "): block for block in blocks if re.match(r"# \w+\.py\n", block)}


EXAMPLES = files_of("plugins")


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry of the zoo, the first example and every other example, each loaded from a separate file."""
    folder = tmp_path_factory.mktemp("examples")
    paths = [ROOT / "docs" / "examples" / "hinge.py"]
    for name, block in EXAMPLES.items():
        (folder / name).write_text(block, encoding="utf-8")
        paths.append(folder / name)
    return discover([str(path) for path in paths])


def offered(registry: Registry, kind: str) -> Iterator[object]:
    """The records of a kind that the examples offer."""
    plugins = {*EXAMPLES, "hinge.py"}
    return (offer.record for offer in registry.offers[kind] if offer.plugin in plugins and not offer.inline)


def test_the_first_example_is_the_file_that_is_shipped():
    shipped = (ROOT / "docs" / "examples" / "hinge.py").read_text(encoding="utf-8")
    assert PAGES["plugins"].code_blocks("python")[0] == shipped
    assert shipped in Page(ROOT / "README.md").code_blocks("python")


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_is_python(page):
    for block in PAGES[page].code_blocks("python"):
        ast.parse(block)


def test_every_example_loads_and_every_hook_has_one(documented):
    states = {status.name: (status.state, status.error) for status in documented.statuses}
    assert {name: states[name] for name in (*EXAMPLES, "hinge.py")} == dict.fromkeys(
        (*EXAMPLES, "hinge.py"), ("ok", None)
    )
    hooks = {hook for status in documented.statuses if status.name in EXAMPLES for hook in status.hooks}
    assert hooks == HOOKS


OF_DCGAN = [
    # Two examples offer one variant on purpose: the same loss inline and by name.
    *("hinge.py:hinge-dcgan", "hinge_by_name.py:hinge-dcgan", "dcgan-r1", "dcgan-lazy-r1", "dcgan-two-rates"),
    *("dcgan+my-hinge", "dcgan+margin-hinge", "dcgan+hinge+one-sided"),
]
SMALL = [
    *("tiny+non-saturating", "tiny+wasserstein-drift", "tiny+look-ahead", "tiny+hinge+smooth", "tiny+hinge+flip"),
    *("tiny+wasserstein-gp+swapped", "two-judges+two-judges", "two-scales+hinge", "turns+hinge+turns+turns-of-fakes"),
    *("autoencoder+equilibrium", "packed+hinge+r1+pac2", "growing+non-saturating", "drawn+hinge"),
]
"""Together they have every part that the examples offer."""


def test_every_part_of_the_examples_is_tried(documented):
    tried = {name for model in (*OF_DCGAN, *SMALL) for name in model.split(":")[-1].split("+")}
    for kind in ("variants", "architectures", "losses"):
        assert {record.name for record in offered(documented, kind)} <= tried


def test_examples_on_dcgan_pass_preflight(documented):
    plan = BenchPlan(tuple(OF_DCGAN), "quadrants", throughput_only=True, device="cpu")
    runs = {run.spec.variant: run for run in resolve(plan, documented).runs}
    assert list(runs) == OF_DCGAN
    # Every phase went through forward and backward: where that fails, the FLOPs are unknown.
    assert all(run.preflight.flops_per_image for run in runs.values())
    assert runs["hinge.py:hinge-dcgan"].spec.recipe.loss == "hinge.py:my-hinge"
    assert runs["dcgan-lazy-r1"].spec.recipe.penalties == (PenaltyFrequency("recipes.py:lazy-r1", 16),)


def steps_of(
    registry: Registry, model: str, dataset: str = "quadrants", **changes: Any
) -> tuple[PlannedRun, TrainResult]:
    """A variant of the examples, and what came of four steps on batches of eight."""
    plan = BenchPlan((model,), dataset, throughput_only=True, device="cpu", batch_size=8, **changes)
    resolved = resolve(plan, registry)
    (planned,) = resolved.runs
    return planned, train(assemble(planned.spec, registry, resolved.dataset), 4 * 8 / 1000)


@pytest.mark.parametrize("model", SMALL)
def test_small_examples_train(model, documented):
    planned, trained = steps_of(documented, model)
    assert planned.preflight.flops_per_image, planned.preflight.fault
    assert set(trained.updates) == set(planned.preflight.parameters)
    assert all(trained.updates.values())
    assert all(math.isfinite(value) for curve in trained.curves.values() for value in curve)


def test_option_of_the_example_architecture_can_be_set(documented):
    planned, _ = steps_of(documented, "tiny+non-saturating", set=("tiny*.width=512",))
    assert planned.spec.recipe.options == {"width": 512}


def test_the_penalty_in_the_phases_of_the_example_is_no_second_update(documented):
    _, trained = steps_of(documented, "tiny+wasserstein-drift")
    assert trained.updates == {"generator": 4, "discriminator": 4}


def test_the_example_dataset_extractor_metric_and_reporter_work_together(documented, tmp_path):
    (dataset,) = offered(documented, "datasets")
    (extractor,) = offered(documented, "features")
    (metric,) = offered(documented, "metrics")
    (reporter,) = offered(documented, "reporters")
    prepared = prepare(dataset, types.DatasetRequest(tmp_path, "", dataset.image_size), None)
    assert (prepared.image_shape, prepared.count, prepared.classes) == ((1, 16, 16), 1500, 4)
    assert dataset.features == extractor.name
    images = torch.from_numpy(prepared.images()[:64].copy())
    features, logits = load_extractor(extractor, "cpu")(iter([images]))
    assert (features.shape, logits.shape) == ((64, 64), (64, 0))
    sample = FeatureSample(features, logits)
    assert metric.score(sample, sample, metric.settings(64, 64)) == dict.fromkeys(metric.better, 0.0)
    assert reporter.render(pandas.DataFrame({"variant": ["a"], "fid": [1.5]})).split() == ["variant", "fid", "a", "1.5"]


def test_the_example_observer_logs_scores(documented, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documented.notify(runs.Scored("0123456789abc", 1.0, [{"metric": "fid", "value": 2.0}]), pytest.fail)
    assert (tmp_path / "scores.log").read_text() == "0123456789 1.0 fid 2.0\n"


def test_tutorial_package_uses_the_entry_point_group():
    (block,) = PAGES["plugins"].code_blocks("toml")
    project = tomllib.loads(block)
    (module,) = project["project"]["entry-points"][hookspecs.PROJECT].values()
    assert project["tool"]["setuptools"]["py-modules"] == [module]
    assert f"{module}.py" in PAGES["plugins"].text


# --- from-paper-to-plugin.md ------------------------------------------------------------------------------------------

PAPERS = "from-paper-to-plugin"


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page."""
    folder = tmp_path_factory.mktemp("papers")
    for name, block in files_of(PAPERS).items():
        (folder / name).write_text(block, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def registry_of_papers(papers: Path) -> Registry:
    plugins = sorted(path for path in papers.glob("*.py") if not path.name.startswith("test_"))
    return discover([str(path) for path in plugins], strict=True)


def test_commands_with_the_plugins_of_papers_pass_a_dry_run(papers, invoke, tmp_path):
    commands = [line for block in PAGES[PAPERS].code_blocks("sh") for line in block.splitlines()]
    assert len(commands) == 4
    for path in papers.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "ganzoo"
        outcome = invoke(*arguments, *[] if "--dry-run" in arguments else ["--dry-run"], "--device", "cpu")
        assert outcome.code == 0, f"{command}\n{outcome.err}"
        if "my-bigan" in command:
            assert "generator updates generator, encoder" in outcome.out


def test_lecam_of_the_page_remembers(registry_of_papers):
    _, trained = steps_of(registry_of_papers, "my-lecam", "digits")
    real, fake, gap = (
        trained.curves[name]
        for name in ("state/my-lecam.real_mean", "state/my-lecam.fake_mean", "discriminator/my-lecam.gap")
    )
    assert real[-1] != 0
    assert fake[-1] != 0
    assert set(trained.updates.values()) == {4}
    assert all(map(math.isfinite, gap))


@pytest.mark.parametrize("model", ["my-bigan", "my-bigan+r1"])
def test_bigan_of_the_page_updates_three_players(model, registry_of_papers):
    planned, trained = steps_of(registry_of_papers, model, "digits")
    assert trained.updates == {"generator": 4, "discriminator": 4, "encoder": 4}
    assert {"generator/fool", "generator/real_fool"} <= set(trained.curves)
    assert set(planned.spec.recipe.averages) == {"generator", "encoder"}


def test_ada_of_the_page_counts_images_and_adapts(registry_of_papers):
    # Whatever the discriminator says, it is surer than -1, so p rises by 8 / 1000 in each step of 8 images.
    _, trained = steps_of(
        registry_of_papers, "my-ada", "digits", set=("my-ada.target=-1.5", "my-ada.hyper.my-ada.kimg=1")
    )
    assert trained.curves["state/my-ada.images_seen"][-1] == 32
    assert trained.curves["state/my-ada.p"][-1] == pytest.approx(4 * 8 / 1000)


def test_tests_of_the_page_pass(papers):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_papers.py"]
    done = subprocess.run(command, cwd=papers, capture_output=True, text=True, timeout=HANGING)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "4 passed" in done.stdout


# --- metrics.md -------------------------------------------------------------------------------------------------------


def test_every_key_of_a_protocol_is_documented():
    real = SimpleNamespace(
        reference=SimpleNamespace(name="d", image_shape=(1, 8, 8), sha256="", split="all", count=50),
        extractor=SimpleNamespace(
            extractor=SimpleNamespace(name="e", preprocessing="", sha256="0", images="digits", licence="MIT"),
            weights_sha256="0",
        ),
    )
    metric = types.Metric("m", lambda real, fake, settings: {}, better={})
    identity, content = Scorer([metric], real, dataset_images="digits").protocol(metric, 10, ema=True)
    assert list(table(PAGES["metrics"].section("The protocol"))) == list(content)
    assert re.fullmatch(r"m-e-10-ema-[0-9a-f]{8}", identity)


# --- record.md --------------------------------------------------------------------------------------------------------


def keys_of_type(part: type) -> set[str]:
    """The keys of a part of a record, of which record.md has a generated table."""
    assert f"tables.key_table(runs.{part.__name__})" in PAGES["record"].text
    return set(part.__annotations__)


def keys_of(title: str) -> list[str]:
    return list(table(PAGES["record"].section(title)))


def test_every_status_is_documented():
    assert keys_of("Statuses") == list(STATUSES)


def test_current_schema_is_documented():
    assert keys_of("Reading records")[-1] == str(runs.SCHEMA)


def test_every_part_of_a_summary_is_documented():
    assert f"{{{', '.join(summary([1.0]))}}}" in codes(PAGES["record"].section("throughput"))


def test_every_key_of_hardware_and_environment_has_its_type(monkeypatch):
    monkeypatch.setattr(fingerprint, "_git_revision", lambda: None)
    assert keys_of_type(runs.HardwareFacts) == set(fingerprint.hardware_fingerprint("cpu", 1))
    environment = fingerprint.environment({}, "blas")
    assert keys_of_type(runs.Environment) == set(environment)
    assert set(environment["flags"]) <= set(codes(PAGES["record"].section("environment")))


def test_every_key_that_a_run_writes_has_its_type():
    """String keys of the dicts that become parts of a record, read from the source: measuring takes seconds."""
    core = Path(ganzoo.__file__).parent
    measured = re.findall(r'^        "(\w+)": ', (core / "running" / "speed.py").read_text(encoding="utf-8"), re.M)
    assert {"train_images_per_second", "warmup_seconds"} <= set(measured)
    stages = [core / "running" / f"{name}.py" for name in ("stages", "training_stage")]
    source = "".join(path.read_text(encoding="utf-8") for path in stages)
    measured += re.findall(r'throughput\["(\w+)"\]', source)
    measured += re.findall(r'outcome\.throughput = \{"(\w+)"', source)
    assert {"import_seconds", "evaluation_images_per_second", "peak_memory_bytes"} <= set(measured)
    assert set(measured) <= keys_of_type(runs.Throughput)
    described = re.search(r"outcome\.dataset = \{(.*?)\}", source, re.S)[1]
    later = re.findall(r'outcome\.dataset\["(\w+)"\]', source)
    assert {*re.findall(r'"(\w+)":', described), *later} == keys_of_type(runs.DatasetFacts)


# --- comparing.md -----------------------------------------------------------------------------------------------------


def test_every_column_of_a_comparison_has_a_meaning():
    records, _ = find_records([ONE_MACHINE])
    digits = [record for record in records if record.spec["dataset"] == "digits"]
    compared = comparison_table(with_baseline(compare(digits, Goal("fid", 20.0)), "dcgan"))
    machines = [record for record in digits if record.spec["variant"] == "dcgan"]
    elsewhere = [replace(record, spec={**record.spec, "hardware": "other"}) for record in machines]
    matched, _ = by_hardware([*machines, *elsewhere])
    found = {*compared.columns, *comparison_table(matched).columns}
    # With one seed each there is no p-value; the tests of the baseline cover it.
    found |= {f"fid_difference{part}" for part in ("_low", "_high", "_p")}
    columns = {re.sub(r"^(fid|is)(?=_|$)", "SCORE", column) for column in found}
    assert set().union(*meanings().values()) == columns
    for group in meanings():
        assert f'tables.column_table("{group}")' in PAGES["comparing"].text


# --- cli.md -----------------------------------------------------------------------------------------------------------


def options_of(command: argparse.ArgumentParser) -> set[str]:
    return {option for action in command._actions for option in action.option_strings} - {"-h", "--help"}


def test_every_command_has_its_section():
    headings = [title for title in PAGES["cli"].headings(2) if title.startswith("ganzoo ")]
    assert headings == [f"ganzoo {command}" for command in COMMANDS]
    assert list(SUBPARSERS) == COMMANDS
    for command in COMMANDS:
        assert f'tables.option_table("{command}")' in PAGES["cli"].text


def test_every_group_of_shared_options_has_its_table():
    groups = {group for command in parser.COMMANDS for group in command.shared}
    tables = re.findall(r"tables\.shared_option_table\((.*?)\)", PAGES["cli"].text)
    assert {*re.findall(r"\w+", " ".join(tables))} == groups | {"debug"}


def test_a_row_of_options_has_spellings_default_and_help():
    rows = generated_tables.option_table("compare").splitlines()
    assert "| `-o FILE`, `--output FILE` | | write to FILE instead of stdout |" in rows
    assert "| `--format NAME` | `table` | table, or a reporter: csv, json, md |" in rows
    bench = generated_tables.option_table("bench").splitlines()
    assert "| `--kimg N` | the dataset's | budget in thousands of real images, full, or auto:LIMIT |" in bench
    assert "| `--checkpoint-seconds S` | `60` | save a checkpoint every S seconds |" in bench
    assert "| `--keep-going`, `--no-keep-going` | on | go on with the other runs when one fails |" in bench
    assert not any("--dataset" in row for row in bench), "it stands among the shared ones"


OF_PIP = {"--no-deps"}


def test_no_page_names_an_unknown_option():
    known = set().union(*map(options_of, SUBPARSERS.values())) | {"--version", "--help", *OF_PIP}
    for name, page in PAGES.items():
        unknown = {option for option in re.findall(r"(?<![\w#-])--[a-z][a-z0-9-]*", page.text) if option not in known}
        assert not unknown, name


def test_json_keys_of_the_plugins_command_are_documented():
    named = codes(PAGES["cli"].section("ganzoo plugins"))
    assert named[named.index("--json") + 1 :] == [field.name for field in fields(PluginStatus)] + ["plugin:name"]
