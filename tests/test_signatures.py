"""Functions of a plugin are given what they name; names that stand for nothing, and coefficients that nothing reads."""

from __future__ import annotations

import functools
from functools import partial

import pytest
import torch

import ganzoo
from ganzoo.errors import PluginError
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.registry.discovery import discover
from ganzoo.registry.signatures import by_name
from ganzoo.registry.validation import check_record
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import train


def judge(real, fake):
    return {"real": -real.mean(), "fake": fake.mean()}


def fool(fake):
    return {"fool": -fake.mean()}


def of_logits(discriminator=judge, generator=fool, **options):
    return ganzoo.Loss.of_logits("odd", discriminator=discriminator, generator=generator, **options)


def phase(function):
    return ganzoo.Loss("odd", phases=(ganzoo.Phase("only", function, updates="generator"),))


def metric(score):
    return ganzoo.Metric("odd", score, better={"odd": "lower"})


REFUSED_AT_LOADING = {
    "all arguments": (
        lambda: of_logits(lambda *logits: {}),
        "discriminator of loss 'odd' takes '*logits', and arguments go by name; wrap it in a lambda that names",
    ),
    "anything": (lambda: phase(lambda batch, **others: {}), "function of phase 'only' takes '**others'"),
    "by position only": (
        lambda: ganzoo.Penalty("odd", lambda real, /, fake: 0),
        "function of penalty 'odd' takes 'real', and arguments go by name",
    ),
    "no signature": (lambda: of_logits(torch.add), "discriminator of loss 'odd' has no signature"),
    "a coefficient that hides an argument": (
        lambda: of_logits(hyper={"labels": 1.0}),
        "loss 'odd' has a coefficient 'labels', and functions are given something else under that name; rename it",
    ),
    "a coefficient of a penalty": (
        lambda: ganzoo.Penalty("odd", lambda real: 0, hyper={"batch": 1.0}),
        "penalty 'odd' has a coefficient 'batch'",
    ),
    "a metric of nothing": (
        lambda: metric(lambda real, generated, settings: {}),
        "score of metric 'odd' asks for 'generated'; arguments go by name, and it may name real, fake, held_out",
    ),
    "settings of a metric": (
        lambda: ganzoo.Metric("odd", lambda real: {}, better={"odd": "lower"}, settings=lambda count: {}),
        "settings of metric 'odd' asks for 'count'; arguments go by name, and it may name n_real, n_fake",
    ),
}


@pytest.mark.parametrize("fault", REFUSED_AT_LOADING)
def test_a_function_that_cannot_be_called_by_name_is_refused_when_it_loads(fault):
    make, reason = REFUSED_AT_LOADING[fault]
    with pytest.raises(PluginError) as refused:
        check_record(make())
    assert reason in str(refused.value)


class Hinge(torch.nn.Module):
    def forward(self, real, fake):
        return {"pair": torch.relu(1 - real + fake).mean()}


def relayed(function):
    @functools.wraps(function)
    def relay(*args, **kwargs):
        return function(*args, **kwargs)

    return relay


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda fake: {}, ("fake",)),
        (lambda fake, real: {}, ("fake", "real")),
        (lambda real, *, margin: {}, ("real", "margin")),
        (lambda real, fake, scale=1.0: {}, ("real", "fake")),
        (lambda real, labels=None, margin=2.0: {}, ("real", "labels", "margin")),
        (partial(lambda real, fake, margin: {}, margin=1.0), ("real", "fake")),
        (partial(lambda scale, real: {}, 2.0), ("real",)),
        (Hinge(), ("real", "fake")),
        (relayed(lambda real, hyper: {}), ("real", "hyper")),
    ],
)
def test_a_function_is_given_what_it_names(function, names):
    loss = of_logits(function, hyper={"margin": 1.0})
    check_record(loss)
    assert by_name(loss, "discriminator", loss.hyper).names == names


PLAYERS = ("generator", "discriminator")


def test_a_player_is_given_to_a_parameter_without_a_default_only():
    taken = by_name(ganzoo.Penalty("odd", lambda discriminator, real, generator=None: 0), "function", (), PLAYERS)
    assert taken.names == ("discriminator", "real")


def test_a_coefficient_goes_before_a_player_of_its_name():
    penalty = ganzoo.Penalty("odd", lambda discriminator: discriminator, hyper={"discriminator": 3.0})
    check_record(penalty)
    given = {"generator": "player", "discriminator": "coefficient"}
    assert by_name(penalty, "function", penalty.hyper, PLAYERS)(given) == "coefficient"


PLUGIN = """
import ganzoo
from torch.nn.functional import relu, softplus

def critic(generator, discriminator, batch, hyper):
    fake = generator(batch.latent, batch.labels)
    real_logits, fake_logits = discriminator(batch.real, batch.labels), discriminator(fake, batch.labels)
    return {"real": relu(1 - real_logits).mean(), "fake": relu(1 + fake_logits).mean()}

def fool(generator, discriminator, batch, hyper):
    return {"fool": -discriminator(generator(batch.latent, batch.labels), batch.labels).mean()}

def phases(name, **options):
    both = ganzoo.Phase("discriminator", critic, "discriminator"), ganzoo.Phase("generator", fool, "generator")
    return ganzoo.Loss(name, phases=both, **options)

def reals(discriminator, batch):
    return {"real": relu(1 - discriminator(batch.real, batch.labels)).mean()}

def fakes(generator, discriminator, batch):
    return {"fake": relu(1 + discriminator(generator(batch.latent, batch.labels), batch.labels)).mean()}

def both(generator, discriminator, batch):
    fake_logits = discriminator(generator(batch.latent, batch.labels), batch.labels)
    real_logits = discriminator(batch.real, batch.labels)
    return {"real": relu(1 - real_logits).mean(), "fool": -fake_logits.mean()}

def on_own_fakes(generator, discriminator, latent, c):
    return c * discriminator(generator(latent)).mean()

def in_two(name, penalties_on_reals=None, **options):
    parts = (
        ganzoo.Phase("reals", reals, "discriminator", penalties=penalties_on_reals),
        ganzoo.Phase("fakes", fakes, "discriminator"),
        ganzoo.Phase("generator", fool, "generator"),
    )
    return ganzoo.Loss(name, phases=parts, **options)

def of_logits(name, discriminator, **hyper):
    fool = lambda fake: {"fool": -fake.mean()}
    return ganzoo.Loss.of_logits(name, discriminator=discriminator, generator=fool, hyper=hyper)

@ganzoo.hookimpl
def ganzoo_losses():
    yield phases("hinge-phases")
    yield phases("idle", hyper={"margin": 1.0})
    yield phases("with-r1", penalties=("r1",))
    yield ganzoo.Loss("joint", phases=(ganzoo.Phase("both", both, ("generator", "discriminator")),))
    yield ganzoo.Penalty("on-fakes", lambda fake_logits, c: c * fake_logits.square().mean(), hyper={"c": 1.0})
    yield ganzoo.Penalty("by-itself", on_own_fakes, hyper={"c": 1.0})
    yield in_two("in-two", penalties=("r1",))
    yield in_two("r1-on-reals", True, penalties=("r1",))
    yield in_two("on-reals", True, penalties=("gradient-penalty",))
    yield ganzoo.Loss("nowhere", phases=(ganzoo.Phase("generator", fool, "generator"),), penalties=("r1",))
    yield ganzoo.Penalty("deaf", lambda discriminator, real: discriminator(real).square().mean(), hyper={"weight": 1.0})
    yield of_logits("old", lambda real_logits, fake_logits: {"pair": (fake_logits - real_logits).mean()})
    yield of_logits("lost", lambda real, fake, margin: {"pair": (fake - real + margin).mean()})
    yield of_logits("own", lambda real, fake, margin: {"pair": relu(margin + fake - real).mean()}, margin=1.0)
    yield of_logits("by-hyper", lambda real, fake, hyper: {"pair": relu(hyper["margin"] + fake).mean()}, margin=1.0)
    yield of_logits("by-label", lambda real, fake, labels: {"pair": ((1 + labels) * (fake - real)).mean()})
    yield ganzoo.Penalty("drifting", lambda real_logits, *, weight: weight * real_logits.mean(), hyper={"weight": 0.1})
    yield ganzoo.Penalty("lost-penalty", lambda encoder, real: encoder(real).mean())
    yield ganzoo.Loss("lost-phase", phases=(ganzoo.Phase("only", lambda g, batch: {}, "generator"),))
"""

PLAN = ("bench", "--dataset", "digits", "--device", "cpu", "--throughput-only", "--dry-run", "--json")


@pytest.fixture
def planned(invoke, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    return lambda *arguments: invoke(*PLAN, "--plugin", "mine.py", *arguments)


@pytest.mark.parametrize(
    ("models", "settings", "reason"),
    [
        ("mlp+idle", (), "no function reads the coefficient 'margin'"),
        ("mlp+idle", ("*.margin=2",), "no function reads the coefficient 'margin'"),
        ("mlp+hinge+deaf", (), "no function reads the coefficient 'deaf.weight'"),
        ("mlp+old", (), "discriminator of loss 'old' asks for 'real_logits'; arguments go by name, and it may name"),
        (
            "mlp+lost",
            (),
            "asks for 'margin'; arguments go by name, and it may name real, fake, real_heads, fake_heads, labels,",
        ),
        ("mlp+hinge+lost-penalty", (), "function of penalty 'lost-penalty' asks for 'encoder'; arguments go by name"),
        ("mlp+lost-phase", (), "asks for 'g'; arguments go by name, and it may name generator, discriminator, batch,"),
        ("mlp+in-two", (), "does so in reals and fakes; say which by Phase(…, penalties=True), or make it lazy, as in"),
        ("mlp+nowhere", (), "loss 'nowhere' does so in none; say which by Phase(…, penalties=True)"),
        (
            "mlp+on-reals",
            (),
            "needs one call discriminator(what the generator gave) in phase 'reals', found ",
        ),
    ],
)
def test_refused_before_training_with_the_line_that_says_how(models, settings, reason, planned):
    outcome = planned("--models", models, *(part for setting in settings for part in ("--set", setting)))
    assert outcome.code == 2
    assert reason in outcome.error


@pytest.mark.parametrize("models", ["mlp+own", "mlp+by-hyper", "mlp+by-label", "mlp+hinge+drifting"])
def test_coefficients_labels_and_logits_are_given_by_name(models, planned):
    assert planned("--models", models).code == 0


@pytest.mark.parametrize("models", ["mlp+hinge-phases+r1", "mlp+with-r1", "mlp+r1-on-reals", "infogan+infogan+r1"])
def test_a_penalty_joins_a_loss_of_phases(models, planned):
    outcome = planned("--models", models)
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize("penalty", ["r1", "gradient-penalty", "drifting"])
def test_one_loss_in_two_spellings_has_the_same_bits_and_updates_with_a_penalty(penalty, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    registry = discover([str(tmp_path / "mine.py")])
    sides = []
    for loss in ("hinge", "hinge-phases"):
        plan = BenchPlan((f"mlp+{loss}+{penalty}",), batch_size=8, throughput_only=True, device="cpu")
        resolved = resolve(plan, registry)
        run = assemble(resolved.runs[0].spec, registry, resolved.dataset, share_fakes=False)
        result = train(run, 0.08)
        weights = [weight.tolist() for player in run.players.values() for weight in player.parameters()]
        sides.append((weights, result.updates, result.curves))
    assert sides[0] == sides[1]
    assert sides[0][1] == {"generator": 10, "discriminator": 10}
    assert f"discriminator/{penalty}" in sides[0][2]


def trained(models, registry, **options):
    plan = BenchPlan((models,), **{"batch_size": 8, "throughput_only": True, "device": "cpu"} | options)
    resolved = resolve(plan, registry)
    run = assemble(resolved.runs[0].spec, registry, resolved.dataset)
    return run, train(run, 0.008)


@pytest.mark.parametrize("penalty", ["on-fakes", "by-itself"])
def test_a_penalty_of_a_joint_phase_does_not_push_the_generator(penalty, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    registry = discover([str(tmp_path / "mine.py")])
    sides = []
    for weight in ("1e-6", "1000"):
        run, _ = trained(f"mlp+joint+{penalty}", registry, set=(f"*.{penalty}.c={weight}",))
        sides.append([[w.tolist() for w in run.players.parameters((name,))] for name in ("generator", "discriminator")])
    assert sides[0][0] == sides[1][0]
    assert sides[0][1] != sides[1][1]


@pytest.mark.parametrize("penalty", ["r1", "gradient-penalty", "drifting"])
def test_label_smoothing_leaves_a_penalty_as_it_is(penalty, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    registry = discover([str(tmp_path / "mine.py")])
    values = {}
    for loss in ("hinge", "hinge-phases"):
        for smoothing in ("0", "0.1"):
            settings = (f"*.label_smoothing={smoothing}", "*.learning_rate=1e-9", "*.flips=false")
            curves = trained(f"mlp+{loss}+{penalty}", registry, set=settings)[1].curves
            values[loss, smoothing] = curves[f"discriminator/{penalty}"]
    assert values["hinge-phases", "0"] == values["hinge-phases", "0.1"]
    assert values["hinge", "0"] == values["hinge", "0.1"]


def test_a_lazy_penalty_goes_with_a_loss_of_phases(planned):
    outcome = planned("--models", "mlp+hinge-phases+r1", "--set", "*.lazy.r1.every=16")
    assert (outcome.code, outcome.err) == (0, "")
