"""Validation of data from files against declared types: what is accepted, and the message for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from ganzoo.types import MaxLength, Range
from ganzoo.util.conversion import LONGEST_TEXT, MOST_ITEMS, MOST_KEYS, convert, fault_of, fault_of_json


class Part(TypedDict):
    value: float | None
    note: NotRequired[str]


@dataclass(frozen=True)
class Leaf:
    rate: float = 1.0
    pair: tuple[float, float] = (0.0, 1.0)
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Tree:
    count: int
    flag: bool = False
    leaves: Mapping[str, Leaf] = field(default_factory=dict)
    lists: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    parts: Sequence[Part] = ()
    anything: Mapping[str, Any] = field(default_factory=dict)


def test_int_is_accepted_for_float_and_absent_fields_get_defaults():
    tree = convert({"count": 1, "leaves": {"x": {"rate": 2, "pair": [0, 1]}}, "more": None}, Tree)
    assert tree == Tree(1, leaves={"x": Leaf(2.0, (0.0, 1.0))})
    assert isinstance(tree.leaves["x"].rate, float)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"count": "lots"}, "count is 'lots'; it must be a whole number"),
        ({"count": True}, "count is True; it must be a whole number"),
        ({"count": 1.5}, "count is 1.5; it must be a whole number"),
        ({"count": None}, "count is None; it must be a whole number"),
        ({"flag": 1}, "flag is 1; it must be true or false"),
        ({"leaves": []}, "leaves is []; it must be an object"),
        ({"leaves": {"good": {}, "bad one": {"rate": "1"}}}, "leaves.bad one.rate is '1'; it must be a number"),
        ({"leaves": {"x": {"pair": [1.0]}}}, "leaves.x.pair is [1.0]; it must be an array of length 2"),
        ({"leaves": {"x": {"kind": "c"}}}, "leaves.x.kind is 'c'; no such value is known"),
        ({"lists": {"a": [None, 1], "b": [1, None, "2"]}}, "lists.b[2] is '2'; it must be a number or null"),
        ({"lists": {"\x1b[2J": 5}}, "lists.[2J is 5; it must be an array"),
        ({"parts": [{"value": 1.0}, {}]}, "parts[1] lacks its value"),
        ({"parts": [{"value": 1.0, "note": 7}]}, "parts[0].note is 7; it must be text"),
        ({"count": "x" * 500}, f"count is '{'x' * 78}…; it must be a whole number"),
    ],
)
def test_a_refusal_is_one_line_with_the_path_and_the_value(changes, line):
    fault = fault_of({"count": 1} | changes, Tree)
    assert fault == line
    assert fault.isprintable()
    with pytest.raises(ValueError) as caught:  # noqa: PT011, the text is compared below
        convert({"count": 1} | changes, Tree)
    assert str(caught.value) == line


class Measured(TypedDict):
    rate: Annotated[float, Range(0, 10)]
    count: NotRequired[Annotated[int, Range(2)] | None]
    above: NotRequired[Annotated[float, Range(0, above_low=True)]]
    few: NotRequired[Annotated[Sequence[str], MaxLength(2)]]
    pairs: NotRequired[Mapping[str, tuple[Annotated[int, Range(1)], float]]]


@dataclass(frozen=True, kw_only=True)
class Report:
    named: Mapping[str, Measured]
    share: Annotated[float, Range(0, 1)] = 0.5


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"rate": 0}, None),
        ({"rate": 1, "count": None, "above": 1e-9, "few": ["a", "b"], "pairs": {"x": [1, 0]}}, None),
        ({"rate": 10}, "named.x.rate is 10; it must be a number below 10"),
        ({"rate": -0.5}, "named.x.rate is -0.5; it must be a number from 0"),
        ({"count": 1}, "named.x.count is 1; it must be a whole number from 2"),
        ({"above": 0}, "named.x.above is 0; it must be a number above 0"),
        ({"few": ["a", "b", "c"]}, "named.x.few is ['a', 'b', 'c']; it must be an array of at most 2 items"),
        ({"pairs": {"a": [1, 1], "b": [0, 1]}}, "named.x.pairs.b[0] is 0; it must be a whole number from 1"),
    ],
)
def test_annotated_limits_are_kept(changes, line):
    assert fault_of({"named": {"good": {"rate": 1}, "x": {"rate": 1} | changes}}, Report) == line


def test_limits_of_a_field_with_a_default_are_kept():
    assert fault_of({"named": {}, "share": 1}, Report) == "share is 1; it must be a number below 1"
    assert fault_of({}, Report) == "lacks its named"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (-1e308, None),
        ("x" * LONGEST_TEXT, None),
        (2**63, "a.b[1] is 9223372036854775808; a whole number must be up to 9.22337e+18"),
        ("x" * (LONGEST_TEXT + 1), f"a.b[1] is '{'x' * 78}…; text must be of at most 100,000 characters"),
        ([0] * (MOST_ITEMS + 1), "items"),
        (dict.fromkeys(map(str, range(MOST_KEYS + 1))), "an object must be of at most 10,000 keys"),
        ([[[[[[[1]]]]]]], None),
        ([[[[[[[[1]]]]]]]], "nests deeper than 10 levels"),
    ],
)
def test_any_json_has_limits(value, line):
    fault = fault_of_json({"good": {str(index): index for index in range(9)}, "a": {"b": [0, value]}})
    assert fault is None if line is None else line in fault


def test_a_fault_among_thousands_of_keys_is_found():
    content = {"count": 1, "leaves": {str(index): {} for index in range(5000)}}
    content["leaves"]["4321"] = content["leaves"]["4999"] = {"rate": "x"}
    assert fault_of(content, Tree) == "leaves.4321.rate is 'x'; it must be a number"


def test_path_of_a_refusal_may_have_a_prefix():
    assert fault_of({"count": "x"}, Tree, "spec") == "spec.count is 'x'; it must be a whole number"
    assert fault_of({}, Tree, "spec") == "spec lacks its count"
    assert fault_of({}, Tree) == "lacks its count"
    assert fault_of([], Tree) == "it is []; it must be an object"
    assert fault_of({"count": 3, "anything": {"deep": [object]}}, Tree) is None


def test_a_key_that_is_no_valid_text_is_a_fault():
    assert fault_of({"count": 1, "\ud800": 2}, Tree, "spec") == r"spec has the key '\ud800', which is no valid text"
    with pytest.raises(ValueError, match=r"it has the key '\\ud800', which is no valid text"):
        convert({"count": 1, "\ud800": 2}, Tree)
