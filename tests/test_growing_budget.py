"""`--kimg auto:LIMIT`: budgets that double until a score no longer improves, or the limit is reached."""

from __future__ import annotations

import json

import pytest

import ganzoo
from ganzoo.planning.budgets import first_round, rounds_of

BRIEF = ("--device", "cpu", "--threads", "1", "--throughput-seconds", "0.05", "--no-bounds")
LIMIT = 2.048
"""The dataset's own budget is 0.512 kimg, so that the rounds are of 0.128, 0.256, 0.512, 1.024 and 2.048."""


@pytest.fixture
def growing(run_cli, stranger):
    def bench(*arguments, expected=0):
        plugins = ("--plugin", stranger("laboratory"), "--plugin", stranger("dimming"))
        data = ("--dataset", "stripes", "--image-size", "16", "--metrics", "brightness")
        done = run_cli("bench", *data, *plugins, *BRIEF, *arguments)
        assert done.returncode == expected, done.stderr
        return done

    return bench


def budgets(done) -> dict[str, float]:
    return {record["spec"]["variant"]: record["spec"]["kimg"] for record in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("limit", "dataset_kimg", "expected"),
    [
        (1000, 300, (125, 250, 500, 1000)),
        (2000, 300, (125, 250, 500, 1000, 2000)),
        (300, 300, (75, 150, 300)),
        (80, 300, (80,)),
        (10, 300, (10,)),
        (0.3, 0.512, (0.15, 0.3)),
    ],
)
def test_rounds_double_up_to_the_limit_from_a_quarter_of_the_datasets_budget(limit, dataset_kimg, expected):
    first = first_round(limit, dataset_kimg)
    assert rounds_of(limit, first) == pytest.approx(expected)
    assert first >= min(limit, dataset_kimg / 4)


def test_budgets_grow_while_the_score_improves_and_no_longer(growing, run_cli):
    asked = ("--models", "dimming,soon-black,dimming-by-schedule", "--kimg", f"auto:{LIMIT}", "--json")
    done = growing(*asked)
    assert budgets(done) == {"dimming": LIMIT, "soon-black": 0.512, "dimming-by-schedule": LIMIT}
    assert "still improving, so trained to 0.256 kimg: dimming, soon-black, dimming-by-schedule" in done.stderr
    assert "still improving, so trained to 1.024 kimg: dimming, dimming-by-schedule\n" in done.stderr
    assert f"dimming: still improving at the limit of {LIMIT} kimg" in done.stderr
    assert "dimming-by-schedule: its schedules follow the budget" in done.stderr
    assert "cost 1.92 kimg a seed" in done.stderr
    by_variant = {record["spec"]["variant"]: record for record in json.loads(done.stdout)}
    assert len(by_variant["dimming"]["training"]["resumed_at_kimg"]) == 4
    assert not by_variant["dimming-by-schedule"]["training"]["resumed_at_kimg"]
    level = by_variant["dimming"]["scores"][-1]["value"]
    assert level == pytest.approx((0.99 + 1 - 128 * 0.014) / 2, abs=0.003), "every step counts once"

    again = growing(*asked)
    assert json.loads(again.stdout) == json.loads(done.stdout), "what is done is done"

    further = growing("--models", "dimming", "--kimg", f"auto:{2 * LIMIT}", "--json")
    [record] = json.loads(further.stdout)
    assert record["spec"]["kimg"] == 2 * LIMIT
    assert len(list((run_cli.cwd / "runs").rglob("record.json"))) == 5 + 3 + 5 + 1, "a larger limit goes on"


def test_all_seeds_of_a_row_go_to_one_budget(growing):
    done = growing("--models", "soon-black", "--seeds", "2", "--kimg", f"auto:{LIMIT}", "--json")
    assert [(record["spec"]["seed"], record["spec"]["kimg"]) for record in json.loads(done.stdout)] == [
        (0, 0.512),
        (1, 0.512),
    ]


def test_the_recorded_command_asks_for_the_same_rounds(growing):
    done = growing("--models", "soon-black", "--kimg", f"auto:{LIMIT}", "--json")
    [record] = json.loads(done.stdout)
    assert f"--kimg auto:{LIMIT}" in record["command"]


def test_a_score_without_interval_stops_after_the_first_round_and_says_so(growing):
    done = growing("--models", "dimming", "--kimg", f"auto:{LIMIT}", "--json", "--metrics", "mean-gap")
    assert budgets(done) == {"dimming": 0.128}
    assert (
        "dimming: mean-gap of one seed has no interval, so nothing says if it improves; give --seeds 2" in done.stderr
    )


def test_a_failed_run_ends_its_row(growing):
    diverges = ("--set", "dimming.learning_rate=1e300")
    done = growing("--models", "dimming,soon-black", *diverges, "--kimg", f"auto:{LIMIT}", "--json", expected=1)
    assert [record["status"] for record in json.loads(done.stdout)] == ["diverged", "ok"]
    assert budgets(done) == {"dimming": 0.128, "soon-black": 0.512}


def test_a_dry_run_says_the_rounds(growing):
    done = growing("--models", "dimming", "--kimg", f"auto:{LIMIT}", "--dry-run")
    assert (
        "--kimg auto:2.048: 0.128 kimg first; what is still improving goes on to 0.256, 0.512, 1.024, 2.048"
        in done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kimg", "auto:"), "--kimg auto:: give a limit above 0, as in auto:1000"),
        (("--kimg", "auto:-3"), "--kimg auto:-3: give a limit above 0, as in auto:1000"),
        (("--kimg", "auto:inf"), "--kimg auto:inf: give a limit above 0, as in auto:1000"),
        (("--kimg", "much"), "--kimg much: give thousands of images, 'full' for each source's budget, or auto:LIMIT"),
        (("--kimg", "auto:8", "--throughput-only"), "--kimg auto:8: a budget is chosen by scores"),
        (("--kimg", "auto:8", "--discard-checkpoints"), "--kimg auto and --discard-checkpoints"),
    ],
)
def test_budgets_that_cannot_be_are_refused(invoke, arguments, message):
    said = invoke("bench", "--models", "mlp", *arguments)
    assert said.code == 2
    assert message in said.error


def test_python_takes_the_same_budgets():
    with pytest.raises(ganzoo.UsageError, match="give a limit above 0"):
        ganzoo.bench("mlp", kimg="auto:0")
