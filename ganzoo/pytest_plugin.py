"""Fixtures for tests of plugins. pytest loads this file at every start, so it imports torch only when used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ganzoo.runs import RunRecord
    from ganzoo.testing import Rehearsal


@pytest.fixture
def ganzoo_variant() -> Callable[..., Rehearsal]:
    """`ganzoo_variant("my-gan")`: the variant on small synthetic images, to step by hand.

    `plugins=[path]` loads a file that is not installed; `seed=` and `device=` are as in a run. See
    `ganzoo.testing.Rehearsal`.
    """
    from ganzoo.testing import Rehearsal

    return Rehearsal


@pytest.fixture
def ganzoo_run(tmp_path: Path) -> Callable[..., RunRecord]:
    """`ganzoo_run("my-gan")`: the record of a bench that takes seconds, on digits, below `tmp_path`.

    Options are those of `ganzoo.bench`: `plugins=[path]`, `kimg=2`, `dataset="mnist"`. A failed run fails the
    test.
    """

    def run(model: str, *, plugins: Sequence[str | Path] = (), **options: Any) -> RunRecord:
        import ganzoo

        short = {"kimg": 0.5, "batch_size": 32, "fakes": 64, "throughput_seconds": 0.1, "device": "cpu"}
        (record,) = ganzoo.bench(model, plugins=plugins, **{"results": tmp_path / "runs", **short, **options})
        assert record.ok, record.error
        return record

    return run
