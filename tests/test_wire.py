"""The messages between a bench and the process of a run: one line of JSON each, unchanged by the round trip."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

import pytest

from ganzoo.running.wire import (
    MESSAGE_TYPES,
    Failure,
    Note,
    Outcome,
    Progress,
    Scores,
    Stage,
    decode,
    decode_request,
    encode,
    encode_request,
)
from ganzoo.runs import RunRecord, RunRequest

SCORE = {"metric": "fid", "value": None, "protocol": "p", "kimg": 1.5, "ema": True}

MESSAGES = [
    Stage("loading"),
    Progress(1.5, 0.25, {"generator": 0.7}),
    Scores(1.5, [SCORE]),
    Note("two\nlines, an é and a \u2028"),
    Outcome("ok", scores=[SCORE], files={"samples.png": "0" * 64}),
    Outcome("crashed", Failure("ValueError", "no", "Traceback\n  …")),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_message_is_one_line_and_survives_the_round_trip(message):
    line = encode(message)
    assert len(line.splitlines()) == 1
    assert decode(line) == decode(line.encode()) == message


def test_every_message_type_is_tried():
    assert {type(message) for message in MESSAGES} == set(MESSAGE_TYPES.values())


def test_the_json_of_a_message_is_its_kind_and_its_fields():
    assert json.loads(encode(Stage("loading"))) == {"kind": "stage", "stage": "loading"}
    assert json.loads(encode(MESSAGES[1])) == {"kind": "progress", **asdict(MESSAGES[1])}
    assert set(json.loads(encode(Outcome()))) == {"kind", *(field.name for field in fields(Outcome))}


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "progress", "kimg": 1',
        "",
        "null",
        "3",
        "[]",
        "{}",
        '{"kind": "farewell"}',
        '{"kind": ["stage"]}',
        '{"kind": "stage"}',
        '{"kind": "stage", "stage": "loading", "more": 1}',
        '{"kind": "outcome", "error": "none"}',
        '{"kind": "outcome", "error": {"type": "E"}}',
        b"\xff",
    ],
)
def test_a_line_that_holds_no_message_is_a_value_error(line):
    with pytest.raises(ValueError):  # noqa: PT011, the reader catches whatever it is
        decode(line)


def test_run_request_is_one_line_and_survives_the_round_trip():
    request = RunRequest(
        "id", {"seed": 3}, {"name": "digits"}, "runs/x", ("a.py",), None, None, 60.0, None, {"torch": "2"}
    )
    line = encode_request(request)
    assert len(line.splitlines()) == 1
    assert decode_request(line) == request


def test_outcome_fields_are_those_of_a_record_that_the_run_fills_in():
    of_the_bench = {"schema", "run_id", "spec", "command", "path"}
    assert {field.name for field in fields(Outcome)} == {field.name for field in fields(RunRecord)} - of_the_bench
