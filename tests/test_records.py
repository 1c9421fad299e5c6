"""Records on disk: what is written is what is read."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from ganzoo.compare import comparison
from ganzoo.errors import RecordError
from ganzoo.plan import BenchPlan, resolve
from ganzoo.plugins import discover
from ganzoo.records import read_record, read_spec, run_id_of, write_record
from ganzoo.types import SCHEMA, RunRecord


@pytest.fixture(scope="module")
def spec(session_environment):
    plan = BenchPlan(models=("r3gan",), throughput_only=True, device="cpu")
    return resolve(plan, discover()).runs[0].spec


@pytest.fixture
def record(spec):
    return RunRecord(
        schema=SCHEMA,
        run_id="0" * 64,
        status="ok",
        spec=json.loads(json.dumps(spec.to_json())),
        scores=[
            {"metric": "fid", "value": 3.25, "std": None, "protocol": "fid-x", "kimg": 1.0, "ema": True},
            {"metric": "is", "value": 2.5, "std": 0.25, "protocol": "is-x", "kimg": 1.0, "ema": True},
        ],
        protocols={"fid-x": {"metric": "fid"}, "is-x": {"metric": "is"}},
        throughput={"train_images_per_second": {"median": 2.0, "low": 1.0, "high": 3.0, "samples": [1.0, 2.0, 3.0]}},
        training={"kimg": 1.0, "curves": {"kimg": [1.0]}},
        environment={"torch": "2.15", "ganzoo": "0.1.0", "plugins": {}},
    )


@pytest.mark.parametrize("status", ["ok", "diverged", "crashed", "interrupted"])
def test_a_record_survives_the_round_trip(record, tmp_path, status):
    error = None if status == "ok" else {"type": "E", "message": "went wrong", "tail": "line\nline"}
    written = write_record(replace(record, status=status, error=error), tmp_path / "run")
    assert read_record(tmp_path / "run") == written
    assert read_record(tmp_path / "run" / "record.json").to_json() == written.to_json()


def test_a_spec_survives_the_round_trip(spec, record):
    assert json.dumps(read_spec(record.spec).to_json()) == json.dumps(spec.to_json())


def test_what_is_not_a_number_is_written_as_null(record, tmp_path):
    curves = {"kimg": [1.0, 2.0], "generator/fool": [math.nan, math.inf]}
    write_record(replace(record, training={"curves": curves}), tmp_path)
    text = (tmp_path / "record.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert read_record(tmp_path).training["curves"]["generator/fool"] == [None, None]


def test_the_id_depends_on_spec_plugins_and_versions_alone(spec):
    identity = run_id_of(spec, {"a": "1", "b": "2"}, {"torch": "2"})
    assert run_id_of(spec, {"b": "2", "a": "1"}, {"torch": "2"}) == identity
    others = [
        run_id_of(replace(spec, seed=1), {"a": "1", "b": "2"}, {"torch": "2"}),
        run_id_of(spec, {"a": "x", "b": "2"}, {"torch": "2"}),
        run_id_of(spec, {"a": "1", "b": "2"}, {"torch": "3"}),
    ]
    assert len({identity, *others}) == 4


def test_a_full_disk_leaves_the_old_record_whole(record, tmp_path, monkeypatch):
    write_record(record, tmp_path)
    before = (tmp_path / "record.json").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RecordError, match="No space left on device; choose another --results folder"):
        write_record(replace(record, status="crashed"), tmp_path)
    assert (tmp_path / "record.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_seeds_are_averaged_and_other_code_is_not(record):
    def scored(seed, value, status="ok", torch="2.15"):
        scores = [{**record.scores[0], "value": value}]
        spec = {**record.spec, "seed": seed}
        return replace(record, spec=spec, scores=scores, status=status, environment={"torch": torch})

    rows = comparison([scored(0, 2.0), scored(1, 4.0), scored(1, None, "crashed"), scored(0, 9.0, torch="2.16")])
    assert list(rows["n"]) == [2, 1]
    assert list(rows["fid"]) == [3.0, 9.0]
    assert rows["fid_sd"].iloc[0] == pytest.approx(math.sqrt(2))
    assert math.isnan(rows["fid_sd"].iloc[1])
    assert list(rows["failed"]) == ["", ""]
