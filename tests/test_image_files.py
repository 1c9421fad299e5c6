"""`ganzoo score` of images in one file, as other tools write them: `.npz` and `.safetensors`."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skips import needs_system

from ganzoo.errors import UsageError
from ganzoo.evaluation.image_files import read_image_file

STRIPES = ("--dataset", "stripes", "--metrics", "mean-gap", "--device", "cpu", "--json")


def pixels(count: int = 12, size: int = 8, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


@pytest.fixture
def score(run_cli, stranger):
    def score(source, expected=0):
        done = run_cli("score", source, *STRIPES, "--plugin", stranger("laboratory"))
        assert done.returncode == expected, done.stderr
        return done

    return score


@pytest.mark.parametrize(
    "form", ["images.npz", "compressed.npz", "first.npz", "bytes.safetensors", "floats.safetensors"]
)
def test_a_file_of_images_scores_as_the_folder_of_the_same_images(form, score, tmp_path):
    images = pixels()
    (tmp_path / "folder").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image[:, :, 0]).save(tmp_path / "folder" / f"{index:02}.png")
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    write = {
        "images.npz": lambda path: np.savez(path, images=images, labels=np.arange(len(images))),
        "compressed.npz": lambda path: np.savez_compressed(path, images),
        "first.npz": lambda path: np.savez(path, images.transpose(0, 3, 1, 2)),
        "bytes.safetensors": lambda path: save_file({"images": tensor}, path),
        "floats.safetensors": lambda path: save_file({"images": tensor / 127.5 - 1}, path),
    }
    write[form](tmp_path / form)
    of_file, of_folder = (json.loads(score(tmp_path / name).stdout) for name in (form, "folder"))
    assert of_file["protocols"] == of_folder["protocols"]
    ((first,), (second,)) = of_file["scores"], of_folder["scores"]
    assert first["protocol"] == second["protocol"]
    assert first["value"] == second["value"] > 0


def test_images_of_another_size_are_resized_and_it_is_said(score, tmp_path):
    np.savez(tmp_path / "large.npz", images=pixels(size=16))
    assert "its images were resized from 16 to 8 px" in score(tmp_path / "large.npz").stderr


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_are_rounded_as_the_images_of_a_generator_are(dtype, tmp_path):
    values = torch.tensor([-1, -0.5, 0, 0.5, 1]).repeat(1, 1, 5, 1).to(dtype)
    save_file({"images": values}, tmp_path / "floats.safetensors")
    assert read_image_file(tmp_path / "floats.safetensors")[0, 0, 0].tolist() == [0, 64, 128, 191, 255]


class Unpickled:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def savez(**arrays):
    return lambda path: np.savez(path, **arrays)


def tensors(**tensors):
    return lambda path: save_file(tensors, path)


def forged(path):
    """An array whose header says that it is larger than any memory."""
    np.savez(path, images=pixels())
    content = path.read_bytes()
    shape = b"(12, 8, 8, 1), "
    assert shape in content
    path.write_bytes(content.replace(shape, b"(9999999,8,8,3)"))


def cut(path):
    np.savez(path, images=pixels())
    path.write_bytes(path.read_bytes()[:-300])


def cut_tensors(path):
    save_file({"images": torch.zeros(4, 1, 8, 8)}, path)
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.npz", savez(images=pixels().astype(np.float32)), "holds images of type float32; give uint8"),
        ("a.npz", savez(images=pixels()[0]), "holds an array of shape (8, 8, 1); give images of four dimensions"),
        ("a.npz", savez(images=pixels()[:0]), "holds an array of shape (0, 8, 8, 1)"),
        ("a.npz", savez(images=pixels(channels=2)), "give images with 1 or 3 channels"),
        ("a.npz", savez(x=pixels(), y=pixels()), "holds x, y, and no 'images'"),
        ("a.npz", savez(images=np.array([Unpickled()] * 4, dtype=object)), "holds images of type object"),
        ("a.npz", lambda path: path.write_bytes(b"no zip"), "is no whole .npz of NumPy"),
        ("a.npz", cut, "is no whole .npz of NumPy"),
        ("a.npz", forged, "is no whole .npz of NumPy"),
        ("a.npz", lambda path: path.mkdir(), "not a plain file"),
        ("a.npz", lambda path: None, "No such file"),
        ("a.safetensors", tensors(images=torch.full((4, 1, 8, 8), 1.5)), "has values from 1.5 to 1.5; give uint8"),
        ("a.safetensors", tensors(images=torch.full((4, 1, 8, 8), torch.nan)), "has values from nan to nan"),
        ("a.safetensors", tensors(images=torch.zeros(4, 1, 8, 8, dtype=torch.int64)), "holds images of type I64"),
        ("a.safetensors", tensors(a=torch.zeros(1), b=torch.zeros(1)), "and no 'images'"),
        ("a.safetensors", cut_tensors, "is no whole .safetensors"),
        ("a.safetensors", lambda path: path.write_bytes(b""), "is no whole .safetensors"),
    ],
)  # fmt: skip
def test_other_files_are_refused_by_name(name, write, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    with pytest.raises(UsageError) as caught:
        read_image_file(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "unpickled").exists()


def test_a_file_that_claims_more_than_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("ganzoo.evaluation.image_files.MOST_BYTES", 1000)
    np.savez(tmp_path / "a.npz", images=pixels(100))
    with pytest.raises(UsageError, match="its images take more than"):
        read_image_file(tmp_path / "a.npz")


@needs_system(os.name == "posix", "named pipes")
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_named_pipe_is_not_waited_for(suffix, tmp_path):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with pytest.raises(UsageError, match="pipe"):
        read_image_file(tmp_path / f"pipe{suffix}")


def test_too_few_oblong_or_colour_images_are_one_line(score, tmp_path):
    np.savez(tmp_path / "few.npz", images=pixels(9))
    assert "holds 9 images; scores need at least 10" in score(tmp_path / "few.npz", expected=2).stderr
    np.savez(tmp_path / "oblong.npz", images=pixels()[:, :4])
    assert "holds images of 8 x 4 pixels; save squares" in score(tmp_path / "oblong.npz", expected=2).stderr
    np.savez(tmp_path / "colour.npz", images=pixels(channels=3))
    line = score(tmp_path / "colour.npz", expected=2).stderr
    assert "images differ in channels: those of 'stripes' have 1 and those of '" in line
    assert "Traceback" not in line
