"""The generators that a run has kept beside its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganzoo.errors import RecordError, UsageError
from ganzoo.records.store import BEST_GENERATOR, GENERATOR, KEPT_GENERATOR, kimg_text
from ganzoo.runs import KeptGenerator, RunRecord
from ganzoo.util.files import sha256_of_file
from ganzoo.util.text import printable

KEEP = ("final", "best", "all")
"""What `--keep` takes: the generator at the end of the budget, that and the best of the evaluations, or all of them."""


def kept_generators(record: RunRecord) -> list[KeptGenerator]:
    """The generators of a finished run whose files are there, in the order of their kimg; one that lies in two files
    is there once.
    """
    assert record.path is not None
    names = [GENERATOR, *(name for name in record.files if KEPT_GENERATOR.fullmatch(name))]
    there = [_kept(record, name) for name in names if (record.path.parent / name).is_file()]
    by_kimg = {generator.kimg: generator for generator in reversed(there)}
    return sorted(by_kimg.values(), key=lambda generator: generator.kimg)


def kept_at(record: RunRecord, at: str = "final") -> KeptGenerator:
    """One generator of a run: `final`, `best`, or the kimg of an evaluation as `--keep all` has kept it.

    Its file need not be there. Raises `UsageError` for one that the run did not keep.
    """
    if at == "final":
        return _kept(record, GENERATOR)
    if at == "best" and BEST_GENERATOR in record.files:
        return _kept(record, BEST_GENERATOR)
    kept = kept_generators(record)
    for generator in kept:
        if at == kimg_text(generator.kimg):
            return generator
    names = ["final", *(["best"] if BEST_GENERATOR in record.files else []), *(kimg_text(each.kimg) for each in kept)]
    raise UsageError(
        f"--at {printable(at)}: the run kept no such generator; it has {', '.join(names)}, and "
        "`ganzoo bench --keep all` keeps more"
    )


def check_unchanged_file(record: RunRecord, generator: KeptGenerator) -> None:
    """Raise `RecordError` where a generator's file is not the one that the run wrote, as far as the record says."""
    assert record.path is not None
    path, facts = record.path.parent / generator.file, record.files.get(generator.file)
    if facts is not None and sha256_of_file(path) != facts["sha256"]:
        raise RecordError(f"{printable(path)}: is damaged or was changed; its sha256 is not that in the record")


def _kept(record: RunRecord, name: str) -> KeptGenerator:
    facts: Mapping[str, Any] = record.files.get(name, {})
    kimg = facts.get("kimg") or record.training.get("kimg") or 0.0
    return KeptGenerator(name, kimg, facts.get("progress", 1.0))
