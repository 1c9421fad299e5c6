"""`ganzoo doctor`: healthy files stay, every fault is named, broken files go to quarantine and nothing is lost."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ONE_MACHINE
from PIL import Image
from safetensors.numpy import save, save_file

from ganzoo.machine.timing import summary
from ganzoo.records.folder import claim
from ganzoo.records.protocols import protocol_id

RESULTS = Path(__file__).parent.parent / "results"


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def runs(tmp_path) -> Path:
    """Copies of three committed runs in the default folder of the command."""
    for name in ("mlp-digits", "dcgan-digits", "wgan-digits"):
        (source,) = ONE_MACHINE.glob(f"*/{name}-s0-*")
        shutil.copytree(source, tmp_path / "runs" / source.parent.name / source.name)
    return tmp_path / "runs"


@pytest.fixture
def mlp(runs) -> Path:
    (folder,) = runs.glob("*/mlp-*")
    return folder


@pytest.fixture
def findings(invoke) -> Callable[..., list[str]]:
    """`findings(*args)`: the faults that the doctor names, each as `file: fault`; checks the exit code."""

    def findings(*args: object) -> list[str]:
        outcome = invoke("doctor", *args, "--json")
        found = json.loads(outcome.out)["findings"]
        assert outcome.code == (1 if found else 0), outcome.err
        return [f"{Path(one['path']).name}: {one['what']}" for one in found]

    return findings


# --- healthy runs -----------------------------------------------------------------------------------------------------


def test_every_committed_record_is_healthy(invoke):
    before = contents(RESULTS)
    outcome = invoke("doctor", RESULTS)
    count = len(list(RESULTS.glob("*/*/record.json")))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{count} record(s), 0 checkpoint(s): all is well\n"
    assert contents(RESULTS) == before


def test_a_fresh_bench_is_healthy(strangers_bench, findings):
    # On a busy machine the peak may be measured in a worse moment than the step; the doctor rightly reports that.
    assert [line for line in findings(strangers_bench.results) if "mfu" not in line] == []


def test_the_default_folder_is_the_one_that_bench_writes(invoke, runs):
    assert invoke("doctor").out == "3 record(s), 0 checkpoint(s): all is well\n"
    shutil.rmtree(runs)
    outcome = invoke("doctor")
    assert outcome.code == 2
    assert outcome.error == "ganzoo: runs: no such folder; run `ganzoo bench` first, or name another"


def test_a_failed_run_is_no_fault(runs, mlp, findings):
    record = json.loads((mlp / "record.json").read_text())
    failed = {"status": "crashed", "error": {"type": "SIGKILL", "message": "killed", "tail": ""}}
    for name in ("scores", "protocols", "throughput", "training", "hardware", "dataset", "parameters"):
        failed[name] = type(record[name])()
    (mlp / "record.json").write_text(json.dumps(record | failed))
    (mlp / "samples.png").unlink()
    assert findings(runs) == []


def test_throughput_only_run_needs_no_samples_png(runs, mlp, findings):
    # The id no longer matches the spec, which is reported; the picture must not be.
    record = json.loads((mlp / "record.json").read_text())
    record["spec"] |= {"kimg": 0.0, "metrics": [], "fakes": 0}
    (mlp / "record.json").write_text(json.dumps(record | {"scores": [], "protocols": {}, "training": {}}))
    (mlp / "samples.png").unlink()
    assert not [line for line in findings(runs) if "samples.png" in line]


# --- faults in a record -----------------------------------------------------------------------------------------------


def set_value(*path: str | int, to: object) -> Callable[[dict], None]:
    """A function that sets one nested value of a record."""

    def change(record: dict) -> None:
        for key in path[:-1]:
            record = record[key]
        record[path[-1]] = to

    return change


def scale(*path: str | int, by: float) -> Callable[[dict], None]:
    def change(record: dict) -> None:
        value = record
        for key in path:
            value = value[key]
        set_value(*path, to=value * by)(record)

    return change


def rename_protocol(record: dict) -> None:
    identity = record["scores"][0]["protocol"]
    record["protocols"][f"{identity}0"] = record["protocols"].pop(identity)


RATE = ("throughput", "train_images_per_second")


def with_new_summary(change: Callable[[dict], None]) -> Callable[[dict], None]:
    """A function that recomputes the summary of the rate from its samples as `bench` does, then applies `change`."""

    def change_and_summarize(record: dict) -> None:
        part = record["throughput"]["train_images_per_second"]
        part |= summary(part["samples"])
        change(record)

    return change_and_summarize


FAULTS = {
    "schema": (set_value("schema", to=99), "has schema 99, newer than"),
    "type": (set_value("spec", "kimg", to="40"), "kimg is '40'"),
    "part": (set_value("throughput", to={"step_seconds": 3}), "throughput.step_seconds is 3; it must be an object"),
    "id": (set_value("run_id", to="0" * 64), "run_id is not that of its spec, plugins and versions"),
    "spec": (set_value("spec", "seed", to=1), "run_id is not that of its spec, plugins and versions"),
    "source": (
        set_value("environment", "plugins", "mlp", "source_sha256", to="0" * 64),
        "run_id is not that of its spec",
    ),
    "hardware": (set_value("hardware", "id", to="other"), "hardware.id is other, and spec.hardware amd-epyc-x2-t2"),
    "status": (set_value("status", to="crashed"), "status is crashed, and no error says why"),
    "error": (set_value("error", to={"type": "E", "message": "", "tail": ""}), "status is ok, and there is an error"),
    "empty": (set_value("throughput", to={}), "status is ok, and there is no throughput"),
    "untrained": (set_value("training", to={}), "status is ok, and there is no training"),
    "data": (set_value("dataset", "sha256", to="0" * 64), "dataset.sha256 is not spec.dataset_sha256"),
    "median": (scale(*RATE, "median", by=1.01), "train_images_per_second.median is"),
    "low": (with_new_summary(scale(*RATE, "low", by=1.01)), "low and .high are not the interval"),
    "high": (with_new_summary(scale(*RATE, "high", by=0.999)), "low and .high are not the interval"),
    "far": (scale(*RATE, "high", by=9), "low and .high are not the interval"),
    "sample": (scale(*RATE, "samples", 0, by=1.5), "and its samples give"),
    "negative": (scale(*RATE, "samples", 0, by=-1), "; it must be a number from 1e-30"),
    "no-samples": (set_value(*RATE, "samples", to=[]), "train_images_per_second has no samples"),
    "mfu": (scale("throughput", "mfu", by=1.01), "mfu is not flops_per_image times the median rate"),
    "mfu-range": (set_value("throughput", "mfu", to=-2.0), "throughput.mfu is -2.0; it must be a number from 0"),
    "memory": (
        set_value("throughput", "peak_memory_bytes", to=0),
        "throughput.peak_memory_bytes is 0; it must be a whole number from 1",
    ),
    "wait": (set_value("throughput", "data_wait_share", to=1.5), "data_wait_share is 1.5, and not from 0 to 1"),
    "fid": (set_value("scores", 0, "value", to=-1.0), "score fid at 10.112 kimg is -1, outside of 0 to inf"),
    "is": (set_value("scores", 1, "value", to=0.5), "score is at 10.112 kimg is 0.5, outside of 1 to inf"),
    "std": (set_value("scores", 1, "std", to=-0.5), "scores[1].std is -0.5; it must be a number from 0"),
    "interval": (
        lambda record: record["scores"][0].update(sample_low=0.0, sample_high=0.5),
        "and its interval from 0.0 to 0.5 does not hold it",
    ),
    "half-an-interval": (set_value("scores", 0, "sample_low", to=0.0), "and its interval from 0.0 to None"),
    "protocol": (set_value("scores", 0, "protocol", to="fid-other"), "no protocol is called fid-other"),
    "raw": (set_value("scores", 0, "ema", to=False), "ema is False, and its protocol's True"),
    "protocol-id": (rename_protocol, "the id is not that of its content"),
    "fakes": (
        lambda record: next(iter(record["protocols"].values())).update(n_fake=7),
        "the id is not that of its content",
    ),
    "kimg": (set_value("training", "kimg", to=1.0), "training.kimg is 1, less than the budget of 40"),
    "no-kimg": (set_value("training", "kimg", to=0.0), "training.kimg is 0, and not above 0"),
    "curve": (lambda record: record["training"]["curves"]["kimg"].pop(), "training.curves differ in length"),
    "axis": (lambda record: record["training"]["curves"]["kimg"].reverse(), "training.curves.kimg does not grow"),
    "final": (scale("training", "final", "fid/ema", "value", by=0.5), "training.final.fid/ema is not that"),
    "best": (scale("training", "best", "is/raw", "value", by=2), "training.best.is/raw is not that of its scores"),
    "forgotten": (lambda record: record["training"]["best"].pop("fid/ema"), "training.best.fid/ema is not that"),
    "invented": (set_value("training", "final", "kid/ema", to={"value": 0.0, "kimg": 40.0}), "training.final.kid/ema"),
    "updates": (set_value("training", "updates", "generator", to=-1), "training.updates.generator is -1"),
}
"""Changes of a record, and the fault that the doctor must name."""


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_record_is_named_and_its_run_quarantined_whole(name, runs, mlp, findings, invoke):
    change, complaint = FAULTS[name]
    record = json.loads((mlp / "record.json").read_text())
    untouched = copy.deepcopy(record)
    change(record)
    assert record != untouched
    (mlp / "record.json").write_text(json.dumps(record))
    before = contents(runs)
    found = findings(runs)
    assert any(complaint in line for line in found), found
    assert contents(runs) == before, "to look changes nothing"
    outcome = invoke("doctor", runs, "--fix")
    assert outcome.code == 1
    assert f"moved {mlp} to {runs / 'quarantine' / mlp.parent.name / mlp.name}" in outcome.err
    moved = {str(Path("quarantine", name)) if mlp.name in name else name: data for name, data in before.items()}
    assert contents(runs) == moved
    assert findings(runs) == []


@pytest.mark.parametrize(
    ("numpy", "interval", "judged"),
    [(np.__version__, None, True), ("1.0", None, False), (np.__version__, "drawn otherwise", False)],
)
def test_interval_is_checked_only_if_its_resamples_can_be_reproduced(numpy, interval, judged, runs, mlp, findings):
    """Records without `interval` used NumPy's `Generator`, whose stream may change with NumPy's version."""
    record = json.loads((mlp / "record.json").read_text())
    samples = np.asarray(record["throughput"]["train_images_per_second"]["samples"])
    medians = np.median(samples[np.random.default_rng(0).integers(len(samples), size=(2000, len(samples)))], axis=1)
    low, high = np.percentile(medians, (2.5, 97.5)).tolist()
    record["throughput"] = {"train_images_per_second": {"median": float(np.median(samples)), "low": low, "high": high}}
    part = record["throughput"]["train_images_per_second"]
    part |= {"samples": samples.tolist()} | ({"interval": interval} if interval else {})
    record["environment"]["packages"]["numpy"] = numpy
    (mlp / "record.json").write_text(json.dumps(record))
    assert findings(runs) == []
    part["low"] = (low + part["median"]) / 2
    (mlp / "record.json").write_text(json.dumps(record))
    assert any("low and .high are not the interval" in line for line in findings(runs)) == judged


def test_interval_from_the_promised_stream_is_checked_for_any_numpy_version(runs, mlp, findings):
    record = json.loads((mlp / "record.json").read_text())
    record["environment"]["packages"]["numpy"] = "1.0"
    with_new_summary(lambda record: None)(record)
    (mlp / "record.json").write_text(json.dumps(record))
    assert findings(runs) == []
    scale(*RATE, "low", by=1.01)(record)
    (mlp / "record.json").write_text(json.dumps(record))
    assert any("low and .high are not the interval" in line for line in findings(runs))


def negate_fid(record: dict, plugin: str | None) -> None:
    """Negate every FID, as a metric where higher is better; its plugin is `plugin`, or is not recorded."""
    for identity, content in list(record["protocols"].items()):
        if content["metric"] == "fid":
            del record["protocols"][identity]
            content |= {"metric_plugin": plugin}
            if plugin is None:
                del content["metric_plugin"]
            record["protocols"][protocol_id(content)] = content
            for score in record["scores"]:
                if score["protocol"] == identity:
                    score |= {"protocol": protocol_id(content), "value": -score["value"]}
    for points in (record["training"]["best"], record["training"]["final"]):
        for name in ("fid/ema", "fid/raw"):
            points[name]["value"] *= -1


@pytest.mark.parametrize(
    ("plugin", "strange"),
    [
        ("my_metrics.py", True),
        ("fid@my-metrics", True),
        (7, True),
        ("fid", False),
        ("fid@ganzoo", False),
        (None, False),
    ],
)
def test_zoo_score_bounds_do_not_apply_to_a_third_party_score_of_the_same_name(plugin, strange, runs, mlp, findings):
    record = json.loads((mlp / "record.json").read_text())
    negate_fid(record, plugin)
    (mlp / "record.json").write_text(json.dumps(record))
    found = findings(runs)
    if strange:
        assert found == []
    else:
        assert any("outside of 0 to inf" in line for line in found)
        assert any("training.best.fid/ema is not that of its scores" in line for line in found)


def test_invalid_json_and_non_records_are_quarantined(runs, invoke, findings):
    for index, text in enumerate(["", "[]", "{", '{"schema": 1}', "[" * 100_000, '{"a": NaN}']):
        (runs / f"broken-{index}").mkdir()
        (runs / f"broken-{index}" / "record.json").write_text(text)
    assert len(findings(runs)) == 6
    assert invoke("doctor", runs, "--fix").code == 1
    assert sorted(path.name for path in (runs / "quarantine").iterdir()) == [f"broken-{index}" for index in range(6)]
    assert findings(runs) == []


def test_mfu_above_peak_is_reported_but_not_moved_and_passes_if_flagged(runs, mlp, findings, invoke):
    record = json.loads((mlp / "record.json").read_text())
    record["throughput"]["peak_flops"] *= 0.1
    record["throughput"]["mfu"] *= 10
    (mlp / "record.json").write_text(json.dumps(record))
    (doubt,) = findings(runs)
    assert "throughput.mfu is" in doubt
    assert "above 1.05: the peak may have been measured in a worse moment" in doubt
    before = contents(runs)
    outcome = invoke("doctor", runs, "--fix")
    assert (outcome.code, outcome.err) == (1, "")
    assert contents(runs) == before
    record["throughput"]["flags"] = ["other processes used 51% of the CPU"]
    (mlp / "record.json").write_text(json.dumps(record))
    assert findings(runs) == []


def test_a_run_in_the_wrong_place_is_named(runs, mlp, findings):
    mlp.rename(mlp.with_name("renamed"))
    assert findings(runs) == [f"record.json: its folder is called renamed, and the run {mlp.name}"]
    (runs / "elsewhere").mkdir()
    mlp.with_name("renamed").rename(runs / "elsewhere" / mlp.name)
    assert findings(runs) == ["record.json: it lies in elsewhere, and was made on amd-epyc-x2-t2"]


def test_duplicate_run_is_quarantined_and_one_copy_stays(runs, mlp, findings, invoke):
    copied = runs / "a-copy" / mlp.parent.name / mlp.name
    shutil.copytree(mlp, copied)
    assert len(findings(runs)) == 1
    # The copy with a second fault goes, although its name sorts first.
    record = json.loads((copied / "record.json").read_text())
    (copied / "record.json").write_text(json.dumps(record | {"status": "crashed"}))
    found = findings(runs)
    assert any("lies in" in line and str(mlp) in line for line in found), found
    invoke("doctor", runs, "--fix")
    assert (mlp / "record.json").exists()
    assert not copied.exists()
    assert findings(runs) == []


# --- pictures, weights, checkpoints -----------------------------------------------------------------------------------


def bomb(path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


PICTURES = {
    "absent": (lambda path: path.unlink(), "is not there, and the run trained to its end"),
    "size": (lambda path: Image.new("L", (10, 10)).save(path), "is L of 10 x 10 pixels; 64 images of 1 channel(s)"),
    "colour": (lambda path: Image.open(path).convert("RGB").save(path), "is RGB of 584 x 584 pixels"),
    "jpeg": (lambda path: Image.new("L", (584, 584)).save(path, format="JPEG"), "is no PNG that can be read"),
    "short": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "is no PNG that can be read"),
    "text": (lambda path: path.write_text("<svg/>"), "is no PNG that can be read"),
    "bomb": (bomb, "is no PNG that can be read"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_samples_png_must_be_complete_and_of_the_right_size(name, runs, mlp, findings):
    damage, complaint = PICTURES[name]
    damage(mlp / "samples.png")
    (line,) = findings(runs)
    assert line.startswith("samples.png: ")
    assert complaint in line


@pytest.mark.parametrize(
    ("named", "missed"), [({}, False), ({"samples.png": "0" * 64}, True)], ids=["unnamed", "named"]
)
def test_samples_png_is_optional_unless_the_record_names_it(named, missed, runs, mlp, findings):
    """The disk may have been too full to write it."""
    record = json.loads((mlp / "record.json").read_text())
    (mlp / "record.json").write_text(json.dumps(record | {"files": named}))
    (mlp / "samples.png").unlink()
    assert findings(runs) == ["samples.png: is not there, and the run trained to its end"] * missed


def weights(count: int) -> dict[str, np.ndarray]:
    return {"weight": np.zeros(count, np.float32)}


class Payload:
    def __reduce__(self):
        return (os.mkdir, ("pickle-was-run",))


WEIGHTS = {
    "few": (lambda path: save_file(weights(7), path), "holds 7 numbers, and the generator learns"),
    "short": (lambda path: path.write_bytes(save(weights(10**6))[:-1]), "is no safetensors file"),
    "absurd": (lambda path: path.write_bytes(b"\xff" * 7 + b"\x7f{}"), "claims more bytes than there are"),
    "empty": (lambda path: path.write_bytes(b""), "claims more bytes than there are"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Payload())), "is a pickle, which can run code"),
    "folder": (lambda path: path.mkdir(), "is not a plain file"),
    "pipe": (os.mkfifo, "is not a plain file"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_file_must_be_complete_and_match_the_parameter_count(name, runs, mlp, findings, invoke, tmp_path):
    path = mlp / "generator.safetensors"
    save_file(weights(10**6), path)
    assert findings(runs) == []
    path.unlink()
    damage, complaint = WEIGHTS[name]
    damage(path)
    (line,) = findings(runs)
    assert line.startswith("generator.safetensors: ")
    assert complaint in line
    invoke("doctor", runs, "--fix")
    assert not path.exists(), "the weights go, and the record stays"
    assert (mlp / "record.json").exists()
    assert findings(runs) == []
    assert not (tmp_path / "pickle-was-run").exists()


@pytest.fixture(scope="module")
def benched(strangers_bench) -> Path:
    """A run whose record holds the sha256 of its files. Tests copy it: other tests share the original."""
    return next(strangers_bench.results.glob("*/hinge-dcgan-*"))


def test_a_record_holds_the_sha256_of_the_files_beside_it(benched):
    told = json.loads((benched / "record.json").read_text())["files"]
    found = {name: hashlib.sha256((benched / name).read_bytes()).hexdigest() for name in told}
    assert {name: facts["sha256"] for name, facts in told.items()} == found
    assert set(told) == {"samples.png", "generator.safetensors"}


def flip_weight_bit(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])


def invert_pixel(path: Path) -> None:
    picture = Image.open(path)
    picture.putpixel((9, 9), 255 - picture.getpixel((9, 9)))
    picture.save(path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [("generator.safetensors", flip_weight_bit), ("samples.png", invert_pixel)],
    ids=["weight", "pixel"],
)
def test_changed_file_is_named_by_its_sha256(name, damage, benched, tmp_path, findings, invoke):
    run = tmp_path / "runs" / benched.parent.name / benched.name
    shutil.copytree(benched, run)
    damage(run / name)
    found = [line for line in findings() if "mfu" not in line]
    assert found == [f"{name}: is damaged or was changed: its sha256 is not that in the record"]
    invoke("doctor", "--fix")
    assert not (run / name).exists()
    assert (run / "record.json").exists() == (name == "generator.safetensors"), "a run without a picture is done again"


def test_older_record_without_sha256_is_healthy(runs, mlp, findings):
    assert "files" not in json.loads((mlp / "record.json").read_text())
    invert_pixel(mlp / "samples.png")
    assert findings(runs) == []


def checkpoint(state: str = '{"step": 7}', **metadata: str) -> bytes:
    """The bytes of a checkpoint file."""
    zeros = "0" * 64
    told = {"sha256": zeros, "schema": "2", "run_id": "a" * 64, "state": state, **metadata}
    data = save(weights(5), metadata={name: value for name, value in told.items() if value})
    return data.replace(zeros.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


CHECKPOINTS = {
    "flipped": (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "its sha256 is not that of its bytes"),
    "state": (lambda data: data.replace(b"7}", b"8}"), "its sha256 is not that of its bytes"),
    "short": (lambda data: data[:-4], "is no safetensors file"),
    "schema": (lambda data: checkpoint(schema="1"), "is a checkpoint of version 1, and this ganzoo knows version 2"),
    "no-state": (lambda data: checkpoint(state=""), "its metadata lacks state"),
    "bad-state": (lambda data: checkpoint(state="{"), "its state is not JSON"),
    "other": (lambda data: data, "is of run aaaaaaaaa…, and the record beside it of"),
    "plain": (lambda data: save(weights(5)), "its metadata lacks schema, run_id, sha256, state"),
    "pickle": (lambda data: pickle.dumps(Payload()), "is a pickle, which can run code"),
    "archive": (lambda data: b"PK\3\4" + data, "is a pickle, which can run code"),
}


def test_a_whole_checkpoint_is_healthy_with_and_without_a_record(runs, mlp, findings, invoke):
    run_id = json.loads((mlp / "record.json").read_text())["run_id"]
    (mlp / "checkpoint.safetensors").write_bytes(checkpoint(run_id=run_id))
    (runs / "hardware" / "in-progress").mkdir(parents=True)
    (runs / "hardware" / "in-progress" / "checkpoint.safetensors").write_bytes(checkpoint())
    assert findings(runs) == []
    assert invoke("doctor", runs).out == "3 record(s), 2 checkpoint(s): all is well\n"


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_broken_checkpoint_is_named_and_moved_alone(name, runs, mlp, findings, invoke):
    damage, complaint = CHECKPOINTS[name]
    (mlp / "checkpoint.safetensors").write_bytes(damage(checkpoint()))
    (line,) = findings(runs)
    assert line.startswith("checkpoint.safetensors: ")
    assert complaint in line
    before = contents(runs)
    assert invoke("doctor", runs, "--fix").code == 1
    place = mlp.relative_to(runs)
    assert contents(runs) == {
        str("quarantine" / place / "checkpoint.safetensors") if name.endswith("checkpoint.safetensors") else name: data
        for name, data in before.items()
    }
    assert findings(runs) == []


# --- leftovers of a crash, and the quarantine -------------------------------------------------------------------------


def test_leftover_part_file_is_quarantined_once_nobody_writes_it(runs, mlp, findings, invoke):
    part = mlp / ".record.json.a1b2c3d4.part"
    part.write_text("{")
    (line,) = findings(runs)
    assert "left over from a write that did not finish; a process may still be writing it" in line
    invoke("doctor", runs, "--fix")
    assert part.exists(), "it was written a moment ago"
    hour_ago = time.time() - 3600
    with part.open("a"):
        os.utime(part, (hour_ago, hour_ago))
        invoke("doctor", runs, "--fix")
        assert part.exists(), "a process has it open"
    outcome = invoke("doctor", runs, "--fix")
    assert outcome.code == 1
    assert not part.exists()
    assert (runs / "quarantine" / part.relative_to(runs)).read_text() == "{"
    assert findings(runs) == []


def test_folder_laid_aside_by_force_is_no_duplicate_run(runs, mlp, findings, invoke):
    shutil.copytree(mlp, mlp.with_name(f"{mlp.name}.before"))
    assert findings(runs) == []
    shutil.copytree(mlp, mlp.with_name("copy"))
    assert [line for line in findings(runs) if "lies in" in line] != []


@pytest.mark.parametrize("number", ["", ".2"])
@pytest.mark.parametrize(("name", "kind"), [("record.json", "record"), ("checkpoint.safetensors", "checkpoint")])
def test_broken_file_put_aside_by_bench_is_named_and_quarantined(runs, mlp, findings, invoke, name, kind, number):
    (mlp / f"{name}.broken{number}").write_text("{")
    assert findings(runs) == [f"{name}.broken{number}: a broken {kind} that `ganzoo bench` put aside"]
    invoke("doctor", runs, "--fix")
    assert findings(runs) == []


def test_quarantine_is_never_overwritten_checked_or_compared(runs, mlp, invoke, findings):
    copies = []
    for index in range(3):
        copied = mlp.with_name(f"copy-{index}")
        shutil.copytree(mlp, copied)
        copied.rename(mlp.with_name("copy"))
        assert invoke("doctor", runs, "--fix").code == 1
        copies.append("copy" if not index else f"copy.{index + 1}")
    quarantine = runs / "quarantine" / mlp.parent.name
    assert sorted(path.name for path in quarantine.iterdir()) == copies
    assert findings(runs) == []
    outcome = invoke("compare", runs, "--format", "json")
    assert sorted(row["variant"] for row in json.loads(outcome.out)) == ["dcgan", "mlp", "wgan"]
    assert outcome.err == ""
    # A folder in quarantine can still be compared by its name.
    assert len(json.loads(invoke("compare", quarantine, "--format", "json").out)) == 1


def test_run_given_by_its_folder_keeps_the_folder(mlp, invoke, findings):
    (mlp / "samples.png").unlink()
    assert invoke("doctor", mlp, "--fix").code == 1
    assert sorted(path.name for path in mlp.rglob("*")) == ["quarantine", "record.json"]
    assert findings(mlp) == []


@pytest.mark.parametrize("place", [".", "runs", "runs/amd-epyc-x2-t2"])
def test_stray_record_is_quarantined_without_healthy_runs_or_other_files(place, runs, mlp, tmp_path, invoke, findings):
    kept = {
        tmp_path / "thesis.tex": "years of work",
        tmp_path / "download.part": "of a browser",
        mlp.parent / "notes.md": "mine",
        mlp / "events.out.tfevents": "curves",
    }
    for path, text in kept.items():
        path.write_text(text)
    before = contents(tmp_path)
    (tmp_path / place / "record.json").write_text("{")
    (tmp_path / place / "samples.png").write_text("of that record")
    assert invoke("doctor", tmp_path, "--fix").code == 1
    strays = {str(Path("quarantine", place, name)) for name in ("record.json", "samples.png")}
    now = contents(tmp_path)
    assert {name: data for name, data in now.items() if name not in strays} == before
    assert strays <= set(now)
    assert findings(tmp_path) == []


def test_only_run_files_of_a_broken_run_are_quarantined(runs, mlp, invoke, findings):
    (mlp / "notes.md").write_text("mine")
    (mlp / "deeper").mkdir()
    shutil.copy(mlp / "record.json", mlp / "deeper" / "other.json")
    (mlp / "generator.safetensors").write_bytes(save(weights(10**6)))
    (mlp / "record.json").write_text("{")
    assert invoke("doctor", runs, "--fix").code == 1
    moved = runs / "quarantine" / mlp.relative_to(runs)
    assert sorted(path.name for path in moved.iterdir()) == ["generator.safetensors", "record.json", "samples.png"]
    assert sorted(path.name for path in mlp.rglob("*")) == ["deeper", "notes.md", "other.json"]
    assert findings(runs) == []


@pytest.mark.parametrize("spoil", ["record.json", "checkpoint.safetensors"])
def test_run_claimed_by_a_bench_is_not_moved(spoil, runs, mlp, invoke):
    run_id = json.loads((mlp / "record.json").read_text())["run_id"]
    (mlp / spoil).write_text("{")
    with claim(runs, run_id) as claimed:
        assert claimed
        before = contents(runs)
        outcome = invoke("doctor", runs, "--fix")
        assert outcome.code == 1
        named = mlp if spoil == "record.json" else mlp / spoil
        assert outcome.err == f"ganzoo: {named} stays where it is: `ganzoo bench` is at work on the run\n"
        assert contents(runs) == before
        # The claim also holds when the run is given by its folder.
        assert "stays where it is" in invoke("doctor", mlp, "--fix").err
        assert contents(runs) == before
    invoke("doctor", runs, "--fix")
    assert not (mlp / spoil).exists()


def test_symlinks_are_not_followed(runs, mlp, invoke, tmp_path, findings):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "record.json").write_text("{")
    (runs / "linked").symlink_to(outside)
    assert findings(runs) == ["linked: is a symbolic link, which is not followed; put what it leads to in its place"]
    target = tmp_path / "precious.json"
    target.write_text("{")
    (mlp / "record.json").unlink()
    (mlp / "record.json").symlink_to(target)
    invoke("doctor", runs, "--fix")
    assert target.read_text() == "{", "the link moves, and not what it leads to"
    assert (outside / "record.json").read_text() == "{"


def test_pipe_or_device_in_place_of_a_record_does_not_block(runs, mlp, findings):
    (mlp / "record.json").unlink()
    os.mkfifo(mlp / "record.json")
    assert findings(runs) == ["record.json: cannot be read: not a plain file"]
    (mlp / "record.json").unlink()
    (mlp / "record.json").symlink_to("/dev/zero")
    assert findings(runs) == ["record.json: cannot be read: a symbolic link, which is not followed"]


def test_oversized_record_is_not_read(runs, mlp, findings):
    with (mlp / "record.json").open("r+b") as stream:
        stream.truncate(1 << 40)  # sparse: it takes no space on the disk
    assert findings(runs) == ["record.json: cannot be read: larger than 16 MiB"]


def test_control_characters_in_names_do_not_reach_the_terminal(runs, mlp, invoke):
    evil = runs / "\x1b[2J[red]evil[/red]\n"
    shutil.copytree(mlp, evil / "\x1b]0;owned\x07")
    outcome = invoke("doctor", runs, "--fix")
    assert outcome.code == 1
    assert "\x1b" not in outcome.out + outcome.err
    assert "\x07" not in outcome.out + outcome.err
    assert "[red]evil[/red]" in outcome.out
    assert all(line.isprintable() for line in (outcome.out + outcome.err).splitlines())


def test_failed_move_to_quarantine_is_one_error_line(runs, mlp, invoke):
    (mlp / "samples.png").unlink()
    (runs / "quarantine").write_text("a file in the way")
    outcome = invoke("doctor", runs, "--fix")
    assert outcome.code == 2
    assert outcome.error.startswith(f"ganzoo: cannot move {mlp} to {runs / 'quarantine'}")
    assert (mlp / "record.json").exists()
