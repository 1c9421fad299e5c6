"""What the functions of a plugin are given of their own, and what they give, in the names that a whole recipe has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ganzoo.errors import PluginError
from ganzoo.training.phase_update import Given, Values
from ganzoo.types import Augmentation, Loss, Penalty, Terms
from ganzoo.util.text import printable

Owner: TypeAlias = Loss | Penalty | Augmentation
"""What has coefficients and state."""


def names_of(record: Owner) -> tuple[str, ...]:
    """The names of its coefficients and its state."""
    return (*record.hyper, *record.state)


def prefix_of(record: Owner) -> str:
    """What is `gamma` to the penalty r1 is `r1.gamma` to the recipe; a loss's own names are the recipe's too."""
    return "" if isinstance(record, Loss) else f"{record.name}."


def own_values(values: Values, record: Owner) -> dict[str, Any]:
    """What a function of a record may name of its own: each coefficient and state, and all as mappings."""
    prefix = prefix_of(record)
    hyper = {name: values.hyper[prefix + name] for name in record.hyper}
    state = {name: values.state[prefix + name] for name in record.state}
    return {**hyper, **state, "hyper": hyper, "state": state}


def initial_state(records: Iterable[Owner]) -> dict[str, Tensor]:
    """The state of a loss, penalties and augmentations before the first step, on the current default device.

    float32, but for the number of images that an augmentation which adapts has seen.
    """
    state: dict[str, Tensor] = {}
    for record in records:
        for name, value in record.state.items():
            state[prefix_of(record) + name] = torch.tensor(value, dtype=torch.float32)
        if isinstance(record, Augmentation) and record.adapt is not None:
            state[images_seen(record)] = torch.tensor(0, dtype=torch.int64)
    return state


def images_seen(augmentation: Augmentation) -> str:
    """The state in which the real images are counted that an augmentation has seen."""
    return f"{prefix_of(augmentation)}images_seen"


def terms_of(result: Any, record: Owner, what: str) -> Terms:
    """What a plugin's function gave as `Terms`, with the recipe's names for its state.

    Raises `PluginError` where it is neither terms nor a mapping, or has a state that nobody declared.
    """
    if isinstance(result, Mapping):
        result = Terms(result)
    if not isinstance(result, Terms):
        raise PluginError(f"{what} gave {type(result).__name__}; it must give {{name: 0-dim tensor}} or ganzoo.Terms")
    return replace(result, state=state_of_recipe(result.state, record, what))


def state_of_recipe(state: Mapping[str, Tensor], record: Owner, what: str) -> dict[str, Tensor]:
    """Next values of a record's state under the names that the recipe has for it. Raises `PluginError`."""
    for name in state:
        if name not in record.state:
            raise PluginError(
                f"{what} gives the state '{printable(name)}', which it does not declare; write it as "
                f"`state={{'{printable(name)}': START}}`"
            )
    return {prefix_of(record) + name: value for name, value in state.items()}


def joined(first: Terms, second: Terms) -> Terms:
    """The terms of both; what `first` says was judged stands."""
    return Terms(
        {**first.losses, **second.losses},
        {**first.monitors, **second.monitors},
        {**first.state, **second.state},
        first.judged,
    )


def of_batch(given: Given) -> dict[str, Any]:
    """What every function of a phase may name: the players, the batch and what is in it."""
    batch = given.batch
    return {
        **given.players,
        "batch": batch,
        "latent": batch.latent,
        "labels": batch.labels,
        "fake_labels": batch.fake_labels,
        "progress": given.values.progress,
    }
