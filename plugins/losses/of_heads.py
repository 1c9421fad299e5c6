"""What penalties share that read the heads of a judge."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import ganzoo


def head(heads: Mapping[str, Tensor], name: str, penalty: str) -> Tensor:
    """A judge's head by name. Raises `ganzoo.UsageError` where the judge has none of that name."""
    if name not in heads:
        given = ", ".join(f"'{other}'" for other in heads) or "none"
        raise ganzoo.UsageError(
            f"penalty '{penalty}' needs a judge with a head '{name}', and this one has {given}; choose an "
            "architecture that has it, such as dcgan-heads"
        )
    return heads[name]
