"""The grammar of `--set VARIANT.FIELD=VALUE`, down to the recipe that comes of it."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from ganzoo.errors import GanzooError, UnknownName, UsageError
from ganzoo.planning.overrides import parse_overrides
from ganzoo.planning.recipe import resolve_recipe
from ganzoo.planning.selection import select
from ganzoo.registry.discovery import discover
from ganzoo.types import Optimizer


@pytest.fixture
def registry(stranger, monkeypatch):
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    return discover([str(stranger("menagerie"))])


@pytest.fixture
def recipe(registry):
    """`recipe("lion", "batch_size=64", …)`: the recipe of a variant with fields set."""

    def resolve(label: str, *settings: str, loss: str | None = None, batch_size: int | None = None):
        (selection,) = select(registry, [label])
        overrides = parse_overrides([f"{label}.{setting}" for setting in settings], [label])
        return resolve_recipe(selection, registry, overrides, loss, batch_size)

    return resolve


def at(recipe, path: tuple[str, ...]):
    for name in path:
        recipe = recipe[name]
    return recipe


# --- which field -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("batch_size=64", ("batch_size",), 64),
        ("latent=7", ("latent",), 7),
        ("optimizer.learning_rate=1e-4", ("optimizer", "learning_rate"), 1e-4),
        ("learning_rate=3", ("optimizer", "learning_rate"), 3.0),
        ("betas=0,0.9", ("optimizer", "betas"), (0.0, 0.9)),
        ("betas= 0.1 , 0.2 ", ("optimizer", "betas"), (0.1, 0.2)),
        ("optimizer.kind=sgd", ("optimizer", "kind"), "sgd"),
        ("momentum=0.5", ("optimizer", "momentum"), 0.5),
        ("width=8", ("options", "width"), 8),
        ("options.width=8", ("options", "width"), 8),
        ("widths=64,32,16", ("options", "widths"), (64, 32, 16)),
        ("widths=64", ("options", "widths"), (64,)),
        ("slope=1", ("options", "slope"), 1.0),
        ("wide=yes", ("options", "wide"), True),
        ("flips=true", ("flips",), True),
        ("generator_first=1", ("generator_first",), True),
        ("volume=2.5", ("hyper", "volume"), 2.5),
        ("hyper.volume=-2.5", ("hyper", "volume"), -2.5),
        ("schedules.volume=cosine", ("schedules", "volume", "kind"), "cosine"),
        ("schedules.volume.kind=linear", ("schedules", "volume", "kind"), "linear"),
        ("schedules.volume.to=0.25", ("schedules", "volume", "to"), 0.25),
        ("rate_decay=linear", ("rate_decay", "kind"), "linear"),
        ("rate_decay.kind=exponential", ("rate_decay", "kind"), "exponential"),
        ("rate_decay.per_updates=5e4", ("rate_decay", "per_updates"), 5e4),
        ("discriminator.repeats=5", ("phases", "discriminator", "repeats"), 5),
        ("phases.generator.every=2", ("phases", "generator", "every"), 2),
        ("label_smoothing=0.1", ("label_smoothing",), 0.1),
        ("ema_half_life_kimg=0", ("ema_half_life_kimg",), 0.0),
        ("volume=1e-3 ", ("hyper", "volume"), 1e-3),
    ],
)
def test_field_is_set_by_its_path_or_a_suffix_of_it(recipe, setting, path, value):
    before, after = recipe("lion"), recipe("lion", setting)
    assert at(after, path) == value
    assert type(at(after, path)) is type(value)
    assert at(before, path) != value
    # Nothing else changes; a player without a separate optimizer follows the common one.
    *parents, last = path
    at(before, tuple(parents))[last] = value
    if path[0] == "optimizer":
        before["discriminator_optimizer"][last] = value
    assert after == before


@pytest.mark.parametrize(
    "settings",
    [
        ("batch_size=8", "batch_size=16"),
        ("batch_size=8", "batch_size=8"),
        ("learning_rate=1", "optimizer.learning_rate=2"),
        ("rate_decay=linear", "rate_decay.kind=cosine"),
        ("loss=hinge", "loss=least-squares"),
    ],
)
def test_a_field_that_is_set_twice_is_refused_in_whatever_words(recipe, settings):
    with pytest.raises(UsageError) as caught:
        recipe("lion", *settings)
    first, second = settings
    assert f"--set lion.{second}: --set lion.{first} sets the same field of lion; give one of them" in str(caught.value)


@pytest.mark.parametrize("texts", [("lion.batch_size=8", "*.batch_size=16"), ("*.batch_size=16", "lion.batch_size=8")])
def test_a_name_wins_over_a_glob_whichever_comes_first(registry, texts):
    for label, size in (("lion", 8), ("tiger", 16)):
        (selection,) = select(registry, [label])
        overrides = [one for one in parse_overrides(texts, ["lion", "tiger"]) if one.variant in (label, "*")]
        assert resolve_recipe(selection, registry, overrides, None, None)["batch_size"] == size


def test_two_globs_that_set_one_field_are_refused(registry):
    (selection,) = select(registry, ["lion"])
    overrides = parse_overrides(["*.batch_size=8", "l*.batch_size=16"], ["lion"])
    with pytest.raises(UsageError, match=r"--set l\*.batch_size=16: --set \*.batch_size=8 sets the same field of lion"):
        resolve_recipe(selection, registry, overrides, None, None)


def test_true_and_false_have_several_words(recipe):
    for no in ("False", "no", "0"):
        assert recipe("lion", f"wide={no}")["options"]["wide"] is False


def test_points_of_a_schedule_are_json(recipe):
    changed = recipe("lion", "rate_decay=points", "rate_decay.points=[[0, 0], [0.5, 1]]")
    assert (changed["rate_decay"]["kind"], changed["rate_decay"]["points"]) == ("points", ((0, 0), (0.5, 1)))
    with pytest.raises(UsageError, match="rate_decay goes by points; give pairs"):
        recipe("lion", "rate_decay=points")


def test_discriminator_optimizer_is_set_separately(recipe):
    changed = recipe("tiger", "optimizer.learning_rate=0.5", "discriminator_optimizer.momentum=0.25")
    assert changed["optimizer"]["learning_rate"] == 0.5
    own = {"kind": "sgd", "learning_rate": 1e-3, "betas": (0.5, 0.999), "momentum": 0.25}
    assert changed["discriminator_optimizer"] == asdict(Optimizer()) | own
    # A variant without a discriminator optimizer gets one, which differs in the field that was set.
    changed = recipe("lion", "discriminator_optimizer.learning_rate=0.5")
    assert changed["discriminator_optimizer"] == changed["optimizer"] | {"learning_rate": 0.5}


@pytest.mark.parametrize(
    ("label", "setting", "listed"),
    [
        ("tiger", "learning_rate=1", "discriminator_optimizer.learning_rate or optimizer.learning_rate"),
        ("tiger", "gamma=1", "hyper.claw.gamma or hyper.fang.gamma"),
        ("lion", "repeats=2", "phases.discriminator.repeats or phases.generator.repeats"),
        ("lion", "start=0.5", "rate_decay.start or schedules.volume.start"),
    ],
)
def test_ambiguous_path_suffix_is_refused_and_lists_the_fields(recipe, label, setting, listed):
    with pytest.raises(UsageError) as caught:
        recipe(label, setting)
    assert f"--set {label}.{setting}: " in str(caught.value)
    assert f"is ambiguous; write {listed}" in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "suggestion"),
    [
        ("batchsize=64", "did you mean 'batch_size'"),
        ("optimizer.lr=1", "no such field"),
        ("learningrate=1", "did you mean 'learning_rate'"),
        ("claw.gamma=1", "no such field"),
        ("clip=1", "no such field"),
        ("name=other", "no such field"),
        ("optimizer=sgd", "no such field"),
        ("hyper=1", "no such field"),
        ("=1", "no such field"),
        ("rate_decay.kindd=linear", "did you mean 'rate_decay.kind'"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest(recipe, setting, suggestion):
    with pytest.raises(UnknownName) as caught:
        recipe("lion", setting)
    assert suggestion in str(caught.value)
    assert "`ganzoo show`" in str(caught.value)


# --- which value -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("batch_size=sixty", "give a whole number (it is 128 now)"),
        ("batch_size=64.5", "give a whole number"),
        ("batch_size=", "give a whole number"),
        ("batch_size=true", "give a whole number"),
        ("batch_size=1", "batch_size is 1; give a whole number from 2"),
        ("batch_size=0", "batch_size is 0; give a whole number from 2"),
        ("batch_size=-64", "give a whole number from 2"),
        ("latent=0", "latent is 0; give a whole number from 1"),
        ("learning_rate=nan", "give a finite number"),
        ("learning_rate=inf", "give a finite number"),
        ("learning_rate=1e999", "give a finite number"),
        ("learning_rate=fast", "give a finite number (it is 0.0002 now)"),
        ("learning_rate=0", "give a number above 0"),
        ("learning_rate=-1", "give a number above 0"),
        ("betas=0.5", "optimizer.betas is (0.5,); give 2 numbers"),
        ("betas=0.5,0.9,0.9", "give 2 numbers"),
        ("betas=0.5,1", "optimizer.betas[1] is 1.0; give a number from 0 to below 1"),
        ("betas=-0.1,0.9", "give a number from 0 to below 1"),
        ("betas=0.5,nan", "give a number from 0 to below 1"),
        ("betas=", "give 2 numbers"),
        ("betas=a,b", "give numbers with commas between"),
        ("widths=8,sixteen", "give numbers with commas between"),
        ("widths=8,16.5", "give numbers with commas between"),
        ("momentum=1", "give a number from 0 to below 1"),
        ("optimizer.kind=adamz", "choose from adadelta, adafactor, adagrad, adam,"),
        ("rate_decay=cosin", "choose from constant, linear, cosine, exponential"),
        ("rate_decay.kind=", "choose from constant"),
        ("schedules.volume=sgd", "choose from constant"),
        ("rate_decay.start=1", "rate_decay.start is 1.0; give a number from 0 to below 1"),
        ("rate_decay.factor=0", "rate_decay.factor is 0.0; give a number above 0"),
        ("schedules.volume.per_updates=-1", "schedules.volume.per_updates is -1.0; give a number above 0"),
        ("discriminator.repeats=0", "discriminator.repeats is 0; give a whole number from 1"),
        ("generator.every=0", "generator.every is 0; give a whole number from 1"),
        ("flips=perhaps", "give true or false (it is False now)"),
        ("flips=2", "give true or false"),
        ("flips=", "give true or false"),
        ("label_smoothing=1", "give a number from 0 to below 1"),
        ("label_smoothing=-0.1", "give a number from 0 to below 1"),
        ("feature_matching=-1", "give a number from 0"),
        ("l1=-1", "give a number from 0"),
        ("l2=nan", "give a finite number"),
        ("ema_half_life_kimg=-1", "give a number from 0"),
        ("volume=loud", "give a finite number (it is 11.0 now)"),
        ("volume=nan", "give a finite number"),
    ],
)
def test_invalid_value_is_refused_with_the_valid_ones(recipe, setting, wanted):
    with pytest.raises(UsageError) as caught:
        recipe("lion", setting)
    assert wanted in str(caught.value)


def test_integers_in_a_plugin_become_floats_in_the_recipe(recipe):
    # People write Optimizer("adam", 1, (0, 0.9)); the recipe holds floats all the same.
    plain = recipe("wolf.v2")["optimizer"]
    assert plain == asdict(Optimizer()) | {"learning_rate": 1.0, "betas": (0.0, 0.9)}
    assert json.dumps(plain["learning_rate"]) == "1.0"
    changed = recipe("wolf.v2", "learning_rate=0.5", "betas=0.25,0.75")["optimizer"]
    assert (changed["learning_rate"], changed["betas"]) == (0.5, (0.25, 0.75))
    assert recipe("tiger", "volume=0.5")["hyper"]["volume"] == 0.5


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')", "object()", "len"])
def test_option_value_that_is_not_json_is_refused(value, tmp_path):
    path = tmp_path / "odd.py"
    path.write_text(
        "import ganzoo\n"
        "def build(shape, latent, classes, *, option=0):\n    raise AssertionError('built')\n"
        "@ganzoo.hookimpl\ndef ganzoo_variants():\n"
        f"    yield ganzoo.Variant('odd', ganzoo.Architecture('odd', build), 'hinge', options={{'option': {value}}})\n"
    )
    registry = discover([str(path)])
    (selection,) = select(registry, ["odd"])
    with pytest.raises(GanzooError, match="made of text and finite numbers"):
        resolve_recipe(selection, registry, [], None, None)


UNTYPED = """import ganzoo
def build(shape, latent, classes, *, none=None, empty=(), truths=(True, False), numbers=(1, 0.5), mixed=(1, 'a'),
          word='a'):
    raise AssertionError('built')
@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant('untyped', ganzoo.Architecture('untyped', build), 'hinge')
"""


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("none=5", 5),
        ("none=0.5", 0.5),
        ("none=true", True),
        ("none=null", None),
        ("none=[1, 2]", (1, 2)),
        ('none={"a": [1]}', {"a": (1,)}),
        ("none=batch", "batch"),
        ('none="5"', "5"),
        ("none=NaN", "NaN"),
        ("empty=1,2", (1, 2)),
        ("empty=[[1, 2], [3]]", ((1, 2), (3,))),
        ("empty=a,b", ("a", "b")),
        ("empty=", ()),
        ("truths=false,true,no", (False, True, False)),
        ("truths=[true]", (True,)),
        ("numbers=0.25", (0.25,)),
        ("numbers=2,0.25", (2, 0.25)),
        ("mixed=2,b,true", (2, "b", True)),
        ("word=5", "5"),
        ("word=true", "true"),
    ],
)
def test_a_default_that_gives_no_type_takes_json(setting, value, tmp_path):
    (tmp_path / "untyped.py").write_text(UNTYPED)
    registry = discover([str(tmp_path / "untyped.py")])
    (selection,) = select(registry, ["untyped"])
    recipe = resolve_recipe(selection, registry, parse_overrides([f"untyped.{setting}"], ["untyped"]), None, None)
    found = recipe["options"][setting.partition("=")[0]]
    assert found == value
    assert repr(found) == repr(value), "1 is not True, and 1.0 is not 1"


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [("truths=maybe", "give true or false with commas between"), ("numbers=a", "give numbers with commas between")],
)
def test_items_of_the_wrong_type_are_refused(setting, wanted, tmp_path):
    (tmp_path / "untyped.py").write_text(UNTYPED)
    registry = discover([str(tmp_path / "untyped.py")])
    (selection,) = select(registry, ["untyped"])
    with pytest.raises(UsageError, match=wanted):
        resolve_recipe(selection, registry, parse_overrides([f"untyped.{setting}"], ["untyped"]), None, None)


# --- which variant ---------------------------------------------------------------------------------------------------

LABELS = ["wolf", "wolf.v2", "lion", "lion-cub", "den+roar", "menagerie.py:lion"]


@pytest.mark.parametrize(
    ("text", "variant", "field", "value"),
    [
        ("lion.batch_size=64", "lion", "batch_size", "64"),
        ("lion.optimizer.kind=sgd", "lion", "optimizer.kind", "sgd"),
        ("wolf.batch_size=64", "wolf", "batch_size", "64"),
        # The longest label that fits: `wolf` has no field `v2.batch_size`.
        ("wolf.v2.batch_size=64", "wolf.v2", "batch_size", "64"),
        ("wolf.v2.optimizer.kind=sgd", "wolf.v2", "optimizer.kind", "sgd"),
        ("den+roar.batch_size=64", "den+roar", "batch_size", "64"),
        ("menagerie.py:lion.hyper.volume=1", "menagerie.py:lion", "hyper.volume", "1"),
        ("lion*.batch_size=64", "lion*", "batch_size", "64"),
        ("*.batch_size=64", "*", "batch_size", "64"),
        ("?olf.batch_size=64", "?olf", "batch_size", "64"),
        ("lion.reason=a=b", "lion", "reason", "a=b"),
    ],
)
def test_longest_matching_label_is_the_variant_of_a_setting(text, variant, field, value):
    (override,) = parse_overrides([text], LABELS)
    assert (override.variant, override.field, override.value) == (variant, field, value)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("lion.batch_size", UsageError, "write VARIANT.FIELD=VALUE"),
        ("batch_size=64", UsageError, "write VARIANT.FIELD=VALUE"),
        ("", UsageError, "write VARIANT.FIELD=VALUE"),
        ("=", UsageError, "write VARIANT.FIELD=VALUE"),
        ("lino.batch_size=64", UnknownName, "did you mean 'lion'"),
        ("tiger.batch_size=64", UnknownName, "no selected variant is called that"),
        (".batch_size=64", UnknownName, "no selected variant is called that"),
        ("zebra*.batch_size=64", UnknownName, "no selected variant is called that"),
    ],
)
def test_setting_for_an_unselected_variant_is_refused(text, error, message):
    with pytest.raises(error) as caught:
        parse_overrides([text], LABELS)
    assert message in str(caught.value)


# --- the parts, which decide what other fields there are -------------------------------------------------------------


def test_added_penalty_brings_its_coefficients(recipe):
    plain = recipe("lion")
    assert "claw.gamma" not in plain["hyper"]
    changed = recipe("lion", "penalties=claw", "claw.gamma=2")
    assert changed["penalties"] == ("claw",)
    assert changed["hyper"] == {"volume": 11.0, "claw.gamma": 2.0}
    # In any order, by any end of the path, and with its schedule.
    changed = recipe("lion", "gamma=3", "schedules.claw.gamma=cosine", "penalties=claw")
    assert changed["hyper"]["claw.gamma"] == 3.0
    assert changed["schedules"]["claw.gamma"]["kind"] == "cosine"
    changed = recipe("lion", "penalties=claw,fang", "hyper.fang.gamma=4", "fang.every=8")
    assert (changed["penalties"], changed["hyper"]["fang.gamma"]) == (("claw", "fang"), 4.0)
    assert changed["lazy"] == {"claw": {"every": 1}, "fang": {"every": 8}}


def test_penalties_can_be_taken_away(recipe):
    assert recipe("tiger")["penalties"] == ("claw", "fang")
    changed = recipe("tiger", "penalties=")
    assert changed["penalties"] == ()
    assert changed["hyper"] == {"volume": 5.0}


def test_changed_loss_brings_its_own_fields(recipe):
    changed = recipe("lion", "loss=purr", "discriminator.repeats=7")
    assert (changed["loss"], changed["hyper"]) == ("purr", {})
    assert changed["phases"]["discriminator"]["repeats"] == 7
    with pytest.raises(UnknownName, match="no such field"):
        recipe("lion", "loss=purr", "volume=1")
    # A coefficient that the variant gives for its loss does not prevent another loss.
    assert recipe("tiger", "loss=purr", "penalties=")["hyper"] == {}


def test_changed_architecture_brings_its_own_latent(recipe):
    assert recipe("lion")["latent"] == 100
    changed = recipe("lion", "architecture=cave", "width=5")
    assert (changed["architecture"], changed["latent"], changed["options"]["width"]) == ("cave", 32, 5)
    assert recipe("lion", "architecture=menagerie.py:hidden-den")["architecture"] == "menagerie.py:hidden-den"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("loss=raor", "no loss is called 'raor'; did you mean 'roar'"),
        ("loss=claw", "no loss is called 'claw'"),
        ("loss=", "no loss is called ''"),
        ("penalties=clwa", "no loss is called 'clwa'; did you mean 'claw'"),
        ("penalties=roar", "no loss is called 'roar'"),
        ("architecture=dem", "no architecture is called 'dem'; did you mean 'den'"),
    ],
)
def test_unknown_loss_penalty_or_architecture_is_refused(recipe, setting, message):
    with pytest.raises(UnknownName) as caught:
        recipe("lion", setting)
    assert message in str(caught.value)


def test_set_for_one_variant_overrides_options_for_all(recipe):
    assert recipe("lion", loss="purr", batch_size=8)["loss"] == "purr"
    assert recipe("lion", loss="purr", batch_size=8)["batch_size"] == 8
    changed = recipe("lion", "loss=roar", "batch_size=32", loss="purr", batch_size=8)
    assert (changed["loss"], changed["batch_size"]) == ("roar", 32)
    with pytest.raises(UsageError, match="batch_size is 0; give a whole number from 2"):
        recipe("lion", batch_size=0)


# --- end to end ------------------------------------------------------------------------------------------------------


def test_set_values_reach_the_specs(invoke):
    outcome = invoke(
        *("bench", "--models", "dcgan,mlp,mlp+hinge", "--device", "cpu", "--throughput-only", "--dry-run", "--json"),
        *("--set", "dcgan.penalties=r1", "--set", "dcgan.r1.gamma=2", "--set", "mlp*.batch_size=32"),
        *("--set", "mlp+hinge.learning_rate=0.001", "--set", "mlp.loss=wasserstein", "--set", "mlp.clip=0.5"),
    )
    assert outcome.code == 0, outcome.err
    dcgan, mlp, pair = (entry["spec"]["recipe"] for entry in json.loads(outcome.out))
    assert (dcgan["penalties"], dcgan["hyper"]) == ([{"name": "r1", "every": 1}], {"r1.gamma": 2.0})
    assert dcgan["batch_size"] == 128
    assert (mlp["batch_size"], pair["batch_size"]) == (32, 32)
    assert (mlp["loss"], mlp["hyper"]) == ("wasserstein", {"clip": 0.5})
    rates = [{player: set_["learning_rate"] for player, set_ in one["optimizers"].items()} for one in (mlp, pair)]
    assert rates == [dict.fromkeys(("generator", "discriminator"), rate) for rate in (2e-4, 1e-3)]
