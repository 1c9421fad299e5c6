"""GANs of the zoo with more than two players, or with gradients by latents and weights: their first step by hand."""

from __future__ import annotations

import math

import pytest
import torch
from test_training import REGISTRY, assembled, planned
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss, one_hot, softmax

from ganzoo.conformance.trial import Trial
from ganzoo.conformance.variant_checks import penalty_gradients
from ganzoo.errors import UsageError
from ganzoo.losses import in_training
from ganzoo.planning.selection import select
from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import due_calls, run_step, train
from ganzoo.types import Loss

SMALL = {
    "bigan": ("*.base_channels=4", "*.hidden=16", "*.latent=6"),
    "aae": ("*.widths=[16,16]",),
    "vaegan": ("*.base_channels=4", "*.hidden=16", "*.latent=6"),
    "d2gan": ("*.base_channels=4", "*.latent=6"),
    "mgan": ("*.base_channels=4", "*.generators=3", "*.latent=8"),
    "mlp+logan": ("*.generator_widths=[16]", "*.discriminator_widths=[16]", "*.latent=6"),
    "unrolled": ("*.base_channels=4", "*.latent=6"),
}
"""Each variant with its smallest networks. LOGAN's loss is on perceptrons, for spectral norm changes at each call."""

UPDATES = {
    "bigan": {"discriminator": {"discriminator"}, "generator": {"generator", "encoder"}},
    "aae": {"reconstruction": {"encoder", "generator"}, "discriminator": {"discriminator"}, "encoder": {"encoder"}},
    "vaegan": {"encoder": {"encoder"}, "generator": {"generator"}, "discriminator": {"discriminator"}},
    "d2gan": {"discriminators": {"discriminator", "reverse_discriminator"}, "generator": {"generator"}},
    "mgan": {"discriminator": {"discriminator"}, "generator": {"generator"}},
    "mlp+logan": {"discriminator": {"discriminator"}, "generator": {"generator"}},
    "unrolled": {"discriminator": {"discriminator"}, "generator": {"generator"}},
}
"""What each phase updates, by the papers."""

MONITORS = {"reconstruction.error"}


def small(models, *settings, **options):
    return assembled(models, image_size=16, set=(*SMALL.get(models, ()), *settings), **options)


def apart(models, *settings):
    """A run whose phases make their own fakes, so that each can be called alone."""
    spec, dataset = planned(models, image_size=16, set=(*SMALL[models], *settings))
    return assemble(spec, REGISTRY, dataset, share_fakes=False)


def networks_of(run):
    return {name: player.network for name, player in run.players.items()}


def states(run):
    """All weights and buffers of all players."""
    return {
        f"{player}.{name}": tensor.clone()
        for player, network in networks_of(run).items()
        for name, tensor in network.state_dict().items()
    }


def bce(logits, target):
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(target)))


# --- each first step by hand: plain torch, other formulas -------------------------------------------------------------


def bigan_by_hand(phase, batch, generator, discriminator, encoder):
    real = discriminator(batch.real, encoder(batch.real))
    fake = discriminator(generator(batch.latent), batch.latent)
    if phase == "discriminator":
        return {"real": bce(real, 1), "fake": bce(fake, 0)}
    error = mse_loss(generator(encoder(batch.real)), batch.real)
    return {"fool": bce(fake, 1), "real_fool": bce(real, 0), "reconstruction.error": error}


def aae_by_hand(phase, batch, generator, discriminator, encoder):
    codes = encoder(batch.real)
    return {
        "reconstruction": lambda: {"error": mse_loss(generator(codes), batch.real)},
        "discriminator": lambda: {"real": bce(discriminator(batch.latent), 1), "fake": bce(discriminator(codes), 0)},
        "encoder": lambda: {"fool": bce(discriminator(codes), 1)},
    }[phase]()


def vaegan_by_hand(phase, batch, generator, discriminator, encoder):
    mean, log_variance = encoder(batch.real).split(batch.latent.shape[1], 1)
    posterior = Normal(mean, torch.sqrt(torch.exp(log_variance)))
    codes = mean + posterior.scale * torch.randn(mean.shape)
    rebuilt, drawn, real = generator(codes), generator(batch.latent), discriminator(batch.real)
    if phase == "discriminator":
        return {
            "real": bce(real["logits"], 1),
            "rebuilt": bce(discriminator(rebuilt)["logits"], 0),
            "fake": bce(discriminator(drawn)["logits"], 0),
        }
    log_density = Normal(discriminator(rebuilt)["features"], 1.0).log_prob(real["features"]) + math.log(2 * math.pi) / 2
    likelihood = -log_density.sum() / len(batch.real)
    if phase == "encoder":
        prior = kl_divergence(posterior, Normal(torch.zeros_like(mean), 1.0)).sum() / len(batch.real)
        return {"prior": prior, "likelihood": likelihood}
    return {
        "likelihood": 1e-3 * likelihood,
        "fool_rebuilt": bce(discriminator(rebuilt)["logits"], 1),
        "fool": bce(discriminator(drawn)["logits"], 1),
    }


def d2gan_by_hand(phase, batch, generator, discriminator, reverse_discriminator):
    fake = generator(batch.latent)

    def positive(judge, images):
        return torch.log(1 + torch.exp(judge(images)))

    if phase == "generator":
        return {
            "fool": -positive(discriminator, fake).mean(),
            "reverse_fool": 0.1 * torch.log(positive(reverse_discriminator, fake)).mean(),
        }
    return {
        "real": -0.2 * torch.log(positive(discriminator, batch.real)).mean(),
        "fake": positive(discriminator, fake).mean(),
        "reverse_real": positive(reverse_discriminator, batch.real).mean(),
        "reverse_fake": -0.1 * torch.log(positive(reverse_discriminator, fake)).mean(),
    }


def mgan_by_hand(phase, batch, generator, discriminator):
    """Each image by the linear map of its own generator."""
    which, noise = batch.latent[:, :3].argmax(1), batch.latent[:, 3:]
    first, *others = generator.network
    maps = first.weight.reshape(len(first.weight), 3, noise.shape[1])
    hidden = torch.stack([maps[:, chosen] @ one for chosen, one in zip(which, noise, strict=True)])
    fake = torch.nn.Sequential(*others)(hidden)
    features = discriminator.features(fake)
    chances = softmax(discriminator.classifier(features), 1)
    entropy = -torch.log((chances * one_hot(which, 3)).sum(1)).mean()
    logits = discriminator.head(features)[:, 0]
    if phase == "generator":
        return {"fool": bce(logits, 1), "told_apart": 0.01 * entropy}
    real = discriminator.head(discriminator.features(batch.real))[:, 0]
    return {"real": bce(real, 1), "fake": bce(logits, 0), "told_apart": entropy}


def logan_by_hand(phase, batch, generator, discriminator):
    """The natural gradient as the solution of (g gᵀ + β I) Δz = α g, image by image."""
    latent = batch.latent.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(discriminator(generator(latent)).sum(), latent, create_graph=True)
    identity = torch.eye(latent.shape[1])
    steps = torch.stack([torch.linalg.solve(torch.outer(g, g) + 0.1 * identity, 0.9 * g) for g in slopes])
    taken = (torch.rand(len(steps), 1) < 0.8).float()
    moved = torch.minimum(torch.maximum(batch.latent + taken * steps, batch.latent.min()), batch.latent.max())
    fake = discriminator(generator(moved))
    cost = 0.1 * steps.norm(dim=1).pow(2).mean()
    if phase == "generator":
        return {"fool": -fake.mean(), "step": cost}
    real = discriminator(batch.real)
    return {
        "real": torch.clamp(1 - real, min=0).mean(),
        "fake": torch.clamp(1 + fake, min=0).mean(),
        "step": cost,
    }


def unrolled_by_hand(phase, batch, generator, discriminator):
    """Five steps of gradient descent, which keep their graphs."""
    fake = generator(batch.latent)
    if phase == "discriminator":
        return {"real": bce(discriminator(batch.real), 1), "fake": bce(discriminator(fake), 0)}
    weights = dict(discriminator.named_parameters())

    def judge(images):
        return torch.func.functional_call(discriminator, weights, (images,))

    for _ in range(5):
        cost = bce(judge(batch.real), 1) + bce(judge(fake), 0)
        slopes = torch.autograd.grad(cost, list(weights.values()), create_graph=True)
        weights = {name: weight - 0.01 * slope for (name, weight), slope in zip(weights.items(), slopes, strict=True)}
    return {"fool": bce(judge(fake), 1)}


BY_HAND = {
    "bigan": bigan_by_hand,
    "aae": aae_by_hand,
    "vaegan": vaegan_by_hand,
    "d2gan": d2gan_by_hand,
    "mgan": mgan_by_hand,
    "mlp+logan": logan_by_hand,
    "unrolled": unrolled_by_hand,
}


@pytest.mark.parametrize("models", SMALL)
def test_first_step_equals_plain_pytorch(models):
    run, hand = apart(models), apart(models)
    networks = networks_of(hand)
    assert [update.phase.name for update in run.updates] == list(UPDATES[models])
    for (update, batch), their_update in zip(due_calls(run), hand.updates, strict=True):
        phase = update.phase.name
        torch.manual_seed(3)
        ours = update.gradients(batch)
        torch.manual_seed(3)
        theirs = BY_HAND[models](phase, batch, **networks)
        assert set(ours) == set(theirs)
        for name, term in theirs.items():
            torch.testing.assert_close(ours[name], term, rtol=1e-4, atol=1e-6)
        total = torch.stack([term for name, term in theirs.items() if name not in MONITORS]).sum()
        names = [
            f"{player}.{name}"
            for player in sorted(UPDATES[models][phase])
            for name, _ in networks[player].named_parameters()
        ]
        expected = torch.autograd.grad(total, [weight_of(networks, name) for name in names])
        for name, slope in zip(names, expected, strict=True):
            found = weight_of(networks_of(run), name).grad
            torch.testing.assert_close(
                found, slope, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
            )
            assert name.endswith("bias") or slope.any(), name
        assert their_update.phase.name == phase
        for player in run.players.values():
            player.zero_grad(set_to_none=True)


def weight_of(networks, name):
    player, _, path = name.partition(".")
    return networks[player].get_parameter(path)


@pytest.mark.parametrize("models", SMALL)
def test_each_phase_updates_its_players_and_leaves_the_others_to_the_bit(models):
    run = apart(models)
    for update, batch in due_calls(run):
        before = states(run)
        update(batch)
        after = states(run)
        weights = {name for name in before if name.partition(".")[2] in names_of_weights(run, name)}
        moved = {name.partition(".")[0] for name in weights if not torch.equal(before[name], after[name])}
        assert moved == UPDATES[models][update.phase.name]
        assert all(weight.grad is None for player in run.players.values() for weight in player.parameters())


def names_of_weights(run, name):
    return {path for path, _ in run.players[name.partition(".")[0]].network.named_parameters()}


# --- BiGAN ------------------------------------------------------------------------------------------------------------

PLUGIN = """
import ganzoo
from dataclasses import replace
from ganzoo_plugins.variants import bigan
from torch.nn.functional import softplus


def discriminator_terms(generator, discriminator, encoder, batch):
    code, fake = encoder(batch.real), generator(batch.latent)
    return {
        "real": softplus(-discriminator(batch.real, code)).mean(),
        "fake": softplus(discriminator(fake, batch.latent)).mean(),
    }


def generator_terms(generator, discriminator, encoder, batch):
    code, fake = encoder(batch.real), generator(batch.latent)
    return {
        "fool": softplus(-discriminator(fake, batch.latent)).mean(),
        "real_fool": softplus(discriminator(batch.real, code)).mean(),
    }


def build(image_shape, latent, classes, *, base_channels=64, hidden=512):
    players = bigan.build(image_shape, latent, classes, base_channels=base_channels, hidden=hidden)
    players["encoder"].requires_grad_(False)
    return players


@ganzoo.hookimpl
def ganzoo_architectures():
    (architecture,) = bigan.ganzoo_architectures()
    yield replace(architecture, name="frozen-bigan", build=build)


@ganzoo.hookimpl
def ganzoo_losses():
    yield ganzoo.Loss(
        "bigan-phases",
        phases=(
            ganzoo.Phase("discriminator", discriminator_terms, "discriminator"),
            ganzoo.Phase("generator", generator_terms, ("generator", "encoder")),
        ),
        share_fakes=True,
    )
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugins") / "bigan_otherwise.py"
    path.write_text(PLUGIN)
    return discover([str(path)])


def trained(models, registry=REGISTRY, kimg=0.04):
    spec, dataset = planned(models, registry=registry, image_size=16, set=SMALL["bigan"])
    run = assemble(spec, registry, dataset)
    return run, train(run, kimg)


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_bigan_by_present_and_by_phases_is_one_benchmark(registry):
    by_present, ours = trained("bigan+non-saturating", registry)
    by_phases, theirs = trained("bigan+bigan-phases", registry)
    assert equal(states(by_present), states(by_phases))
    assert ours.updates == theirs.updates == {"generator": 5, "discriminator": 5, "encoder": 5}
    assert ours.curves == theirs.curves
    assert {"discriminator/real", "generator/fool", "generator/real_fool"} <= set(ours.curves)


def test_watching_the_reconstruction_changes_no_bit():
    watched, ours = trained("bigan+non-saturating+reconstruction")
    alone, theirs = trained("bigan+non-saturating")
    assert equal(states(watched), states(alone))
    assert set(ours.curves) - set(theirs.curves) == {"generator/reconstruction.error"}
    assert all(0 < error < 4 for error in ours.curves["generator/reconstruction.error"])


def test_a_penalty_of_monitors_alone_is_no_penalty_without_gradient():
    (selection,) = select(REGISTRY, ["bigan"])
    penalty_gradients(Trial(REGISTRY, selection))


def test_frozen_encoder_stays_to_the_bit(registry):
    spec, dataset = planned("frozen-bigan+non-saturating", registry=registry, image_size=16, set=SMALL["bigan"])
    run = assemble(spec, registry, dataset)
    before = states(run)
    train(run, 0.024)
    stayed = {name for name in before if torch.equal(before[name], states(run)[name])}
    weights = {f"encoder.{name}" for name in names_of_weights(run, "encoder")}
    assert weights
    assert weights <= stayed
    assert not any(name.startswith(("generator", "discriminator")) and name.endswith("weight") for name in stayed)


LOSSES_OF_LOGITS = [
    name
    for name in REGISTRY.names("losses")
    if isinstance(record := REGISTRY.get("losses", name).record, Loss)
    and not record.phases
    and record.needs == "logits"
]


@pytest.mark.parametrize("loss", LOSSES_OF_LOGITS)
def test_bigan_goes_with_every_loss_of_logits(loss):
    run = assembled(f"bigan+{loss}+r1+reconstruction", image_size=16, set=SMALL["bigan"])
    before = states(run)
    result = train(run, 0.016)
    assert all(math.isfinite(value) for curve in result.curves.values() for value in curve)
    after = states(run)
    for player in run.players:
        assert not torch.equal(
            before[f"{player}.{last_weight(run, player)}"], after[f"{player}.{last_weight(run, player)}"]
        )


def last_weight(run, player):
    return [name for name in names_of_weights(run, player) if name.endswith("weight")][-1]


def test_gaussian_encoder_draws_codes():
    run = small("bigan", "*.gaussian=true")
    encoder = run.players["encoder"]
    real, _ = next(run.batches)
    torch.manual_seed(0)
    first, second = encoder(real), encoder(real)
    assert first.shape == second.shape == (8, 6)
    described = encoder.network[:-1](real)
    mean, deviation = described[:, :6], described[:, 6:].exp()
    torch.manual_seed(0)
    torch.testing.assert_close(first, mean + deviation * torch.randn(8, 6))
    assert not torch.equal(first, second)


# --- the others -------------------------------------------------------------------------------------------------------


def test_r1_on_codes_is_that_of_what_the_discriminator_of_codes_sees():
    run = assembled("aae+r1", image_size=16, set=SMALL["aae"])
    update, batch = next((update, batch) for update, batch in due_calls(run) if update.phase.name == "discriminator")
    judge = run.players["discriminator"].network
    latent = batch.latent.clone().requires_grad_()
    (slope,) = torch.autograd.grad(judge(latent).sum(), latent)
    torch.testing.assert_close(update.gradients(batch)["r1"], 5 * slope.square().sum(1).mean())


def test_aae_refuses_a_loss_that_would_never_update_its_decoder():
    with pytest.raises(UsageError, match=r"'hinge' would never update the generator.*loss of phases"):
        assembled("aae+hinge")


def test_vaegan_compares_reconstructions_on_what_the_head_sees():
    judge = small("vaegan").players["discriminator"]
    images = torch.rand(8, 1, 16, 16) * 2 - 1
    heads = judge.heads(images)
    torch.testing.assert_close(judge.network.head(heads["features"]).squeeze(1), heads["logits"])
    assert heads["features"].shape == (8, 8 * 4 * 4)


def test_logarithm_of_softplus_stays_finite_with_its_gradient():
    from ganzoo_plugins.variants.d2gan import log_softplus

    logits = torch.tensor([-200.0, -20.0, -15.0, -1.0, 0.0, 30.0], requires_grad=True)
    exact = torch.log(torch.log1p(torch.exp(logits.detach().double())))
    exact[0] = -200
    torch.testing.assert_close(log_softplus(logits), exact.float())
    (slope,) = torch.autograd.grad(log_softplus(logits).sum(), logits)
    of_exact = torch.sigmoid(logits.detach().double()) / torch.log1p(torch.exp(logits.detach().double()))
    of_exact[0] = 1
    torch.testing.assert_close(slope, of_exact.float())


def test_mixture_draws_each_generator_and_keeps_them_apart():
    run = small("mgan")
    latent = run.draw_latent(3000, torch.Generator().manual_seed(0))
    chosen, noise = latent[:, :3], latent[:, 3:]
    assert torch.equal(chosen.sum(1), torch.ones(3000))
    assert set(chosen.unique().tolist()) == {0.0, 1.0}
    # Binomial: a third of 3000, with a standard deviation of 26.
    assert (chosen.sum(0) - 1000).abs().max() < 4 * 26
    assert -1 <= noise.min() < -0.99
    assert 0.99 < noise.max() < 1
    generator = run.players.generator.network.eval()
    same_noise = torch.cat([torch.eye(3), noise[:1].expand(3, -1)], 1)
    before = generator(same_noise)
    with torch.no_grad():
        # The columns of the second generator.
        generator.network[0].weight[:, noise.shape[1] : 2 * noise.shape[1]] += 1
    changed = (generator(same_noise) != before).flatten(1).any(1)
    assert changed.tolist() == [False, True, False]


def test_mgan_says_what_it_needs():
    with pytest.raises(UsageError, match="head 'generators'"):
        assembled("dcgan+mgan", image_size=16)


@pytest.mark.parametrize("models", ["dcgan+logan", "cdcgan+logan", "cdcgan+unrolled", "logan"])
def test_gradients_by_latents_and_weights_go_with_batchnorm_labels_and_spectral_norm(models):
    run = assembled(models, image_size=16, set=("*.base_channels=4",))
    result = train(run, 0.024)
    assert all(math.isfinite(value) for curve in result.curves.values() for value in curve)


def test_looking_ahead_moves_no_running_statistics():
    """Each of three calls of the discriminator moves them once: real and fake, and the one with the last weights."""
    ahead, plain = small("unrolled"), assembled("dcgan", image_size=16, set=SMALL["unrolled"])
    for run in (ahead, plain):
        run_step(run)
    counts = [
        {int(buffer) for name, buffer in states(run).items() if name.startswith("disc") and "tracked" in name}
        for run in (ahead, plain)
    ]
    assert counts == [{3}, {3}]


def test_no_step_ahead_is_the_non_saturating_loss():
    from ganzoo_plugins.variants.unrolled import generator_terms

    run = apart("unrolled")
    batch = due_calls(run)[1][1]
    generator, discriminator = run.players.generator, run.players["discriminator"]
    with in_training(run.players.together):
        found = generator_terms(generator, discriminator, batch, torch.tensor(0.01), steps=0)["fool"]
        ahead = generator_terms(generator, discriminator, batch, torch.tensor(0.01), steps=3)["fool"]
    torch.testing.assert_close(found, bce(discriminator.network(generator.network(batch.latent)), 1))
    assert ahead > found, "a discriminator that goes on learning is harder to fool"


@pytest.mark.parametrize(
    ("models", "passes"), [("bigan+non-saturating", 1), ("d2gan", 1), ("mgan", 1), ("unrolled", 1)]
)
def test_fakes_of_one_pass_serve_both_updates(models, passes):
    run = assembled(models, image_size=16, set=SMALL[models.partition("+")[0]])
    made = []
    run.players.generator.register_forward_hook(lambda *arguments: made.append(1))
    run_step(run)
    assert len(made) == passes
    assert [update.takes_fakes for update in run.updates] == [False, True]


def test_spec_of_each_is_that_of_its_paper():
    """Rates and batches that the modules name as the papers'."""
    recipes = {name: planned(name, batch_size=None)[0].recipe for name in ("bigan", "vaegan", "mgan", "unrolled")}
    assert recipes["bigan"].batch_size == 128
    assert recipes["vaegan"].optimizers["encoder"].kind == "rmsprop"
    assert recipes["vaegan"].optimizers["encoder"].learning_rate == 3e-4
    assert recipes["mgan"].options["generators"] == 10
    assert recipes["unrolled"].optimizers["generator"].learning_rate == 1e-4
    assert recipes["unrolled"].optimizers["discriminator"].learning_rate == 2e-4
    assert all(tuple(own.betas) == (0.5, 0.99) for own in recipes["unrolled"].optimizers.values())
