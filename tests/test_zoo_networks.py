"""The networks of the zoo, built by the hooks of their plugins: shapes, ranges, initialization and options."""

from __future__ import annotations

import importlib
from itertools import pairwise
from math import prod

import pytest
import torch
from torch import nn

import ganzoo

PLUGINS = [
    "mlp",
    "dcgan",
    "dcgan_dense",
    "cnn_pool",
    "deconv_mlp",
    "mlp_conv",
    "sngan",
    "r3gan",
    "cdcgan",
    "infogan",
    "diffusion_gan",
]
RECIPES = ["conv_sgd", "wgan", "wgan_gp", "lsgan", "hinge"]
CLASSES = 10
SIZES = (8, 16, 28, 32, 48, 64, 128)
"""Sizes to try for an architecture that claims any size."""

NARROW = {
    "mlp": {"generator_widths": (64, 64), "discriminator_widths": (64, 64)},
    "dcgan": {"base_channels": 8},
    "dcgan-dense": {"widths": (8, 16, 32, 64), "dense": 128},
    "cnn-pool": {"width": 32, "dense": 128, "start_channels": 64, "base_channels": 8},
    "deconv-mlp": {"channels": (64, 32, 16), "generator_widths": (32, 64, 128)},
    "mlp-conv": {"generator_widths": (64, 64), "base_channels": 8},
    "sngan": {"base_channels": 8},
    "r3gan": {"base_channels": 4},
    "cdcgan": {"base_channels": 8},
    "infogan": {"base_channels": 8, "dense": 128},
    "diffusion-gan": {"base_channels": 8},
}
"""Options for the largest claimed size of each architecture, so that the tests take seconds."""
NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def offered(hook, names):
    """The records that the plugins `names` yield from `hook`, by name."""
    modules = (importlib.import_module(f"ganzoo_plugins.{name}") for name in names)
    return {record.name: record for module in modules for record in getattr(module, hook, lambda: ())()}


ARCHITECTURES = offered("ganzoo_architectures", [f"variants.{name}" for name in PLUGINS])
VARIANTS = offered("ganzoo_variants", [f"variants.{name}" for name in PLUGINS + RECIPES])
LOSSES = offered("ganzoo_losses", ["losses.of_logits", "losses.penalties", "variants.infogan"])


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(name, size=32, channels=3, /, **options):
    torch.manual_seed(0)
    architecture = ARCHITECTURES[name]
    return architecture.build((channels, size, size), architecture.latent, CLASSES, **options)


def inputs(name, n=2):
    """A latent and, for a conditional architecture, labels for the networks of `name`."""
    architecture = ARCHITECTURES[name]
    rng = torch.Generator().manual_seed(0)
    if architecture.draw_latent:
        latent = architecture.draw_latent(n, architecture.latent, rng)
    else:
        latent = torch.randn(n, architecture.latent, generator=rng)
    return latent, (torch.arange(n) % CLASSES,) if architecture.conditional else ()


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_zoo_is_complete():
    assert sorted(ARCHITECTURES) == sorted(name.replace("_", "-") for name in PLUGINS)
    assert sorted(VARIANTS) == sorted(name.replace("_", "-") for name in PLUGINS + RECIPES)


@pytest.mark.parametrize("name", [name.replace("_", "-") for name in PLUGINS + RECIPES])
def test_variant_refers_to_existing_parts_options_and_coefficients(name):
    variant = VARIANTS[name]
    architecture, loss = ARCHITECTURES[variant.architecture], LOSSES[variant.loss]
    assert variant.options.keys() <= architecture.options.keys()
    coefficients = set(loss.hyper)
    for penalty in (*loss.penalties, *variant.penalties):
        coefficients |= {f"{penalty}.{key}" for key in LOSSES[penalty].hyper}
    assert variant.hyper.keys() | variant.schedules.keys() <= coefficients
    for record in (variant, architecture, loss):
        assert record.summary
        assert "arXiv:" in record.reference
    assert variant.expect_learning or variant.reason


CLAIMS = [
    (name, size, channels)
    for name, architecture in ARCHITECTURES.items()
    for size in architecture.image_sizes or SIZES
    for channels in architecture.channels
]
"""Every architecture, size and number of channels that the zoo claims to build."""


@pytest.mark.parametrize(("name", "size", "channels"), CLAIMS)
def test_every_claimed_size_and_channel_count_builds_and_has_gradients(name, size, channels):
    """Shapes, ranges and a finite gradient for every weight, of a generator and a discriminator in training mode."""
    architecture = ARCHITECTURES[name]
    largest = max(architecture.image_sizes or SIZES)
    generator, discriminator = build(name, size, channels, **(NARROW[name] if size == largest else {}))
    latent, labels = inputs(name)
    images = generator(latent, *labels)
    assert images.shape == (2, channels, size, size)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert images.std() > 0.01
    assert (images.abs() > 0.99).float().mean() < 0.1, "the tanh is saturated from the start"

    logits = discriminator(images, *labels)
    assert logits.shape == ((2,) if architecture.logits == 1 else (2, 2))
    assert logits.isfinite().all()
    logits.square().sum().backward()
    for network in (generator, discriminator):
        for key, parameter in network.named_parameters():
            if key.startswith("code_head."):
                continue
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key

    with torch.no_grad():
        discriminator.eval()
        features = discriminator.features(images, *labels)
        head = discriminator.head(features, *labels)
        assert features.ndim == 2
        torch.testing.assert_close(head.reshape(logits.shape), discriminator(images, *labels))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if ARCHITECTURES[name].image_sizes])
def test_claimed_sizes_cover_the_datasets(name):
    assert {8, 16, 28, 32, 64} <= set(ARCHITECTURES[name].image_sizes)
    assert ARCHITECTURES[name].channels == (1, 3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_claimed_size_is_built_in_full_width(name):
    for size in ARCHITECTURES[name].image_sizes or SIZES:
        with torch.device("meta"):
            generator, discriminator = build(name, size)
            latent, labels = torch.empty(2, ARCHITECTURES[name].latent), ()
            if ARCHITECTURES[name].conditional:
                labels = (torch.empty(2, dtype=torch.int64),)
            images = generator(latent, *labels)
            assert images.shape == (2, 3, size, size)
            assert len(discriminator(images, *labels)) == 2
        assert all(p.is_meta for network in (generator, discriminator) for p in network.parameters())


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "mlp"])
@pytest.mark.parametrize("shape", [(3, 2, 2), (3, 32, 30), (3, 30, 32)], ids=str)
def test_unsupported_sizes_are_one_error_line(name, shape):
    if name == "deconv-mlp":
        shape = (3, 30, 30)  # deconv-mlp needs only multiples of 4
    with pytest.raises(ValueError, match="pixels, not") as error:
        ARCHITECTURES[name].build(shape, 100, CLASSES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["dcgan", "mlp-conv", "sngan", "r3gan", "cdcgan", "infogan"])
def test_stacks_of_doublings_refuse_other_sizes(name):
    with pytest.raises(ValueError, match="16, 28, 32"):
        build(name, 30)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_state_dict_round_trip(name):
    latent, labels = inputs(name)
    first, second = build(name, 16), build(name, 16)
    for network in second:
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
    for source, target in zip(first, second, strict=True):
        target.load_state_dict(source.state_dict())
        source.eval()
        target.eval()
    images = first[0](latent, *labels)
    torch.testing.assert_close(second[0](latent, *labels), images, rtol=0, atol=0)
    torch.testing.assert_close(second[1](images, *labels), first[1](images, *labels), rtol=0, atol=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_channels_last_output_equals_contiguous(name):
    generator, discriminator = build(name, 16)
    generator.eval()
    discriminator.eval()
    latent, labels = inputs(name)
    images = generator(latent, *labels)
    logits = discriminator(images, *labels)
    last = torch.channels_last
    torch.testing.assert_close(generator.to(memory_format=last)(latent, *labels), images, rtol=1e-4, atol=1e-5)
    changed = discriminator.to(memory_format=last)(images.to(memory_format=last), *labels)
    torch.testing.assert_close(changed, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_options_have_json_safe_defaults(name):
    for option, default in ARCHITECTURES[name].options.items():
        items = default if isinstance(default, tuple) else (default,)
        assert all(isinstance(item, bool | int | float | str) for item in items), option


# --- one architecture at a time -----------------------------------------------------------------------------------


def test_mlp_parameter_count():
    def linear(*widths):
        return sum((before + 1) * after for before, after in pairwise(widths))

    generator, discriminator = build("mlp", 28, 1)
    assert parameters(generator) == linear(100, 256, 512, 512, 784) == 822_288
    assert parameters(discriminator) == linear(784, 512, 512, 512, 1) == 927_745


def test_mlp_builds_any_shape():
    generator, discriminator = ARCHITECTURES["mlp"].build(
        (2, 5, 7), 3, 0, generator_widths=[4], discriminator_widths=[]
    )
    images = generator(torch.randn(6, 3))
    assert images.shape == (6, 2, 5, 7)
    assert discriminator(images).shape == (6,)
    assert discriminator.features(images).shape == (6, prod((2, 5, 7)))


def test_mlp_generator_output_varies_with_the_latent():
    """Pixels vary with the latent, not only with their place; otherwise training begins collapsed."""
    generator, _ = build("mlp", 16, 1)
    images = generator(torch.randn(64, 100, generator=torch.Generator().manual_seed(0)))
    assert images.std(0).mean() > 0.2


def test_dcgan_parameter_count():
    """3 576 704 and 2 765 568 are the well-known counts at 64 px without biases; here the end layers have them."""
    generator, discriminator = build("dcgan", 64)
    kernels = 100 * 512 * 16 + 16 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert parameters(generator) == kernels + 2 * (512 + 256 + 128 + 64) + 3 == 3_576_704 + 3
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    assert parameters(discriminator) == kernels + 2 * (128 + 256 + 512) + 64 + 1 == 2_765_568 + 64 + 1


def test_dcgan_initialization():
    generator, discriminator = build("dcgan", 64)
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                assert module.weight.mean().item() == pytest.approx(0, abs=0.002)
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            elif isinstance(module, nn.BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.5)
            if getattr(module, "bias", None) is not None:
                assert not module.bias.any()


def test_dcgan_widths_double_from_the_image_side():
    generator, discriminator = build("dcgan", 16)
    assert [m.out_channels for m in generator if isinstance(m, nn.ConvTranspose2d)] == [64, 3]
    assert [m.out_channels for m in discriminator.trunk if isinstance(m, nn.Conv2d)] == [64, 128]


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_discriminator_norm(norm):
    trunk = build("dcgan", 32, discriminator_norm=norm)[1].trunk
    kind = {"batch": nn.BatchNorm2d, "layer": nn.GroupNorm, "none": ()}[norm]
    found = [module for module in trunk if isinstance(module, NORMALIZATIONS)]
    assert len(found) == (0 if norm == "none" else 2)
    assert all(isinstance(module, kind) for module in found)
    assert not isinstance(trunk[1], NORMALIZATIONS), "the first layer is not normalized"


def test_unknown_discriminator_norm_is_refused():
    with pytest.raises(ValueError, match="batch, layer, none"):
        build("dcgan", discriminator_norm="spectral")


@pytest.mark.parametrize(
    ("size", "maps"), [(16, [8, 4, 2]), (28, [14, 7, 4, 2]), (32, [16, 8, 4, 2]), (64, [32, 16, 8, 4])]
)
def test_dcgan_dense_has_as_many_stages_as_the_size_allows(size, maps):
    generator, discriminator = build("dcgan-dense", size)
    convolutions = [m.out_channels for m in discriminator.trunk if isinstance(m, nn.Conv2d)]
    assert convolutions == [64, 128, 256, 512][: len(maps)]
    transposed = [m.in_channels for m in generator if isinstance(m, nn.ConvTranspose2d)]
    assert transposed == convolutions[::-1]
    seen = []
    for module in discriminator.trunk:
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, out: seen.append(out.shape[-1]))
    discriminator(torch.zeros(2, 3, size, size))
    assert seen == maps


@pytest.mark.parametrize("size", [16, 28, 64])
def test_cnn_pool_stacks_the_rest_of_its_depth_at_the_smallest_map(size):
    generator, _ = build("cnn-pool", size, depth=9)
    seen = []
    for module in generator:
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, out: seen.append(out.shape[-1]))
    generator.eval()(torch.zeros(1, 100))
    grown = {16: [8, 16], 28: [7, 14, 28], 64: [8, 16, 32, 64]}[size]
    assert seen == [4] * (9 - len(grown)) + grown + [size]


def test_cnn_pool_of_depth_100_builds_and_trains():
    generator, discriminator = build("cnn-pool", 16, 1, depth=100, width=32)
    assert sum(isinstance(module, nn.Conv2d) for module in generator) == 101
    optimizer = torch.optim.Adam(generator.parameters(), 2e-4, betas=(0.5, 0.999))
    before = [parameter.detach().clone() for parameter in generator.parameters()]
    for _ in range(2):
        optimizer.zero_grad()
        terms = LOSSES["softmax"].generator(discriminator(generator(torch.randn(4, 100))))
        terms["fool"].backward()
        assert all(parameter.grad.isfinite().all() for parameter in generator.parameters())
        optimizer.step()
    after = list(generator.parameters())
    assert all(parameter.isfinite().all() for parameter in after)
    assert sum(not torch.equal(*pair) for pair in zip(before, after, strict=True)) > 0.9 * len(after)


def test_cnn_pool_too_shallow_for_the_size_is_refused():
    with pytest.raises(ValueError, match="depth must be 4 at least for 64 pixels, not 3"):
        build("cnn-pool", 64, depth=3)


def test_cnn_pool_with_one_convolution_for_each_doubling():
    generator, _ = build("cnn-pool", 32, depth=3, width=8)
    assert generator(torch.randn(2, 100)).shape == (2, 3, 32, 32)


def test_sngan_is_the_published_cnn_at_32_pixels():
    generator, discriminator = build("sngan", 32)
    layers = [m for m in discriminator.trunk if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in layers] == [64, 64, 128, 128, 256, 256, 512]
    assert [m.kernel_size[0] for m in layers] == [3, 4, 3, 4, 3, 4, 3]
    assert [m.in_channels for m in generator if isinstance(m, nn.ConvTranspose2d)] == [512, 256, 128]
    assert not any(isinstance(m, NORMALIZATIONS) for m in discriminator.modules())


def test_sngan_normalizes_every_weight_of_the_discriminator():
    _, discriminator = build("sngan", 32)
    images = torch.randn(2, 3, 32, 32)
    for _ in range(30):  # each forward in training mode is one power iteration
        discriminator(images)
    layers = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 8
    for layer in layers:
        assert nn.utils.parametrize.is_parametrized(layer, "weight")
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("options", [{}, {"blocks": 2, "groups": 8, "expansion": 1}], ids=str)
def test_r3gan_has_no_normalization_and_starts_its_branches_at_zero(options):
    from ganzoo_plugins.variants.r3gan import Residual

    for network in build("r3gan", 32, **options):
        assert not any(isinstance(module, NORMALIZATIONS) for module in network.modules())
        blocks = [module for module in network.modules() if isinstance(module, Residual)]
        assert len(blocks) == 4 * options.get("blocks", 1)
        for block in blocks:
            assert not block.branch[-1].weight.any()
            assert block.branch[0].weight.any()
            x = torch.randn(1, block.branch[0].in_channels, 4, 4)
            torch.testing.assert_close(block(x), x)


def test_r3gan_downsampling_is_bilinear():
    x = torch.randn(2, 3, 8, 8)
    halved = nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(nn.AvgPool2d(2)(x), halved)


def test_cdcgan_sees_the_labels():
    generator, discriminator = build("cdcgan", 16)
    latent, (labels,) = inputs("cdcgan", 4)
    generator.eval()
    discriminator.eval()
    images = generator(latent, labels)
    assert not torch.allclose(images, generator(latent, labels + 1))
    assert not torch.allclose(discriminator(images, labels), discriminator(images, labels + 1))
    features = discriminator.features(images)
    projection = (discriminator.head.embedding.weight[labels] * features).sum(1)
    unconditional = discriminator.head.linear(features).squeeze(1)
    torch.testing.assert_close(discriminator(images, labels), unconditional + projection)


def test_cdcgan_needs_labels():
    with pytest.raises(ValueError, match="labels"):
        ARCHITECTURES["cdcgan"].build((1, 16, 16), 100, 0)


@pytest.mark.parametrize(("categories", "continuous"), [(10, 2), (5, 0)])
def test_infogan_codes(categories, continuous):
    codes = {"categories": categories, "continuous": continuous}
    _, discriminator = build("infogan", 28, 1, **codes)
    features = discriminator.features(torch.randn(4, 1, 28, 28))
    assert features.shape == (4, 1024)
    assert discriminator.code_head(features).shape == (4, categories + continuous)

    options = ARCHITECTURES["infogan"].options | codes
    latent = ARCHITECTURES["infogan"].draw_latent(500, 74, torch.Generator().manual_seed(0), **options)
    assert latent.shape == (500, 74)
    assert latent.dtype == torch.float32
    one_hot, uniform = latent[:, :categories], latent[:, categories:]
    assert (one_hot.sum(1) == 1).all()
    assert set(one_hot.unique().tolist()) == {0.0, 1.0}
    assert (one_hot.sum(0) > 0).all()
    assert -1 <= uniform.min() < -0.95
    assert 0.95 < uniform.max() < 1


def test_infogan_codes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="cannot hold 80 categories"):
        build("infogan", 28, categories=80)


def test_infogan_draws_the_same_latent_from_the_same_seed():
    draw = ARCHITECTURES["infogan"].draw_latent
    first, second = (draw(8, 74, torch.Generator().manual_seed(1)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


# --- recipes ------------------------------------------------------------------------------------------------------


def test_recipes_have_the_published_hyperparameters():
    adam = ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999))
    for name in ("mlp", "dcgan", "dcgan-dense", "cnn-pool", "deconv-mlp", "mlp-conv"):
        assert VARIANTS[name].optimizer == adam
    assert VARIANTS["dcgan"].batch_size == 128
    assert VARIANTS["wgan"].optimizer == ganzoo.Optimizer("rmsprop", 5e-5)
    assert VARIANTS["wgan-gp"].optimizer == ganzoo.Optimizer("adam", 1e-4, betas=(0.0, 0.9))
    assert VARIANTS["wgan-gp"].options == {"discriminator_norm": "none"}
    assert VARIANTS["sngan"].rate_decay == ganzoo.Schedule("linear", to=0.0)
    assert VARIANTS["r3gan"].optimizer.betas[0] == 0
    assert VARIANTS["r3gan"].penalties == ("r1", "r2")
    assert VARIANTS["r3gan"].rate_decay.kind == VARIANTS["r3gan"].schedules["r1.gamma"].kind == "cosine"


def test_conv_sgd_is_dcgan_with_minimax_and_sgd():
    variant = VARIANTS["conv-sgd"]
    assert (variant.architecture, variant.loss) == ("dcgan", "minimax")
    assert variant.optimizer == ganzoo.Optimizer("sgd", 2e-4, momentum=0.9)
    assert variant.generator_first
    assert not variant.expect_learning


def test_full_kimg_and_rate_decay_equal_the_original_budgets():
    dense, mlp = VARIANTS["dcgan-dense"], VARIANTS["deconv-mlp"]
    assert dense.full_kimg == 100 * 50_000 / 1000
    assert mlp.full_kimg == 10_000 * mlp.batch_size / 1000
    decay = dense.rate_decay
    assert (decay.kind, decay.factor, decay.per_updates) == ("exponential", 0.5, 100_000)
