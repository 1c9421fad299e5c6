"""Suites: the format of the file, options that override it, and a suite from its file to its tables."""

from __future__ import annotations

import json
import os
import shlex
from importlib.resources import files
from pathlib import Path

import pytest

from ganzoo.planning.provenance import reproducing_command
from ganzoo.planning.selection import select
from ganzoo.registry.discovery import discover
from ganzoo.running.suites import prepare_suite, read_suite, suite_names, with_options

SMALL = """
summary = "small"

[[bench]]
models = ["mlp"]
kimg = 0.2
seeds = 2
batch_size = 32
fakes = 20
throughput_seconds = 0.1

[[bench]]
models = ["mlp"]
image_size = 8
kimg = 0.2
batch_size = 32
fakes = 20
throughput_seconds = 0.1

[[bench]]
models = ["mlp"]
dataset = "folder:nowhere"
features = "digits-cnn"
optional = true
"""


@pytest.fixture
def suite(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


# --- the suites that come with ganzoo ---------------------------------------------------------------------------------


def test_the_suites_are_installed_with_the_package():
    there = {path.name for path in files("ganzoo.running").joinpath("suite_plans").iterdir()}
    assert there == {f"{name}.toml" for name in suite_names()} == {"quick.toml", "standard.toml", "full.toml"}


@pytest.mark.parametrize("name", suite_names())
def test_every_variant_and_dataset_of_a_suite_is_there(name):
    registry = discover()
    parts = read_suite(name).parts
    for part in parts:
        registry.get("datasets", part.plan.dataset)
        assert part.plan.seeds >= 2, "differences can be told from chance"
        assert len(select(registry, part.plan.models)) >= 2


def test_suites_have_the_documented_content():
    quick, standard, full = (read_suite(name) for name in ("quick", "standard", "full"))
    assert [(part.plan.models, part.plan.dataset) for part in quick.parts] == [(("mlp", "dcgan"), "digits")]
    assert [part.plan.dataset for part in standard.parts] == ["digits", "mnist", "stacked-mnist", "cifar10"]
    assert {part.plan.seeds for part in standard.parts} == {3}
    assert standard.parts[0].plan.models == ("all",)
    assert not standard.parts[0].optional
    assert {part.plan.kimg for part in full.parts} == {"full"}


def test_list_shows_the_suites(invoke):
    entries = json.loads(invoke("list", "suites", "--json").out)
    assert [entry["name"] for entry in entries] == ["full", "quick", "standard"]
    assert all(Path(entry["path"]).is_file() and entry["summary"] for entry in entries)
    assert "minutes on a laptop" in invoke("list", "suites").out


# --- options beside a suite -------------------------------------------------------------------------------------------


def dry_run(invoke, *arguments):
    outcome = invoke("bench", *arguments, "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    return [entry["spec"] for entry in json.loads(outcome.out)]


def test_given_option_overrides_the_value_of_a_suite(suite, invoke):
    specs = dry_run(invoke, "--suite", suite)
    assert [(spec["image_shape"][1], spec["seed"]) for spec in specs] == [(16, 0), (16, 1), (8, 0)]
    assert {spec["recipe"]["batch_size"] for spec in specs} == {32}
    # 1 is also the default of the command line, but it was given explicitly.
    specs = dry_run(invoke, "--suite", suite, "--seeds", 1, "--batch-size", 16, "--device", "cpu", "--kimg", 3)
    assert [(spec["image_shape"][1], spec["seed"]) for spec in specs] == [(16, 0), (8, 0)]
    assert {(spec["recipe"]["batch_size"], spec["kimg"], spec["device"]) for spec in specs} == {(16, 3.0, "cpu")}
    assert {spec["variant"] for spec in dry_run(invoke, "--suite", suite, "--models", "dcgan")} == {"dcgan"}


def test_plugin_options_are_added_to_those_of_a_suite_and_set_wins(suite, stranger):
    own = read_suite(str(suite))
    changed = with_options(own, {"set": ("mlp.latent=8",), "plugins": ("a.py",), "threads": 1})
    changed = with_options(changed, {"set": ("mlp.latent=9",), "plugins": ("b.py",)})
    assert {part.plan.set for part in changed.parts} == {("mlp.latent=9",)}
    assert {part.plan.set_by_suite for part in changed.parts} == {("mlp.latent=8",)}
    assert {part.plan.plugins for part in changed.parts} == {("a.py", "b.py")}
    assert {part.plan.threads for part in changed.parts} == {1}


@pytest.mark.parametrize("given", ["mlp.learning_rate=0.5", "*.optimizer.learning_rate=0.5"])
def test_the_command_line_wins_over_a_suite_in_whatever_words(given, tmp_path, invoke):
    table = 'models = ["mlp"]\nkimg = 1\nset = ["mlp.optimizer.learning_rate=0.25", "mlp.latent=8"]'
    (tmp_path / "own.toml").write_text(f"[[bench]]\n{table}\n")
    (spec,) = dry_run(invoke, "--suite", "own.toml", "--set", given)
    assert {optimizer["learning_rate"] for optimizer in spec["recipe"]["optimizers"].values()} == {0.5}
    assert spec["recipe"]["latent"] == 8, "the rest of the suite's stays"


def test_the_command_of_a_run_of_a_suite_holds_the_settings_in_force(tmp_path):
    table = 'models = ["mlp"]\nkimg = 1\nset = ["mlp.optimizer.learning_rate=0.25", "mlp.latent=8"]'
    (tmp_path / "own.toml").write_text(f"[[bench]]\n{table}\n")
    suite = with_options(read_suite(str(tmp_path / "own.toml")), {"set": ("*.learning_rate=0.5",)})
    resolved = prepare_suite(suite, on_note=print).benches[0].resolved
    words = shlex.split(reproducing_command(resolved.asked_of("mlp"), resolved.runs[0].spec))
    assert [words[place + 1] for place, word in enumerate(words) if word == "--set"] == [
        "*.learning_rate=0.5",
        "mlp.latent=8",
    ]


def test_suite_plugins_are_relative_to_the_suite_file(tmp_path, stranger, invoke):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "hinge.py").write_text(stranger("hinge").read_text())
    (folder / "own.toml").write_text('[[bench]]\nmodels = ["hinge-dcgan"]\nplugins = ["hinge.py"]\nkimg = 1\n')
    (spec,) = dry_run(invoke, "--suite", "elsewhere/own.toml")
    assert spec["recipe"]["loss"] == "hinge.py:my-hinge"


def test_an_optional_part_without_its_data_is_left_out_with_a_note(suite, invoke):
    outcome = invoke("bench", "--suite", suite, "--dry-run", "--json")
    assert outcome.code == 0
    (line,) = outcome.err.splitlines()
    assert line.startswith("ganzoo: suite small: left out folder:nowhere: ")


# --- invalid suites ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ('[[bench]]\nmodels = ["mlp"]\ndatset = "mnist"', "bench 1: no key is called 'datset'; did you mean 'dataset'"),
        ('[[bench]]\nmodels = ["mlp"]\n[[bench]]\nseeds = 3', "bench 2: names no models"),
        ('[[bench]]\nmodels = "mlp"', "bench 1: models must be a list"),
        ('[[bench]]\nmodels = ["mlp"]\nseeds = "three"', "bench 1: seeds is 'three'; it must be int"),
        ("[[bench]]\nmodels = [3]", "bench 1: models is (3,)"),
        ('[[bench]]\nmodels = ["mlp"]\noptional = "yes"', "bench 1: optional is 'yes'"),
        ('[[bench]]\nmodels = ["mlp"]\nkimg = true', "bench 1: kimg is True"),
        ('[[bench]]\nmodels = ["mpl"]', "no variant is called 'mpl'; did you mean 'mlp'"),
        ('[[bench]]\nmodels = ["mlp"]\ndataset = "folder:nowhere"\nfeatures = "digits-cnn"', "nowhere is not there"),
        (
            '[[bench]]\nmodels = ["mlp"]\ndataset = "folder:no"\nfeatures="digits-cnn"\noptional = true',
            "has its data here",
        ),
        ('models = ["mlp"]', "no key is called 'models'"),
        ("[bench]\nseeds = 3", "has no [[bench]] table"),
        ("", "has no [[bench]] table"),
        ("summary = 3\n[[bench]]\nmodels = []", "summary must be a text"),
        ("[[bench", "is not TOML"),
    ],
)
def test_invalid_suite_file_is_refused_by_table_and_key(text, fix, tmp_path, invoke):
    (tmp_path / "own.toml").write_text(text)
    outcome = invoke("bench", "--suite", "own.toml", "--device", "cpu")
    assert outcome.code == 2
    assert fix in outcome.err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("quik", "no suite is called that; did you mean 'quick'?; or give a .toml file"),
        ("nowhere.toml", "--suite nowhere.toml: cannot be read: No such file or directory"),
    ],
)
def test_missing_suite_is_refused(name, fix, invoke):
    outcome = invoke("bench", "--suite", name)
    assert outcome.code == 2
    assert fix in outcome.error


# --- from the file to the tables --------------------------------------------------------------------------------------


def test_a_suite_runs_part_by_part_and_ends_with_a_table_for_each_dataset(suite, run_cli):
    arguments = ("bench", "--suite", suite, "--device", "cpu", "--threads", 1)
    done = run_cli(*arguments, env={"GANZOO_CACHE": os.environ["GANZOO_CACHE"]})
    assert done.returncode == 0, done.stderr
    assert "[1/3] mlp on digits, seed 0: started" in done.stderr
    assert "[3/3] mlp on digits, seed 0: done" in done.stderr
    assert "image size 16" in done.stdout
    assert "image size 8" in done.stdout
    again = run_cli(*arguments, "--json")
    assert again.returncode == 0, again.stderr
    records = json.loads(again.stdout)
    assert [(record["spec"]["image_shape"][1], record["spec"]["seed"]) for record in records] == [
        (16, 0),
        (16, 1),
        (8, 0),
    ]
    assert again.stderr.count("started") == 0, "finished runs are skipped"
