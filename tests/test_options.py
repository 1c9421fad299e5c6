"""Options from the fields of dataclasses: one field declares an option of bench, and the rest follows from it."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from conftest import ONE_MACHINE

from ganzoo.cli import options, parser
from ganzoo.cli.options import asked_for
from ganzoo.cli.parser import BenchOutput, build_parser
from ganzoo.errors import UsageError
from ganzoo.planning import continuation, provenance, request
from ganzoo.planning.request import BenchPlan
from ganzoo.records.store import read_record, read_spec
from ganzoo.running.options import RunOptions
from ganzoo.running.suites import FIELDS, LISTS
from ganzoo.util.options import option, options_of

(MLP,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
SPEC = read_spec(read_record(MLP).spec)


@dataclass(frozen=True)
class PatientPlan(BenchPlan):
    """A plan with two more options, declared by these fields only."""

    patience: float | None = option("--patience", default=2.5, metavar="S", help="wait (default: {default})")
    colours: tuple[str, ...] = option(
        "--colour", default=(), metavar="NAME", help="paint so (repeatable)", fixed_on_resume=True
    )


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (request, options, provenance, continuation):
        monkeypatch.setattr(module, "BenchPlan", PatientPlan)


def parsed(*arguments: str):
    return build_parser()[0].parse_args(["bench", *arguments])


def test_dataclass_field_alone_adds_an_option(patient, capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    assert "--patience S" in (said := capsys.readouterr().out)
    assert "wait (default: 2.5)" in said
    plan = asked_for(PatientPlan, parsed("--patience", "7", "--colour", "red", "--colour", "blue"))
    assert (plan.patience, plan.colours) == (7.0, ("red", "blue"))
    words = shlex.split(provenance.reproducing_command(plan, SPEC))
    assert words[-6:] == ["--patience", "7", "--colour", "red", "--colour", "blue"]


def test_field_says_whether_resume_keeps_the_option(patient):
    continuation._check_fixed_options(PatientPlan(patience=7.0), SPEC, {"patience"})
    with pytest.raises(UsageError, match="--resume and --colour: the run keeps its value; leave --colour out"):
        continuation._check_fixed_options(PatientPlan(colours=("red",)), SPEC, {"colours"})


def test_a_parsed_command_holds_what_was_given_and_the_dataclass_the_rest():
    arguments = parsed("--seeds", "1", "--metrics", "fid, kid,fid", "--kimg", "full", "--no-keep-going")
    assert set(vars(arguments)) == {"command", "debug", "seeds", "metrics", "kimg", "keep_going"}
    plan, run_options = asked_for(BenchPlan, arguments), asked_for(RunOptions, arguments)
    assert plan == BenchPlan(metrics=("fid", "kid"), kimg="full")
    assert run_options == RunOptions(keep_going=False)
    assert asked_for(BenchOutput, arguments) == BenchOutput()


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--discard-checkpoints", "keep_checkpoints", False),
        ("--retry oom,timeout", "retry", ("oom", "timeout")),
        ("--keep-going", "keep_going", True),
        ("--timeout 1.5", "timeout", 1.5),
        ("--force", "force", True),
    ],
)
def test_run_options_are_parsed(words, field, value):
    assert getattr(asked_for(RunOptions, parsed(*words.split())), field) == value


@pytest.mark.parametrize("type_", [BenchPlan, RunOptions, BenchOutput])
def test_every_field_is_an_option(type_):
    assert [one.name for one in options_of(type_)] == [field.name for field in fields(type_)]


def test_words_of_a_plan_parse_back_to_the_plan():
    plan = BenchPlan(
        models=("dcgan",),
        kimg=0.1 + 0.2,
        metrics=("kid",),
        set=("*.latent=8", "dcgan.l2=1"),
        plugins=("a b.py",),
        strict=True,
        throughput_seconds=2.0,
        batch_size=16,
        threads=2,
    )
    words = [word for one in options_of(BenchPlan) for word in one.words(getattr(plan, one.name))]
    assert asked_for(BenchPlan, parsed(*words)) == plan


def test_the_keys_of_a_suite_are_the_fields_of_a_plan():
    assert set(FIELDS) == {field.name for field in fields(BenchPlan)} - {"resume"}
    assert set(LISTS) == {"models", "metrics", "features", "set", "plugins"}
    for path in Path(parser.__file__).parents[1].glob("running/suite_plans/*.toml"):
        for table in tomllib.loads(path.read_text())["bench"]:
            assert set(table) <= {*FIELDS, "optional"}
