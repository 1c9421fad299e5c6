"""Every column that people see in a comparison, once: the terminal, Markdown and the report's page render the same.

To add a column of a figure, add the figure to `ganzoo.comparing.figures.FIGURES`; of a setting, the setting to
`ganzoo.comparing.settings.ROW_SETTINGS`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from ganzoo.comparing.comparison import Comparison
from ganzoo.comparing.figures import FIGURES, Figure, Shown, Unit
from ganzoo.comparing.rows import Ratio, Row, ScoreOverSeeds
from ganzoo.comparing.settings import ROW_SETTINGS, RowSetting
from ganzoo.comparing.yardsticks import SHOWN, in_words
from ganzoo.output.console import missing, show_duration, show_memory, show_plain, show_rate, show_score
from ganzoo.records.points import ScoreKey
from ganzoo.records.protocols import distinctions, has_title
from ganzoo.runs import YardstickKind
from ganzoo.util.text import printable

Show = Callable[[Any], str]
Group = Literal["setting", "score", "target", "speed", "cost"]


MARK = "†"
"""Stands behind a score that is not the last word on its row; the notes below a table say why."""


class Fold(Enum):
    """Whether a narrow terminal may break the cells of a column over several lines."""

    FREELY = 0
    IN_NEED = 1
    NEVER = 2


def always(comparison: Comparison) -> bool:
    """Shown in every table."""
    return True


def no_text(kind: YardstickKind) -> str:
    """What most columns say of a yardstick."""
    return ""


@dataclass(frozen=True)
class Column:
    """A column of a table of rows.

    `value(row)` is what the cells are sorted by, None where it is missing, and `text(row)` what is read. `note` stands
    below the head on a page; in plain text `qualifier` stands behind the head in its place. `short` is the head where
    room is scarce. `protocol` is the id of the protocol that the column is by, if it is by one. `shown_if` says in
    which comparisons the column is there, `yardstick(kind)` its cell in a row of what scores are held against.
    """

    head: str
    value: Callable[[Row], Any]
    text: Callable[[Row], str]
    group: Group = "speed"
    note: str = ""
    qualifier: str = ""
    short: str = ""
    protocol: str = ""
    fold: Fold = Fold.FREELY
    shown_if: Callable[[Comparison], bool] = always
    yardstick: Callable[[YardstickKind], str] = no_text

    @property
    def plain_head(self) -> str:
        """The head in plain text, all in one line."""
        return f"{self.head} {self.qualifier}".rstrip()


def columns_of(comparison: Comparison) -> list[Column]:
    """The columns between a row's variant and its seeds: settings, scores, targets, speed, cost."""
    return [column for column in _every_column(comparison) if column.shown_if(comparison)]


def yardstick_rows(comparison: Comparison) -> list[tuple[YardstickKind, str]]:
    """The kinds of what the scores are held against, with what each is called, to stand above the rows."""
    found = list(comparison.yardsticks.values())
    kinds = (kind for kind in SHOWN if any(kind in measured for measured in found))
    return [(kind, in_words(kind, next(measured for measured in found if kind in measured))) for kind in kinds]


def columns_called(word: str, comparison: Comparison) -> list[Column]:
    """The columns with a head, shown or not: several where a score has several protocols."""
    columns = [VARIANT, *_every_column(comparison), SEEDS]
    return [column for column in columns if word.lower() in (column.head.lower(), column.plain_head.lower())]


def _every_column(comparison: Comparison) -> list[Column]:
    columns = [*SETTING_COLUMNS, *_score_columns(comparison), *_target_columns(comparison)]
    return [*columns, RATE, *_ratio_columns(comparison), *SHOWN_FIGURES]


def in_groups(columns: Iterable[Column], *groups: Group) -> list[Column]:
    """The columns of these groups, in their order."""
    return [column for column in columns if column.group in groups]


# --- settings ---------------------------------------------------------------------------------------------------------


def _varies(name: str) -> Callable[[Comparison], bool]:
    return lambda comparison: len({row.settings[name] for row in comparison.rows}) > 1


def _varies_on_one_machine(name: str) -> Callable[[Comparison], bool]:
    """A device and its threads go with the hardware, unless one hardware has several."""

    def varies(comparison: Comparison) -> bool:
        by_hardware: dict[str, set[Any]] = defaultdict(set)
        for row in comparison.rows:
            by_hardware[row.settings["hardware"]].add(row.settings[name])
        return any(len(values) > 1 for values in by_hardware.values())

    return varies


def show_kimg(kimg: float) -> str:
    """A budget; that of a speed measurement is none, and not zero."""
    return show_plain(kimg) if kimg else "–"


SHOWN_AS: dict[str, Show] = {"kimg": show_kimg}
"""The settings that are not shown as they are."""


def _setting(of: RowSetting) -> Column:
    show = SHOWN_AS.get(of.name, show_plain)
    return Column(
        of.head,
        value=lambda row: row.settings[of.name],
        text=lambda row: show(row.settings[of.name]),
        group="setting",
        short=of.short,
        fold=Fold.IN_NEED if of.name == "hardware" else Fold.FREELY,
        shown_if=(_varies_on_one_machine if of.with_machine else _varies)(of.name),
    )


def _commits_vary(comparison: Comparison) -> bool:
    commits = {row.environment("git") for row in comparison.rows}
    return comparison.by_hardware and len(commits - {None}) > 1


SETTING_COLUMNS = (
    *(_setting(each) for each in sorted(ROW_SETTINGS, key=lambda each: each.with_machine) if each.name != "variant"),
    Column(
        "commit",
        value=lambda row: row.environment("git"),
        text=lambda row: row.environment("git") or "–",
        group="setting",
        fold=Fold.IN_NEED,
        shown_if=_commits_vary,
    ),
    Column(
        "differs",
        # An empty text is missing: it comes last, and a column of nothing else may go.
        value=lambda row: row.differs or None,
        text=lambda row: row.differs,
        group="setting",
        shown_if=lambda comparison: any(row.differs for row in comparison.rows),
    ),
)

HARDWARE = next(column for column in SETTING_COLUMNS if column.head == "hardware")


def shared_settings(comparison: Comparison) -> list[tuple[str, str]]:
    """What all rows agree in, to stand above a table: `("batch size", "64")`."""
    if not comparison.rows:
        return []
    shown = {column.head for column in SETTING_COLUMNS if column.shown_if(comparison)}
    first = comparison.rows[0].settings
    apart = (each for each in ROW_SETTINGS if each.shared and each.head not in shown)
    shared = {each.head: show_plain(first[each.name]) for each in apart}
    if not first["kimg"] and "kimg" in shared:
        # No budget is a budget of zero: nothing was trained.
        shared["kimg"] = "–, speed only"
    return list(shared.items())


# --- scores -----------------------------------------------------------------------------------------------------------


def _score_columns(comparison: Comparison) -> Iterator[Column]:
    """The scores, behind each its difference from a baseline."""
    for score in comparison.scores:
        column = _score_column(comparison, score)
        yield column
        if any(row.scores[score].difference for row in comparison.rows):
            assert comparison.baseline is not None
            yield _difference_column(column, score, comparison.baseline.name)


def _score_column(comparison: Comparison, score: ScoreKey) -> Column:
    content = comparison.protocols.get(score.protocol)
    title, several = comparison.plain_title(score), comparison.shares_title(score)
    note = score.protocol
    if content is not None:
        apart = distinctions(comparison.protocols)[score.protocol]
        note = ", ".join(filter(None, [str(content.get("dataset")), apart]))

    def mark(row: Row) -> str:
        return f" {MARK}" if score.name == comparison.leading and row.scores[score].standing else ""

    def yardstick(kind: YardstickKind) -> str:
        found = comparison.yardsticks.get(score, {}).get(kind)
        if found is None:
            return ""
        values = dict.fromkeys(show_score(value) for value in (min(found.values), max(found.values)))
        return "–".join(values)

    return Column(
        title,
        value=lambda row: row.scores[score].mean,
        text=lambda row: score_text(row.scores[score], len(row.finished)) + mark(row),
        group="score",
        note=note,
        yardstick=yardstick,
        qualifier=f"[{score.protocol}]" if several else "",
        protocol=score.protocol if content is not None else "",
        # One that has a title is one of those that people look for.
        fold=Fold.NEVER if has_title(score.name, content or {}) and not several else Fold.FREELY,
    )


def score_text(score: ScoreOverSeeds, finished: int) -> str:
    """A mean with its interval, and of how many of the finished seeds where the score is missing in some."""
    text = show_score(score.mean)
    if score.interval is not None:
        # The interval with as many digits as the score itself.
        show = show_score if abs(score.mean) < 1 else "{:.2f}".format
        text += f" [{show(score.interval[0])}, {show(score.interval[1])}]"
    return f"{text} ({score.count}/{finished})" if 0 < score.count < finished else text


def _difference_column(column: Column, score: ScoreKey, baseline: str) -> Column:
    def value(row: Row) -> float | None:
        difference = row.scores[score].difference
        return None if difference is None else difference.value

    return Column(
        f"{column.plain_head} − {baseline}",
        value=value,
        text=lambda row: _difference_text(row.scores[score]),
        group="score",
    )


def _difference_text(score: ScoreOverSeeds) -> str:
    """A difference with its interval and p-value; alone where one seed says nothing of its spread."""
    difference = score.difference
    if difference is None:
        return "–"
    if difference.p is None:
        return f"{difference.value:+.3g}"
    return f"{difference.value:+.3g} [{difference.low:.3g}, {difference.high:.3g}], p {difference.p:.2g}"


def _target_columns(comparison: Comparison) -> Iterator[Column]:
    for score in comparison.targets:
        assert comparison.goal is not None
        sign = "≤" if comparison.better(score) == "lower" else "≥"
        goal = f"to {comparison.title(score)} {sign} {comparison.goal.value:g}"
        yield _target_column(f"kimg {goal}", score, "kimg", show_rate)
        yield _target_column(f"time {goal}", score, "seconds", show_duration)
        if any(_cost(row, score, "joules") is not None for row in comparison.rows):
            yield _target_column(f"J {goal}", score, "joules", show_rate)


def _cost(row: Row, score: ScoreKey, name: str) -> float | None:
    target = row.scores[score].target
    mean = target.cost(name).mean if target else None
    return None if missing(mean) else mean


def _target_column(head: str, score: ScoreKey, name: str, show: Show) -> Column:
    """What it took to come to the target, and how many of the seeds that were scored did."""

    def text(row: Row) -> str:
        target = row.scores[score].target
        if target is None or not target.reached:
            return ("not reached" if target and target.scored else "not scored") if name == "kimg" else ""
        cost, reached = target.cost(name), len(target.reached)
        shown = _with_deviation(cost.mean, cost.deviation, show)
        return f"{shown} ({reached}/{target.scored})" if reached < target.scored else shown

    return Column(head, value=lambda row: _cost(row, score, name), text=text, group="target")


# --- speed and cost ---------------------------------------------------------------------------------------------------


def _nothing_asked(comparison: Comparison) -> bool:
    """What was asked for, a target or ratios, takes the place of columns that few look for."""
    return not comparison.targets and not any(row.ratio for row in comparison.rows)


def rate_text(row: Row) -> str:
    """A rate with its deviation over seeds, or for a single one with half of its 95 % interval; starred if doubtful."""
    rate = row.figure("train_images_per_second")
    spread = row.figure("train_images_per_second_error").mean if missing(rate.deviation) else rate.deviation
    text = _with_deviation(rate.mean, spread, show_rate)
    return f"{text} *" if row.flags else text


def _updates_text(row: Row) -> str:
    """Optimizer steps of discriminator and generator, `625/125`, then of other players, `encoder 125`."""
    discriminator, generator = (row.figure(f"{player}_updates").mean for player in ("discriminator", "generator"))
    if missing(generator):
        return "–"
    both = f"{'–' if missing(discriminator) else format(discriminator, ',.0f')}/{generator:,.0f}"
    updates = row.finished[0].training.get("updates") or {} if row.finished else {}
    others = (
        f"{printable(player, 40)} {count:,}"
        for player, count in updates.items()
        if player not in ("discriminator", "generator")
    )
    return " ".join((both, *others))


def show_share(share: float) -> str:
    """`31%`."""
    return "–" if missing(share) else f"{share:.0%}"


TEXTS = {"train_images_per_second": rate_text, "discriminator_updates": _updates_text}
"""Of the figures that are more than a mean."""

NEVER_FOLDED = ("train_images_per_second", "peak_memory_bytes")

SHOW: dict[Unit, Show] = {"number": show_rate, "bytes": show_memory, "share": show_share, "seconds": show_duration}


def figure_column(figure: Figure) -> Column:
    """A column of the mean of a figure over seeds."""
    show, name = SHOW[figure.unit], figure.name
    shown_if: dict[Shown, Callable[[Comparison], bool]] = {
        "always": always,
        "if known": lambda comparison: any(row.figure(name).values for row in comparison.rows),
        "if nothing else is asked": _nothing_asked,
    }
    return Column(
        figure.head,
        value=lambda row: row.figure(name).mean,
        text=TEXTS.get(name, lambda row: show(row.figure(name).mean)),
        group="cost" if figure.of_training else "speed",
        note=figure.note,
        qualifier=figure.qualifier,
        fold=Fold.NEVER if name in NEVER_FOLDED else Fold.FREELY,
        shown_if=shown_if[figure.shown],
    )


RATE, *SHOWN_FIGURES = (figure_column(figure) for figure in FIGURES if figure.head)
"""Speed and cost, in the order of every table; ratios of the training rate stand behind it."""


def _ratio_columns(comparison: Comparison) -> Iterator[Column]:
    """How the speed compares with a baseline's."""
    if any(row.ratio for row in comparison.rows):
        assert comparison.baseline is not None
        head = "ratio" if comparison.by_hardware else f"of {comparison.baseline.name}"
        fold = Fold.IN_NEED if comparison.by_hardware else Fold.FREELY
        yield _ratio_column(head, lambda row: row.ratio, fold)
    if comparison.by_hardware:
        yield _ratio_column("per peak", lambda row: row.ratio_per_peak, Fold.IN_NEED)


def _ratio_column(head: str, ratio: Callable[[Row], Ratio | None], fold: Fold) -> Column:
    def value(row: Row) -> float | None:
        compared = ratio(row)
        return None if compared is None else compared.value

    def text(row: Row) -> str:
        compared = ratio(row)
        if compared is None:
            return "–"
        return f"{compared.value:.3g}" + ("" if compared.low is None else f" [{compared.low:.3g}, {compared.high:.3g}]")

    return Column(head, value, text, fold=fold)


def _with_deviation(value: float, deviation: float, show: Show) -> str:
    return show(value) if missing(deviation) or missing(value) else f"{show(value)} ± {show(deviation)}"


VARIANT = Column("variant", value=lambda row: row.settings["variant"], text=lambda row: row.settings["variant"])
"""The first column of every table."""


def _seeds_text(row: Row) -> str:
    return f"{len(row.finished)} ({row.failed})" if row.failed else f"{len(row.finished)}"


SEEDS = Column("seeds", value=lambda row: len(row.finished), text=_seeds_text)
"""The seeds that finished, and how others ended."""
