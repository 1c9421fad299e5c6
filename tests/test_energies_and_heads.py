"""Judges of the zoo that give energies, patches, packs or heads, and the losses and penalties that read them."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from test_training import REGISTRY, planned
from torch.nn.functional import relu, softplus

import ganzoo
from ganzoo.registry.signatures import by_name
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import due_calls, run_step

ROUNDING = {"rtol": 1e-3, "atol": 1e-6}
NARROW = ("*.base_channels=4",)
SGD = (
    "*.optimizer.kind=sgd",
    "*.discriminator_optimizer.kind=sgd",
    "*.optimizer.learning_rate=0.1",
    "*.discriminator_optimizer.learning_rate=0.1",
)


def assembled(models, settings=NARROW, **options):
    spec, dataset = planned(models, set=settings, **options)
    return assemble(spec, REGISTRY, dataset, share_fakes=False)


def record(kind, name):
    return REGISTRY.get(kind, name).record


def called(name, field, **given):
    """A function of a loss or a penalty with its default coefficients, all in float64."""
    part = record("losses", name)
    given = {key: torch.tensor(float(value)).double() for key, value in part.hyper.items()} | given
    return by_name(part, field, (*part.hyper, *part.state), ("discriminator",))(given)


def copies(run):
    """Copies of the generator's and the discriminator's networks, all weights open to gradients."""
    names = ("generator", "discriminator")
    return [copy.deepcopy(run.players[name].network).train().requires_grad_() for name in names]


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same_gradients(player, by_hand):
    reached = 0
    for (name, weight), other in zip(player.network.named_parameters(), by_hand.parameters(), strict=True):
        mine, theirs = (torch.zeros_like(w) if w.grad is None else w.grad for w in (weight, other))
        torch.testing.assert_close(mine, theirs, **ROUNDING, msg=lambda text, name=name: f"{name}: {text}")
        reached += bool(theirs.any())
    assert reached >= 3, "the gradient reaches the weights"


def updates_of(run):
    return {update.phase.name: update for update in run.updates}


# --- networks ---------------------------------------------------------------------------------------------------------

ARCHITECTURES = ("began", "ebgan", "dcgan-heads", "dcgan-heads-unlabelled", "patchgan", "patchgan-scales")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_claimed_size_and_channel_count_is_built(name):
    architecture = record("architectures", name)
    assert {16, 28, 32, 64} <= set(architecture.image_sizes)
    assert architecture.channels == (1, 3)
    for size, channels in itertools.product(architecture.image_sizes, architecture.channels):
        with torch.device("meta"):
            generator, discriminator = architecture.build((channels, size, size), architecture.latent, 10)
            labels = (torch.zeros(2, dtype=torch.int64),) if architecture.conditional else ()
            images = generator(torch.zeros(2, architecture.latent), *labels)
            judged = discriminator(images)
        assert images.shape == (2, channels, size, size)
        if architecture.gives == "patches":
            maps = judged if isinstance(judged, list) else [judged]
            assert all(each.shape[:2] == (2, 1) and min(each.shape[2:]) > 1 for each in maps)
            sides = [each.shape[2] for each in maps]
            assert len(sides) == (2 if name == "patchgan-scales" else 1)
            assert sides == sorted(sides, reverse=True)
        else:
            assert judged["logits"].shape == (2,)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sizes_that_cannot_be_built_are_one_line(name):
    with pytest.raises(ValueError, match="pixels, not") as error:
        record("architectures", name).build((3, 30, 30), 100, 10)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("halvings", "pixels"), [(1, 16), (2, 34), (3, 70)])
def test_a_patch_has_the_published_size(halvings, pixels):
    """By the gradient of one logit in the middle of a map."""
    _, discriminator = record("architectures", "patchgan").build(
        (1, 128, 128), 8, 0, halvings=halvings, base_channels=2
    )
    discriminator.eval()
    images = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = discriminator(images)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows = images.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == pixels


def test_too_many_halvings_are_refused():
    with pytest.raises(ValueError, match="16 pixels are too small for 3 halvings"):
        record("architectures", "patchgan").build((1, 16, 16), 8, 0, halvings=3)


def test_each_scale_sees_images_halved_by_the_mean_of_neighbours():
    _, discriminator = record("architectures", "patchgan-scales").build((1, 16, 16), 8, 0, base_channels=2)
    seen = []
    for each in discriminator.discriminators:
        each.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    images = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    discriminator(images)
    assert torch.equal(seen[0], images)
    assert seen[1].shape == (1, 1, 8, 8)
    assert seen[1][0, 0, 0, 0].item() == pytest.approx(images[0, 0, :2, :2].mean().item())
    assert seen[1][0, 0, 3, 5].item() == pytest.approx(images[0, 0, 5:8, 9:12].mean().item())


@pytest.mark.parametrize(("name", "power"), [("ebgan", 2), ("began", 1)])
def test_an_energy_is_the_mean_error_of_what_was_decoded(name, power):
    run = assembled(f"{name}+{name}", settings=())
    _, discriminator = copies(run)
    images = next(run.batches)[0]
    decoded = discriminator.decoder(discriminator.encoder(images))
    by_hand = np.mean(np.abs((decoded - images).detach().numpy()) ** power, axis=(1, 2, 3))
    energies = run.players["discriminator"](images)
    np.testing.assert_allclose(energies.detach().numpy(), by_hand, rtol=1e-4)
    heads = run.players["discriminator"].heads(images)
    assert heads["features"].shape[0] == len(images)


def test_a_latent_with_codes_is_a_category_codes_and_noise():
    draw = record("architectures", "dcgan-heads-unlabelled").draw_latent
    latent = draw(400, 20, torch.Generator().manual_seed(0), categories=5, continuous=2, base_channels=4)
    category, codes, noise = latent.split([5, 2, 13], 1)
    assert set(category.sum(1).tolist()) == {1.0}
    assert set(category.unique().tolist()) == {0.0, 1.0}
    assert (category.sum(0) > 40).all()
    assert -1 <= codes.min() < -0.95
    assert 0.95 < codes.max() < 1
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert noise.max() > 2
    plain = draw(400, 20, torch.Generator().manual_seed(0))
    assert torch.equal(plain, torch.randn(400, 20, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("options", [{"categories": 101}, {"categories": -1}, {"continuous": -3}], ids=str)
def test_codes_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match="a latent of 100 cannot hold"):
        record("architectures", "dcgan-heads").build((1, 16, 16), 100, 10, **options)


# --- energies ---------------------------------------------------------------------------------------------------------

REAL = np.array([0.02, 0.3, 0.11, 0.05])
FAKE = np.array([0.01, 0.4, 0.099, 0.2])


def test_ebgan_pushes_energies_of_fakes_up_to_the_margin():
    real, fake = (torch.tensor(energies, requires_grad=True) for energies in (REAL, FAKE))
    margin = torch.tensor(0.1, dtype=torch.float64)
    terms = called("ebgan", "discriminator", real=real, fake=fake, margin=margin)
    assert terms["real"].item() == pytest.approx(REAL.mean())
    assert terms["fake"].item() == pytest.approx((0.09 + 0.001) / 4)
    sum(terms.values()).backward()
    assert real.grad.tolist() == [0.25] * 4
    assert fake.grad.tolist() == [-0.25, 0, -0.25, 0]
    assert called("ebgan", "generator", fake=fake)["fool"].item() == pytest.approx(FAKE.mean())


def pull_away_by_pairs(codes):
    """The published formula, pair by pair."""
    n, total = len(codes), 0.0
    for i, j in itertools.permutations(range(n), 2):
        cosine = (codes[i] * codes[j]).sum() / (codes[i].square().sum().sqrt() * codes[j].square().sum().sqrt())
        total = total + cosine**2
    return total / (n * (n - 1))


def test_pull_away_is_the_mean_over_pairs():
    codes, twins = (numbers(5, 7).requires_grad_() for _ in range(2))
    value, by_hand = called("pull-away", "function", fake_heads={"features": codes}), pull_away_by_pairs(twins)
    torch.testing.assert_close(value, 0.1 * by_hand)
    value.backward()
    (0.1 * by_hand).backward()
    torch.testing.assert_close(codes.grad, twins.grad)


@pytest.mark.parametrize(("codes", "expected"), [(torch.eye(3), 0), (torch.ones(3, 4), 0.1)], ids=["apart", "same"])
def test_pull_away_of_extremes(codes, expected):
    assert called("pull-away", "function", fake_heads={"features": codes}).item() == pytest.approx(expected, abs=1e-6)


def test_the_generator_of_ebgan_is_pulled_apart_by_the_codes_of_its_own_fakes():
    run = assembled("ebgan")
    generator, discriminator = copies(run)
    batch = due_calls(run)[1][1]
    terms = updates_of(run)["generator"].gradients(batch)
    fakes = generator(batch.latent)
    codes = discriminator.encoder(fakes)
    energy = (discriminator.decoder(codes) - fakes).square().mean()
    (energy + 0.1 * pull_away_by_pairs(codes)).backward()
    assert terms["fool"].item() == pytest.approx(energy.item(), rel=1e-4)
    assert_same_gradients(run.players.generator, generator)


def test_three_steps_of_began_by_hand():
    """k, the measure of convergence and the discriminator's weights, under SGD so that a step is its gradient.

    The gain is large, so that k moves visibly.
    """
    run = assembled("began+began", ("*.channels=4", "*.gain=0.5", "*.gamma=0.9", *SGD))
    network, k, met = run.players["discriminator"].network, 0.0, []
    for _ in range(3):
        generator, discriminator = copies(run)
        calls = due_calls(run)
        terms = run.perform(calls)[0]
        batch = calls[0][1]
        fakes = generator(batch.latent).detach()
        of_real, of_fake = (
            (discriminator.decoder(discriminator.encoder(images)) - images).abs().mean()
            for images in (batch.real, fakes)
        )
        (of_real - k * of_fake).backward()
        for weight, after in zip(discriminator.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(after, weight - 0.1 * weight.grad, rtol=1e-4, atol=1e-6)
        imbalance = 0.9 * of_real.item() - of_fake.item()
        assert terms["convergence"].item() == pytest.approx(of_real.item() + abs(imbalance), rel=1e-4)
        k = min(max(k + 0.5 * imbalance, 0.0), 1.0)
        met.append(k)
        assert run.values.state["k"].item() == pytest.approx(k, rel=1e-4, abs=1e-6)
    assert len({0.0, *met, 1.0}) == 5, "k moves, and meets no bound"


@pytest.mark.parametrize(
    ("k", "real", "fake", "after"), [(0.5, 0.4, 0.1, 0.51), (0.995, 0.8, 0.2, 1), (0.005, 0.2, 0.8, 0)]
)
def test_k_stays_between_0_and_1(k, real, fake, after):
    energies = {"real": torch.full((3,), real), "fake": torch.full((3,), fake)}
    given = {"k": torch.tensor(k), "gain": torch.tensor(0.1), "gamma": torch.tensor(0.5)}
    terms = called("began", "discriminator", **energies, **given)
    assert terms.state["k"].item() == pytest.approx(after)
    assert terms.losses["fake"].item() == pytest.approx(-k * fake)


@pytest.mark.parametrize("models", ["dcgan+ebgan", "patchgan+began", "began+hinge", "ebgan+infogan"])
def test_what_a_judge_does_not_give_is_refused_in_one_line(models, invoke):
    outcome = invoke("bench", "--models", models, "--throughput-only", "--dry-run", "--device", "cpu")
    assert outcome.code == 2
    assert "needs a judge that gives" in outcome.error


def test_a_glob_leaves_out_what_gives_no_energy(invoke):
    asked = ("--models", "ebgan,lsg*", "--loss", "began", "--throughput-only", "--dry-run", "--device", "cpu")
    outcome = invoke("bench", *asked)
    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith("ganzoo: left out lsgan: loss 'began' needs a judge that gives energy, and that of ")
    assert "ebgan + began" in outcome.out


# --- heads ------------------------------------------------------------------------------------------------------------


def cross_entropy(logits, labels):
    """Plain: no softmax of torch."""
    chosen = [logits[row, label] - logits[row].exp().sum().log() for row, label in enumerate(labels.tolist())]
    return -torch.stack(chosen).mean()


def d2d_by_pairs(embeddings, proxies, labels, margin=0.98, temperature=0.5):
    """The published formula, pair by pair."""

    def cosine(a, b):
        return (a * b).sum() / (a.norm() * b.norm())

    total = 0.0
    for i, label in enumerate(labels.tolist()):
        positive = torch.exp(torch.clamp(cosine(embeddings[i], proxies[label]) - margin, max=0) / temperature)
        negatives = [
            torch.exp(torch.clamp(cosine(embeddings[i], embeddings[j]) - (1 - margin), min=0) / temperature)
            for j, other in enumerate(labels.tolist())
            if other != label
        ]
        total = total - torch.log(positive / (positive + sum(negatives)))
    return total / len(labels)


LABELS = torch.tensor([0, 2, 1, 2, 0])


def test_acgan_on_small_numbers():
    real, fake = numbers(5, 3, seed=1), numbers(5, 3, seed=2)
    fake_labels = LABELS.roll(1)
    heads = {"real_heads": {"classes": real}, "fake_heads": {"classes": fake}}
    given = {**heads, "labels": LABELS, "fake_labels": fake_labels}
    by_hand = cross_entropy(real, LABELS) + cross_entropy(fake, fake_labels)
    torch.testing.assert_close(called("acgan", "function", **given), by_hand)
    torch.testing.assert_close(called("acgan-generator", "function", **given), cross_entropy(fake, fake_labels))


@pytest.mark.parametrize("name", ["reacgan", "reacgan-generator"])
@pytest.mark.parametrize("labels", [LABELS, torch.zeros(5, dtype=torch.int64)], ids=["three classes", "one class"])
def test_d2d_cross_entropy_is_the_loop_over_pairs(name, labels):
    heads, twins = (
        {"embedding": numbers(5, 4).requires_grad_(), "proxies": numbers(3, 4, seed=5).requires_grad_()}
        for _ in range(2)
    )
    with torch.no_grad():  # one is nearer to its proxy than the margin
        for each in (heads, twins):
            each["embedding"][0] = 3 * each["proxies"][labels[0]]
    value = called(name, "function", real_heads=heads, fake_heads=heads, labels=labels, fake_labels=labels)
    by_hand = 0.5 * d2d_by_pairs(twins["embedding"], twins["proxies"], labels)
    torch.testing.assert_close(value, by_hand)
    value.backward()
    by_hand.backward()
    for key in heads:
        torch.testing.assert_close(heads[key].grad, twins[key].grad)


def test_infogan_codes_on_small_numbers():
    latent = torch.tensor([[0, 1, 0, 0.5, -0.2, 9], [1, 0, 0, -1, 0.7, 9]], dtype=torch.float64)
    category, continuous = numbers(2, 3), numbers(2, 2, seed=1)
    given = {"fake_heads": {"category": category, "continuous": continuous}, "latent": latent}
    for name in ("infogan-codes", "infogan-codes-generator"):
        terms = called(name, "function", **given)
        torch.testing.assert_close(terms["category"], cross_entropy(category, torch.tensor([1, 0])))
        distance = sum((latent[i, 3 + j] - continuous[i, j]) ** 2 for i in range(2) for j in range(2)) / 2
        torch.testing.assert_close(terms["continuous"], 0.1 * distance / 2)


def turned_by_hand(images):
    """The first quarter, turned by transposing and mirroring."""
    some = images[:2]
    quarter, third = some.transpose(2, 3).flip(2), some.transpose(2, 3).flip(3)
    return torch.cat([some, quarter, some.flip(2).flip(3), third]), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def rotation_by_hand(discriminator, images):
    some, turns = turned_by_hand(images)
    return cross_entropy(discriminator(some)["rotation"], turns)


def codes_by_hand(heads, latent):
    codes = (latent[:, 10:12] - heads["continuous"]).square().sum(1).mean() / 2
    return cross_entropy(heads["category"], latent[:, :10].argmax(1)) + 0.1 * codes


BY_HAND = {
    "acgan": lambda d, batch, real, fake: (
        cross_entropy(real["classes"], batch.labels) + cross_entropy(fake["classes"], batch.fake_labels)
    ),
    "acgan-generator": lambda d, batch, images, fake: cross_entropy(fake["classes"], batch.fake_labels),
    "reacgan": lambda d, batch, real, fake: 0.5 * d2d_by_pairs(real["embedding"], real["proxies"], batch.labels),
    "reacgan-generator": lambda d, batch, images, fake: (
        0.5 * d2d_by_pairs(fake["embedding"], fake["proxies"], batch.fake_labels)
    ),
    "ssgan": lambda d, batch, real, fake: rotation_by_hand(d, batch.real),
    "ssgan-generator": lambda d, batch, images, fake: 0.2 * rotation_by_hand(d, images),
    "infogan-codes": lambda d, batch, real, fake: codes_by_hand(fake, batch.latent),
    "infogan-codes-generator": lambda d, batch, images, fake: codes_by_hand(fake, batch.latent),
}
"""Of the discriminator, the batch, what it says of real images (the generator's: the fakes), and what of fakes."""


@pytest.mark.parametrize("name", BY_HAND)
def test_a_step_with_the_penalty_has_the_gradient_of_a_computation_by_hand(name):
    architecture = "dcgan-heads" if "acgan" in name else "dcgan-heads-unlabelled"
    run = assembled(f"{architecture}+hinge+{name}")
    generator, discriminator = copies(run)
    phase = "generator" if name.endswith("generator") else "discriminator"
    batch = {update.phase.name: batch for update, batch in due_calls(run)}[phase]
    labels = (batch.fake_labels,) if architecture == "dcgan-heads" else ()
    terms = updates_of(run)[phase].gradients(batch)
    assert any(term.startswith(name) for term in terms)
    images = generator(batch.latent, *labels)
    if phase == "discriminator":
        real, fake = discriminator(batch.real), discriminator(images.detach())
        total = relu(1 - real["logits"]).mean() + relu(1 + fake["logits"]).mean()
        penalty = BY_HAND[name](discriminator, batch, real, fake)
    else:
        fake = discriminator(images)
        total, penalty = -fake["logits"].mean(), BY_HAND[name](discriminator, batch, images, fake)
    own = sum(value for term, value in terms.items() if term.startswith(name))
    torch.testing.assert_close(own, penalty.detach(), rtol=1e-4, atol=1e-6)
    (total + penalty).backward()
    assert_same_gradients(run.players[phase], {"generator": generator, "discriminator": discriminator}[phase])


def test_all_heads_serve_one_loss_together():
    names = ("acgan", "reacgan", "ssgan", "infogan-codes")
    models = "+".join(("dcgan-heads", "non-saturating", *names))
    run = assembled(models, (*NARROW, "*.options.categories=3", "*.options.continuous=1"))
    terms = {name: value for update, batch in due_calls(run) for name, value in update(batch).items()}
    assert all(math.isfinite(term) for term in terms.values())
    assert {name.split(".")[0] for name in terms} >= {half for name in names for half in (name, f"{name}-generator")}


def test_labels_of_fakes_may_be_drawn():
    run = assembled("acgan", (*NARROW, "*.draw_labels=true"))
    batch = due_calls(run)[0][1]
    assert not torch.equal(batch.labels, batch.fake_labels)
    generator, discriminator = copies(run)
    terms = updates_of(run)["generator"].gradients(batch)
    judged = discriminator(generator(batch.latent, batch.fake_labels))["classes"]
    torch.testing.assert_close(terms["acgan-generator"], cross_entropy(judged, batch.fake_labels).detach(), **ROUNDING)


@pytest.mark.parametrize(
    ("models", "head"),
    [
        ("dcgan+hinge+acgan", "classes"),
        ("dcgan+hinge+reacgan-generator", "embedding"),
        ("dcgan-heads-unlabelled+hinge+acgan", "classes"),
        ("dcgan+hinge+ssgan", "rotation"),
        ("dcgan-heads+hinge+infogan-codes", "category"),
        ("dcgan+hinge+pull-away", "features"),
    ],
)
def test_a_head_that_is_lacking_is_one_line(models, head, invoke):
    outcome = invoke("bench", "--models", models, "--throughput-only", "--dry-run", "--device", "cpu")
    assert outcome.code == 2
    assert f"needs a judge with a head '{head}'; choose an architecture that has it" in outcome.error


# --- patches ----------------------------------------------------------------------------------------------------------


def entropy(real, fake):
    return {"real": softplus(-real), "fake": softplus(fake)}


def critic(real, fake):
    return {"real": -real, "fake": fake}


OF_PATCHES = {
    "minimax": (entropy, lambda real, fake: {"fool": -softplus(fake)}),
    "non-saturating": (entropy, lambda real, fake: {"fool": softplus(-fake)}),
    "softmax": (entropy, lambda real, fake: {"fool": softplus(-fake)}),
    "least-squares": (
        lambda real, fake: {"real": (real - 1) ** 2 / 2, "fake": fake**2 / 2},
        lambda real, fake: {"fool": (fake - 1) ** 2 / 2},
    ),
    "wasserstein": (critic, lambda real, fake: {"fool": -fake}),
    "wasserstein-gp": (critic, lambda real, fake: {"fool": -fake}),
    "hinge": (
        lambda real, fake: {"real": relu(1 - real), "fake": relu(1 + fake)},
        lambda real, fake: {"fool": -fake},
    ),
    "relativistic": (
        lambda real, fake: {"pair": softplus(fake - real)},
        lambda real, fake: {"fool": softplus(real - fake)},
    ),
}
"""What one patch costs."""


@pytest.mark.parametrize("loss", OF_PATCHES)
@pytest.mark.parametrize("architecture", ["patchgan", "patchgan-scales"])
def test_a_loss_of_patches_is_the_mean_over_a_map_and_the_sum_over_maps(architecture, loss):
    run = assembled(f"{architecture}+{loss}")
    calls = {update.phase.name: (update, batch) for update, batch in due_calls(run)}
    for phase, function in zip(("discriminator", "generator"), OF_PATCHES[loss], strict=True):
        update, batch = calls[phase]
        generator, discriminator = copies(run)
        terms = update.gradients(batch)
        fakes = generator(batch.latent)
        of_real, of_fake = (
            judged if isinstance(judged, list) else [judged]
            for judged in map(discriminator, (batch.real, fakes.detach() if phase == "discriminator" else fakes))
        )
        of_maps = [function(real, fake) for real, fake in zip(of_real, of_fake, strict=True)]
        by_hand = {name: sum(each[name].mean() for each in of_maps) for name in of_maps[0]}
        for name, value in by_hand.items():
            assert terms[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6)
        if terms.keys() == by_hand.keys():
            sum(by_hand.values()).backward()
            assert_same_gradients(run.players[phase], {"generator": generator, "discriminator": discriminator}[phase])


LOSSES_OF_LOGITS = [
    name
    for name in REGISTRY.names("losses")
    if isinstance(loss := record("losses", name), ganzoo.Loss) and loss.discriminator and loss.needs == "logits"
]


@pytest.mark.parametrize("loss", LOSSES_OF_LOGITS)
def test_every_loss_of_logits_trains_a_step_on_patches(loss):
    run = assembled(f"patchgan-scales+{loss}")
    before = copies(run)
    run_step(run)
    for name, old in zip(("generator", "discriminator"), before, strict=True):
        new = run.players[name].network
        assert all(weight.isfinite().all() for weight in new.parameters())
        assert any(not torch.equal(*pair) for pair in zip(old.parameters(), new.parameters(), strict=True))


# --- packs ------------------------------------------------------------------------------------------------------------


def packs_of(images, m):
    """m consecutive images each, one on top of another."""
    return torch.stack([torch.cat(list(images[first : first + m])) for first in range(0, len(images), m)])


@pytest.mark.parametrize(("architecture", "settings"), [("dcgan", NARROW), ("mlp", ())])
@pytest.mark.parametrize("m", [2, 4])
def test_packs_are_consecutive_images_and_have_one_logit_each(architecture, settings, m):
    run = assembled(f"{architecture}+hinge+r1+pac{m}", settings)
    judge, (update, batch) = run.players["discriminator"], due_calls(run)[0]
    generator, discriminator = copies(run)
    real = packs_of(batch.real, m).requires_grad_()
    fake = packs_of(generator(batch.latent).detach(), m)
    assert real.shape == (8 // m, m, 16, 16)
    logits = discriminator(real)
    assert logits.shape == (8 // m,)
    torch.testing.assert_close(judge(batch.real), logits)
    torch.testing.assert_close(judge(real), logits)
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    r1 = 5 * gradient.square().sum((1, 2, 3)).mean()
    terms = update.gradients(batch)
    assert terms["r1"].item() == pytest.approx(r1.item(), rel=1e-4), "the penalty is given packs"
    (relu(1 - logits).mean() + relu(1 + discriminator(fake)).mean() + r1).backward()
    assert_same_gradients(judge, discriminator)


def test_a_pack_is_an_option_and_a_name():
    by_name_, by_option = (
        planned(f"dcgan+hinge{name}", set=settings)[0].recipe for name, settings in (("+pac2", ()), ("", ("*.pack=2",)))
    )
    assert by_name_ == by_option
    assert by_name_.pack == 2
    assert "discriminator_shape" not in by_name_.options


def test_a_pack_widens_the_first_layer_alone():
    for name in ("dcgan", "mlp"):
        build = record("architectures", name).build
        alone, packed = (build((1, 16, 16), 8, 0, **more)[1] for more in ({}, {"discriminator_shape": (2, 16, 16)}))
        shapes = [[tuple(weight.shape) for weight in network.parameters()] for network in (alone, packed)]
        assert shapes[0][0][1] * 2 == shapes[1][0][1]
        assert shapes[0][1:] == shapes[1][1:]


LABELLED = """
import ganzoo

@ganzoo.hookimpl
def ganzoo_losses():
    yield ganzoo.Loss.of_logits(
        "labelled",
        discriminator=lambda real, fake, labels: {"pair": ((fake - real) * (1 + labels)).mean()},
        generator=lambda fake: {"fool": -fake.mean()},
    )
"""


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ("dcgan+labelled", None),
        (
            "dcgan+labelled+pac2",
            "labelled' asks for labels, which need one logit for each image; the judge gives (64,)",
        ),
        ("patchgan+labelled", "labelled' asks for labels, which need one logit for each image"),
        ("dcgan+hinge+pac3", "batch_size 128 cannot be divided into packs of 3 images; choose a multiple with --batch"),
        ("cdcgan+hinge+pac2", "'cdcgan' builds no discriminator for packs of images"),
    ],
)
def test_packs_that_do_not_fit_and_labels_of_packs_or_patches_are_refused(models, reason, tmp_path, invoke):
    (tmp_path / "labelled.py").write_text(LABELLED)
    asked = ("--models", models, "--plugin", tmp_path / "labelled.py", "--throughput-only", "--dry-run")
    outcome = invoke("bench", *asked, "--device", "cpu")
    assert outcome.code == (2 if reason else 0), outcome.err
    if reason:
        assert reason in outcome.error
