"""What the functions of a plugin are given: arguments go by position, so a name must not say something else.

`lambda fake, hyper: …` as the generator's function of logits would be given the real logits for `hyper`, and a penalty
that has its images as `fake, real` would punish the wrong ones. Both would train, and nobody would know.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ganzoo.errors import PluginError
from ganzoo.types import Loss, Metric, Penalty, Phase
from ganzoo.util.text import printable

Given = tuple[str, ...]

GIVEN: dict[tuple[type[Any], str], Given] = {
    (Phase, "function"): ("generator", "discriminator", "batch", "hyper"),
    (Phase, "after"): ("parameters", "hyper"),
    (Loss, "after"): ("parameters", "hyper"),
    (Loss, "discriminator"): ("real", "fake"),
    (Loss, "generator"): ("fake", "real"),
    (Penalty, "function"): ("discriminator", "real", "fake", "labels", "hyper"),
    (Metric, "score"): ("real", "fake", "settings"),
    (Metric, "settings"): ("n_real", "n_fake"),
}
"""What the function in a field of a record is given, in this order; a generator's function of logits, where it asks."""

NOT_OF_LOGITS = ("hyper", "labels", "batch", "latent", "state", "generator", "discriminator", "progress")
"""What functions of logits are not given, and a parameter of theirs might be called."""


def check_functions(record: Any) -> None:
    """Raise `PluginError` where a function of a record cannot take what it is given, or takes it for something else."""
    for (type_, field), given in GIVEN.items():
        if not isinstance(record, type_) or (function := getattr(record, field)) is None:
            continue
        what = f"{field} of {type_.__name__.lower()} '{record.name}'"
        of_logits = isinstance(record, Loss) and field != "after"
        if of_logits and field == "generator" and not takes_real_logits(function):
            given = given[:1]
        _check(function, given, what, (*NOT_OF_LOGITS, *record.hyper) if of_logits else ())
    if isinstance(record, Loss) and record.generator is not None and record.hyper and record.after is None:
        raise PluginError(
            f"loss '{record.name}' has coefficients ({', '.join(map(printable, record.hyper))}), and functions of "
            "logits are given none; write phases, or leave them out"
        )


def takes_real_logits(function: Callable[..., Any]) -> bool:
    """Whether the generator's function of logits wants the real logits too: it has a second parameter.

    One that has a default keeps it, unless it is called `real`.
    """
    second = next(iter(_positional(function)[1:]), None)
    return second is not None and (second.default is second.empty or _role(second.name, ("fake", "real")) == "real")


def _check(function: Callable[..., Any], given: Given, what: str, never: Given) -> None:
    """Raise `PluginError` unless `function` can be called with `given`, each under no other's name."""
    order = f"it is given ({', '.join(given)}) in this order"
    for parameter, place in zip(_positional(function), given, strict=False):
        role, name = _role(parameter.name, given), printable(parameter.name)
        if role not in (None, place) or (role is None and parameter.name in never):
            raise PluginError(f"{what} would take '{place}' for its parameter '{name}': {order}")
        if place == "real" and given[0] == "fake" and role is None and name != "r":
            # The one place where a further parameter asks for more.
            raise PluginError(f"{what}: call the second parameter 'real', not '{name}': {order}")
    try:
        signature = inspect.signature(function)
        signature.bind(*given)
    except TypeError as error:
        raise PluginError(f"{what} cannot be called, {printable(error)}: {order}") from None
    except ValueError:  # Of some callables written in C, Python does not know what they take.
        return


def _positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters that can be given by position, without `*args`; none where Python does not know them."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return []
    return [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]


def _role(name: str, given: Given) -> str | None:
    """Which of `given` a parameter is named after: `real` for `real`, `reals` and `real_logits`; None for `x`."""
    if name in given:
        return name
    words = set(name.lower().split("_"))
    named = [role for role in given if words & {role, f"{role}s"}]
    return named[0] if len(named) == 1 else None
