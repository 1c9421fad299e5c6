"""Published figures of variants, in a table of their own beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from ganzoo.comparing.rows import by_dataset
from ganzoo.output.console import safe
from ganzoo.output.tables import simple_table
from ganzoo.records.points import final_scores
from ganzoo.records.protocols import protocol_words
from ganzoo.records.settings import setting
from ganzoo.runs import RunRecord
from ganzoo.types import Reported

COLUMNS = ("variant", "score", "published", "images", "how it was scored", "budget", "what else differs", "source")


def published_figures(
    records: Sequence[RunRecord], reported: Mapping[str, Sequence[Reported]]
) -> Iterator[Table | str]:
    """The figures that are known of the records' variants, and how the records' own scores differ from them.

    `reported` is by variant. A published figure and a measured one never share a column: images, extractor, split and
    budget differ, so those of both stand there to be read.
    """
    variants = list(dict.fromkeys(str(setting(record.spec, "variant")) for record in records))
    rows = [(name, *_cells(each)) for name in variants for each in reported.get(name, ())]
    if not rows:
        yield safe(f"published: no figure is known of {', '.join(variants)}")
        return
    yield simple_table(COLUMNS, rows, title="published by others, and not to be compared with what was measured here:")
    for part in by_dataset(records):
        yield from (safe(line) for line in dict.fromkeys(map(_measured, part)))


def _cells(figure: Reported) -> tuple[str, ...]:
    said = [text or "not said" for text in (figure.budget, figure.differs)]
    return figure.metric, f"{figure.value:g}", figure.dataset, figure.protocol, *said, figure.source


def _measured(record: RunRecord) -> str:
    """How the leading score of a record was measured, in the words in which a published one should say it."""
    size, kimg = setting(record.spec, "image_size"), record.spec["kimg"]
    where = f"measured here: {record.spec['dataset']} at {size} px, {kimg:g} kimg"
    score = next(iter(final_scores(record)), None)
    content = record.protocols.get(score.protocol) if score else None
    return f"{where}, {protocol_words(content)}" if content else where
