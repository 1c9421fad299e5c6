"""Budgets that are no number: `--kimg full`, and `--kimg auto:LIMIT`, which doubles in rounds."""

from __future__ import annotations

import math

from ganzoo.errors import UsageError
from ganzoo.util.text import printable

AUTO = "auto:"


def auto_limit(kimg: float | str | None) -> float | None:
    """The LIMIT of a budget `auto:LIMIT`; None for any other budget. NaN where LIMIT is no number."""
    if not isinstance(kimg, str) or not kimg.startswith(AUTO):
        return None
    try:
        return float(kimg.removeprefix(AUTO))
    except ValueError:
        return math.nan


def check_budget(kimg: float | str | None) -> None:
    """Raise `UsageError` for a `--kimg` that is no budget."""
    limit = auto_limit(kimg)
    if limit is not None and not (math.isfinite(limit) and limit > 0):
        raise UsageError(f"--kimg {printable(kimg)}: give a limit above 0, as in auto:1000")
    if isinstance(kimg, str) and limit is None and kimg != "full":
        raise UsageError(
            f"--kimg {printable(kimg)}: give thousands of images, 'full' for each source's budget, or auto:LIMIT"
        )


def first_round(limit: float, dataset_kimg: float) -> float:
    """The budget of the first round of `--kimg auto:LIMIT`: LIMIT halved as often as at least a quarter of the
    dataset's own budget is left.
    """
    return limit / 2 ** max(0, math.floor(math.log2(4 * limit / dataset_kimg)))


def rounds_of(limit: float, first: float) -> tuple[float, ...]:
    """The budgets of the rounds from `first` to `limit`, in kimg, each twice the one before."""
    return tuple(limit / 2**power for power in range(round(math.log2(limit / first)), -1, -1))


def rounds_in_words(limit: float, first: float, reference: str) -> str:
    """What a plan of such rounds will do, and by which images its budget is chosen."""
    now, *later = (f"{kimg:g}" for kimg in rounds_of(limit, first))
    more = f"; what is still improving goes on to {', '.join(later)}" if later else ", which is the only round"
    test = "; chosen by images of the test split, which also judge the result" if reference != "train" else ""
    return f"--kimg auto:{limit:g}: {now} kimg first{more}{test}"
