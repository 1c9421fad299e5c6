"""Records of earlier versions brought up to date, one version at a time; the file they came from stays as it is.

To change what a record's key means: raise `SCHEMA` in `types.py`, append a function here, and keep a record of the
version before in `tests/records/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ganzoo.records.score_facts import with_score_facts

Content = Mapping[str, Any]
"""A record as JSON gave it: what is in it is not checked yet."""


def upgrade_1_to_2(content: Content) -> Content:
    """The spec names the library that multiplies matrices, which was torch's own before it did; and what came with
    checkpoints, of which there were none.
    """
    spec = content.get("spec")
    if not isinstance(spec, Mapping):
        return content
    before = {"linear_backend": "blas", "deterministic": False, "requested_batch_size": None, "continues": ""}
    return {**content, "spec": {**before, **spec}}


UPGRADES: tuple[Callable[[Content], Content], ...] = (upgrade_1_to_2,)
"""From version 1 on, each to the next."""


def upgrade(content: Content) -> Content:
    """`content` in the newest layout, whatever version its `schema` says, from 1 to the newest."""
    for version in range(content["schema"], len(UPGRADES) + 1):
        content = {**UPGRADES[version - 1](content), "schema": version + 1}
    return with_score_facts(content)
