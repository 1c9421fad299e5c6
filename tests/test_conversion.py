"""Validation of data from files against declared types: what is accepted, and the message for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from ganzoo.util.conversion import convert, fault_of


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
