"""Functions of a plugin are called by position: names that say something else, and coefficients that nothing reads."""

from __future__ import annotations

from functools import partial

import pytest

import ganzoo
from ganzoo.errors import PluginError
from ganzoo.registry.signatures import takes_real_logits
from ganzoo.registry.validation import check_record


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


REFUSED = {
    "hyper for logits": (
        lambda: of_logits(generator=lambda fake, hyper: {}),
        "generator of loss 'odd' would take 'real' for its parameter 'hyper': it is given (fake, real) in this order",
    ),
    "a coefficient for logits": (
        lambda: of_logits(generator=lambda fake, margin: {}),
        "call the second parameter 'real', not 'margin'",
    ),
    "real and fake exchanged": (
        lambda: of_logits(lambda fake, real: {}),
        "discriminator of loss 'odd' would take 'real' for its parameter 'fake'",
    ),
    "labels for logits": (lambda: of_logits(lambda real, labels: {}), "would take 'fake' for its parameter 'labels'"),
    "too many logits": (lambda: of_logits(lambda real, fake, margin: {}), "cannot be called, missing a required"),
    "too few logits": (lambda: of_logits(lambda real: {}), "discriminator of loss 'odd' cannot be called, too many"),
    "coefficients of logits": (
        lambda: of_logits(hyper={"margin": 1.0}),
        "loss 'odd' has coefficients (margin), and functions of logits are given none; write phases",
    ),
    "players exchanged": (
        lambda: phase(lambda discriminator, generator, batch, hyper: {}),
        "function of phase 'only' would take 'generator' for its parameter 'discriminator'",
    ),
    "no coefficients": (
        lambda: phase(lambda generator, discriminator, batch: {}),
        "function of phase 'only' cannot be called, too many positional arguments: it is given (generator, ",
    ),
    "images exchanged": (
        lambda: ganzoo.Penalty("odd", lambda discriminator, fake_images, real_images, labels, hyper: 0),
        "function of penalty 'odd' would take 'real' for its parameter 'fake_images'",
    ),
    "after": (lambda: of_logits(after=lambda hyper, parameters: None), "would take 'parameters' for its parameter"),
    "samples exchanged": (
        lambda: metric(lambda fake, real, settings: {}),
        "score of metric 'odd' would take 'real' for its parameter 'fake'",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_functions_that_take_one_thing_for_another_are_refused(fault):
    make, reason = REFUSED[fault]
    with pytest.raises(PluginError) as refused:
        check_record(make())
    assert reason in str(refused.value)


ACCEPTED = {
    "names of one's own": lambda: of_logits(lambda r, f: {}, lambda f: {}),
    "a relativistic pair": lambda: of_logits(generator=lambda fake_logits, real_logits: {}),
    "short names": lambda: of_logits(generator=lambda f, r: {}),
    "defaults": lambda: of_logits(lambda real, fake, margin=1.0: {}, lambda fake, margin=1.0: {}),
    "a partial": lambda: of_logits(generator=partial(lambda fake, margin: {}, margin=1.0)),
    "all arguments": lambda: of_logits(lambda *logits: {}, lambda *logits: {}),
    "coefficients for after": lambda: of_logits(hyper={"clip": 1.0}, after=lambda weights, hyper: None),
    "a critic": lambda: phase(lambda g, critic, batch, coefficients: {}),
    "a penalty of the rest": lambda: ganzoo.Penalty("odd", lambda critic, real, *others: 0),
    "a metric": lambda: metric(lambda real, fake, settings: {}),
}


@pytest.mark.parametrize("form", ACCEPTED)
def test_names_that_say_nothing_else_are_accepted(form):
    check_record(ACCEPTED[form]())


@pytest.mark.parametrize(
    ("function", "asks"),
    [
        (lambda fake: {}, False),
        (lambda fake, real: {}, True),
        (lambda fake, real_logits=None: {}, True),
        (lambda fake, margin=1.0: {}, False),
        (partial(lambda fake, margin: {}, margin=1.0), False),
        (lambda *logits: {}, False),
    ],
)
def test_only_a_second_parameter_asks_for_the_real_logits(function, asks):
    assert takes_real_logits(function) == asks


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

@ganzoo.hookimpl
def ganzoo_losses():
    yield phases("hinge-phases")
    yield phases("idle", hyper={"margin": 1.0})
    yield phases("with-r1", penalties=("r1",))
    yield ganzoo.Penalty("deaf", lambda critic, real, *rest: critic(real).square().mean(), hyper={"weight": 1.0})
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
        ("mlp+hinge-phases+r1", (), "make it lazy, as in --set 'VARIANT.lazy.r1.every=16'"),
        ("mlp+with-r1", (), "give its term in the discriminator's phase, by a function of ganzoo.losses"),
        ("infogan", ("infogan.penalties=r1",), "a phase of its own in every step would be a second update"),
    ],
)
def test_refused_before_training_with_the_line_that_says_how(models, settings, reason, planned):
    outcome = planned("--models", models, *(part for setting in settings for part in ("--set", setting)))
    assert outcome.code == 2
    assert reason in outcome.error


def test_a_lazy_penalty_goes_with_a_loss_of_phases(planned):
    outcome = planned("--models", "mlp+hinge-phases+r1", "--set", "*.lazy.r1.every=16")
    assert (outcome.code, outcome.err) == (0, "")
