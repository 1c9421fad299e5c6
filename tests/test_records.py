"""Records on disk: reading returns what was written."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import HANGING, with_settings
from skips import needs_system

from ganzoo.comparing.comparison import compare
from ganzoo.comparing.scores import scores_of
from ganzoo.comparing.table import comparison_table, records_table
from ganzoo.errors import RecordError
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.records.score_facts import OLD_METRICS
from ganzoo.records.store import LINKED_PARTS, PARTS, read_record, read_spec, run_id_of, write_record
from ganzoo.registry.discovery import discover
from ganzoo.runs import SCHEMA, RunRecord

SCORED = {"code": {"fid": "a" * 64}, "date": "2026-11-29T12:00:00+00:00"}
"""Source hashes of a score's plugins, and its date."""


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
            {"metric": "fid", "value": 3.25, "std": None, "protocol": "fid-x", "kimg": 1.0, "ema": True, **SCORED},
            {"metric": "is", "value": 2.5, "std": 0.25, "protocol": "is-x", "kimg": 1.0, "ema": True, **SCORED},
        ],
        protocols={f"{name}-x": {"metric": name, "scores": OLD_METRICS[name][1]} for name in ("fid", "is")},
        throughput={"train_images_per_second": {"median": 2.0, "low": 1.0, "high": 3.0, "samples": [1.0, 2.0, 3.0]}},
        training={"kimg": 1.0, "curves": {"kimg": [1.0]}},
        environment={"torch": "2.15", "ganzoo": "0.1.0", "plugins": {}},
    )


@pytest.mark.parametrize("status", ["ok", "diverged", "crashed", "interrupted"])
def test_record_round_trip(record, tmp_path, status):
    error = None if status == "ok" else {"type": "E", "message": "went wrong", "tail": "line\nline"}
    written = write_record(replace(record, status=status, error=error), tmp_path / "run")
    assert read_record(tmp_path / "run") == written
    assert read_record(tmp_path / "run" / "record.json").to_json() == written.to_json()


def test_spec_round_trip(spec, record):
    assert json.dumps(read_spec(record.spec).to_json()) == json.dumps(spec.to_json())


def test_nan_and_infinity_are_written_as_null(record, tmp_path):
    curves = {"kimg": [1.0, 2.0, 3.0, 4.0], "generator/fool": [math.nan, math.inf, -1e101, 1e99]}
    write_record(replace(record, training={"curves": curves}), tmp_path)
    text = (tmp_path / "record.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert read_record(tmp_path).training["curves"]["generator/fool"] == [None, None, None, 1e99]


@pytest.mark.parametrize(
    ("part", "gone"),
    [
        ({"throughput": {"mfu": 1e31}}, {"throughput"}),
        ({"throughput": {"step_seconds": 3}}, {"throughput"}),
        ({"scores": [{"metric": 7, "value": 1.0, "protocol": "p", "kimg": 1.0, "ema": True}]}, LINKED_PARTS),
        ({"training": {"best": {"fid/ema": {"value": -1e31, "kimg": 1.0}}}}, LINKED_PARTS),
        ({"environment": {"plugins": 2**70}}, {"environment"}),
        ({"hardware": {"id": 2**200}}, {"hardware"}),
    ],
)
def test_unreadable_part_is_left_out_and_the_run_is_crashed(part, gone, record, tmp_path):
    given = replace(record, parameters={"generator": 5}, command="ganzoo bench", **part)
    written = write_record(given, tmp_path)
    assert json.dumps(read_record(tmp_path).to_json()) == json.dumps(written.to_json())
    assert (written.status, written.error["type"]) == ("crashed", "RecordError")
    assert written.error["message"].startswith("what the run gave cannot be recorded: ")
    told = {name for name in PARTS if getattr(given, name)}
    assert {name for name in PARTS if getattr(written, name)} == told - set(gone)
    assert (written.spec, written.command) == (given.spec, "ganzoo bench")
    # A run that failed for another reason keeps that reason.
    error = {"type": "MemoryError", "message": "no room", "tail": ""}
    written = write_record(replace(given, status="oom", error=error), tmp_path)
    assert json.dumps(read_record(tmp_path).to_json()) == json.dumps(written.to_json())
    assert (written.status, written.error) == ("oom", error)


def test_lone_surrogate_in_a_message_leaves_the_record_readable(record, tmp_path):
    error = {"type": "ValueError", "message": "\ud800 alone", "tail": "\udfff"}
    write_record(replace(record, status="crashed", error=error), tmp_path)
    assert read_record(tmp_path).error == {"type": "ValueError", "message": "\\ud800 alone", "tail": "\\udfff"}


def test_run_id_depends_on_spec_plugins_and_versions_alone(spec):
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

    rows = comparison_table(
        compare([scored(0, 2.0), scored(1, 4.0), scored(1, None, "crashed"), scored(0, 9.0, torch="2.16")])
    )
    assert list(rows["n"]) == [2, 1]
    assert list(rows["fid"]) == [3.0, 9.0]
    assert rows["fid_sd"].iloc[0] == pytest.approx(math.sqrt(2))
    assert math.isnan(rows["fid_sd"].iloc[1])
    assert list(rows["failed"]) == ["", ""]
    assert list(rows["differs"]) == ["torch 2.15", "torch 2.16"]


# --- rows of a comparison ---------------------------------------------------------------------------------------------


@pytest.fixture
def changed(record):
    """`changed(kimg=2.0, environment={...})`: the record with changed fields, of its spec or of the record itself."""

    def changed(**changes):
        own = {name: changes.pop(name) for name in ("status", "scores", "protocols", "environment") if name in changes}
        run_id = hashlib.sha256(repr((changes, own)).encode()).hexdigest()
        return replace(record, run_id=run_id, spec=with_settings(record.spec, **changes), **own)

    return changed


def differing(records):
    """The `differs` column of a comparison of these records."""
    return [row.differs for row in compare(records).rows]


def test_differs_names_the_settings_that_tell_similar_rows_apart(record, changed):
    faster = {**record.spec["recipe"]["optimizers"]["generator"], "learning_rate": 0.0004, "betas": [0.0, 0.9]}
    assert differing([record, changed(seed=1)]) == [""]
    plain, fast, flipped = differing([record, changed(optimizer=faster), changed(flips=True)])
    own = record.spec["recipe"]["optimizers"]["generator"]
    betas = ",".join(f"{beta:g}" for beta in own["betas"])
    shown = f"optimizer.learning_rate={own['learning_rate']:g}, optimizer.betas={betas}"
    assert plain == f"{shown}, flips=false"
    assert fast == "optimizer.learning_rate=0.0004, optimizer.betas=0,0.9, flips=false"
    assert flipped == f"{shown}, flips=true"
    # A shared optimizer is named once; a separate discriminator optimizer is named as such.
    slower = {**faster, "learning_rate": 0.0003}
    both = [changed(optimizer=one, discriminator_optimizer=one) for one in (faster, slower)]
    assert differing(both) == [
        "optimizer.learning_rate=0.0004",
        "optimizer.learning_rate=0.0003",
    ]
    own = changed(optimizer=faster, discriminator_optimizer=slower)
    assert differing([both[0], own]) == [
        "discriminator_optimizer.learning_rate=0.0004",
        "discriminator_optimizer.learning_rate=0.0003",
    ]


def test_differs_leaves_out_settings_shown_in_other_columns(record, changed):
    others = [
        changed(kimg=2.0),
        changed(image_shape=[1, 28, 28], dataset_sha256="0" * 64),
        changed(batch_size=8),
        changed(precision="bf16"),
    ]
    assert differing([record, *others]) == [""] * 5
    # Settings that belong to another variant, dataset or machine are left out.
    for field in ("variant", "dataset"):
        assert differing([record, changed(**{field: "other"}, flips=True)]) == ["", ""]
    other = {"hardware": "other", "memory_format": "channels_last"}
    assert differing([record, changed(**other)]) == ["", ""]
    assert differing([record, changed(**other, flips=True)]) == ["flips=false", "flips=true"]
    # By what a run was scored, and when, is told by its protocols.
    otherwise = changed(evaluate_at_kimg=[0.5, 1.0], metrics=["kid"], features=[], fakes=100)
    assert differing([record, otherwise]) == [""], "they are one row"
    # Between rows of the same image size it is shown.
    (_, data) = differing([record, changed(dataset_sha256="f" * 64)])
    assert data == "dataset_sha256=ffffffffff"


def test_differs_shows_none_for_a_setting_of_the_other_row_only(record, changed):
    bare = changed(penalties=[], hyper={}, schedules={})
    decayed = {"gamma": {"kind": "linear", "to": 0.5}}
    lazy = changed(penalties=[{"name": "r1", "every": 16}], hyper={"r1.gamma": 10.0}, schedules=decayed)
    first, second = differing([bare, lazy])
    assert first.split(", ") == ["penalties=none", "hyper=none", "schedules=none"]
    assert second == "penalties.r1.every=16, hyper.r1.gamma=10, schedules.gamma.kind=linear, schedules.gamma.to=0.5"


def test_differs_names_code_versions_but_no_unknown_ones(record, changed):
    def ran(**environment):
        return changed(environment=environment)

    plugins = [{"mlp": {"source_sha256": digit * 64}} for digit in "ab"]
    first, second, dead = differing(
        [
            ran(torch="2.11.0", ganzoo="0.1.0", plugins=plugins[0]),
            ran(torch="2.11.0", ganzoo="0.2.0", plugins=plugins[1]),
            replace(ran(plugins=plugins[1]), status="crashed"),
        ]
    )
    assert first == "ganzoo 0.1.0, plugin mlp aaaaaaaaaa"
    assert second == "ganzoo 0.2.0, plugin mlp bbbbbbbbbb"
    assert dead == "plugin mlp bbbbbbbbbb"


def test_differs_treats_specs_in_memory_and_from_json_alike(spec, record):
    fresh = replace(record, spec=spec.to_json())
    assert fresh.spec != record.spec, "tuples here, lists there"
    assert differing([fresh, replace(record, environment={"torch": "2.16"})]) == [
        "torch 2.15",
        "torch 2.16",
    ]


def test_mean_score_leaves_out_seeds_without_it_and_shows_the_count(record, changed, tmp_path, invoke):
    def scored(seed, fid):
        scores = [{**record.scores[0], "value": fid}, {**record.scores[1], "value": 2.0 + seed}]
        return changed(seed=seed, scores=scores)

    records = [scored(0, 11.0), scored(1, None), scored(2, 14.0)]
    (row,) = comparison_table(compare(records)).to_dict("records")
    assert (row["n"], row["fid_n"], row["is_n"], row["fid"], row["is"]) == (3, 2, 3, 12.5, 3.0)
    for one in records:
        write_record(one, tmp_path / "results" / str(one.spec["seed"]))
    table = invoke("compare", "results").out
    assert "12.50 [2.72, 57.42] (2/3)" in table
    assert "3.00 [1.31, 6.87]" in table
    assert "(3/3)" not in table


def test_a_run_that_did_not_finish_has_no_final_score(record, changed):
    way = [{**record.scores[0], "kimg": 0.5, "value": 99.0, "protocol": "fid-other"}]
    for status in ("diverged", "oom", "crashed", "interrupted"):
        failed = changed(seed=1, status=status, scores=way, protocols={"fid-other": {}})
        assert scores_of([failed]) == []
        assert compare([record, failed]).protocols == record.protocols
        table = records_table([record, failed])
        assert list(table["fid"].isna()) == [False, True]
        (row,) = comparison_table(compare([record, failed])).to_dict("records")
        assert (row["fid"], row["fid_n"], row["n"], row["failed"]) == (3.25, 1, 1, status)


def test_table_has_the_differs_column_only_if_rows_differ(record, changed, tmp_path, invoke):
    write_record(record, tmp_path / "results" / "a")
    assert "differs" not in invoke("compare", "results").out
    write_record(changed(flips=not record.spec["recipe"]["flips"]), tmp_path / "results" / "b")
    out = invoke("compare", "results").out
    assert "differs" in out
    assert "flips=true" in out
    assert "flips=false" in out


def test_device_column_is_shown_for_a_machine_with_two_devices(record, changed, tmp_path, invoke):
    for name in ("cuda:0", "cuda:1"):
        write_record(changed(device=name), tmp_path / "results" / name.replace(":", "-"))
    out = invoke("compare", "results").out
    assert "cuda:0" in out
    assert "cuda:1" in out


def test_control_characters_in_differs_do_not_reach_the_terminal(record, changed, tmp_path, invoke):
    for index, text in enumerate(["\x1b[2J[red]option", "plain"]):
        write_record(changed(options={"[b]way[/b]\n": text}), tmp_path / "results" / str(index))
    out = invoke("compare", "results").out
    assert "\x1b" not in out
    assert "options.[b]way[/b]" in out
    assert "[red]option" in out


# --- folders that cannot be read --------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_read_is_named(record, tmp_path, invoke, monkeypatch):
    # Root may read everything, so the system call is patched to fail.
    scandir, locked = os.scandir, os.path.join("results", "locked")

    def refuse(path="."):
        if str(path).endswith(locked):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    for name in ("open", "locked"):
        write_record(record, tmp_path / "results" / name)
    monkeypatch.setattr(os, "scandir", refuse)
    outcome = invoke("compare", "results", "--format", "json")
    assert outcome.code == 0
    assert len(json.loads(outcome.out)) == 1
    assert outcome.err == f"ganzoo: left out: {locked}: cannot be read: Permission denied\n"
    outcome = invoke("compare", locked)
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        f"ganzoo: left out: {locked}: cannot be read: Permission denied",
        f"ganzoo: {locked}: holds no record; run `ganzoo bench` first, or name another folder",
    ]


def drop_read_capabilities() -> None:
    """For `preexec_fn`: without two capabilities, root is bound by file modes; see capabilities(7)."""
    drop_from_bounding_set, override_modes, read_everything = 24, 1, 2
    if os.geteuid() == 0:
        for capability in (override_modes, read_everything):
            assert ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0) == 0


@needs_system(sys.platform == "linux" or (os.name == "posix" and os.geteuid() != 0), "root reads everything there")
def test_folder_without_read_permission_is_named(record, tmp_path):
    write_record(record, tmp_path / "results" / "open")
    write_record(record, tmp_path / "results" / "locked")
    (tmp_path / "results" / "locked").chmod(0)
    done = subprocess.run(
        [sys.executable, "-m", "ganzoo", "compare", "results", "--format", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANGING,
        preexec_fn=drop_read_capabilities,
    )
    (tmp_path / "results" / "locked").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 1
    assert "locked: cannot be read: Permission denied" in done.stderr
