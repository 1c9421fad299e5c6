"""The grammar of `--models`: names, globs, all, !exclude, architecture+loss, plugin:name."""

from __future__ import annotations

import json

import pytest

from ganzoo.errors import AmbiguousName, UnknownName, UsageError
from ganzoo.planning.selection import select
from ganzoo.registry.discovery import discover

MENAGERIE = ["hermit", "lion", "lion-cub", "tiger", "wolf", "wolf.v2"]


@pytest.fixture
def registry(stranger, monkeypatch):
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    return discover([str(stranger("menagerie"))])


def labels(registry, *models: str) -> list[str]:
    return [selection.label for selection in select(registry, models)]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (["lion"], ["lion"]),
        (["wolf,lion"], ["wolf", "lion"]),
        (["wolf", "lion"], ["wolf", "lion"]),
        ([" wolf , lion ,"], ["wolf", "lion"]),
        (["lion,lion", "lion"], ["lion"]),
        (["all"], MENAGERIE),
        (["*"], MENAGERIE),
        (["lion*"], ["lion", "lion-cub"]),
        (["wolf?v2"], ["wolf.v2"]),
        (["[lt]i*"], ["lion", "lion-cub", "tiger"]),
        (["tiger,all"], ["tiger", "hermit", "lion", "lion-cub", "wolf", "wolf.v2"]),
        (["all,!lion*"], ["hermit", "tiger", "wolf", "wolf.v2"]),
        (["all", "!wolf"], ["hermit", "lion", "lion-cub", "tiger", "wolf.v2"]),
        (["!lion*,!wolf*"], ["hermit", "tiger"]),
        (["lion*,!lion,tiger"], ["lion-cub", "tiger"]),
        # An exclusion applies to what precedes it; a variant named after it is selected again.
        (["all,!lion,lion"], ["hermit", "lion-cub", "tiger", "wolf", "wolf.v2", "lion"]),
        (["menagerie.py:lion"], ["menagerie.py:lion"]),
        (["den+roar"], ["den+roar"]),
        (["den+roar,!den+*,cave+roar"], ["cave+roar"]),
    ],
)
def test_selection_and_its_order(registry, models, expected):
    assert labels(registry, *models) == expected


def test_selection_knows_whether_a_variant_was_named_or_matched_by_a_glob(registry):
    named = {selection.label: selection.named for selection in select(registry, ["lion*,lion", "den+roar"])}
    assert named == {"lion": True, "lion-cub": False, "den+roar": True}


def test_architecture_loss_pair_has_the_default_recipe(registry):
    (selection,) = select(registry, ["cave+purr"])
    variant = selection.variant
    assert (variant.name, variant.architecture, variant.loss, variant.penalties) == ("cave+purr", "cave", "purr", ())
    assert (variant.batch_size, variant.optimizer.kind, selection.plugin) == (128, "adam", None)


def test_penalties_may_stand_anywhere_in_a_pair(registry):
    for text in ("den+roar+claw+fang", "den+claw+roar+fang", "den+claw+fang+roar"):
        (selection,) = select(registry, [text])
        assert (selection.variant.loss, selection.variant.penalties) == ("roar", ("claw", "fang"))


def test_pair_takes_qualified_names(registry):
    (selection,) = select(registry, ["menagerie.py:hidden-den+menagerie.py:roar"])
    assert selection.variant.architecture == "menagerie.py:hidden-den"
    assert selection.variant.loss == "menagerie.py:roar"


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        ([], UsageError, "name at least one variant"),
        ([""], UsageError, "name at least one variant"),
        ([" , ,"], UsageError, "name at least one variant"),
        (["lino"], UnknownName, "no variant is called 'lino'; did you mean 'lion'"),
        (["Lion"], UnknownName, "did you mean 'lion'"),
        (["den"], UnknownName, "an architecture is: pair it with a loss, such as 'den+hinge'"),
        (["zebra*"], UnknownName, "no variant matches 'zebra*'"),
        (["lion,!tiger"], UnknownName, "'!tiger' excludes nothing"),
        (["all,!"], UnknownName, "'!' excludes nothing"),
        (["lion,!lion"], UsageError, "the exclusions leave no variant"),
        (["!*"], UsageError, "the exclusions leave no variant"),
        (["dem+roar"], UnknownName, "no architecture is called 'dem'; did you mean 'den'"),
        (["lion+roar"], UnknownName, "no architecture is called 'lion'"),
        (["den+raor"], UnknownName, "no loss is called 'raor'; did you mean 'roar'"),
        (["den+"], UnknownName, "no loss is called ''"),
        (["+roar"], UnknownName, "no architecture is called ''"),
        (["den+roar+purr"], UsageError, "one architecture and one loss"),
        (["den+claw"], UsageError, "one architecture and one loss"),
        (["hidden-den+roar"], UnknownName, "no architecture is called 'hidden-den'"),
        (["nobody.py:lion"], UnknownName, "no variant is called 'nobody.py:lion'"),
        (["\x1b[31mlion"], UnknownName, "no variant matches '[31mlion'"),
        (["\x1blion"], UnknownName, "no variant is called 'lion'"),
    ],
)
def test_invalid_selection_is_refused_with_its_reason(registry, models, error, message):
    with pytest.raises(error) as caught:
        select(registry, models)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_glob_selects_both_sides_of_a_name_conflict_and_a_plain_name_is_ambiguous(stranger, monkeypatch):
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    registry = discover([str(stranger(name)) for name in ("twins_a", "twins_b")])
    both = ["twins_a.py:twin", "twins_b.py:twin"]
    assert labels(registry, "all") == ["only-a", "only-b", *both]
    assert labels(registry, "tw*") == both
    assert labels(registry, "all,!twin") == ["only-a", "only-b"]
    assert labels(registry, "all,!twins_a.py:*") == ["only-a", "only-b", "twins_b.py:twin"]
    assert labels(registry, "twins_b.py:twin") == ["twins_b.py:twin"]
    sizes = [selection.variant.batch_size for selection in select(registry, ["tw*"])]
    assert sizes == [16, 32]
    with pytest.raises(AmbiguousName, match=r"'twins_a\.py:twin' or 'twins_b\.py:twin'"):
        select(registry, ["twin"])


def test_selection_of_names_globs_exclusions_and_pairs_reaches_the_specs(invoke):
    """From `--models` to the specs: a name, a glob, an exclusion, a pair with a penalty."""
    outcome = invoke(
        *("bench", "--models", "mlp,wgan*,!wgan-gp", "--models", "dcgan+hinge+r1"),
        *("--device", "cpu", "--throughput-only", "--dry-run", "--json"),
    )
    assert outcome.code == 0, outcome.err
    specs = [entry["spec"] for entry in json.loads(outcome.out)]
    assert [(spec["variant"], spec["recipe"]["architecture"], spec["recipe"]["loss"]) for spec in specs] == [
        ("mlp", "mlp", "non-saturating"),
        ("wgan", "dcgan", "wasserstein"),
        ("dcgan+hinge+r1", "dcgan", "hinge"),
    ]
    assert [penalty["name"] for penalty in specs[-1]["recipe"]["penalties"]] == ["r1"]


def test_show_takes_an_architecture_loss_pair(invoke):
    outcome = invoke("show", "dcgan+hinge", "--json")
    assert outcome.code == 0, outcome.err
    (shown,) = json.loads(outcome.out)
    assert (shown["name"], shown["recipe"]["architecture"], shown["recipe"]["loss"]) == (
        "dcgan+hinge",
        "dcgan",
        "hinge",
    )
