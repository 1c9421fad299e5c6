"""Augmentations of the zoo: values by other formulas, derivatives, what adapts by hand, and the command line."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from conftest import CommandLine
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from test_checkpoint import course, trained
from test_step_modes import Recorder
from test_training import REGISTRY, assembled, planned

from ganzoo.training.cuda_graph import WARMUP_STEPS, GraphedStep
from ganzoo.training.loop import run_step
from ganzoo_plugins.augmentations import ada, diffaug, overfitting, pixels
from ganzoo_plugins.augmentations.apa import deceive
from ganzoo_plugins.augmentations.one_logit import one_logit
from ganzoo_plugins.variants import diffusion_gan

ONE, NONE = torch.tensor(1.0), torch.tensor(0.0)
STRENGTHS = {name: torch.tensor(v) for name, v in REGISTRY.get("losses", "diffaug").record.hyper.items()}


def whole_pipeline(images, p=0.8):
    return ada.pipeline(images, torch.tensor(p), ONE, ONE, ONE)


OF_IMAGES = {
    "diffaug": lambda images: diffaug.diffaug(images, **STRENGTHS),
    "ada": whole_pipeline,
    "apa": lambda images: deceive(images, True, torch.full_like(images, 0.3), torch.tensor(0.5)),
    "diffusion": lambda images: diffusion_gan.diffuse(images, torch.tensor(500.0), torch.tensor(0.05))[0],
}
"""Each augmentation at some strength, as a function of images."""

each = pytest.mark.parametrize("name", OF_IMAGES)
each_colour = pytest.mark.parametrize("channels", [1, 3])


def pictures(n=4, channels=3, height=8, width=8, dtype=torch.float32):
    return torch.rand(n, channels, height, width, dtype=dtype, generator=torch.Generator().manual_seed(1)) * 2 - 1


def scripted(monkeypatch, uniform, normal=0.0):
    """Let torch draw these numbers for every image; of a pair the second is 0.15 larger."""

    def constant(value):
        def draw(*shape, device=None):
            shape = shape[0] if isinstance(shape[0], tuple) else shape
            drawn = torch.full(shape, value)
            return drawn + 0.15 * torch.arange(2).view(2, 1, 1, 1) if len(shape) == 4 and shape[0] == 2 else drawn

        return draw

    monkeypatch.setattr(torch, "rand", constant(uniform))
    monkeypatch.setattr(torch, "randn", constant(normal))


def within_four_deviations(count, n, p):
    return abs(count - n * p) < 4 * math.sqrt(n * p * (1 - p))


# --- what holds for all of them ---------------------------------------------------------------------------------------


@each
@each_colour
def test_keeps_shape_and_changes_images(name, channels):
    images = pictures(channels=channels, height=9, width=12)
    torch.manual_seed(0)
    augmented = OF_IMAGES[name](images)
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.float32
    assert torch.isfinite(augmented).all()
    assert not torch.equal(augmented, images)


@each
@each_colour
def test_is_twice_differentiable(name, channels):
    images = pictures(2, channels, 4, 5, torch.float64).requires_grad_()

    def seeded(images):
        torch.manual_seed(3)
        # Squared, so that the second derivative is not 0 for what is linear in the images.
        return OF_IMAGES[name](images).square().sum()

    assert torch.autograd.gradcheck(seeded, images, atol=1e-4)
    assert torch.autograd.gradgradcheck(seeded, images, atol=1e-4)


@each
def test_draws_the_same_random_numbers_at_every_strength(name):
    functions = {
        "diffaug": lambda images, s: diffaug.diffaug(images, **{name: s * v for name, v in STRENGTHS.items()}),
        "ada": lambda images, s: whole_pipeline(images, s),
        "apa": lambda images, s: deceive(images, True, images, torch.tensor(s)),
        "diffusion": lambda images, s: diffusion_gan.diffuse(images, torch.tensor(10.0 + 990 * s), torch.tensor(0.05)),
    }
    states = []
    for strength in (0.0, 0.4, 1.0):
        torch.manual_seed(0)
        functions[name](pictures(), strength)
        states.append(torch.get_rng_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("models", ["mlp+hinge+diffaug", "mlp+hinge+ada", "diffusion-gan"])
def test_real_and_fake_are_treated_alike(models):
    run = assembled(models, image_size=16)
    augmenting = run.players["discriminator"].augment
    strong(run)
    results = []
    for is_real in (True, False, None):
        torch.manual_seed(0)
        results.append(augmenting(pictures(channels=1, height=16, width=16), None, is_real))
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            assert torch.equal(first, other)


@pytest.mark.parametrize("models", ["mlp+hinge+diffaug", "mlp+hinge+ada", "diffusion-gan"])
def test_judges_see_images_as_they_are_outside_of_training(models):
    run = assembled(models, image_size=16)
    strong(run)
    judge = run.players["discriminator"]
    images = pictures(channels=1, height=16, width=16)
    with torch.no_grad():
        augmented = judge(images)
        judge.eval()
        assert torch.equal(judge(images), judge.network(images))
        assert torch.equal(judge.plain(images), judge.network(images))
        assert not torch.allclose(augmented, judge(images), atol=1e-4)


def strong(run):
    for name, value in {"ada.p": 0.9, "diffusion.T": 900.0}.items():
        if name in run.values.state:
            run.values.state[name].fill_(value)


# --- look-ups of pixels -----------------------------------------------------------------------------------------------


def test_places_are_reflected_as_numpy_pads():
    for size in (1, 2, 5):
        padded = np.pad(np.arange(size), 9, mode="reflect") if size > 1 else np.zeros(19)
        places = torch.arange(-9, size + 9)
        assert pixels.reflected(places, size).tolist() == padded.tolist()


def test_points_between_pixels_are_scipys():
    images = pictures(2, 3, 7, 5)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, 7, 5, generator=generator) * 30 - 15 for _ in range(2))
    expected = np.stack(
        [
            np.stack([map_coordinates(channel, (b, a), order=1, mode="mirror") for channel in image])
            for image, a, b in zip(images.numpy(), x.numpy(), y.numpy(), strict=True)
        ]
    )
    np.testing.assert_allclose(pixels.looked_up(images, x, y).numpy(), expected, atol=1e-5)


# --- DiffAugment ------------------------------------------------------------------------------------------------------


def test_diffaug_of_strength_0_leaves_images_as_they_are():
    images = pictures()
    torch.testing.assert_close(diffaug.diffaug(images, *[NONE] * 5), images)


@each_colour
def test_diffaug_by_hand(channels, monkeypatch):
    """Every random number is 0.75: 0.25 brighter, half of the colour's strength more, moved by 2 of 32, cut at 24."""
    images = pictures(3, channels, 32, 32)
    scripted(monkeypatch, 0.75)
    changed = images.double().numpy() + 0.25
    grey = changed.mean(1, keepdims=True)
    changed = 1.5 * changed - 0.5 * grey
    changed = 1.25 * changed - 0.25 * changed.mean((1, 2, 3), keepdims=True)
    expected = np.zeros_like(changed)
    expected[:, :, :-2, :-2] = changed[:, :, 2:, 2:]
    expected[:, :, 16:, 16:] = 0
    np.testing.assert_allclose(diffaug.diffaug(images, **STRENGTHS).numpy(), expected, atol=1e-5)


def test_translation_moves_by_up_to_an_eighth_each_way():
    dot = torch.zeros(3000, 1, 16, 16)
    dot[:, :, 8, 6] = 1
    torch.manual_seed(0)
    found = {tuple(place) for place in diffaug.translated(dot, torch.tensor(1 / 8)).nonzero()[:, 2:].tolist()}
    assert found == set(itertools.product(range(6, 11), range(4, 9)))


def test_cutout_hides_at_most_a_square_of_half_the_size():
    torch.manual_seed(0)
    hidden = diffaug.cut_out(torch.ones(3000, 1, 16, 16), torch.tensor(0.5)) == 0
    rows, columns = hidden.any(3).sum(2), hidden.any(2).sum(2)
    assert torch.equal(hidden.sum((1, 2, 3)), (rows * columns).flatten())
    assert set(rows.flatten().tolist()) == set(columns.flatten().tolist()) == {4, 5, 6, 7, 8}
    # The middle is anywhere from 0 to 16, and from 4 to 12 nothing lies outside.
    assert within_four_deviations((rows == 8).sum().item(), 3000, 9 / 17)


# --- ADA --------------------------------------------------------------------------------------------------------------


def test_ada_of_probability_0_leaves_images_as_they_are():
    torch.testing.assert_close(whole_pipeline(pictures(), 0.0), pictures(), rtol=0, atol=1e-5)


def scaling(x, y):
    return np.diag([x, y, 1.0])


def turning(angle):
    return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])


def shifting(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


@pytest.mark.parametrize(("uniform", "normal"), [(0.3, 0.5), (0.8, -0.7)])
def test_moves_of_ada_are_the_product_of_its_matrices(uniform, normal, monkeypatch):
    """Homogeneous matrices in the order of appendix B, inverted by NumPy, and SciPy's bilinear interpolation."""
    height, width = 12, 16
    images = pictures(3, 2, height, width)
    scripted(monkeypatch, uniform, normal)
    even, size = 2 * uniform - 1, np.exp2(0.2 * normal)
    forward = [
        scaling(-1 if even < 0 else 1, 1),
        turning(math.pi / 2 * math.floor(2 * even)),
        shifting(round(even / 8 * width), round((even + 0.3) / 8 * height)),
        scaling(size, size),
        turning(math.pi * even),
        scaling(size, 1 / size),
        turning(math.pi * even),
        shifting(normal / 8 * width, (normal + 0.15) / 8 * height),
    ]
    inverse = np.linalg.inv(np.linalg.multi_dot(forward[::-1]))
    y, x = np.mgrid[:height, :width]
    points = np.stack([x - (width - 1) / 2, y - (height - 1) / 2, np.ones_like(x)]).reshape(3, -1)
    x, y, _ = (inverse @ points).reshape(3, height, width)
    places = (y + (height - 1) / 2, x + (width - 1) / 2)
    expected = [
        [map_coordinates(channel, places, order=1, mode="mirror") for channel in image] for image in images.numpy()
    ]
    np.testing.assert_allclose(ada.moved(images, ONE, ONE).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("uniform", "normal"), [(0.3, 0.5), (0.8, -0.7)])
@each_colour
def test_colours_of_ada_are_the_product_of_its_matrices(channels, uniform, normal, monkeypatch):
    """Brightness, contrast, luma flip, hue and saturation as matrices about the grey axis v; grey is equal RGB."""
    images = pictures(channels=channels)
    scripted(monkeypatch, uniform, normal)
    v = np.ones(3) / math.sqrt(3)
    grey = np.outer(v, v)
    even = 2 * uniform - 1
    colour = (
        (grey + np.exp2(normal) * (np.eye(3) - grey))
        @ Rotation.from_rotvec(math.pi * even * v).as_matrix()
        @ (np.eye(3) - 2 * grey * (even < 0))
        * np.exp2(0.5 * normal)
    )
    expected = np.einsum("ij,njhw->nihw", colour, images.expand(-1, 3, -1, -1).numpy() + 0.2 * normal)
    np.testing.assert_allclose(ada.recoloured(images, ONE).numpy(), expected[:, :channels], atol=1e-5)


@pytest.mark.parametrize(
    ("group", "unchanged"),
    [
        # A flip with p/2, a quarter turn with 3p/4, a shift with p but for the 1/4² that rounds to 0.
        ("blit", (1 - 0.25) * (1 - 0.375) * (1 - 0.5 * (1 - 1 / 16))),
        # Scale, stretch, a shift, and one or two rotations, each of the four with p.
        ("geometry", 0.5**4),
        # Four transforms with p, and a flip of luma with p/2.
        ("color", 0.5**4 * 0.75),
    ],
)
def test_each_transform_of_ada_is_applied_with_probability_p(group, unchanged):
    n = 3000
    images = pictures(1, 3, 16, 16).expand(n, -1, -1, -1)
    strengths = {name: ONE if name == group else NONE for name in ("blit", "geometry", "color")}
    torch.manual_seed(0)
    changed = torch.cat([ada.pipeline(part, torch.tensor(0.5), **strengths) for part in images.split(500)])
    same = ((changed - images).abs().amax((1, 2, 3)) < 1e-4).sum().item()
    assert within_four_deviations(same, n, unchanged)


def test_two_way_heads_and_maps_are_one_vector():
    assert one_logit(torch.tensor([[1.0, 3.0], [2.0, -1.0]])).tolist() == [2.0, -3.0]
    assert one_logit([torch.ones(2, 1, 2, 2), torch.zeros(2, 3)]).tolist() == [1.0] * 8 + [0.0] * 6


def adapted(signs, target=0.6, kimg=0.1, batch=10):
    """p, and the heuristic, after each minibatch of logits with these mean signs."""
    state = {name: torch.tensor(value) for name, value in {"p": 0.0, **overfitting.HEURISTIC}.items()}
    course = []
    for index, share in enumerate(signs, start=1):
        positive = round(batch * (1 + share) / 2)
        logits = torch.tensor([1.5] * positive + [-0.5] * (batch - positive))
        seen = torch.tensor(index * batch)
        state = overfitting.adapt(logits, seen, **state, target=torch.tensor(target), kimg=torch.tensor(kimg))
        course.append((state["p"].item(), state["r_t"].item()))
    return course


def test_p_follows_the_heuristic_every_fourth_minibatch():
    """40 images between adjustments and 100 from 0 to 1: steps of 0.4 up, to 1 at most, and down, to 0 at least."""
    signs = [1, 1, 0.2, 0.6, *[1] * 8, *[-1, 1, 1, 1], *[0.2] * 12]
    p = [0.0] * 3 + [0.4] * 4 + [0.8] * 4 + [1.0] * 4 + [0.6] * 4 + [0.2] * 4 + [0.0] * 4 + [0.0]
    heuristic = [0.0] * 3 + [0.7] * 4 + [1.0] * 8 + [0.5] * 4 + [0.2] * 9
    found = adapted(signs)
    assert [value for value, _ in found] == pytest.approx(p[: len(signs)], abs=1e-6)
    assert [value for _, value in found] == pytest.approx(heuristic[: len(signs)], abs=1e-6)


def test_p_takes_kimg_from_0_to_1():
    course = [p for p, _ in adapted([1] * 200, kimg=1.0, batch=10)]
    assert course[-1] == 1.0
    assert course.index(1.0) == 99
    assert course[49] == pytest.approx(0.48)


@pytest.mark.parametrize(
    ("models", "name", "value"),
    [
        ("mlp+hinge+ada", "ada.p", lambda p: p),
        ("mlp+hinge+apa", "apa.p", lambda p: p),
        ("diffusion-gan", "diffusion.T", lambda p: 10 + 990 * p),
    ],
)
def test_state_follows_what_the_judge_says_of_real_images(models, name, value):
    augmentation = name.partition(".")[0]
    run = assembled(models, image_size=16, set=(f"*.{augmentation}.kimg=0.1", f"*.{augmentation}.target=0.1"))
    said = []
    run.players["discriminator"].network.register_forward_hook(lambda module, given, logits: said.append(logits))
    p, signs = 0.0, []
    for step in range(1, 17):
        said.clear()
        run_step(run)
        # The judge sees real images, fakes, and fakes again in the generator's phase.
        signs.append(np.sign(said[0].detach().numpy()).mean())
        assert len(said) == 3
        if step % 4 == 0:
            heuristic = float(np.mean(signs[-4:]))
            p = min(max(p + math.copysign(0.32, heuristic - 0.1), 0.0), 1.0)
            assert run.values.state[f"{augmentation}.r_t"].item() == pytest.approx(heuristic, abs=1e-6)
        assert run.values.state[name].item() == pytest.approx(value(p), abs=1e-3)
        assert run.values.state[f"{augmentation}.images_seen"].item() == 8 * step
    assert p > 0


STATEFUL = {
    "mlp+hinge+ada+lecam+bcr": "ada.p",
    "mlp+hinge+apa+r1": "apa.p",
    "diffusion-gan+zcr+zcr-generator": "diffusion.T",
}


@pytest.mark.parametrize("models", STATEFUL)
def test_a_run_that_goes_on_is_bit_for_bit_the_one_that_was_not_stopped(models):
    name = STATEFUL[models]
    augmentation = name.partition(".")[0]
    fast = (f"*.{augmentation}.kimg=0.1", f"*.{augmentation}.target=-2")
    spec, dataset = planned(models, image_size=16, throughput_only=False, kimg=0.1, set=fast)
    whole = trained(spec, dataset)
    part = trained(spec, dataset, leave_after=6)
    assert part[0][f"state/{name}"] > 0.1, "it is at work when it is stopped"
    torch.manual_seed(12345)
    assert course(*trained(spec, dataset, saved=part)) == course(*whole)


@pytest.mark.parametrize("models", ["mlp+hinge+ada", "diffusion-gan"])
def test_a_replayed_step_does_what_the_eager_one_does(models):
    fast = (f"*.{models.rpartition('+')[2].removesuffix('-gan')}.kimg=0.1",)
    courses = []
    for graphed in (False, True):
        run = assembled(models, image_size=16, set=fast)
        if graphed:
            run.perform = GraphedStep(Recorder(run))
        torch.manual_seed(0)
        for _ in range(WARMUP_STEPS + 10):
            run_step(run)
        weights = [weight.detach() for player in run.players.values() for weight in player.parameters()]
        courses.append([*weights, *run.values.state.values()])
    for eager, replayed in zip(*courses, strict=True):
        assert torch.equal(eager, replayed)


# --- APA --------------------------------------------------------------------------------------------------------------


def test_apa_puts_fakes_in_the_place_of_a_share_of_the_real_images():
    n = 3000
    real, fake = torch.rand(n, 1, 2, 2), -torch.rand(n, 1, 2, 2)
    torch.manual_seed(0)
    mixed = deceive(real, True, fake, torch.tensor(0.3))
    swapped = (mixed == fake).all(-1).all(-1).flatten()
    assert torch.equal(mixed, torch.where(swapped[:, None, None, None], fake, real))
    assert within_four_deviations(swapped.sum().item(), n, 0.3)
    for is_real in (False, None):
        assert deceive(real, is_real, fake, ONE) is real


@pytest.mark.parametrize("models", ["dcgan+hinge+apa", "cdcgan+hinge+apa", "dcgan+hinge+apa+r1"])
def test_apa_deceives_with_the_fakes_that_there_are(models):
    """With p = 1 the judge is given the same images twice; the generator makes them once."""
    run = assembled(models, image_size=16)
    run.values.state["apa.p"].fill_(1.0)
    judged, made = [], []
    run.players["discriminator"].network.register_forward_pre_hook(lambda module, given: judged.append(given[0]))
    run.players.generator.network.register_forward_pre_hook(lambda module, given: made.append(given[0]))
    run_step(run)
    assert torch.equal(judged[0], judged[1])
    assert len(made) == 1


# --- Diffusion-GAN ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [10, 333, 1000])
def test_a_diffusion_has_the_variances_of_its_length(steps):
    kept = diffusion_gan.signal_left(torch.tensor(float(steps)))
    expected = np.cumprod(1 - np.linspace(1e-4, 0.02, steps))
    np.testing.assert_allclose(kept[: steps + 1].numpy(), [1, *expected], rtol=1e-3)


def test_timesteps_are_drawn_in_proportion_to_themselves():
    shares = (torch.arange(5000) + 0.5) / 5000
    found = diffusion_gan.timesteps(shares, torch.tensor(20.0))
    distribution = np.cumsum(np.arange(1, 21) / 210)
    assert found.tolist() == (np.searchsorted(distribution, shares.numpy()) + 1).tolist()
    ends = diffusion_gan.timesteps(torch.tensor([0.0, 1 - 2**-24]), torch.tensor(1000.0))
    assert ends.tolist() == [1, 1000]


def test_half_of_the_images_stay_and_the_others_are_diffused_as_their_timestep_says():
    n = 3000
    images = torch.full((n, 1, 4, 4), 0.8)
    torch.manual_seed(0)
    diffused, t = diffusion_gan.diffuse(images, torch.tensor(99.6), torch.tensor(0.05))
    stayed = t == 0
    assert within_four_deviations(stayed.sum().item(), n, 0.5)
    assert torch.equal(diffused[stayed], images[stayed])
    assert t.dtype == torch.float32
    assert t.max() == 100
    kept = np.concatenate([[1], np.cumprod(1 - np.linspace(1e-4, 0.02, 100))])[t[~stayed].long().numpy()]
    kept = torch.tensor(kept, dtype=torch.float32).view(-1, 1, 1, 1)
    noise = (diffused[~stayed] - kept.sqrt() * 0.8) / ((1 - kept).sqrt() * 0.05)
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)


def test_the_judge_is_told_the_timestep():
    run = assembled("diffusion-gan", image_size=16)
    strong(run)
    given = []
    network = run.players["discriminator"].network
    network.register_forward_pre_hook(lambda module, inputs: given.append(inputs))
    run_step(run)
    for images, t in given:
        assert t.shape == (len(images),)
    assert len({tuple(t.tolist()) for _, t in given}) == 3
    images = pictures(channels=1, height=16, width=16)
    network.eval()
    early, late = network(images, torch.full((4,), 3.0)), network(images, torch.full((4,), 700.0))
    assert not torch.allclose(early, late)
    # The place of the timestep is no place for labels.
    assert torch.equal(network(images, torch.tensor([1, 2, 3, 4])), network(images))


# --- the command line -------------------------------------------------------------------------------------------------


def bench(models, *more):
    return ("bench", "--models", models, "--dataset", "digits", "--image-size", "16", "--device", "cpu", *more)


TRAINED = {"mlp+hinge+ada": "state/ada.p", "sngan+ada": "state/ada.r_t", "dcgan+hinge+r1+diffaug": "discriminator/r1"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A bench of all of them, its records by label."""
    run = CommandLine(tmp_path_factory.mktemp("augmented"))
    budget = ("--kimg", "0.1", "--batch-size", "8", "--fakes", "100", "--throughput-seconds", "0.1")
    fast = ("--set", "mlp+hinge+ada.ada.kimg=0.1", "--set", "mlp+hinge+ada.ada.target=-2")
    done = run(*bench(",".join(TRAINED), *budget, *fast, "--quiet", "--json"))
    assert done.returncode == 0, done.stderr
    return {record["spec"]["variant"]: record for record in json.loads(done.stdout)}


@pytest.mark.parametrize("models", TRAINED)
def test_names_train_through_the_command_line(models, finished):
    record = finished[models]
    assert record["status"] == "ok"
    curve = record["training"]["curves"][TRAINED[models]]
    assert len(set(curve)) > 1


@pytest.mark.parametrize("models", ["mlp+softmax+ada", "cdcgan+diffaug+bcr+zcr", "diffusion-gan+lecam"])
def test_names_are_planned(models, invoke):
    outcome = invoke(*bench(models, "--dry-run"))
    assert outcome.code == 0, outcome.err
    assert models in outcome.out


REFUSED = {
    "mlp+hinge+ada+apa": "augmentations ada and apa both adapt to what the judge says; give one of them",
    "diffusion-gan+ada": "augmentations diffusion and ada both adapt to what the judge says; give one of them",
    "mlp+hinge+diffusion": "the discriminator is given 3 inputs, and its forward takes 1",
}


@pytest.mark.parametrize("models", REFUSED)
def test_refused_in_one_line(models, invoke):
    outcome = invoke(*bench(models, "--dry-run"))
    assert outcome.code == 2
    assert REFUSED[models] in outcome.error


CROPPED = """
import ganzoo

@ganzoo.hookimpl
def ganzoo_losses():
    yield ganzoo.Augmentation("cropped", lambda images: images[:, :, 1:])
"""


@pytest.mark.parametrize(
    ("augmentation", "found"),
    [
        ("diffaug", "diffaug would change nothing, since no judge is given images in training; leave it out"),
        ("ada", "augmentation 'ada' adapts to what the judge says of real images, and the phase has 0 calls with"),
    ],
)
def test_an_augmentation_is_refused_where_no_judge_sees_images(augmentation, found, invoke):
    outcome = invoke(*bench(f"aae+{augmentation}", "--dry-run"))
    assert outcome.code == 2
    assert found in outcome.error


def test_an_augmentation_that_changes_the_shape_is_refused(invoke, tmp_path):
    (tmp_path / "cropped.py").write_text(CROPPED)
    outcome = invoke(*bench("mlp+hinge+diffaug+cropped", "--plugin", tmp_path / "cropped.py", "--dry-run"))
    assert outcome.code == 2
    assert "augmentation 'cropped' gave (" in outcome.error
    assert "it must keep their shape" in outcome.error
