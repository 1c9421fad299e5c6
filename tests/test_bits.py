"""One seed trains every variant to the same bits as at commit ab3026a: on the CPU, with one thread."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from bits import sides, train_and_hash

VARIANTS_AT_THE_COMMIT = 15


def compare(today: sides.Hashes, make_before: Callable[[], sides.Hashes] = sides.hashes_of_commit) -> list[str]:
    """Compare `today` with the stored hashes, or with hashes made from the commit if none are stored."""
    return sides.differences(today, sides.stored_hashes() or make_before())


@pytest.mark.timeout(1200)
@pytest.mark.longest
def test_every_variant_trains_to_the_bits_of_the_reference_commit():
    assert compare(sides.hashes_of_installed()) == [], "other weights after 100 steps; see tests/bits/sides.py"


def test_every_stored_entry_holds_every_variant():
    entries = [
        hashes for by_processor in json.loads(sides.STORED.read_text()).values() for hashes in by_processor.values()
    ]
    assert entries
    for hashes in entries:
        assert len(hashes) == VARIANTS_AT_THE_COMMIT
        assert len(set(hashes.values())) == VARIANTS_AT_THE_COMMIT, "two variants of the same weights"


@pytest.mark.parametrize(
    ("today", "different"),
    [
        ({"dcgan": "a", "mlp": "b"}, []),
        ({"dcgan": "a", "mlp": "b", "new": "c"}, []),
        ({"dcgan": "x", "mlp": "b"}, ["dcgan"]),
        ({"dcgan": "a"}, ["mlp"]),
        ({}, ["dcgan", "mlp"]),
    ],
)
def test_a_changed_or_missing_hash_is_a_difference(today, different):
    assert sides.differences(today, {"dcgan": "a", "mlp": "b"}) == different


def test_comparing_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing to compare"):
        sides.differences({"dcgan": "a"}, {})


def test_new_entry_is_stored_beside_the_others(tmp_path):
    path = tmp_path / "hashes.json"
    path.write_text('{"0.1": {"abacus": {"mlp": "a"}}}')
    assert sides.stored_hashes(path) is None
    sides.store({"mlp": "b"}, path)
    assert sides.stored_hashes(path) == {"mlp": "b"}
    assert json.loads(path.read_text())["0.1"] == {"abacus": {"mlp": "a"}}


def test_without_entry_and_commit_the_error_names_the_fix(monkeypatch):
    monkeypatch.setattr(sides, "COMMIT", "0" * 40)
    with pytest.raises(sides.NoHistory, match=r"commit 0000000 is not at hand, .*`git fetch --unshallow`"):
        sides.hashes_of_commit()


@pytest.mark.parametrize("part", ["weight", "running_mean", "num_batches_tracked"])
def test_the_last_bit_of_any_parameter_or_buffer_changes_the_hash(part):
    network = torch.nn.BatchNorm1d(4)
    before = train_and_hash.hash_of(network)
    tensor = network.state_dict()[part]
    tensor.view(torch.int32 if tensor.is_floating_point() else tensor.dtype).bitwise_xor_(1)
    assert train_and_hash.hash_of(network) != before
