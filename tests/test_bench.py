"""The main job as users run it: `ganzoo bench` in a subprocess, and everything that reads what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CommandLine
from PIL import Image

QUICK = ("--kimg", "1", "--batch-size", "32", "--threads", "1", "--throughput-seconds", "0.2", "--fakes", "100")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, session_environment):
    """Two variants trained and scored by every metric, and what the command said."""
    run_cli = CommandLine(tmp_path_factory.mktemp("finished"))
    done = run_cli("bench", "--models", "dcgan,cdcgan", *QUICK, "--metrics", "fid,is,kid,prc,modes", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return done, run_cli.cwd / "runs"


def records_in(results: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(results.rglob("record.json"))]


def test_the_table_is_on_stdout_and_progress_in_plain_lines_on_stderr(finished):
    done, _ = finished
    assert "dcgan" in done.stdout
    assert "cdcgan" in done.stdout
    assert "FID" in done.stdout
    assert "images/s" in done.stdout
    assert "[1/2] dcgan on digits, seed 0: started" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stderr


def test_a_record_holds_what_others_rely_on(finished):
    _, results = finished
    records = records_in(results)
    assert [record["spec"]["variant"] for record in records] == ["cdcgan", "dcgan"]
    for record in records:
        assert record["schema"] == 1
        assert record["status"] == "ok"
        assert record["error"] is None
        assert record["spec"]["image_shape"] == [1, 16, 16]
        final = {
            (score["metric"], score["ema"]): score
            for score in record["scores"]
            if score["kimg"] == record["training"]["kimg"]
        }
        metrics = {"fid", "is", "kid", "precision", "recall", "modes", "kl"}
        assert set(final) == {(metric, ema) for metric in metrics for ema in (True, False)}
        assert all(score["protocol"] in record["protocols"] for score in record["scores"])
        protocol = record["protocols"][final["fid", True]["protocol"]]
        assert protocol["extractor"] == "digits-cnn"
        assert (protocol["n_real"], protocol["n_fake"], protocol["real_split"]) == (1797, 100, "all")
        assert len(protocol["weights_sha256"]) == 64
        assert set(record["training"]["best"]) == set(record["training"]["final"])
        assert len({score["kimg"] for score in record["scores"]}) == 4
        rates = record["throughput"]["train_images_per_second"]
        assert rates["low"] <= rates["median"] <= rates["high"]
        assert len(rates["samples"]) == 5
        assert record["throughput"]["peak_memory_bytes"] > 1e8
        assert record["throughput"]["flops_per_image"] > 1e6
        assert record["throughput"]["mfu"] is None
        curves = record["training"]["curves"]
        assert {"kimg", "discriminator/real", "discriminator/fake", "generator/fool"} <= set(curves)
        assert len({len(curve) for curve in curves.values()}) == 1
        assert record["hardware"]["id"] == record["spec"]["hardware"]
        assert record["environment"]["plugins"]["digits"]["source_sha256"]
        assert record["parameters"]["generator"] > 10_000


def test_best_is_at_least_as_good_as_final(finished):
    _, results = finished
    for record in records_in(results):
        best, final = record["training"]["best"], record["training"]["final"]
        assert all(best[key]["value"] <= final[key]["value"] for key in best if key.startswith(("fid", "kid", "kl")))
        assert all(best[key]["value"] >= final[key]["value"] for key in best if key.startswith(("is", "recall")))


def test_samples_are_a_grid_of_64(finished):
    _, results = finished
    for path in results.rglob("samples.png"):
        with Image.open(path) as picture:
            assert picture.size == (4 * (8 * 18 + 2),) * 2


def test_the_same_command_again_skips_and_still_gives_every_record(finished, run_cli):
    _, results = finished
    stamps = {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()}
    again = run_cli(
        "bench", "--models", "dcgan,cdcgan", *QUICK, "--metrics", "fid,is,kid,prc,modes", "--device", "cpu",
        "--results", results, "--json",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert [record["spec"]["variant"] for record in json.loads(again.stdout)] == ["dcgan", "cdcgan"]
    assert again.stderr.count("done before, skipped") == 2
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()} == stamps


def test_a_run_again_gives_the_same_bits(finished, run_cli):
    _, results = finished
    done = run_cli(
        "bench", "--models", "dcgan", *QUICK, "--metrics", "fid,is,kid,prc,modes", "--device", "cpu", "--quiet"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    first = next(results.rglob("dcgan-*/generator.safetensors"))
    again = next((run_cli.cwd / "runs").rglob("dcgan-*/generator.safetensors"))
    assert first.parent.name == again.parent.name
    assert first.read_bytes() == again.read_bytes()
    scores = [json.loads((path.parent / "record.json").read_text())["scores"] for path in (first, again)]
    assert scores[0] == scores[1]


def test_compare_reads_them_back_in_every_format(finished, run_cli):
    _, results = finished
    table = run_cli("compare", results)
    assert table.returncode == 0
    assert "cdcgan" in table.stdout
    rows = json.loads(run_cli("compare", results, "--format", "json").stdout)
    by_variant = {row["variant"]: row for row in rows}
    record = next(record for record in records_in(results) if record["spec"]["variant"] == "dcgan")
    assert by_variant["dcgan"]["n"] == 1
    assert by_variant["dcgan"]["fid"] == pytest.approx(record["training"]["final"]["fid/ema"]["value"])
    assert run_cli("compare", results, "--format", "csv").stdout.startswith("variant,dataset,")
    assert run_cli("compare", results, "--format", "md").stdout.startswith("| variant | dataset |")


def test_sample_draws_the_same_picture_for_the_same_seed(finished, run_cli):
    _, results = finished
    run = next(results.rglob("cdcgan-*"))
    for name, options in {"a": (), "b": (), "c": ("--seed", 1), "threes": ("--label", 3)}.items():
        done = run_cli("sample", run, "-n", 9, *options, "-o", f"{name}.png")
        assert done.returncode == 0, done.stderr
    pictures = {path.stem: path.read_bytes() for path in run_cli.cwd.glob("*.png")}
    assert pictures["a"] == pictures["b"]
    assert len({pictures["a"], pictures["c"], pictures["threes"]}) == 3


def test_score_gives_a_folder_of_images_the_same_fid_as_the_run(finished, run_cli):
    """The samples of a run, saved as PNG and scored as a folder, against the run's own features of the same images."""
    import torch

    import ganzoo
    from ganzoo.images import save_png

    _, results = finished
    run = next(results.rglob("dcgan-*"))
    images = ganzoo.sample(run, 100)
    assert images.dtype == torch.uint8
    folder = run_cli.cwd / "images"
    folder.mkdir()
    for index, image in enumerate(images):
        save_png(image, folder / f"{index:03}.png")
    done = run_cli("score", folder, "--dataset", "digits", "--device", "cpu", "--threads", 1, "--json")
    assert done.returncode == 0, done.stderr
    found = {score["metric"]: score["value"] for score in json.loads(done.stdout)["scores"]}

    from ganzoo.evaluate import RealSample, Scorer, load_extractor
    from ganzoo.plan import BenchPlan, find_dataset, prepare_dataset
    from ganzoo.plugins import discover

    registry = discover()
    dataset = prepare_dataset(registry, *find_dataset(registry, "digits"), BenchPlan(()), lambda done, total: None)
    real = RealSample(dataset, load_extractor(registry.get("features", "digits-cnn").record, "cpu"))
    metrics = [registry.get("metrics", name).record for name in ("fid", "is")]
    scores, _ = Scorer(metrics, real).score(iter(images.split(64)), 0.0, None)
    expected = {score["metric"]: score["value"] for score in scores}
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_same_from_python(finished, tmp_path):
    import ganzoo

    _, results = finished
    table = ganzoo.load(results)
    assert set(table["variant"]) == {"dcgan", "cdcgan"}
    assert table["fid"].notna().all()
    generator = ganzoo.load_generator(next(results.rglob("dcgan-*")))
    import torch

    assert generator(torch.zeros(3, 100)).shape == (3, 1, 16, 16)
    records = ganzoo.bench(
        ["mlp"], kimg=0.1, batch_size=32, threads=1, throughput_seconds=0.1, fakes=50, device="cpu", results=tmp_path
    )
    assert [record.status for record in records] == ["ok"]
    assert isinstance(records[0], ganzoo.RunRecord)
    with pytest.raises(ganzoo.UsageError, match="give names"):
        ganzoo.bench([object()])
    with pytest.raises(ganzoo.UsageError, match="kimgs"):
        ganzoo.bench("mlp", kimgs=1)


def test_a_generator_that_a_plugin_made_needs_the_plugin(run_cli):
    hinge = Path(__file__).parents[1] / "docs" / "examples" / "hinge.py"
    done = run_cli("bench", "--models", "hinge-dcgan", "--plugin", hinge, *QUICK, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    [record] = records_in(run_cli.cwd / "runs")
    assert record["spec"]["loss"] == "hinge.py:my-hinge"
    assert record["environment"]["plugins"]["hinge.py"]["source_sha256"]


BAD_LOSS = """
import ganzoo

def explode(real, fake):
    raise RuntimeError("the critic is on [red]strike[/red]\\nand says so")

def silent(real, fake):
    import os
    if not real.is_meta:
        os.kill(os.getpid(), 9)
    return {"real": -real.mean(), "fake": fake.mean()}

def late(real, fake):
    if not real.is_meta:
        raise RuntimeError("the critic is on [red]strike[/red]\\nand says so")
    return {"real": -real.mean(), "fake": fake.mean()}

@ganzoo.hookimpl
def ganzoo_variants():
    for name, function in {"late": late, "silent": silent}.items():
        loss = ganzoo.Loss.of_logits(f"{name}-loss", discriminator=function, generator=lambda fake: {"g": fake.mean()})
        yield ganzoo.Variant(name, architecture="mlp", loss=loss)
"""


def test_failures_are_rows_and_the_others_go_on(run_cli):
    """One run raises, one kills itself, one diverges, one is well: three failures in the table, exit code 1."""
    (run_cli.cwd / "bad.py").write_text(BAD_LOSS)
    done = run_cli(
        "bench", "--models", "late,silent,mlp,mlp-conv", "--plugin", "bad.py", "--set", "mlp.learning_rate=1e20",
        *QUICK, "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    records = {record["spec"]["variant"]: record for record in records_in(run_cli.cwd / "runs")}
    assert {name: record["status"] for name, record in records.items()} == {
        "late": "crashed",
        "silent": "crashed",
        "mlp": "diverged",
        "mlp-conv": "ok",
    }
    assert records["late"]["error"]["type"] == "RuntimeError"
    assert "on [red]strike[/red] and says so" in records["late"]["error"]["message"]
    assert "Traceback" in records["late"]["error"]["tail"]
    assert records["silent"]["error"]["type"] == "SIGKILL"
    assert records["mlp"]["error"]["type"] == "Diverged"
    assert "[red]strike[/red]" in done.stdout
    assert done.stdout.count("crashed") == 2
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_run_dies_with_its_parent_and_the_next_command_does_it(run_cli):
    command = [sys.executable, "-m", "ganzoo", "bench", "--models", "dcgan", "--kimg", "100000", "--device", "cpu"]
    process = subprocess.Popen(command, cwd=run_cli.cwd, stderr=subprocess.DEVNULL)
    children = _wait_for(lambda: _children(process.pid))
    process.kill()
    process.wait()
    assert _wait_for(lambda: not any(_alive(child) for child in children))
    assert list(run_cli.cwd.rglob("record.json")) == []


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_records_the_run_as_interrupted(run_cli):
    command = [sys.executable, "-m", "ganzoo", "bench", "--models", "dcgan", "--kimg", "100000", "--device", "cpu"]
    process = subprocess.Popen(
        command,
        cwd=run_cli.cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts background jobs with Ctrl-C ignored; a user's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    children = _wait_for(lambda: _children(process.pid))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not any(_alive(child) for child in children)
    [record] = records_in(run_cli.cwd / "runs")
    assert record["status"] == "interrupted"


def _wait_for(condition, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found, f"not within {seconds:.0f} s"
    return found


def _children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def _alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_throughput_only_needs_no_extractor_and_leaves_scores_empty(run_cli):
    done = run_cli(
        "bench", "--models", "mlp", "--throughput-only", "--throughput-seconds", "0.2", "--features", "inception",
        "--threads", 1, "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [record] = json.loads(done.stdout)
    assert record["scores"] == []
    assert record["throughput"]["train_images_per_second"]["median"] > 0
    assert record["throughput"]["short_windows"] is True


def test_dry_run_prints_specs_parameters_and_an_estimate_and_trains_nothing(run_cli):
    done = run_cli("bench", "--models", "dcgan,mlp", "--dry-run", "--json", "--device", "cpu", "--seeds", 2)
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)
    assert [(entry["spec"]["variant"], entry["spec"]["seed"]) for entry in entries] == [
        ("dcgan", 0),
        ("dcgan", 1),
        ("mlp", 0),
        ("mlp", 1),
    ]
    assert all(entry["parameters"]["generator"] > 0 for entry in entries)
    assert all(entry["estimated_train_seconds"] > 0 for entry in entries)
    assert not (run_cli.cwd / "runs").exists()
    table = run_cli("bench", "--models", "dcgan", "--dry-run", "--device", "cpu")
    assert "337,281" in table.stdout
    assert "batch_size = 128" in table.stdout


@pytest.mark.skipif("GANZOO_DATA" not in os.environ, reason="GANZOO_DATA names no folder with MNIST")
def test_the_same_command_on_mnist(run_cli):
    done = run_cli("bench", "--models", "mlp", "--dataset", "mnist", *QUICK, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    [record] = json.loads(done.stdout)
    assert record["spec"]["image_shape"] == [1, 28, 28]
    assert record["dataset"]["count"] == 60_000
    assert {protocol["extractor"] for protocol in record["protocols"].values()} == {"mnist-cnn"}


@pytest.mark.skipif("GANZOO_DATA" not in os.environ, reason="GANZOO_DATA names no folder with CIFAR-10")
def test_a_folder_of_photographs_in_classes(run_cli):
    folder = Path(os.environ["GANZOO_DATA"]) / "cifar10-train-jpeg"
    picked = run_cli.cwd / "photographs"
    for label in ("cat", "dog"):
        (picked / label).mkdir(parents=True)
        for path in sorted((folder / label).iterdir())[:60]:
            (picked / label / path.name).write_bytes(path.read_bytes())
    done = run_cli(
        "bench", "--models", "cdcgan", "--dataset", f"folder:{picked}", "--image-size", 32, "--features", "mnist-cnn",
        *QUICK, "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [record] = json.loads(done.stdout)
    assert record["spec"]["image_shape"] == [3, 32, 32]
    assert record["spec"]["classes"] == 2


def test_inception_from_a_weights_file_to_scores(run_cli, random_weights):
    """Seeded random weights in torch-fidelity's format, through the command line to every score."""
    import torch

    import ganzoo

    photographs = run_cli.cwd / "photographs"
    photographs.mkdir()
    generator = torch.Generator().manual_seed(0)
    for index in range(12):
        pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(photographs / f"{index:02}.png")
    weights = ("--weights", random_weights)
    command = (
        "bench", "--models", "mlp", "--dataset", "folder:photographs", "--image-size", 16, "--kimg", 0.016,
        "--batch-size", 8, "--threads", 1, "--throughput-seconds", 0.1, "--fakes", 12, "--eval-every", 0.016,
        "--metrics", "fid,is,kid,prc", "--device", "cpu", "--json", *weights,
    )  # fmt: skip
    refused = run_cli(*command)
    assert refused.returncode == 2
    assert "pass --weights-sha256" in refused.stderr
    done = run_cli(*command, "--weights-sha256", ganzoo.sha256_of_file(random_weights))
    assert done.returncode == 0, done.stderr
    [record] = json.loads(done.stdout)
    scores = {score["metric"]: score["value"] for score in record["scores"] if score["ema"]}
    assert set(scores) == {"fid", "is", "kid", "precision", "recall"}
    assert all(value is not None for value in scores.values())
    assert scores["fid"] > 0
    assert {protocol["extractor"] for protocol in record["protocols"].values()} == {"inception"}


@pytest.mark.slow
def test_the_default_command_reads_as_digits_within_three_minutes(run_cli):
    """The README's main job: DCGAN beats the MLP."""
    started = time.monotonic()
    done = run_cli("bench", "--models", "dcgan,mlp", "--json", timeout=600)
    assert done.returncode == 0, done.stderr
    records = {record["spec"]["variant"]: record for record in json.loads(done.stdout)}
    fid = {name: record["training"]["final"]["fid/ema"]["value"] for name, record in records.items()}
    assert fid["dcgan"] < fid["mlp"]
    assert time.monotonic() - started < 180
