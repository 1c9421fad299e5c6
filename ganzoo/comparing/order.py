"""In which order the rows of a comparison stand, and what each is called among the others."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ganzoo.comparing.rows import Row
from ganzoo.comparing.scores import leading_score
from ganzoo.comparing.settings import RACE, ROW_SETTINGS
from ganzoo.records.points import ScoreKey

LABELLING = sorted(
    (each for each in ROW_SETTINGS if each.label), key=lambda each: each.name not in ("image_size", "hardware")
)
"""What is added to a variant's name if two rows of one variant and dataset differ in it; images and machine first."""


def best_first(rows: Sequence[Row], scores: Sequence[ScoreKey]) -> list[Row]:
    """The rows by dataset and budget; within these by the mean of the leading score of the dataset, the best first.

    Rows without that score, or with one by a network that they were trained against, come after those: the variant with
    the fastest row first, and its rows by batch size. A speed that is doubtful counts only among others that are. Last
    come the variants of which no run has finished.
    """
    parts: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        parts[row.settings["dataset"], row.settings["image_size"]].append(row)
    return [row for _, part in sorted(parts.items()) for row in _of_one_dataset(part, scores)]


def _of_one_dataset(rows: Sequence[Row], scores: Sequence[ScoreKey]) -> list[Row]:
    leading, way = leading_score([run for row in rows for run in row.runs])
    sign = 1 if way == "lower" else -1
    by = [score for score in scores if score.name == leading]
    speeds: dict[tuple[object, ...], tuple[bool, float]] = defaultdict(lambda: SLOWEST)
    for row in rows:
        speeds[_entrant(row)] = min(speeds[_entrant(row)], _speed(row))

    def place(row: Row) -> tuple[object, ...]:
        # Scores of two protocols are in no order: those of one come after those of the other.
        means = [(index, sign * row.scores[score].mean) for index, score in enumerate(by) if _counts(row, score)]
        race = (row.settings[name] for name in RACE)
        variant, batch_size = row.settings["variant"], row.settings["batch_size"]
        return *race, *min(means, default=(len(by), math.inf)), *speeds[_entrant(row)], variant, batch_size

    return sorted(rows, key=place)


def _counts(row: Row, score: ScoreKey) -> bool:
    """Whether a row has a value of a score, other than by a network that it was trained against."""
    return bool(row.scores[score].values) and not row.scores[score].by_teacher


SLOWEST = (True, math.inf)
"""The place of what has no speed."""


def _speed(row: Row) -> tuple[bool, float]:
    rate = row.figure("train_images_per_second")
    return (row.speed_is_doubtful, -rate.mean) if rate.values else SLOWEST


def _entrant(row: Row) -> tuple[object, ...]:
    """A variant in one race."""
    return *(row.settings[name] for name in RACE), row.settings["variant"]


def labels_of(rows: Sequence[Row]) -> list[str]:
    """For each row its variant, and whatever sets it apart from the variant's other rows on the dataset."""
    alike: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        alike[row.settings["variant"], row.settings["dataset"]].append(row)
    return [_label(row, alike[row.settings["variant"], row.settings["dataset"]]) for row in rows]


def _label(row: Row, others: Sequence[Row]) -> str:
    differing = [each for each in LABELLING if len({other.settings[each.name] for other in others}) > 1]
    if any(each.name == "hardware" for each in differing):
        differing = [each for each in differing if not each.with_machine]
    details = [each.label.format(row.settings[each.name]) for each in differing]
    details = ["speed only" if detail == "0 kimg" else detail for detail in details]
    return ", ".join([row.settings["variant"], *details, *filter(None, [row.differs])])


def in_words(label: str) -> str:
    """A label in a sentence: `dcgan, batch 64` as `dcgan (batch 64)`."""
    variant, comma, details = label.partition(", ")
    return f"{variant} ({details})" if comma else label


def listed(labels: Iterable[str]) -> str:
    """Labels in one text, each once."""
    return ", ".join(map(in_words, dict.fromkeys(labels)))
