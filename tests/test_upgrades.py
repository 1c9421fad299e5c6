"""Records of every schema version: old ones are upgraded on reading, newer ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ONE_MACHINE

from ganzoo.errors import RecordError
from ganzoo.records.store import read_content, read_record
from ganzoo.records.upgrades import UPGRADES, upgrade
from ganzoo.runs import SCHEMA

STORED = Path(__file__).parent / "records"
"""A record of each schema version, written by a release or commit of that version."""


def stored(version: int) -> Path:
    return STORED / f"schema-{version}.json"


def test_every_schema_version_has_an_upgrade_and_a_stored_record():
    assert len(UPGRADES) == SCHEMA - 1
    assert [step.__name__ for step in UPGRADES] == [f"upgrade_{n}_to_{n + 1}" for n in range(1, SCHEMA)]
    assert sorted(path.name for path in STORED.glob("*.json")) == [f"schema-{n}.json" for n in range(1, SCHEMA + 1)]


@pytest.mark.parametrize("version", range(1, SCHEMA + 1))
def test_a_record_of_every_version_is_read_and_compared(version, invoke):
    content = read_content(stored(version))
    assert content["schema"] == version
    before = json.dumps(content)
    record = read_record(stored(version))
    assert record.schema == SCHEMA
    # The measured values are unchanged, and so is the file.
    for name in ("run_id", "status", "throughput", "training", "hardware"):
        assert getattr(record, name) == content[name]
    for told, score in zip(content["scores"], record.scores, strict=True):
        assert told.items() <= score.items()
    flags = content["environment"].pop("flags")
    assert content["environment"].items() <= record.environment.items()
    assert flags.items() <= record.environment["flags"].items()
    protocols = record.protocols.items()
    assert {identity: {**protocol, "scores": None} for identity, protocol in protocols} == {
        identity: {**protocol, "scores": None} for identity, protocol in content["protocols"].items()
    }
    assert json.dumps(read_content(stored(version))) == before
    outcome = invoke("compare", stored(version), "--format", "json")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)
    assert row["fid"] == content["training"]["final"]["fid/ema"]["value"]


def test_schema_1_record_gets_its_linear_backend():
    assert "linear_backend" not in read_content(stored(1))["spec"]
    assert read_record(stored(1)).environment["flags"]["linear_backend"] == "blas"
    # Later records of that version name it, and their value is kept.
    committed = next(ONE_MACHINE.glob("*/*/record.json"))
    content = read_content(committed)
    assert (content["schema"], content["spec"]["linear_backend"]) == (1, "onednn")
    assert read_record(committed).environment["flags"]["linear_backend"] == "onednn"


def test_an_upgrade_changes_a_copy_only():
    content = read_content(stored(1))
    before = json.dumps(content)
    assert upgrade(content)["schema"] == SCHEMA
    assert json.dumps(content) == before


@pytest.mark.parametrize("broken", [None, 7, "spec", []])
def test_record_that_cannot_be_upgraded_is_refused_without_traceback(broken, tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(read_content(stored(1)) | {"spec": broken}))
    with pytest.raises(RecordError, match="spec"):
        read_record(path)


@pytest.mark.parametrize("schema", [SCHEMA + 1, 10**18])
def test_a_newer_record_is_refused_by_name_and_left_alone(schema, tmp_path, invoke):
    newer = tmp_path / "newer" / "record.json"
    newer.parent.mkdir()
    newer.write_text(json.dumps(read_content(stored(SCHEMA)) | {"schema": schema}))
    before = newer.read_bytes()
    outcome = invoke("compare", newer.parent, stored(1))
    assert outcome.code == 0
    reason = f"{newer}: has schema {schema}, newer than {SCHEMA}; upgrade ganzoo to read it"
    assert outcome.err == f"ganzoo: left out: {reason}\n"
    assert newer.read_bytes() == before


@pytest.mark.parametrize("schema", [True, 1.0, "1", 0, -1, None, [1], {}])
def test_a_schema_that_is_no_version_is_refused(schema, tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(read_content(stored(SCHEMA)) | {"schema": schema}))
    with pytest.raises(RecordError, match="has no schema that this version knows"):
        read_record(path)
