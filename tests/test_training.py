"""Training through the library: phases update exactly their targets, seeds repeat bit for bit, budgets are kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from bits.sides import STORED

from ganzoo.errors import Diverged, UsageError
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import run_step, train
from ganzoo.training.objective import Objective, phases_of
from ganzoo.training.phase_update import Given, Values
from ganzoo.types import Batch, Loss, Recipe

REGISTRY = discover()
MLP = REGISTRY.get("architectures", "mlp").record
VARIANTS = REGISTRY.names("variants")
LOSSES = [
    name
    for name in REGISTRY.names("losses")
    if isinstance(record := REGISTRY.get("losses", name).record, Loss)
    and record.needs == "logits"
    and (not record.phases or name == "infogan")
]
"""Those for two players; other losses of phases are paired in `test_more_players`."""
ARCHITECTURES = [
    name
    for name in REGISTRY.names("architectures")
    if len((record := REGISTRY.get("architectures", name).record).players) == 2
    and record.gives in ("logits", "patches")
    and name != "logan"
]
"""Those of two players; logan's are sngan's."""
LARGE = {"biggan", "projected-gan", "stylegan2"}
"""Architectures whose default size takes its time."""


def architecture_of(variant: str):
    architecture = REGISTRY.get("variants", variant).record.architecture
    return architecture if not isinstance(architecture, str) else REGISTRY.get("architectures", architecture).record


def planned(models: str, registry=REGISTRY, **options):
    plan = BenchPlan(
        models=(models,), **{"batch_size": 8, "kimg": 0.05, "throughput_only": True, "device": "cpu"} | options
    )
    resolved = resolve(plan, registry)
    return resolved.runs[0].spec, resolved.dataset


def assembled(models: str, **options):
    spec, dataset = planned(models, **options)
    return assemble(spec, REGISTRY, dataset)


def snapshot(run):
    return {
        f"{player}.{name}": parameter.detach().clone()
        for player in run.players
        for name, parameter in run.players[player].network.named_parameters()
    }


SEEDS = frozenset(next(iter(next(iter(json.loads(STORED.read_text()).values())).values())))
"""The variants that the zoo began with, which tests of each variant go through in the default run; the others, which
have tests of their own, under `-m slow`."""


def each(names, of_the_zoo=VARIANTS, quick=SEEDS):
    """The names as parameters, all but those in `quick` marked slow."""
    return [
        pytest.param(name, marks=() if name in quick or name not in of_the_zoo else pytest.mark.slow) for name in names
    ]


def is_quick(variant, size):
    """All of mlp and dcgan, the small ones of those that the zoo began with, and of others the smallest, but for those
    of which there is a small one.
    """
    if variant in ("mlp", "dcgan"):
        return True
    if f"{variant}-small" in VARIANTS:
        return False
    return size <= 32 if variant in SEEDS else size == min(architecture_of(variant).image_sizes or (16,))


CLAIMS = [
    # That each size builds and has gradients is tested for all of them in `test_zoo_networks`.
    pytest.param(variant, size, marks=() if is_quick(variant, size) else pytest.mark.slow)
    for variant in VARIANTS
    for size in architecture_of(variant).image_sizes or (16, 28, 32, 64)
]


@pytest.mark.parametrize(("variant", "size"), CLAIMS)
def test_every_variant_trains_a_few_steps_at_every_size(variant, size):
    run = assembled(variant, image_size=size, batch_size=2)
    before = snapshot(run)
    result = train(run, 0.006)
    assert result.kimg >= 0.006
    assert all(math.isfinite(value) for curve in result.curves.values() for value in curve)
    after = snapshot(run)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == set(run.players)


@pytest.mark.parametrize("variant", each(VARIANTS))
def test_phase_updates_exactly_its_targets(variant):
    run = assembled(variant)
    real, labels = next(run.batches)
    for step_phase in run.updates:
        before = snapshot(run)
        step_phase(Batch(real, labels, run.draw_latent(len(real), run.latent_rng)))
        after = snapshot(run)
        targets = step_phase.phase.targets
        for name in before:
            owned = any(name.startswith(f"{target}.") for target in targets)
            if not owned:
                assert torch.equal(before[name], after[name]), f"{step_phase.phase.name} moved {name}"
        for target in targets:
            own = [name for name in before if name.startswith(f"{target}.")]
            assert any(not torch.equal(before[name], after[name]) for name in own), (
                f"{step_phase.phase.name} left {target} as it was"
            )
        everything = run.players.parameters(run.players)
        assert all(parameter.grad is None for parameter in everything)


UNREAD = {"acgan": {"rotation", "embedding", "proxies"}, "reacgan": {"rotation", "classes"}}
"""The heads of the discriminator that no penalty of a variant reads."""


@pytest.mark.parametrize("variant", each(VARIANTS))
def test_every_weight_is_updated_by_some_phase(variant):
    run = assembled(variant)
    before = snapshot(run)
    for _ in range(3):
        run_step(run)
    after = snapshot(run)
    # The bias of the last layer adds the same to every logit and cancels in a loss of differences.
    stuck = [name for name in before if torch.equal(before[name], after[name]) and not name.endswith("head.bias")]
    assert [name for name in stuck if not set(name.split(".")) & UNREAD.get(variant, set())] == []


@pytest.mark.parametrize(
    ("architecture", "loss"),
    [
        pytest.param(
            architecture,
            loss,
            marks=()
            if architecture in SEEDS or (loss == "non-saturating" and architecture not in LARGE)
            else pytest.mark.slow,
        )
        for architecture in ARCHITECTURES
        for loss in LOSSES
    ],
)
def test_every_pair_trains_or_is_refused_with_a_reason(architecture, loss):
    gives = REGISTRY.get("architectures", architecture).record.gives
    needs = REGISTRY.get("losses", loss).record.needs
    reason = None
    if gives not in (("logits", "patches") if needs == "logits" else (needs,)):
        reason = f"needs a judge that gives {needs}"
    elif loss == "infogan" and architecture != "infogan":
        reason = "code_head"
    if reason:
        with pytest.raises(UsageError, match=reason):
            assembled(f"{architecture}+{loss}")
        return
    run = assembled(f"{architecture}+{loss}")
    result = train(run, 0.016)
    assert all(math.isfinite(value) for curve in result.curves.values() for value in curve)


def test_same_seed_same_bits_and_another_seed_others():
    spec, dataset = planned("dcgan")

    def weights(seed):
        run = assemble(replace(spec, seed=seed), REGISTRY, dataset)
        train(run, 0.05)
        return run.average.average.state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_kimg_counts_real_images_and_repeats_draw_new_ones():
    run = assembled("wgan-gp", batch_size=8)
    result = train(run, 0.08)
    assert run.batches.drawn == 80
    assert result.kimg == 0.08
    assert result.updates == {"generator": 2, "discriminator": 10}


def test_lazy_penalty_runs_every_nth_step_with_n_times_the_weight():
    run = assembled("dcgan+non-saturating+r1", set=("*.lazy.r1.every=4",))
    names = [(phase.phase.name, phase.phase.every) for phase in run.updates]
    assert names == [("discriminator", 1), ("generator", 1), ("r1", 4)]
    result = train(run, 0.008 * 8)
    assert result.updates["discriminator"] == 8 + 2
    eager = assembled("dcgan+non-saturating+r1")
    real, labels = next(eager.batches)
    batch = Batch(real, labels, eager.draw_latent(8, eager.latent_rng))
    lazy_run = assembled("dcgan+non-saturating+r1", set=("*.lazy.r1.every=4",))
    eager_term = eager.updates[0](batch)["r1"]
    lazy_term = lazy_run.updates[2](batch)["r1"]
    torch.testing.assert_close(lazy_term, 4 * eager_term)


def test_generator_first_runs_the_generator_phase_first():
    assert [phase.phase.name for phase in assembled("conv-sgd").updates] == ["generator", "discriminator"]


def test_dcgan_step_equals_plain_pytorch():
    """The harness's DCGAN step against plain PyTorch, from the same weights, batches and latents.

    By SGD, because Adam divides rounding errors by each other where a gradient is close to zero.
    """
    settings = ("dcgan.optimizer.kind=sgd", "dcgan.optimizer.learning_rate=0.01")
    run, hand = (assembled("dcgan", set=settings) for _ in range(2))
    generator, discriminator = hand.players.generator.network, hand.players["discriminator"].network
    generator_optimizer = torch.optim.SGD(generator.parameters(), lr=0.01)
    discriminator_optimizer = torch.optim.SGD(discriminator.parameters(), lr=0.01)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    for _ in range(4):
        run_step(run)
        real, _labels = next(hand.batches)
        fake = generator(hand.draw_latent(8, hand.latent_rng))
        real_logits, fake_logits = discriminator(real), discriminator(fake.detach())
        loss = bce(real_logits, torch.ones(8)) + bce(fake_logits, torch.zeros(8))
        discriminator_optimizer.zero_grad()
        loss.backward()
        discriminator_optimizer.step()
        fooled = discriminator(fake)
        generator_optimizer.zero_grad()
        bce(fooled, torch.ones(8)).backward()
        generator_optimizer.step()
    ours, theirs = snapshot(run), snapshot(hand)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)
    unmoved = snapshot(assembled("dcgan", set=settings))
    assert all((theirs[name] - unmoved[name]).abs().max() > 1e-4 for name in ours if name.endswith("0.weight"))


@pytest.mark.parametrize(
    ("models", "settings", "passes"),
    [
        ("dcgan", (), 1),
        ("dcgan+relativistic", ("*.feature_matching=1",), 1),
        ("dcgan+hinge+r1", ("*.l2=1e-5",), 1),
        ("dcgan", ("*.generator_first=true",), 2),
        ("dcgan", ("*.discriminator.repeats=2",), 3),
        ("infogan", (), 3),
        ("infogan", ("*.feature_matching=1",), 3),
    ],
)
def test_fakes_are_shared_until_the_generator_is_updated(models, settings, passes):
    run = assembled(models, set=settings)
    made = []
    run.players.generator.register_forward_hook(lambda *arguments: made.append(1))
    run_step(run)
    assert len(made) == passes


def test_sharing_fakes_changes_no_gradient():
    run = assembled("dcgan")
    spec, dataset = planned("dcgan")
    apart = assemble(spec, REGISTRY, dataset, share_fakes=False)
    assert [update.takes_fakes for update in (*run.updates, *apart.updates)] == [False, True, False, False]
    real, labels = next(run.batches)
    batch = Batch(real, labels, run.draw_latent(len(real), run.latent_rng))
    for ours, theirs in zip(run.updates, apart.updates, strict=True):
        ours.gradients(batch)
        theirs.gradients(batch)
        for mine, other in zip(ours.updated, theirs.updated, strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)
            mine.grad = other.grad = None


def test_weights_stay_clipped():
    run = assembled("wgan", set=("wgan.clip=0.005",))
    train(run, 0.08)
    assert all(parameter.abs().max() <= 0.005 + 1e-9 for parameter in run.players["discriminator"].parameters())


def test_common_recipe_options_appear_as_loss_terms():
    options = ("dcgan.l1=1e-5", "dcgan.l2=1e-5", "dcgan.feature_matching=0.1", "dcgan.label_smoothing=0.1")
    result = train(assembled("dcgan", set=options), 0.016)
    expected = {"discriminator/l1", "discriminator/l2", "generator/l1", "generator/l2", "generator/feature_matching"}
    assert expected <= set(result.curves)


def test_label_smoothing_equals_bce_with_a_soft_target():
    smooth = assembled("dcgan", set=("dcgan.label_smoothing=0.1",))
    plain = assembled("dcgan")
    real, labels = next(smooth.batches)
    next(plain.batches)
    batch = Batch(real, labels, smooth.draw_latent(8, smooth.latent_rng))
    terms = smooth.updates[0](batch)
    logits = plain.players["discriminator"](real)
    target = torch.full((8,), 0.9)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(terms["real"], expected.detach())


def test_label_smoothing_of_a_phase_loss_equals_bce_with_a_soft_target():
    plain, smooth = assembled("infogan"), assembled("infogan", set=("infogan.label_smoothing=0.1",))
    real, labels = next(plain.batches)
    terms = smooth.updates[0](Batch(real, labels, smooth.draw_latent(8, smooth.latent_rng)))
    logits = plain.players["discriminator"](real)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.full((8,), 0.9))
    torch.testing.assert_close(terms["real"], expected.detach(), rtol=1e-4, atol=1e-5)


def test_feature_matching_joins_the_generator_phase_of_any_loss():
    run = assembled("infogan", set=("infogan.feature_matching=3",))
    real, labels = next(run.batches)
    terms = [update(Batch(real, labels, run.draw_latent(8, run.latent_rng))) for update in run.updates]
    assert [set(found) for found in terms] == [
        {"real", "fake"},
        {"fool", "feature_matching"},
        {"category", "continuous"},
    ]
    assert terms[1]["feature_matching"] > 0


class Answering:
    """A judge that gives these answers, one after another."""

    gives = "logits"

    def __init__(self, *answers):
        self.answers = iter(answers)

    def __call__(self, *inputs):
        return next(self.answers)


def test_label_smoothing_of_a_relativistic_loss_equals_bce_with_a_soft_target():
    """The label says that the real image is the more realistic one: with weight 0.9, and 0.1 for the contrary."""
    loss = REGISTRY.get("losses", "relativistic").record
    real, fake = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    batch = Batch(torch.zeros(8, 1, 1, 1), None, torch.zeros(8, 1))
    phase = phases_of(Objective(MLP, loss), Recipe(label_smoothing=0.1)).phases[0]
    players = {"generator": lambda *inputs: batch.real, "discriminator": Answering(real, fake)}
    terms = phase.function(Given(players, batch, Values({})))
    target = torch.full((8,), 0.9)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(real - fake, target)
    torch.testing.assert_close(sum(terms.losses.values()), expected)


def test_label_smoothing_is_refused_where_no_term_is_the_real_one():
    loss = Loss.of_logits(
        "odd", discriminator=lambda real, fake: {"a": real.mean(), "b": fake.mean()}, generator=lambda fake: {"c": fake}
    )
    with pytest.raises(UsageError, match="one term, or the two terms 'real' and 'fake'"):
        phases_of(Objective(MLP, loss), Recipe(label_smoothing=0.1))


def test_rate_decay_reaches_the_optimizers():
    run = assembled("dcgan", set=("dcgan.rate_decay=linear",))
    train(run, 0.08)
    rates = [group["lr"] for optimizer in run.optimizers.values() for group in optimizer.param_groups]
    assert all(rate == pytest.approx(2e-4 * 0.1) for rate in rates)


def test_a_schedule_reaches_a_coefficient():
    run = assembled("r3gan")
    start = run.values.hyper["r1.gamma"].item()
    train(run, 0.08)
    assert run.values.hyper["r1.gamma"].item() < start


def test_diverged_run_names_the_exploding_term():
    run = assembled("mlp", set=("mlp.learning_rate=1e18",))
    with pytest.raises(Diverged, match=r"the term '.+' became"):
        train(run, 1.0)


def test_moving_average_has_the_given_half_life():
    from ganzoo.training.average import MovingAverage

    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    average = MovingAverage(network, half_life_kimg=2.0, rampup=100.0)
    torch.nn.init.ones_(network.weight)
    for index in range(4):
        average.update(kimg=10 + 0.5 * index, kimg_since_last=0.5)
    assert average.average.weight.item() == pytest.approx(0.5)


def test_evaluation_points_are_first_steps_past_each_kimg_up_to_the_budget():
    spec, dataset = planned("mlp")
    run = assemble(spec, REGISTRY, dataset)
    seen = []
    train(run, 0.08, (0.02, 0.04, 0.08), on_evaluate=seen.append)
    assert seen == [0.024, 0.04, 0.08]
