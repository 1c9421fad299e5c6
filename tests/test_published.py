"""`compare --reported`: published figures, beside what was measured and apart from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RECORD = Path(__file__).parent / "records" / "schema-4.json"

HOSTILE = """
import ganzoo

@ganzoo.hookimpl
def ganzoo_variants():
    texts = "[red]CIFAR-10[/red]", "\\x1b[31mby\\nhand", "arXiv:0000.00000, table 1", "10 epochs"
    figure = ganzoo.Reported("FID", 7.5, *texts, differs="twice as wide")
    yield ganzoo.Variant("told", architecture="dcgan", loss="hinge", reported=(figure,))
"""


@pytest.fixture
def results(tmp_path):
    """A folder with one run of each variant that is asked for."""

    def make(*variants: str) -> Path:
        for variant in variants:
            record = json.loads(RECORD.read_text())
            record["spec"]["variant"] = variant
            record["run_id"] = variant.encode().hex().ljust(64, "0")
            folder = tmp_path / "results" / f"{variant}-run"
            folder.mkdir(parents=True)
            (folder / "record.json").write_text(json.dumps(record))
        return tmp_path / "results"

    return make


def test_published_figures_stand_in_a_table_of_their_own_below(results, invoke):
    folder = results("dcgan", "mlp")
    plain = invoke("compare", folder)
    said = invoke("compare", folder, "--reported")
    assert said.code == 0
    assert said.out.startswith(plain.out.rstrip("\n")), "what was measured is as it was"
    below = said.out[len(plain.out.rstrip("\n")) :]
    assert "published by others, and not to be compared with what was measured here" in below
    assert "42.72" in below
    assert "48.29" in below
    assert "PyTorch-StudioGAN" in below
    (measured,) = {line for line in below.splitlines() if line.startswith("measured here")}
    assert "digits at " in measured
    assert "kimg" in measured


def test_variants_of_which_nothing_is_published_are_named(results, invoke):
    assert "published: no figure is known of mlp" in invoke("compare", results("mlp"), "--reported").out


def test_texts_of_a_plugin_cannot_style_or_break_the_table(results, invoke, tmp_path):
    (tmp_path / "told.py").write_text(HOSTILE)
    said = invoke("compare", results("told"), "--reported", "--plugin", tmp_path / "told.py")
    assert said.code == 0
    assert "\x1b" not in said.out
    assert "[red]CIFAR-10[/red]" in said.out
    assert "7.5" in said.out
    assert "10 epochs" in said.out
    assert "twice as wide" in said.out


def test_formats_for_programs_refuse_it_and_say_where_the_figures_are(results, invoke):
    said = invoke("compare", results("dcgan"), "--reported", "--format", "csv")
    assert said.code == 2
    assert "`ganzoo list variants --json` has the figures for programs" in said.error
    offers = {offer["name"]: offer for offer in json.loads(invoke("list", "variants", "--json").out)}
    assert {"FID", 42.72} <= {value for figure in offers["dcgan"]["reported"] for value in figure.values()}
