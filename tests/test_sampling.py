"""`sample` and `show` on finished runs: walks between latents, folders of images, curves in the terminal."""

from __future__ import annotations

import json
import math
import sys

import numpy
import pytest
import torch
from PIL import Image
from reporting import MODEL, put_record
from skips import needs_system

import ganzoo
from ganzoo.evaluation.sampling import image_batches, spherical_walks, straight_walks
from ganzoo.output.console import sparkline
from ganzoo.registry.discovery import discover


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- walks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("walks", [straight_walks, spherical_walks])
def test_walk_begins_and_ends_at_its_latents(walks):
    start, end = normal(5, 100, seed=1), normal(5, 100, seed=2)
    walked = walks(start, end, 7).view(5, 7, 100)
    assert torch.allclose(walked[:, 0], start)
    assert torch.allclose(walked[:, -1], end)


def test_spherical_walk_has_equal_angles_and_keeps_the_norm():
    start, end = (torch.nn.functional.normalize(normal(4, 64, seed=seed), dim=1) * 8 for seed in (1, 2))
    walked = spherical_walks(start, end, 9).view(4, 9, 64).numpy()
    assert numpy.linalg.norm(walked, axis=2) == pytest.approx(8)
    cosines = (walked[:, 1:] * walked[:, :-1]).sum(2) / 64
    whole = numpy.arccos((start * end).sum(1).numpy() / 64)
    assert numpy.arccos(cosines) == pytest.approx(numpy.repeat(whole[:, None] / 8, 8, 1))


def test_walk_between_parallel_latents_is_finite():
    start = normal(3, 16)
    end = torch.stack([start[0], 2 * start[1], -start[2]])
    walked = spherical_walks(start.float(), end.float(), 5).view(3, 5, 16)
    assert walked.isfinite().all()
    assert torch.allclose(walked[1, 2], 1.5 * start[1].float(), atol=1e-5)


def test_walk_images_change_gradually_and_differ_between_walks(sampled_run):
    images = ganzoo.sample(sampled_run, 60, interpolate=True)
    assert images.shape == (64, 1, 16, 16), "whole rows of eight"
    rows = images.view(8, 8, -1).double()
    steps = (rows[:, 1:] - rows[:, :-1]).norm(dim=2).mean()
    assert steps > 0
    assert steps < 0.5 * (rows[:, 0] - rows[:, -1]).norm(dim=1).mean()
    assert len({tuple(row[0].tolist()) for row in rows}) == 8
    assert torch.equal(images, ganzoo.sample(sampled_run, 60, interpolate=True))


def test_walks_through_a_custom_latent_prior_are_linear(sampled_run, monkeypatch):
    """InfoGAN's one-hot codes lie on no sphere."""
    from dataclasses import replace

    from ganzoo.evaluation import sampling as generators

    def corners(n, latent, rng, **options):
        return torch.eye(latent)[torch.randint(latent, (n,), generator=rng)]

    seen = []
    materials = generators.materials_of
    monkeypatch.setattr(
        generators,
        "materials_of",
        lambda *args: replace(
            materials(*args), architecture=replace(materials(*args).architecture, draw_latent=corners)
        ),
    )
    monkeypatch.setattr(
        generators.GeneratorPlayer, "forward", lambda self, z, labels=None: seen.append(z) or z[:, None, None]
    )
    list(image_batches(sampled_run, discover(), 9, label=None, seed=0, interpolate=True))
    (latents,) = seen
    assert torch.allclose(latents.sum(1), torch.ones(9), atol=1e-6), "on the line between two corners"


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_of_pngs_holds_the_images_of_the_run(invoke, sampled_run, tmp_path):
    outcome = invoke("sample", sampled_run, "-n", 300, "-o", "images/")
    assert (outcome.code, outcome.err) == (0, "ganzoo: wrote 300 images to images\n")
    paths = sorted((tmp_path / "images").iterdir())
    assert [path.name for path in paths] == [f"{index:05}.png" for index in range(300)]
    expected = ganzoo.sample(sampled_run, 300)
    for path, image in zip(paths, expected, strict=True):
        assert numpy.array_equal(numpy.asarray(Image.open(path)), image[0].numpy())


def test_a_folder_that_is_not_empty_is_refused(invoke, sampled_run, tmp_path):
    folder = tmp_path / "images"
    assert invoke("sample", sampled_run, "-n", 5, "-o", "images/").code == 0
    (folder / "notes.txt").write_text("precious")
    for output in ("images/", "images"):
        line = invoke("sample", sampled_run, "-n", 2, "-o", output).error
        assert line.endswith("-o images: is not empty; choose another folder or pass --force")
    assert invoke("sample", sampled_run, "-n", 2, "-o", "images/", "--force").code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["00000.png", "00001.png", "notes.txt"]
    assert "the folder nowhere does not exist" in invoke("sample", sampled_run, "-o", "nowhere/images/").error
    assert "ask for at least 2 images" in invoke("sample", sampled_run, "-n", 1, "--interpolate", "-o", "x.png").error


def test_images_are_generated_batch_by_batch(sampled_run):
    """A million images take no more memory than one batch."""
    batches = image_batches(sampled_run, discover(), 1_000_000, label=None, seed=0)
    assert next(batches).shape == (256, 1, 16, 16)
    assert next(batches).shape == (256, 1, 16, 16)


@needs_system(sys.platform != "win32", "has no limit of file sizes")
def test_a_folder_on_a_full_disk_says_so_and_keeps_whole_images(run_cli, sampled_run):
    done = run_cli("sample", sampled_run, "-n", 3, "-o", "images/", largest_file=100)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "ganzoo: -o images: cannot be written: File too large; choose another place\n"
    assert list((run_cli.cwd / "images").iterdir()) == [], "no half of an image"


# --- ganzoo show RUN --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "▁▂▃▄▅▆▇█"),
        ([7.0, None, 0.0, math.nan, 7.0], "█ ▁ █"),
        ([3.0, 3.0], "▄▄"),
        ([None], " "),
        ([], ""),
    ],
)
def test_sparkline_spans_minimum_to_maximum(values, line):
    assert sparkline(values) == line


def test_long_curve_is_averaged_over_equal_pieces():
    assert sparkline([*[0.0] * 50, *[1.0] * 50], width=10) == "▁▁▁▁▁█████"
    assert sparkline([float(place) for place in range(1000)], width=8) == "▁▂▃▄▅▆▇█"
    assert len(sparkline([1.0] * 25, width=24)) == 24


def test_show_takes_a_run_by_folder_or_prefix_of_name_or_id(invoke, tmp_path):
    record = put_record(tmp_path / "runs" / "m", "dcgan-digits-s0-0123456789", fid=[9.0, 5.0, 3.0, 1.5])
    by_path = invoke("show", tmp_path / "runs" / "m" / "dcgan-digits-s0-0123456789")
    assert (by_path.code, by_path.err) == (0, "")
    assert "dcgan on digits, seed 0: ok" in by_path.out
    (fid,) = [line for line in by_path.out.splitlines() if "FD digits-cnn, EMA" in line]
    assert fid.split() == ["FD", "digits-cnn,", "EMA", "█▄▂▁", "1.50", "1.50", "9.00"]
    for term in ("discriminator/real", "discriminator/fake", "generator/fool"):
        values = record["training"]["curves"][term]
        (line,) = [line for line in by_path.out.splitlines() if term in line]
        assert sparkline(values) in line
    for name in ("dcgan-digits-s0", record["run_id"][:8]):
        shown = invoke("show", name).out
        assert "FD digits-cnn, EMA" in shown
        assert json.loads(invoke("show", name, "--json").out)["run_id"] == record["run_id"]
    assert "FD digits-cnn, EMA" not in invoke("show", "dcgan").out, "the name of a variant stays one"
    put_record(tmp_path / "runs" / "m", "dcgan-digits-s0-9876543210", seed=1)
    assert (
        "matches several runs (dcgan-digits-s0-0123456789, dcgan-digits-s0-9876543210)"
        in invoke("show", "dcgan-digits-s0").error
    )
    assert "nothing is called 'dcgan-digit-s0'" in invoke("show", "dcgan-digit-s0").error


def test_show_handles_failed_and_throughput_only_runs(invoke, tmp_path):
    put_record(tmp_path / "runs", "failed", status="diverged", message="generator/fool\x1b[31m became [red]NaN[/red]")
    out = invoke("show", tmp_path / "runs" / "failed").out
    assert "seed 0: diverged" in out
    assert "Diverged: generator/fool [31m became [red]NaN[/red]" in out
    record = json.loads((MODEL / "record.json").read_text())
    (tmp_path / "runs" / "speed").mkdir()
    content = json.dumps(record | {"training": {}, "scores": [], "protocols": {}})
    (tmp_path / "runs" / "speed" / "record.json").write_text(content)
    assert "no curves: it was not trained" in invoke("show", tmp_path / "runs" / "speed").out
    (tmp_path / "runs" / "no").mkdir()
    assert "runs/no/record.json: cannot be read" in invoke("show", "runs/no").error
