"""Wrong requests: one line that names the fix, exit code 2, nothing trained and nothing written."""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file

import ganzoo
from ganzoo.cli.commands import FUNCTIONS
from ganzoo.cli.parser import build_parser
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.records.store import write_record
from ganzoo.registry.discovery import discover
from ganzoo.runs import SCHEMA, RunRecord
from ganzoo.training.assembly import assemble

BENCH = ("bench", "--device", "cpu", "--throughput-only", "--throughput-seconds", "0.1")
"""A bench that needs neither budget nor extractor, so that only the argument under test is wrong."""


@pytest.fixture
def refused(invoke, tmp_path):
    """`refused(*args)`: the error line of a command that exits with 2 and has written nothing."""

    def refused(*args: object) -> str:
        before = sorted(path for path in tmp_path.rglob("*") if path.name != "runs")
        outcome = invoke(*args)
        assert outcome.code == 2, outcome
        line = outcome.error
        assert line.startswith("ganzoo")
        assert line.isprintable()
        assert not (tmp_path / "runs").exists()
        assert sorted(path for path in tmp_path.rglob("*")) == before
        return line

    return refused


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of twelve grey 16-pixel pictures, without subfolders and so without labels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(12):
        Image.new("L", (16, 16), 20 * index).save(folder / f"{index:02}.png")
    return folder


# --- end to end, in a subprocess --------------------------------------------------------------------------------------

SCRIPT = Path(sysconfig.get_path("scripts")) / ("ganzoo.exe" if sys.platform == "win32" else "ganzoo")


@pytest.mark.parametrize("program", [(sys.executable, "-m", "ganzoo"), (str(SCRIPT),)], ids=["module", "script"])
def test_usage_error_is_one_line_and_exit_code_2(program, run_cli, tmp_path):
    done = run_cli("bnech", "--models", "dcgan", program=program)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ganzoo: no command is called 'bnech'; did you mean 'bench'? (see `ganzoo --help`)\n"


def test_unknown_variant_is_one_line_on_stderr_of_a_subprocess(run_cli, tmp_path):
    done = run_cli("bench", "--models", "dcgann,mlp", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "no variant is called 'dcgann'; did you mean 'dcgan'" in line
    assert list(tmp_path.iterdir()) == []


# --- unknown names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (("--models", "dcgann"), "no variant is called 'dcgann'; did you mean 'dcgan'"),
        (("--models", "mlp", "--dataset", "digit"), "no dataset is called 'digit'; did you mean 'digits'"),
        (("--models", "mlp", "--dataset", "digits:16"), "no dataset is called 'digits:16'"),
        (("--models", "mlp", "--dataset", "folder"), "write folder:PATH"),
        (("--models", "mlp", "--dataset", "folder:"), "write folder:PATH"),
        (("--models", "mlp", "--loss", "hing"), "no loss is called 'hing'; did you mean 'hinge'"),
        (("--models", "mlp", "--device", "quantum"), "it has cpu"),
        (("--models", "mlp", "--device", "cuda:99"), "not on this machine"),
        (("--models", "mlp", "--precision", "fp64"), "choose from fp32, tf32, bf16"),
        (("--models", "mlp", "--precision", "tf32"), "has no tf32 units; use fp32"),
        (("--models", "mlp", "--set", "mlp.batchsize=8"), "did you mean 'batch_size'"),
        (("--models", "mlp", "--set", "mpl.batch_size=8"), "did you mean 'mlp'"),
        (("--models", "mlp", "--set", "dcgan.batch_size=8"), "no selected variant is called that"),
        (("--models", "mlp", "--set", "mlp.batch_size"), "write VARIANT.FIELD=VALUE"),
        (("--models", "mlp", "--set", "mlp.penalties=r3"), "no loss is called 'r3' (known: "),
        (("--models", ""), "name at least one variant"),
        (("--models", "\x1b[2J\nmlp"), "no variant"),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is(args, fix, refused):
    assert fix in refused(*BENCH, *args)


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (("--metrics", "fidd"), "no metric is called 'fidd'; did you mean 'fid'"),
        (("--metrics", "fid,,nope"), "no metric is called 'nope'"),
        (("--metrics", ","), "--metrics: name at least one"),
        (("--features", "digit-cnn"), "no feature extractor is called 'digit-cnn'; did you mean 'digits-cnn'"),
        (("--weights", "nowhere.pth"), "--weights nowhere.pth: no such file"),
    ],
)
def test_metrics_and_features_are_checked_before_training(args, fix, refused):
    assert fix in refused("bench", "--models", "mlp", "--device", "cpu", *args)


def test_weights_with_another_sha256_are_refused_with_both_fixes(refused, tmp_path, stranger):
    (tmp_path / "other.bin").write_bytes(b"not these")
    plugin = ("--plugin", stranger("laboratory"), "--dataset", "stripes", "--metrics", "mean-gap")
    line = refused("bench", "--models", "mlp", "--device", "cpu", *plugin, "--weights", "other.bin")
    assert "other.bin has sha256 " in line
    assert "delete it to fetch it again" in line
    assert "--weights-sha256" in line


def test_metric_that_needs_labels_is_refused_on_unlabelled_data(refused, pictures, stranger):
    plugin = ("--plugin", stranger("laboratory"), "--features", "pooled")
    bench = ("bench", "--models", "mlp", "--device", "cpu", "--metrics", "modes", "--image-size", 16)
    assert "metric 'modes' needs labels" in refused(*bench, *plugin, "--dataset", f"folder:{pictures}")


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (("--kimg", "0"), "--kimg 0.0: give a number above 0"),
        (("--kimg", "-1"), "--kimg -1.0: give a number above 0"),
        (("--kimg", "nan"), "--kimg nan: give a number above 0"),
        (("--kimg", "inf"), "--kimg inf: give a number above 0"),
        (("--kimg", "abc"), "--kimg abc: give thousands of images, 'full'"),
        (("--kimg", ""), "give thousands of images, 'full'"),
        (("--kimg", "full"), "its source gives no budget; give a number"),
        (("--seeds", "0"), "--seeds 0: give a number above 0"),
        (("--seeds", "two"), "invalid int value: 'two'"),
        (("--seeds", "1000000000"), "--seeds 1000000000: give at most 10000"),
        (("--eval-every", "1e-9"), "evaluations; give at least 0.03"),
        (("--seed", "-1"), "--seed -1: give a whole number from 0"),
        (("--seed", str(2**64)), "--seed 18446744073709551616: give a whole number from 0 to 9223372036854775807"),
        (("--seed", str(2**63 - 1), "--seeds", "2"), "give a whole number from 0 to 9223372036854775806"),
        (("--threads", "0"), "--threads 0: give a number from 1"),
        (("--step-mode", "fast"), "--step-mode fast: choose from eager, graph, compile"),
        (("--step-mode", "graph"), "--step-mode graph: cpu has no CUDA graphs; use eager or compile"),
        (("--sweep-batch", "16,x"), "--sweep-batch 16,x: give sizes from 2, as in 16,32,64, or auto"),
        (("--sweep-batch", "1"), "--sweep-batch 1: give sizes from 2"),
        (("--sweep-batch", "16,4096"), "batch_size 4096 is larger than dataset 'digits'"),
        (("--sweep-batch", "16", "--batch-size", "8"), "--sweep-batch and --batch-size: give one of them"),
        (("--fakes", "9"), "--fakes 9: give at least 10"),
        (("--eval-every", "0"), "--eval-every 0.0: give a number above 0"),
        (("--eval-every", "nan"), "--eval-every nan: give a number above 0"),
        (("--throughput-seconds", "0"), "--throughput-seconds 0.0: give a number above 0"),
        (("--throughput-seconds", "inf"), "--throughput-seconds inf: give a number above 0"),
        (("--image-size", "0"), "--image-size 0: give a number from 1 to 4096"),
        (("--image-size", "1000000"), "--image-size 1000000: give a number from 1 to 4096"),
        (("--batch-size", "0"), "batch_size is 0; give a whole number from 2"),
        (("--batch-size", "1"), "batch_size is 1; give a whole number from 2"),
        (("--batch-size", "1439"), "with its 1438 images; choose a smaller --batch-size"),
        (("--set", "mlp.batch_size=5000"), "batch_size 5000 is larger than dataset 'digits'"),
        (("--set", "mlp.learning_rate=nan"), "give a finite number"),
        (("--set", "mlp.betas=0.5,1"), "mlp: optimizer.betas[1] is 1.0; give a number from 0 to below 1"),
        (("--set", "mlp.discriminator.repeats=0"), "give a whole number from 1"),
    ],
)
def test_option_out_of_range_is_refused(args, fix, refused):
    assert fix in refused(*BENCH, "--models", "mlp", *args)


def test_batch_size_may_equal_the_dataset_size(invoke):
    outcome = invoke(*BENCH, "--models", "mlp", "--batch-size", 1438, "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)[0]["spec"]["recipe"]["batch_size"] == 1438


# --- unknown arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (("bnech",), "did you mean 'bench'"),
        (("train", "--models", "mlp"), "no command is called 'train'"),
        (("bench",), "give --models"),
        (("bench", "--models"), "--models: expected one argument"),
        (("bench", "--models", "mlp", "--epochs", "3"), "unrecognized arguments: --epochs 3"),
        (("bench", "--models", "mlp", "stray"), "unrecognized arguments: stray"),
        (("bench", "--models", "mlp", "--kimgs", "3"), "unrecognized arguments: --kimgs 3; did you mean '--kimg'"),
        (("bench", "--model", "mlp"), "unrecognized arguments: --model mlp; did you mean '--models'"),
        (("compare", "--format=json", "--baselin=mlp"), "did you mean '--baseline'"),
        (("bench", "--models", "mlp", "--max-disturbance", "1.5"), "--max-disturbance 1.5: give a share from 0"),
        (("list", "varients"), "invalid choice: 'varients'"),
        (("show",), "required: NAME"),
        (("show", "dcgann"), "nothing is called 'dcgann'; did you mean 'dcgan'"),
        (("show", "dcgan+hing"), "did you mean 'hinge'"),
        (("sample",), "required: RUN"),
        (("score",), "required: RUN|IMAGES"),
        (("--colour",), "unrecognized arguments: --colour"),
    ],
)
def test_unknown_arguments_are_refused(args, fix, refused):
    assert fix in refused(*args)


@pytest.mark.parametrize("dry", [("--dry-run",), ()])
@pytest.mark.parametrize(
    ("options", "fix"),
    [
        (("--max-disturbance", "2"), "--max-disturbance 2.0: give a share from 0 to below 1"),
        (("--max-disturbance", "nan"), "--max-disturbance nan: give a share"),
        (("--checkpoint-seconds", "-1"), "--checkpoint-seconds -1.0: give a number from 0"),
        (("--checkpoint-seconds", "nan"), "--checkpoint-seconds nan: give a number from 0"),
        (("--timeout", "0"), "--timeout 0.0: give a number of seconds above 0"),
        (("--retry", "diverged"), "--retry diverged: choose from oom,"),
        (("--interleave",), "--interleave: only speeds can be measured in turn; add --throughput-only"),
        (
            ("--interleave", "--throughput-only"),
            "--interleave: measures runs in turn with each other",
        ),
        (("--interleave", "--throughput-only", "--batch-size", "auto"), "--interleave and --batch-size auto: the"),
        (("--interleave", "--sweep-batch", "auto"), "--interleave and --sweep-batch auto: the batches must be known"),
    ],
)
def test_options_of_how_to_run_are_checked_before_anything_also_by_a_dry_run(options, fix, dry, refused):
    assert fix in refused("bench", "--models", "mlp", "--device", "cpu", *options, *dry)


def test_the_same_from_python_and_of_a_suite(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ganzoo.UsageError, match="--max-disturbance 2: give a share"):
        ganzoo.bench("no-such-model", max_disturbance=2)
    assert "--retry never: choose from" in refused("bench", "--suite", "quick", "--retry", "never", "--dry-run")
    assert "add --throughput-only" in refused("bench", "--suite", "quick", "--interleave", "--dry-run")


# --- folders ----------------------------------------------------------------------------------------------------------


def test_unwritable_results_folder_is_refused_before_training(invoke, tmp_path):
    # Root may write anywhere, so the folder is an impossible one: a file, below a file, below /proc.
    file = tmp_path / "file"
    file.write_text("not a folder")
    places = [file, file / "runs", *([Path("/proc/ganzoo")] if Path("/proc/self").exists() else [])]
    for place in places:
        outcome = invoke(*BENCH, "--models", "mlp", "--results", place)
        assert outcome.code == 2
        assert outcome.error.startswith(f"ganzoo: --results {place}: ")
        assert outcome.error.endswith("choose a folder you can write to")
    assert file.read_text() == "not a folder"


def test_unwritable_cache_is_refused(refused, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "file" / "cache"))
    line = refused(*BENCH, "--models", "mlp")
    assert "cannot create the cache folder" in line
    assert line.endswith("set GANZOO_CACHE to a folder you can write to")


def test_a_dry_run_writes_nothing(invoke, tmp_path):
    outcome = invoke(*BENCH, "--models", "mlp", "--dry-run")
    assert outcome.code == 0
    assert "batch_size = 128" in outcome.out
    assert list(tmp_path.iterdir()) == []
    # A dry run neither creates nor probes nor changes the results folder.
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "results").mkdir()
    before = (tmp_path / "results").stat().st_mtime_ns
    for folder in ("absent", "file", "results"):
        assert invoke(*BENCH, "--models", "mlp", "--dry-run", "--json", "--results", folder).code == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "results"]
    assert (tmp_path / "results").stat().st_mtime_ns == before


def test_dry_run_prints_the_spec_of_the_first_seed_and_lists_the_seeds(invoke):
    outcome = invoke(*BENCH, "--models", "mlp,dcgan", "--dry-run", "--seeds", 3, "--seed", 5)
    assert outcome.code == 0
    lines = [line.rstrip() for line in outcome.out.splitlines()]
    assert [line for line in lines if line.startswith("  seed = ")] == ["  seed = 5"] * 2
    assert [line for line in lines if "of which" in line] == [
        "mlp, seeds 5 to 7, of which this is the first",
        "dcgan, seeds 5 to 7, of which this is the first",
    ]
    assert sum("5 to 7" in line and "each" in line for line in lines) == 2
    outcome = invoke(*BENCH, "--models", "mlp", "--dry-run", "--seed", 5)
    lines = [line.rstrip() for line in outcome.out.splitlines()]
    assert [line for line in lines if line.startswith("mlp") and ": " not in line] == ["mlp"]


@pytest.mark.parametrize(
    ("folder", "fix"),
    [("empty", "empty: holds no record; run `ganzoo bench` first"), ("absent", "absent: no such folder; run")],
)
def test_compare_without_records_names_the_command_that_makes_them(folder, fix, refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert fix in refused("compare", folder)


def test_compare_defaults_to_the_folder_that_bench_writes(refused):
    assert "runs: no such folder; run `ganzoo bench` first" in refused("compare")


def test_an_unknown_format_is_refused_before_anything_is_read(refused):
    assert "no reporter is called 'yaml'" in refused("compare", "--format", "yaml")


def test_every_command_of_the_parser_has_one_function():
    _, names = build_parser()
    assert list(FUNCTIONS) == names
    assert len(set(FUNCTIONS.values())) == len(names)


@pytest.mark.parametrize("columns", ["wide", "", "0", "-3", "²", "٣", "1" * 30, "60"])
def test_invalid_columns_variable_means_the_default_width(columns, invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    outcome = invoke("list", "losses")
    assert outcome.code == 0, outcome.err
    assert (max(len(line.rstrip()) for line in outcome.out.splitlines()) > 60) == (columns != "60")


def test_a_working_folder_that_was_removed_is_one_line(tmp_path, invoke, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for command in (("list",), ("bench", "--models", "mlp"), ("doctor", tmp_path)):
        outcome = invoke(*command)
        assert outcome.code == 2
        why = "the working folder cannot be used (No such file or directory); cd to one that is there"
        assert outcome.error == f"ganzoo: {why}"
    assert invoke("--version").code == 0
    # From Python what needs no folder works.
    assert discover().names("variants")


# --- plugins ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugin", "fix"),
    [
        ("absent.py", "--plugin absent.py: does not exist"),
        ("nowhere/absent.py", "--plugin nowhere/absent.py: does not exist"),
        ("notes.txt", "notes.txt: is not a Python file (.py)"),
        ("folder", "folder: is not a Python file (.py)"),
        ("folder.py", "folder.py: is not a Python file (.py)"),
        ("a_module_that_nobody_has", "no such file or module; give a path that ends in .py"),
        ("a_module_that.nobody_has", "no such file or module"),
        ("json.nobody_has", "no such file or module"),
        ("", "give the path of a .py file or a module"),
        ("..", "give the path of a .py file or a module"),
    ],
)
@pytest.mark.parametrize("command", [("plugins",), (*BENCH, "--models", "mlp")], ids=["plugins", "bench"])
def test_missing_plugin_file_is_a_usage_error(plugin, fix, command, refused, tmp_path):
    (tmp_path / "notes.txt").write_text("import ganzoo\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.py").mkdir()
    assert fix in refused(*command, "--plugin", plugin)


def test_broken_plugin_is_one_warning_and_a_row_of_the_table(invoke, stranger):
    plugin = ("--plugin", stranger("raises_on_import"))
    outcome = invoke(*BENCH, "--models", "mlp", "--dry-run", "--json", *plugin)
    assert outcome.code == 0
    (line,) = outcome.err.splitlines()
    assert line.startswith("ganzoo: plugin raises_on_import.py is broken and left out: RuntimeError: ")
    assert json.loads(outcome.out)[0]["spec"]["variant"] == "mlp"
    outcome = invoke("plugins", *plugin)
    assert (outcome.code, outcome.err) == (0, "")
    (row,) = (row for row in outcome.out.splitlines() if "raises_on_import.py" in row.split()[:1])
    assert "broken" in row
    assert "no licence found" in row


def test_broken_plugin_is_fatal_with_strict(refused, invoke, stranger, tmp_path):
    plugin = ("--plugin", stranger("import_error"))
    line = refused(*BENCH, "--models", "mlp", *plugin, "--strict")
    assert "--strict: 1 broken plugin(s): import_error.py: ModuleNotFoundError" in line
    # Asking for what only the broken plugin could have offered fails, and the error says why.
    outcome = invoke(*BENCH, "--models", "unimportable", *plugin)
    assert outcome.code == 2
    line = outcome.err.splitlines()[-1]
    assert "no variant is called 'unimportable'" in line
    assert "broken plugins may have held it: import_error.py" in line
    assert not (tmp_path / "runs").exists()


def test_name_conflict_of_two_plugins_names_both(refused, stranger):
    both = ("--plugin", stranger("twins_a"), "--plugin", stranger("twins_b"))
    assert "ask for 'twins_a.py:twin' or 'twins_b.py:twin'" in refused(*BENCH, "--models", "twin", *both)


PARTIAL = """
import ganzoo
import torch
from torch import nn


def build(image_shape, latent, classes):
    channels, size, _ = image_shape
    if size == 28:
        raise ArithmeticError("28 is no power of two\\x1b[2J")
    if size == 48:
        raise SystemExit("no")
    # Reads values, which there are none of on the meta device.
    width = int(torch.ones(4).sum().item())
    pixels = channels * size * size
    generator = nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, image_shape), nn.Tanh())
    print("building")
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.Linear(width, 1), nn.Flatten(0))


@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture("partial", build, image_sizes=(8, 28, 32, 48), channels=(1,), latent=2)


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("halves", architecture="partial", loss="hinge")
"""


def test_show_prints_one_line_for_an_image_size_that_cannot_be_built(invoke, tmp_path):
    (tmp_path / "partial.py").write_text(PARTIAL)
    outcome = invoke("show", "halves", "--json", "--plugin", "partial.py")
    assert outcome.code == 0, outcome.err
    (description,) = json.loads(outcome.out)
    assert description["parameters"] == {
        "1x8x8": {"generator": 3 * 64, "discriminator": 4 * 65 + 5},
        "1x28x28": None,
        "1x32x32": {"generator": 3 * 1024, "discriminator": 4 * 1025 + 5},
        "1x48x48": None,
    }
    assert description["cannot_build"] == {
        "1x28x28": "ArithmeticError: 28 is no power of two [2J",
        "1x48x48": "SystemExit: no",
    }
    outcome = invoke("show", "halves", "--plugin", "partial.py")
    assert outcome.code == 0
    assert "1x28x28" in outcome.out.split("cannot build: ")[1]
    assert "\x1b" not in outcome.out
    assert "cannot build" not in invoke("show", "mlp").out


# --- impossible combinations ------------------------------------------------------------------------------------------


def test_conditional_variant_is_refused_on_unlabelled_data(refused, pictures):
    line = refused(
        *BENCH, "--models", "cdcgan", "--dataset", f"folder:{pictures}", "--image-size", 16, "--batch-size", 4
    )
    assert line.startswith("ganzoo: cdcgan: ")
    assert "is conditional and needs labels" in line
    assert line.endswith("has none; choose one that has them")


def test_conditional_variant_matched_by_a_glob_is_left_out_on_unlabelled_data(invoke, pictures):
    options = ("--dataset", f"folder:{pictures}", "--image-size", 16, "--batch-size", 4, "--dry-run", "--json")
    outcome = invoke(*BENCH, "--models", "cdcg*,mlp", *options)
    assert outcome.code == 0
    assert [entry["spec"]["variant"] for entry in json.loads(outcome.out)] == ["mlp"]
    (line,) = outcome.err.splitlines()
    assert line.startswith("ganzoo: left out cdcgan: ")
    assert "is conditional and needs labels" in line


def test_unsupported_image_size_is_refused_with_the_supported_ones(refused):
    line = refused(*BENCH, "--models", "dcgan", "--image-size", 20)
    assert "architecture 'dcgan' builds for 8, 16, 28, 32, 48, 64, 128 px, not 20; choose with --image-size" in line


def test_loss_that_needs_a_code_head_is_refused_without_one(refused):
    line = refused(*BENCH, "--models", "mlp", "--loss", "infogan")
    assert line.startswith("ganzoo: mlp: ")
    assert "code_head" in line


@pytest.mark.parametrize(
    ("dataset", "fix"),
    [
        ("folder:absent", "the image folder absent is not there"),
        ("folder:empty", "the folder empty holds no image"),
        ("folder:broken", "remove it or pass --skip-bad-images"),
    ],
)
def test_unreadable_image_folder_is_refused_by_name(dataset, fix, refused, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "picture.png").write_bytes(b"GIF89a, but not really")
    assert fix in refused(*BENCH, "--models", "mlp", "--dataset", dataset)


def test_missing_weights_offline_are_refused_within_seconds(refused, pictures, tmp_path, monkeypatch):
    # Offline: all network access goes to a port where nothing listens.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path.parent / f"{tmp_path.name}-cache"
    monkeypatch.setenv("GANZOO_CACHE", str(cache))
    monkeypatch.setenv("TORCH_HOME", str(cache))
    # There is no delayed second attempt either.
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"it waits for {seconds} s"))
    line = refused("bench", "--models", "mlp", "--device", "cpu", "--dataset", f"folder:{pictures}", "--batch-size", 4)
    assert "inception has no weights" in line
    assert f"at {cache}" in line


# --- sample and score -------------------------------------------------------------------------------------------------


@pytest.fixture
def hinge_run(strangers_bench) -> Path:
    (folder,) = strangers_bench.results.glob("*/hinge-dcgan-*")
    return folder


@pytest.fixture
def conditional_run(tmp_path, stranger) -> Path:
    """The folder of a finished run of a conditional variant; its generator is untrained."""
    registry = discover([str(stranger("laboratory"))])
    plan = BenchPlan(("cdcgan",), dataset="stripes", device="cpu", throughput_only=True)
    resolved = resolve(plan, registry)
    spec = resolved.runs[0].spec
    folder = tmp_path / "conditional"
    write_record(RunRecord(schema=SCHEMA, run_id="0" * 64, status="ok", spec=spec.to_json()), folder)
    generator = assemble(spec, registry, resolved.dataset).players.generator.network
    save_file(generator.state_dict(), folder / "generator.safetensors")
    return folder


@pytest.mark.parametrize(
    ("args", "fix"),
    [
        (("nowhere",), "run 'nowhere' is no folder, and no run in runs; give the folder that holds its record.json"),
        (("folder",), "folder/record.json: cannot be read"),
        (("file",), "file: is not JSON"),
    ],
)
def test_sample_refuses_a_folder_without_a_run(args, fix, refused, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("not a record")
    assert fix in refused("sample", *args)


def test_sample_does_not_overwrite_a_picture(refused, invoke, hinge_run, stranger, tmp_path):
    (tmp_path / "grid.png").write_text("precious")
    sample = ("sample", hinge_run, "--plugin", stranger("hinge"), "-n", 4)
    assert "-o grid.png: exists; choose another file or pass --force" in refused(*sample)
    assert (tmp_path / "grid.png").read_text() == "precious"
    assert "the folder nowhere does not exist" in refused(*sample, "-o", "nowhere/grid.png")
    assert invoke(*sample, "--force").code == 0
    assert Image.open(tmp_path / "grid.png").size[0] > 8


def test_sample_refuses_bad_count_or_label_or_missing_plugin(refused, hinge_run, stranger):
    plugin = ("--plugin", stranger("hinge"))
    assert "n is 0; ask for at least 1 image" in refused("sample", hinge_run, *plugin, "-n", 0)
    line = refused("sample", hinge_run, *plugin, "--label", 3)
    assert "variant 'hinge-dcgan' is unconditional; leave --label out" in line
    # The plugin that made the run is needed to build its networks.
    assert "no loss is called 'hinge.py:my-hinge'" in refused("sample", hinge_run)


def test_sample_warns_of_broken_plugins_and_refuses_them_with_strict(refused, invoke, hinge_run, stranger, tmp_path):
    plugins = ("--plugin", stranger("hinge"), "--plugin", stranger("import_error"))
    line = refused("sample", hinge_run, *plugins, "-n", 4, "--strict")
    assert "--strict: 1 broken plugin(s): import_error.py: ModuleNotFoundError" in line
    outcome = invoke("sample", hinge_run, *plugins, "-n", 4)
    assert (outcome.code, outcome.out) == (0, "")
    broken, wrote = outcome.err.splitlines()
    assert broken.startswith("ganzoo: plugin import_error.py is broken and left out: ModuleNotFoundError")
    assert wrote == "ganzoo: wrote 4 images to grid.png"


@pytest.mark.parametrize("label", [-1, 4, 1000])
def test_unknown_label_is_refused_with_the_known_ones(label, refused, conditional_run):
    assert "the labels of 'stripes' are 0 to 3" in refused("sample", conditional_run, "--label", label)


def test_sample_draws_a_known_label(invoke, conditional_run, tmp_path):
    outcome = invoke("sample", conditional_run, "--label", 3, "-n", 9, "-o", "three.png")
    assert outcome.code == 0, outcome.err
    assert Image.open(tmp_path / "three.png").mode == "L"


def test_sample_of_a_run_without_weights_is_refused(refused, conditional_run):
    (conditional_run / "generator.safetensors").unlink()
    assert "generator.safetensors: not there; the weights are kept where the run was made" in refused(
        "sample", conditional_run
    )


def test_sample_with_the_weights_of_another_network_is_refused(refused, conditional_run):
    (conditional_run / "generator.safetensors").write_bytes(b"\0" * 100)
    assert "generator.safetensors: does not fit architecture 'cdcgan'" in refused("sample", conditional_run)


def test_unscorable_folder_is_refused(refused, pictures, stranger, tmp_path):
    score = ("score", "--device", "cpu", "--dataset", "stripes", "--metrics", "mean-gap")
    score = (*score, "--plugin", stranger("laboratory"))
    assert "the image folder absent is not there" in refused(*score, "absent")
    assert "no metric is called 'fidd'" in refused(*score, pictures, "--metrics", "fidd")
    assert "no dataset is called 'stripe'; did you mean 'stripes'" in refused(*score, pictures, "--dataset", "stripe")
    for path in sorted(pictures.glob("*.png"))[9:]:
        path.unlink()
    assert "holds 9 images; scores need at least 10" in refused(*score, pictures)
    for path in pictures.glob("*.png"):
        Image.open(path).convert("RGB").save(path)
    assert "--background mauvve: give a colour such as white" in refused(*score, pictures, "--background", "mauvve")
    line = refused(*score, pictures)
    assert "images differ in channels: those of 'stripes' have 1 and those of '" in line
    assert line.endswith("/pictures' have 3; save them alike")


def test_one_colour_picture_among_the_real_ones_is_named(refused, pictures, tmp_path):
    """Not the fakes are to blame, which are all grey."""
    shutil.copytree(pictures, tmp_path / "real")
    Image.new("RGB", (16, 16), (200, 0, 0)).save(tmp_path / "real" / "red.png")
    line = refused("score", pictures, "--dataset", "folder:real", "--features", "digits-cnn", "--device", "cpu")
    count = len(list((tmp_path / "real").iterdir()))
    assert (
        f"in 'folder:real' 1 of {count} images is in colour (red.png) and the others are not, so all are read" in line
    )


ODD_SHAPE = """
import numpy as np
import ganzoo

@ganzoo.hookimpl
def ganzoo_datasets():
    images = np.zeros((20, 1, 28, 20), np.uint8)
    yield ganzoo.Dataset("nonsquare", lambda request: ganzoo.LabelledImages(images), lambda request: "1")
"""


def test_images_that_are_not_square_are_what_a_folder_cannot_be_scored_against(refused, pictures, tmp_path):
    (tmp_path / "odd.py").write_text(ODD_SHAPE)
    score = ("score", pictures, "--dataset", "nonsquare", "--plugin", "odd.py", "--features", "digits-cnn")
    line = refused(*score, "--device", "cpu")
    assert "'nonsquare' has images of 20 x 28 pixels, and those of a folder are cropped to squares" in line


@pytest.mark.parametrize(
    ("needs", "what"),
    [
        (("--models", "mlp", "--metrics", "modes"), "metric 'modes' needs labels"),
        (("--models", "cdcgan"), "cdcgan: architecture 'cdcgan' is conditional and needs labels"),
    ],
)
def test_a_stray_picture_beside_the_classes_is_named_where_labels_are_missing(needs, what, refused, pictures, tmp_path):
    for label in "01":
        shutil.copytree(pictures, tmp_path / "real" / label)
    Image.new("L", (16, 16)).save(tmp_path / "real" / "stray.png")
    bench = ("bench", "--device", "cpu", "--image-size", 16, "--features", "digits-cnn", "--dataset", "folder:real")
    line = refused(*bench, *needs)
    assert f"{what}, and dataset 'folder:real' has none: 1 of 25 images lies beside the subfolders (stray.png)" in line
    assert line.endswith("so the subfolders are no labels; move it into one, or out of the folder")


# --- broken records ---------------------------------------------------------------------------------------------------


def undated(scores: list[dict]) -> list[dict]:
    return [{name: value for name, value in score.items() if name != "date"} for score in scores]


def _changed(record: dict, **changes: object) -> str:
    return json.dumps(record | changes)


DAMAGES = {
    "empty": (lambda record: "", "is not JSON"),
    "truncated": (lambda record: json.dumps(record)[:1000], "is not JSON"),
    "merge-conflict": (lambda record: "<<<<<<< HEAD\n" + json.dumps(record), "is not JSON"),
    "nested": (lambda record: "[" * 100_000, "is not JSON"),
    "list": (lambda record: "[]", "is not a record"),
    "no-schema": (lambda record: _changed(record, schema=None), "has no schema that this version knows"),
    "newer": (lambda record: _changed(record, schema=99), f"newer than {SCHEMA}; upgrade ganzoo"),
    "status": (lambda record: _changed(record, status="fine"), "the unknown status fine"),
    "no-id": (lambda record: _changed(record, run_id=None), "lacks run_id"),
    "no-spec": (lambda record: _changed(record, spec=None), "lacks spec"),
    "half-spec": (lambda record: _changed(record, spec={"variant": "dcgan"}), "spec lacks its dataset"),
    "spec-types": (
        lambda record: _changed(record, spec=record["spec"] | {"kimg": "lots"}),
        "spec.kimg is 'lots'",
    ),
    "shape": (
        lambda record: _changed(record, spec=record["spec"] | {"image_shape": None}),
        "spec.image_shape is None; it must be an array",
    ),
    "scores": (lambda record: _changed(record, scores=5), "scores is 5"),
    "score": (lambda record: _changed(record, scores=[{"metric": "fid"}]), "scores[0] lacks its value"),
    "training": (lambda record: _changed(record, training="done"), "training is 'done'"),
}


def test_compare_names_broken_records_and_uses_the_rest(strangers_bench, invoke, tmp_path):
    results = tmp_path / "mixed"
    shutil.copytree(strangers_bench.results, results)
    for name, (damage, _) in DAMAGES.items():
        (results / name).mkdir()
        (results / name / "record.json").write_text(damage(strangers_bench.records[0]))
    (results / "binary").mkdir()
    (results / "binary" / "record.json").write_bytes(b"\xff\xfe\0\x80")
    outcome = invoke("compare", results, "--format", "json")
    assert outcome.code == 0, outcome.err
    assert sorted(row["variant"] for row in json.loads(outcome.out)) == ["chatty", "hinge-dcgan"]
    lines = outcome.err.splitlines()
    assert len(lines) == len(DAMAGES) + 1
    for name, (_, complaint) in {**DAMAGES, "binary": (None, "is not JSON")}.items():
        (line,) = (line for line in lines if f"{results / name / 'record.json'}: " in line)
        assert line.startswith("ganzoo: left out: ")
        assert complaint in line
    # The folder stays untouched: it may be a checkout that others share.
    assert sorted(path.parent.name for path in results.rglob("record.json")) == sorted(
        [*DAMAGES, "binary", *(path.parent.name for path in strangers_bench.results.glob("*/*/record.json"))]
    )


@pytest.mark.usefixtures("forked_runs")
def test_bench_does_a_run_with_a_broken_record_again_and_skips_the_others(strangers_bench, invoke, tmp_path):
    results = tmp_path / "runs"
    shutil.copytree(strangers_bench.results, results)
    (broken,) = results.glob("*/chatty-*/record.json")
    (whole,) = results.glob("*/hinge-dcgan-*/record.json")
    broken.write_text(broken.read_text()[:500])
    before = whole.read_bytes()
    outcome = invoke(*strangers_bench.arguments, "--models", "hinge-dcgan,chatty")
    assert outcome.code == 0, outcome.err
    hinge, chatty = json.loads(outcome.out)
    assert [record["run_id"] for record in (hinge, chatty)] == [record["run_id"] for record in strangers_bench.records]
    assert whole.read_bytes() == before
    assert json.loads(broken.read_text()) == chatty
    assert chatty["status"] == "ok"
    assert broken.with_name("record.json.broken").stat().st_size == 500
    (line,) = (line for line in outcome.err.splitlines() if "record.json.broken" in line)
    assert "is not JSON" in line
    assert line.endswith("and the run is done again")
    # The same seed trains to the same numbers.
    assert chatty["training"]["curves"] == strangers_bench.records[1]["training"]["curves"]
    assert undated(chatty["scores"]) == undated(strangers_bench.records[1]["scores"])
