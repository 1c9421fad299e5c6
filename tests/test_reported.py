"""Published figures of variants: what `ganzoo show` has of the zoo's, and which a plugin may not give."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ganzoo.errors import PluginError
from ganzoo.registry.validation import check_record
from ganzoo.types import Reported, Variant

GOOD = {"metric": "FID", "value": 1.5, "dataset": "CIFAR-10 32 px", "protocol": "50 000 fakes", "source": "a paper"}


def variant(**changes):
    return Variant("mine", architecture="dcgan", loss="hinge", reported=(Reported(**{**GOOD, **changes}),))


def test_a_published_figure_is_accepted():
    check_record(variant())


@pytest.mark.parametrize(
    "changes",
    [
        {"value": float("nan")},
        {"value": float("inf")},
        {"source": " "},
        {"metric": ""},
        {"protocol": "x" * 201},
        {"differs": "x" * 201},
        {"budget": 5},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_figure_that_no_table_can_show_is_refused(changes):
    with pytest.raises(PluginError, match=f"Variant 'mine'.*{next(iter(changes))} is"):
        check_record(variant(**changes))


def test_show_says_what_a_narrow_variant_does_otherwise():
    command = [sys.executable, "-P", "-m", "ganzoo", "show", "biggan-small", "--json"]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    text = json.dumps(shown)
    assert '"value": 4.16' in text
    assert "far more channels" in text
