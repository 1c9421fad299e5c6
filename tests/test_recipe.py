"""`ganzoo.types.Recipe` declares a recipe once; keywords, `--set`, range checks and records follow from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import ganzoo
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.records.settings import setting, whole_spec
from ganzoo.records.store import read_record, read_spec
from ganzoo.registry.discovery import discover
from ganzoo.runs import RECIPE_KEYS, ResolvedRecipe
from ganzoo.types import Range, Recipe

STORED = Path(__file__).parent / "records"

DECLARATION = "    flips: bool = False\n"

USER = """\
import contextlib, io, json, pathlib, sys
import ganzoo
from ganzoo.cli.main import main
from ganzoo.records.settings import setting
from ganzoo.records.store import read_record

def output(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()

bench = ("bench", "--models", "mlp", "--device", "cpu", "--throughput-only", "--dry-run", "--json", "--set")
_, shown, _ = output("show", "mlp", "--json")
_, planned, _ = output(*bench, "mlp.noise=0.5")
code, _, refused = output(*bench, "mlp.noise=-1")
json.dump({
    "file": ganzoo.__file__,
    "keyword": ganzoo.Variant("v", "mlp", "hinge", noise=0.25).noise,
    "show": json.loads(shown),
    "spec": json.loads(planned)[0]["spec"],
    "refused": [code, refused],
    "old record": setting(read_record(pathlib.Path(sys.argv[1])).spec, "noise"),
}, sys.stdout)
"""


def test_recipe_option_is_added_by_one_line(tmp_path):
    """One more line in a copy of ganzoo adds the keyword, the `--set` field, `show`, the range check and the record."""
    copy = tmp_path / "ganzoo"
    shutil.copytree(Path(ganzoo.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    source = (copy / "types.py").read_text(encoding="utf-8")
    assert source.count(DECLARATION) == 1
    (copy / "types.py").write_text(
        source.replace(DECLARATION, f"{DECLARATION}    noise: NonNegative = 0.0\n"), encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-c", USER, str(STORED / "schema-1.json")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert Path(said["file"]).parent == copy
    assert said["keyword"] == 0.25
    (variant,) = (entry for entry in said["show"] if entry["kind"] == "variant")
    assert variant["recipe"]["noise"] == 0.0
    assert said["spec"]["recipe"]["noise"] == 0.5
    assert said["refused"] == [2, "ganzoo: mlp: noise is -1.0; give a number from 0\n"]
    assert said["old record"] == 0.0


def test_a_record_holds_every_option_and_what_a_recipe_is_made_of():
    spec = resolve(BenchPlan(models=("mlp",), throughput_only=True, device="cpu"), discover()).runs[0].spec
    assert isinstance(spec.recipe, Recipe)
    assert list(spec.to_json()["recipe"]) == list(RECIPE_KEYS)
    assert set(RECIPE_KEYS) == {field.name for field in fields(ResolvedRecipe)}
    text = json.dumps(spec.to_json())
    assert json.dumps(read_spec(json.loads(text)).to_json()) == text


@pytest.mark.parametrize("version", [1, 2, 3])
def test_settings_have_the_names_that_set_takes_in_records_of_every_schema(version):
    spec = read_record(STORED / f"schema-{version}.json").spec
    assert setting(spec, "variant") == setting(spec, "architecture") == "mlp"
    assert setting(spec, "optimizer")["learning_rate"] == 2e-4
    assert setting(spec, "discriminator_optimizer") == setting(spec, "optimizer")
    assert (setting(spec, "ema_half_life_kimg"), setting(spec, "ema_rampup")) == (10.0, 0.05)
    assert "recipe" not in whole_spec(spec)
    with pytest.raises(KeyError):
        setting(spec, "noise")


@pytest.mark.parametrize(
    ("range_", "words", "inside", "outside"),
    [
        (Range(2), "from 2", [2, 3, 1e9], [1, 1.99, -2, float("nan")]),
        (Range(0, 1), "from 0 to below 1", [0, 0.5, 0.999], [1, -0.001, float("nan"), float("inf")]),
        (Range(0, above_low=True), "above 0", [1e-9, 5], [0, -1, float("nan")]),
    ],
)
def test_range_contains_the_numbers_its_description_names(range_, words, inside, outside):
    assert str(range_) == words
    assert all(value in range_ for value in inside)
    assert not any(value in range_ for value in outside)
