"""Whether a budget was too short for a score, or too long: from the evaluations that records hold."""

from __future__ import annotations

import pytest

from ganzoo.records.course import Course, course_of
from ganzoo.records.points import ScoreKey
from ganzoo.runs import SCHEMA, RunRecord

KEY = ScoreKey("fid", "p")
NOTHING = Course()


def run(values: dict[float, float | None], half_width: float | None = None) -> RunRecord:
    scores = []
    for kimg, value in values.items():
        entry = {"metric": "fid", "protocol": "p", "kimg": kimg, "ema": True, "value": value}
        if half_width is not None and value is not None:
            entry |= {"sample_low": value - half_width, "sample_high": value + half_width}
        scores.append(entry)
    return RunRecord(schema=SCHEMA, run_id="0" * 64, status="ok", spec={}, scores=scores)


def of_seeds(*curves: list[float], kimgs: tuple[float, ...] = (50, 100, 150, 200)) -> list[RunRecord]:
    return [run(dict(zip(kimgs, curve, strict=True))) for curve in curves]


def course(runs, better="lower") -> Course:
    return course_of(runs, KEY, better)


def test_a_score_that_still_falls_by_more_than_its_interval_is_still_improving():
    found = course(of_seeds([90, 60, 40, 30.0], [92, 61, 42, 31.0], [91, 63, 41, 30.5]))
    assert found == Course(gain=pytest.approx(41 - 30.5, abs=0.01))


def test_a_score_that_has_settled_is_neither():
    """Its last quarter changes it by less than seeds differ: t(2, 0.975) · 1 / √3 is 2.5."""
    assert course(of_seeds([90, 60, 33, 31.0], [92, 61, 34, 32.0], [91, 63, 32, 33.0])) == NOTHING


def test_a_gain_that_all_seeds_share_counts_only_beyond_the_interval_of_the_score():
    """Each seed gains 1, without any spread; their final values spread over 20."""
    assert course(of_seeds([90, 60, 21, 20.0], [92, 61, 31, 30.0], [91, 63, 41, 40.0])) == NOTHING


def test_a_score_that_was_better_before_is_past_its_best():
    found = course(of_seeds([50, 28, 39, 46.0], [52, 29, 38, 47.0], [51, 27, 40, 45.0]))
    assert found == Course(best_kimg=100, best=pytest.approx(28))


def test_a_score_that_is_better_when_higher_has_the_same_course_upside_down():
    falling = of_seeds([90, 60, 40, 30.0], [92, 61, 42, 31.0], [91, 63, 41, 30.5])
    rising = of_seeds([-90, -60, -40, -30.0], [-92, -61, -42, -31.0], [-91, -63, -41, -30.5])
    assert course(rising, "higher") == course(falling, "lower")
    past = of_seeds([-50, -28, -39, -46.0], [-52, -29, -38, -47.0])
    assert course(past, "higher") == Course(best_kimg=100, best=pytest.approx(-28.5))


def test_a_single_seed_is_judged_by_the_intervals_of_its_sample():
    values = {50: 60.0, 100: 40.0, 150: 35.0, 200: 30.0}
    assert course([run(values)]) == NOTHING, "one seed without intervals says nothing"
    assert course([run(values, half_width=3)]) == Course(gain=5)
    assert course([run(values, half_width=4)]) == NOTHING, "hypot(4, 4) is more than 5"
    past = {50: 28.0, 100: 39.0, 150: 46.0, 200: 46.0}
    assert course([run(past, half_width=3)]) == Course(best_kimg=50, best=28)


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [run({200: 30.0}, half_width=1)],
        [run({100: None, 200: 30.0}, half_width=1)],
        # Scored only near the end: nothing is known of the quarter before it.
        [run({190: 60.0, 200: 30.0}, half_width=1)],
    ],
)
def test_too_few_evaluations_say_nothing(runs):
    assert course(runs) == NOTHING


def test_many_evaluations_are_judged_by_their_last_quarter():
    curve = {kimg: 100.0 - kimg / 4 for kimg in range(10, 201, 10)}
    assert course([run(curve, half_width=2)]) == Course(gain=12.5)


def test_only_what_all_seeds_have_is_compared():
    runs = [run({100: 40.0, 150: 35.0, 200: 30.0}), run({50: 1.0, 100: 41.0, 150: 36.0, 200: 30.5})]
    assert course(runs) == Course(gain=pytest.approx(5.25))
