"""`ganzoo bench` in a subprocess, as users run it, and the commands that read its records."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import (
    HANGING,
    CommandLine,
    forked,
    fresh_with_forked_runs,
    made_once,
    restore_default_signals,
    wait_for,
)
from PIL import Image
from skips import needs_system

from ganzoo.runs import SCHEMA

QUICK = ("--kimg", "1", "--batch-size", "32", "--threads", "1", "--throughput-seconds", "0.1", "--fakes", "100")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, session_environment):
    """A bench of two variants, trained and scored by every metric: the completed process and the results folder."""

    def make(folder):
        done = CommandLine(folder)(
            *("bench", "--models", "dcgan,cdcgan", *QUICK, "--metrics", "fid,is,kid,prc,modes", "--device", "cpu"),
            program=fresh_with_forked_runs(),
        )
        assert done.returncode == 0, done.stderr
        return done, folder / "runs"

    return made_once("finished", make, tmp_path_factory)


def records_in(results: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(results.rglob("record.json"))]


def test_the_table_is_on_stdout_and_progress_in_plain_lines_on_stderr(finished):
    done, _ = finished
    assert "dcgan" in done.stdout
    assert "cdcgan" in done.stdout
    assert "FD digits-cnn" in done.stdout
    assert "images/s" in done.stdout
    assert "[1/2] dcgan on digits, seed 0: started" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stderr


def test_record_has_spec_scores_curves_environment_and_hardware(finished):
    _, results = finished
    records = records_in(results)
    assert [record["spec"]["variant"] for record in records] == ["cdcgan", "dcgan"]
    for record in records:
        assert record["schema"] == SCHEMA
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
        assert (protocol["n_real"], protocol["n_fake"], protocol["real_split"]) == (1438, 100, "train")
        assert len(protocol["weights_sha256"]) == 64
        assert set(record["training"]["best"]) == set(record["training"]["final"])
        assert len({score["kimg"] for score in record["scores"]}) == 4
        rates = record["throughput"]["train_images_per_second"]
        assert rates["low"] <= rates["median"] <= rates["high"]
        assert len(rates["samples"]) == 5
        assert record["throughput"]["peak_memory_bytes"] > 1e8
        assert record["throughput"]["flops_per_image"] > 1e6
        throughput = record["throughput"]
        rate = throughput["train_images_per_second"]
        assert set(rate) == {"median", "low", "high", "interval", "min", "max", "samples", "outliers"}
        assert len(rate["samples"]) == 5
        assert rate["min"] <= rate["low"] <= rate["median"] <= rate["high"] <= rate["max"]
        assert throughput["mfu"] == pytest.approx(
            throughput["flops_per_image"] * rate["median"] / throughput["peak_flops"]
        )
        assert 0 < throughput["mfu"] < 2
        assert "native_batch_norm" in " ".join(throughput["uncounted_operators"])
        assert throughput["energy_joules_per_kimg"] is None
        assert throughput["energy_reason"]
        assert throughput["data_wait_share"] == 0
        assert throughput["warmup_seconds"] > throughput["first_step_seconds"] > 0
        assert throughput["sample_latency_seconds"]["median"] > 0
        assert throughput["evaluation_images_per_second"]["median"] > 0
        assert record["dataset"]["resident"] is True
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


def written(results: Path) -> dict[Path, int]:
    """When each file was last written, in nanoseconds; not the locks, which older versions of filelock touch."""
    files = [path for path in results.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path: path.stat().st_mtime_ns for path in files}


def test_repeated_command_skips_finished_runs_and_prints_every_record(finished, run_cli):
    _, results = finished
    stamps = written(results)
    assert stamps
    again = run_cli(
        "bench", "--models", "dcgan,cdcgan", *QUICK, "--metrics", "fid,is,kid,prc,modes", "--device", "cpu",
        "--results", results, "--json",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert [record["spec"]["variant"] for record in json.loads(again.stdout)] == ["dcgan", "cdcgan"]
    assert again.stderr.count("done before, skipped") == 2
    assert written(results) == stamps


def test_forced_run_repeats_bit_for_bit(finished, run_cli):
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
    for score in (*scores[0], *scores[1]):
        assert score.pop("date")
        assert score.pop("train_seconds") > 0
    assert scores[0] == scores[1]


def test_compare_reads_bench_records_in_every_format(finished, run_cli):
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


def test_score_of_exported_samples_equals_the_fid_of_their_features(finished, run_cli):
    """The samples of a run, saved as PNG and scored as a folder, against the run's own features of the same images."""
    import torch

    import ganzoo
    from ganzoo.util.images import save_png

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

    from ganzoo.data.finding import find_dataset, prepare_dataset
    from ganzoo.evaluation.extractors import load_extractor
    from ganzoo.evaluation.features import RealSample
    from ganzoo.evaluation.scorer import Scorer
    from ganzoo.registry.discovery import discover

    registry = discover()
    dataset = prepare_dataset(registry, *find_dataset(registry, "digits"))
    real = RealSample(dataset, load_extractor(registry.get("features", "digits-cnn").record, "cpu"))
    metrics = [registry.get("metrics", name).record for name in ("fid", "is")]
    scores, _ = Scorer(metrics, real).score(iter(images.split(64)), 0.0, None)
    expected = {score["metric"]: score["value"] for score in scores}
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("forked_runs")
def test_bench_from_python_gives_the_records_of_the_command(finished, tmp_path):
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


@pytest.mark.usefixtures("forked_runs")
def test_bench_from_python_sends_events_and_warnings_and_prints_nothing(tmp_path, stranger, capfd):
    import ganzoo

    def bench(**options):
        return ganzoo.bench(
            ["mlp", "typo*"], plugins=[stranger("broken_build"), stranger("import_error")], throughput_only=True,
            throughput_seconds=0.1, threads=1, device="cpu", results=tmp_path / "runs", **options,
        )  # fmt: skip

    events: list[ganzoo.Event] = []
    with pytest.warns(UserWarning) as caught:  # noqa: PT030
        (record,) = bench(on_event=events.append)
    told = [warning for warning in caught if warning.category is UserWarning]
    broken, left_out = (str(warning.message) for warning in told)
    assert broken.startswith("plugin import_error.py is broken and left out: ModuleNotFoundError")
    assert left_out.startswith("left out typo: ")
    # A warning points at the user's line, not at a line in ganzoo.
    assert {warning.filename for warning in told} == {__file__}
    assert isinstance(events[0], ganzoo.RunStarted)
    assert isinstance(events[-1], ganzoo.RunFinished)
    assert any(isinstance(event, ganzoo.StageChanged) for event in events)
    assert events[-1].record == record
    assert not events[-1].skipped
    capfd.readouterr()
    with pytest.warns(UserWarning, match="left out"):
        assert bench()[0].run_id == record.run_id
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ganzoo.UsageError, match="on_event: give a function"):
        bench(on_event="print")


def test_python_warns_of_broken_plugins_and_records(finished, tmp_path, stranger):
    import ganzoo

    _, results = finished
    run = next(results.rglob("dcgan-*"))
    for draw in (ganzoo.sample, ganzoo.load_generator):
        with pytest.warns(UserWarning, match="import_error.py is broken and left out") as caught:
            draw(run, plugins=[stranger("import_error")])
        assert [warning.filename for warning in caught] == [__file__]
    (tmp_path / "record.json").write_text("{")
    with pytest.warns(UserWarning, match="is not JSON") as caught:
        assert len(ganzoo.load(results, tmp_path)) == 2
    assert [warning.filename for warning in caught] == [__file__]


def test_a_generator_that_a_plugin_made_needs_the_plugin(run_cli):
    hinge = Path(__file__).parents[1] / "docs" / "examples" / "hinge.py"
    done = run_cli("bench", "--models", "hinge-dcgan", "--plugin", hinge, *QUICK, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    [record] = records_in(run_cli.cwd / "runs")
    assert record["spec"]["recipe"]["loss"] == "hinge.py:my-hinge"
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


def test_failed_runs_are_rows_and_the_other_runs_go_on(run_cli):
    """One run raises, one is killed, one diverges, one succeeds: three failures in the table, exit code 1."""
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


SPEED = ("--throughput-only", "--throughput-seconds", "0.05", "--threads", "1", "--device", "cpu")
"""Arguments of the shortest bench."""


def with_closed_pipe(stream: str, cwd: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """Run the command with `stream` in a pipe whose reader has closed it before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    try:
        command = [*forked("ganzoo", "whole"), *map(str, args)]
        return subprocess.run(command, cwd=cwd, env=buffered(), text=True, timeout=HANGING, **streams)
    finally:
        os.close(writer)


def buffered() -> dict[str, str]:
    """The environment of users, without PYTHONUNBUFFERED: short output is written only at the end."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@needs_system(os.name == "posix", "pipes as POSIX has them")
def test_closed_pipe_on_stdout_changes_no_exit_code(run_cli):
    (run_cli.cwd / "bad.py").write_text(BAD_LOSS)
    for format in ((), ("--json",)):
        bench = ("bench", "--plugin", "bad.py", "--models", "late", *SPEED, "--quiet", *format)
        done = with_closed_pipe("stdout", run_cli.cwd, *bench)
        assert (done.returncode, done.stderr) == (1, ""), format
    [record] = records_in(run_cli.cwd / "runs")
    assert record["status"] == "crashed"
    for command in (("list",), ("list", "--json"), ("plugins",), ("--help",)):
        done = with_closed_pipe("stdout", run_cli.cwd, *command)
        assert (done.returncode, done.stderr) == (0, ""), command


@needs_system(os.name == "posix", "pipes as POSIX has them")
def test_bench_goes_on_when_the_pipe_on_stderr_is_closed(run_cli):
    done = with_closed_pipe("stderr", run_cli.cwd, "bench", "--models", "mlp", *SPEED, "--json")
    assert done.returncode == 0
    assert [record["status"] for record in json.loads(done.stdout)] == ["ok"]


@needs_system(Path("/dev/full").exists(), "has no /dev/full")
@pytest.mark.parametrize("display", [{}, {"FORCE_COLOR": "1"}], ids=["lines", "live"])
def test_bench_goes_on_when_stderr_is_on_a_full_disk(display, run_cli):
    command = [*forked("ganzoo", "whole"), "bench", "--models", "mlp", *SPEED]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, cwd=run_cli.cwd, env=buffered() | display, stdout=subprocess.PIPE, stderr=full, timeout=HANGING
        )
    assert done.returncode == 0
    assert b"mlp" in done.stdout
    assert [record["status"] for record in records_in(run_cli.cwd / "runs")] == ["ok"]


@needs_system(os.name == "posix", "terminals as POSIX has them")
def test_bench_goes_on_when_its_terminal_is_closed(run_cli):
    ours, theirs = os.openpty()
    command = [*forked("ganzoo", "whole"), "bench", "--models", "mlp", *SPEED, "--json"]
    process = subprocess.Popen(command, cwd=run_cli.cwd, env=buffered(), stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    assert os.read(ours, 1), "it has begun to show its progress"
    os.close(ours)
    said, _ = process.communicate(timeout=HANGING)
    assert process.returncode == 0
    assert [record["status"] for record in json.loads(said)] == ["ok"]


@needs_system(Path("/dev/full").exists(), "has no /dev/full")
def test_table_on_a_full_disk_is_one_error_line(run_cli):
    for command in (("list", "--json"), ("list", "metrics", "--json")):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*forked("ganzoo", "whole"), *command],
                env=buffered(),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=HANGING,
            )
        assert (done.returncode, done.stderr) == (2, "ganzoo: No space left on device\n"), command


def files_of_runs(results: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in results.rglob("*") if path.is_file() and path.parent.name != ".claims"}


@needs_system(sys.platform == "linux", "limits as Linux has them")
def test_record_on_a_full_disk_is_one_error_line_and_the_other_records_stay(run_cli):
    bench = ("bench", *SPEED, "--quiet", "--json")
    assert run_cli(*bench, "--models", "mlp").returncode == 0
    before = files_of_runs(run_cli.cwd / "runs")
    assert len(before) == 1
    done = run_cli(*bench, "--models", "mlp,dcgan", largest_file=1000)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ganzoo: cannot write {run_cli.cwd}/runs/")
    assert line.endswith("/record.json: File too large; choose another --results folder")
    assert "/dcgan-digits-s0-" in line
    # No partial record is left, and the finished run is not lost.
    assert files_of_runs(run_cli.cwd / "runs") == before


@needs_system(os.name == "posix", "signals as POSIX has them")
def test_run_is_killed_with_its_parent_and_done_by_the_next_command(run_cli):
    command = [sys.executable, "-m", "ganzoo", "bench", "--models", "dcgan", "--kimg", "100000", "--device", "cpu"]
    process = subprocess.Popen(command, cwd=run_cli.cwd, stderr=subprocess.DEVNULL)
    children = wait_for(lambda: _children(process.pid))
    process.kill()
    process.wait()
    assert wait_for(lambda: not any(_alive(child) for child in children))
    assert list(run_cli.cwd.rglob("record.json")) == []


@needs_system(os.name == "posix", "signals as POSIX has them")
def test_ctrl_c_records_the_run_as_interrupted(run_cli):
    command = [sys.executable, "-m", "ganzoo", "bench", "--models", "dcgan", "--kimg", "100000", "--device", "cpu"]
    process = subprocess.Popen(
        command,
        cwd=run_cli.cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=restore_default_signals,
    )
    children = wait_for(lambda: _children(process.pid))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=HANGING)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not any(_alive(child) for child in children)
    [record] = records_in(run_cli.cwd / "runs")
    assert record["status"] == "interrupted"


def _children(pid: int) -> list[int]:
    """The processes of its runs. Others, of git for instance, are gone in a moment."""
    import psutil

    children = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            children += [child.pid] if "ganzoo.running.worker" in child.cmdline() else []
    return children


def _alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_throughput_only_needs_no_extractor_and_records_no_scores(run_cli):
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
def test_bench_on_mnist(run_cli):
    done = run_cli("bench", "--models", "mlp", "--dataset", "mnist", *QUICK, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    [record] = json.loads(done.stdout)
    assert record["spec"]["image_shape"] == [1, 28, 28]
    assert record["dataset"]["count"] == 60_000
    assert {protocol["extractor"] for protocol in record["protocols"].values()} == {"mnist-cnn"}


@pytest.mark.skipif("GANZOO_DATA" not in os.environ, reason="GANZOO_DATA names no folder with CIFAR-10")
def test_bench_on_a_labelled_folder_of_jpegs(run_cli):
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


def test_bench_scores_by_inception_from_a_weights_file(run_cli, random_weights):
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
def test_default_bench_learns_digits(run_cli):
    """The README's first command: DCGAN scores better than the MLP."""
    done = run_cli("bench", "--models", "dcgan,mlp", "--json", timeout=1800)
    assert done.returncode == 0, done.stderr
    records = {record["spec"]["variant"]: record for record in json.loads(done.stdout)}
    fid = {name: record["training"]["final"]["fid/ema"]["value"] for name, record in records.items()}
    assert fid["dcgan"] < fid["mlp"]


def test_batch_sweep_measures_every_size_and_names_the_largest(run_cli):
    done = run_cli(
        "bench", "--models", "mlp", "--sweep-batch", "64,16", "--threads", "1", "--throughput-seconds", "0.2", "--json"
    )
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert [record["spec"]["recipe"]["batch_size"] for record in records] == [16, 64]
    assert all(record["scores"] == [] and record["spec"]["kimg"] == 0 for record in records)
    assert all(record["throughput"]["peak_memory_bytes"] > 0 for record in records)
    assert "mlp: every batch that was tried fits; the largest of them is 64" in done.stderr


@pytest.mark.parametrize("width", [60, 80])
def test_no_number_of_a_dry_run_breaks_in_a_narrow_terminal(width, invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    outcome = invoke("bench", "--models", "dcgan,deconv-mlp", "--dry-run", "--threads", "1")
    assert outcome.code == 0, outcome.err
    table = outcome.out.partition("on cpu")[0]
    assert max(map(len, table.splitlines())) <= width
    assert {"1x16x16", "128"} <= set(table.split())
    assert {"337,281", "134,465", "5,927,105", "921,345"} <= set(outcome.out.split())


NARROW = '''"""A GAN whose discriminator has no room for more than 64 images."""
import torch
from torch import nn

import ganzoo


class Narrow(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(256, 1)

    def forward(self, images):
        if len(images) > 64 and not images.is_meta:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")
        return self.head(images.flatten(1)).squeeze(1)


def build(image_shape, latent, classes):
    return nn.Sequential(nn.Linear(latent, 256), nn.Tanh(), nn.Unflatten(1, (1, 16, 16))), Narrow()


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("narrow", ganzoo.Architecture("narrow", build, image_sizes=(16,), channels=(1,)), "hinge")
'''


@pytest.fixture
def narrow(tmp_path) -> Path:
    path = tmp_path / "narrow.py"
    path.write_text(NARROW)
    return path


def test_automatic_batch_sweep_ends_at_the_first_out_of_memory(run_cli, narrow):
    command = (
        "bench",
        "--models",
        "narrow",
        "--plugin",
        narrow,
        "--sweep-batch",
        "auto",
        "--throughput-seconds",
        "0.2",
    )
    done = run_cli(*command, "--threads", "1", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "narrow: the largest batch that fits is 64; 128 ended as oom" in done.stderr
    records = records_in(run_cli.cwd / "runs")
    assert sorted((record["spec"]["recipe"]["batch_size"], record["status"]) for record in records) == [
        (16, "ok"),
        (32, "ok"),
        (64, "ok"),
        (128, "oom"),
    ]


@pytest.mark.parametrize(("other", "code"), [("16", 0), ("128", 1)])
def test_out_of_memory_ends_a_batch_sweep_in_a_suite_and_fails_any_other_part(other, code, run_cli, narrow, tmp_path):
    sweep = 'sweep_batch = "64,128"\nthroughput_seconds = 0.2'
    alone = f"batch_size = {other}\nthroughput_only = true\nthroughput_seconds = 0.1"
    benches = (f'[[bench]]\nmodels = ["narrow"]\nplugins = ["narrow.py"]\n{part}\n' for part in (sweep, alone))
    (tmp_path / "own.toml").write_text("\n".join(benches))
    done = run_cli("bench", "--suite", "own.toml", "--threads", "1", "--device", "cpu")
    assert done.returncode == code, done.stderr
    assert "narrow: the largest batch that fits is 64; 128 ended as oom" in done.stderr
