"""Curves in TensorBoard: TensorBoard's reader finds in the event files what the record holds."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import ganzoo
from ganzoo.records.store import read_record
from ganzoo.registry.discovery import discover

pytest.importorskip("tensorboard", reason="TensorBoard is not installed")

BENCH = (
    *("bench", "--models", "mlp", "--dataset", "digits", "--kimg", "1", "--batch-size", "64", "--fakes", "64"),
    *("--throughput-seconds", "0.1", "--device", "cpu", "--quiet", "--log", "tensorboard"),
)


def curves_in(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def expected(record: ganzoo.RunRecord) -> dict[str, list[tuple[int, float]]]:
    curves = record.training["curves"]
    found = {
        term: [(round(1000 * kimg), value) for kimg, value in zip(curves["kimg"], curves[term], strict=True)]
        for term in curves
        if term != "kimg"
    }
    for score in record.scores:
        name = f"{score['metric']}/{'ema' if score['ema'] else 'raw'}"
        if score["value"] is not None:
            found.setdefault(name, []).append((round(1000 * score["kimg"]), score["value"]))
    return found


def approximately(curves: dict[str, list[tuple[int, float]]]) -> dict[str, object]:
    return {name: [(step, pytest.approx(value, rel=1e-6)) for step, value in points] for name, points in curves.items()}


@pytest.fixture(scope="module")
def benched(tmp_path_factory: pytest.TempPathFactory, session_environment: Path) -> Path:
    from conftest import CommandLine

    run = CommandLine(tmp_path_factory.mktemp("bench"))
    done = run(*BENCH)
    assert done.returncode == 0, done.stderr
    (folder,) = (run.cwd / "runs").glob("*/mlp-*")
    return folder


def test_event_files_lie_beside_the_record_and_hold_its_curves(benched):
    record = read_record(benched)
    found = curves_in(benched)
    rates = found.pop("images per second")
    assert found == approximately(expected(record))
    assert {"fid/ema", "fid/raw", "is/ema", "generator/fool"} <= set(found)
    assert [step for step, _ in rates] == [step for step, _ in found["generator/fool"]]
    assert all(rate > 0 for _, rate in rates)
    assert "tensorboard" not in record.environment["plugins"], "it observes, and takes no part"


def replay(folder: Path, record: ganzoo.RunRecord, beginning: float = 0.0, factor: float = 1.0) -> None:
    """Send the events of a run to the log as the runner does, from `beginning` on."""
    notes: list[str] = []
    registry = discover(logs=["tensorboard"])

    def tell(event: ganzoo.Event) -> None:
        registry.notify(event, notes.append)

    tell(ganzoo.RunStarted(record.run_id, record.spec, 1, 1, str(folder)))
    curves = record.training["curves"]
    for place, kimg in enumerate(curves["kimg"]):
        if kimg > beginning:
            terms = {term: factor * curves[term][place] for term in curves if term != "kimg"}
            tell(ganzoo.TrainingProgress(record.run_id, kimg, record.spec["kimg"], 1.0, 0.0, terms))
    tell(ganzoo.RunFinished(record.run_id, record, skipped=False, index=1, total=1))
    assert notes == []


def test_repeated_run_replaces_its_curves(benched, tmp_path):
    record = read_record(benched)
    replay(tmp_path, record)
    replay(tmp_path, record, factor=3.0)
    points = curves_in(tmp_path)["generator/fool"]
    assert [value for _, value in points] == pytest.approx(
        [3 * value for value in record.training["curves"]["generator/fool"]], rel=1e-5
    )


def test_resumed_run_keeps_its_earlier_curves(benched, tmp_path):
    record = read_record(benched)
    steps = record.training["curves"]["kimg"]
    assert len(steps) > 3
    replay(tmp_path, record)
    replay(tmp_path, record, beginning=steps[1], factor=3.0)
    values = record.training["curves"]["generator/fool"]
    assert [value for _, value in curves_in(tmp_path)["generator/fool"]] == pytest.approx(
        [*values[:2], *(3 * value for value in values[2:])], rel=1e-5
    )


def test_skipped_run_is_logged_from_its_record(benched, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_bytes((benched / "record.json").read_bytes())
    record = read_record(tmp_path / "run")
    for _ in range(2):  # the second time it is all there
        discover(logs=["tensorboard"]).notify(ganzoo.RunFinished(record.run_id, record, True, 1, 1), pytest.fail)
    assert curves_in(tmp_path / "run") == approximately(expected(record))
    assert len(list((tmp_path / "run").glob("events.out.*"))) == 1


def test_a_run_that_was_finished_without_the_log_is_completed_from_its_record(benched, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_bytes((benched / "record.json").read_bytes())
    record = read_record(tmp_path / "run")
    curves = {name: values[:2] for name, values in record.training["curves"].items()}
    replay(tmp_path / "run", replace(record, training={**record.training, "curves": curves}, scores=()))
    assert len(curves_in(tmp_path / "run")["generator/fool"]) == 2
    for _ in range(2):  # the second time it is all there
        discover(logs=["tensorboard"]).notify(ganzoo.RunFinished(record.run_id, record, True, 1, 1), pytest.fail)
    found = curves_in(tmp_path / "run")
    del found["images per second"]
    assert found == approximately(expected(record))
    assert len(list((tmp_path / "run").glob("events.out.*"))) == 2


def test_where_the_package_is_missing_one_line_names_the_extra(invoke, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in ("ganzoo_plugins.logs.tensorboard", "torch.utils.tensorboard"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    outcome = invoke(*BENCH)
    assert outcome.code == 2
    assert outcome.error == "ganzoo: --log tensorboard: TensorBoard is not installed; pip install 'ganzoo[tensorboard]'"
    assert not (tmp_path / "runs").exists()


def test_an_unknown_log_is_refused_with_the_nearest(invoke):
    outcome = invoke(*BENCH, "--log", "tensorbord")
    assert outcome.code == 2
    assert outcome.error == "ganzoo: --log: no log is called 'tensorbord'; did you mean 'tensorboard'?"


def test_log_from_python(tmp_path):
    with pytest.raises(ganzoo.UsageError, match="no log is called 'tensorbord'"):
        ganzoo.bench("mlp", log="tensorbord", results=tmp_path)


def test_log_is_imported_only_on_request(invoke):
    names = [plugin["name"] for plugin in json.loads(invoke("plugins", "--json").out)]
    assert "digits" in names
    assert "tensorboard" not in names
    assert not discover().observers
