"""What penalties share that read the heads of a judge."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import ganzoo


def head(heads: Mapping[str, Tensor], name: str, penalty: str, architecture: str) -> Tensor:
    """A judge's head by name. Raises `ganzoo.UsageError` where the judge has none of that name; `architecture` has."""
    if name not in heads:
        raise ganzoo.UsageError(
            f"penalty '{penalty}' needs a judge with a head '{name}'; choose an architecture that has it, such as "
            f"{architecture}"
        )
    return heads[name]
