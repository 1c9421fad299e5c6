"""What the scores of a table are held against, from the records: and which rows do no better than without training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ganzoo.comparing.figures import OverSeeds
from ganzoo.records.points import ScoreKey, final_scores
from ganzoo.util.significance import mean_error

if TYPE_CHECKING:
    from ganzoo.runs import RunRecord, Yardstick, YardstickKind
    from ganzoo.util.significance import Direction

SHOWN: tuple[YardstickKind, ...] = ("real", "pixel gaussian", "untrained")
"""The rows of their own kind at the top of a table, in their order."""


@dataclass(frozen=True)
class Measured:
    """A yardstick over the runs of a table: the values of one score, of so many images each."""

    values: tuple[float, ...]
    images: int


def shown_yardsticks(runs: Iterable[RunRecord], score: ScoreKey) -> dict[YardstickKind, Measured]:
    """Each yardstick of a score by the number of images that stands nearest to the rows': the largest that it has.

    That of real images is smaller than the number of fakes, mostly. Runs that share what is measured give one value.
    """
    found: dict[YardstickKind, dict[int, dict[float, None]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        for stick in _of_score(run, score):
            if stick["value"] is not None:
                found[stick["of"]][stick["images"]][stick["value"]] = None
    return {of: Measured(tuple(found[of][max(found[of])]), max(found[of])) for of in SHOWN if of in found}


@dataclass(frozen=True)
class NotTrained:
    """A row whose score by so many images is not better, by more than its interval, than without any training."""

    value: float
    images: int
    than: YardstickKind
    than_value: float


def not_trained(runs: Sequence[RunRecord], score: ScoreKey, better: Direction) -> NotTrained | None:
    """Whether a row's mean fails to beat the untrained generator and the Gaussian of the pixels; None where it beats
    both, or where its records do not say.

    All are scored by one number of images. The interval is Student's over seeds; of one seed half of that of its final
    score by the sample, where it has one, else nothing.
    """
    sign = 1.0 if better == "lower" else -1.0
    finished = [run for run in runs if run.ok]
    number = min((stick["images"] for run in finished for stick in _of_score(run, score)), default=0)
    found: dict[YardstickKind, list[float]] = defaultdict(list)
    for run in finished:
        for stick in _of_score(run, score):
            if stick["images"] == number and stick["value"] is not None:
                found[stick["of"]].append(stick["value"])
    # Without real images to score all images of the final score are.
    final = [entry for run in finished if (entry := final_scores(run).get(score))]
    trained = found.get("trained") or [entry["value"] for entry in final if entry["value"] is not None]
    bars: dict[YardstickKind, float] = {
        of: OverSeeds(tuple(found[of])).mean for of in ("pixel gaussian", "untrained") if of in found
    }
    if not trained or not bars:
        return None
    than = min(bars, key=lambda of: sign * bars[of])
    mean = OverSeeds(tuple(trained)).mean
    if len(trained) > 1:
        error = mean_error(trained)
    else:
        widths = [entry["sample_high"] - entry["sample_low"] for entry in final if "sample_low" in entry]
        error = widths[0] / 2 if widths else 0.0
    if math.isnan(mean) or sign * (bars[than] - mean) > error:
        return None
    return NotTrained(mean, number, than, bars[than])


def _of_score(run: RunRecord, score: ScoreKey) -> list[Yardstick]:
    return [stick for stick in run.yardsticks if (stick["metric"], stick["protocol"]) == score]


def in_words(of: YardstickKind, measured: Mapping[YardstickKind, Measured] | None = None) -> str:
    """`real (359)`, `pixel Gaussian (5000)`: what it is, with the number of images where that is known."""
    name = of.replace("gaussian", "Gaussian")
    return f"{name} ({measured[of].images})" if measured and of in measured else name
