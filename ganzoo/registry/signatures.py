"""The functions of a plugin are given by name what they ask for, as pluggy gives a hook the arguments that it names.

`lambda real, fake, *, margin: …` is given the logits of both sides and the loss's own coefficient `margin`. What each
function may name stands in `TABLE`; a function may also name any coefficient and any state of its own record, and where
players are at hand, any player. Arguments are given by keyword, so their order says nothing.

When a plugin loads, only the form is checked. Whether a name stands for anything is decided where a loss meets an
architecture, before anything is trained.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ganzoo.errors import PluginError
from ganzoo.types import Architecture, Augmentation, Loss, Metric, Penalty, Phase
from ganzoo.util.text import printable

_OF_LOGITS = ("real", "fake", "real_heads", "fake_heads", "labels", "fake_labels", "hyper", "state")

TABLE: Mapping[tuple[type[Any], str], tuple[str, ...]] = {
    (Phase, "function"): ("batch", "augment", "progress", "hyper", "state"),
    (Phase, "after"): ("parameters", "hyper", "state"),
    (Loss, "discriminator"): _OF_LOGITS,
    (Loss, "generator"): _OF_LOGITS,
    (Loss, "real_side"): ("real", "real_heads", "labels", "hyper", "state"),
    (Loss, "after"): ("parameters", "hyper", "state"),
    (Penalty, "function"): (
        *("real", "fake", "real_logits", "fake_logits", "real_heads", "fake_heads", "labels", "fake_labels", "latent"),
        *("batch", "augment", "progress", "hyper", "state"),
    ),
    (Augmentation, "function"): ("images", "labels", "is_real", "fake", "hyper", "state"),
    (Augmentation, "adapt"): ("real_logits", "images_seen", "hyper", "state"),
    (Architecture, "present"): ("real", "latent", "labels", "fake_labels"),
    (Architecture, "sample"): ("latent", "labels"),
    (Architecture, "prepare"): ("draw",),
    (Metric, "score"): ("real", "fake", "held_out", "real_images", "fake_images", "held_out_images", "settings"),
    (Metric, "settings"): ("n_real", "n_fake"),
}
"""What the function in a field of a record may name, beside players and the record's own coefficients and state."""

WITH_PLAYERS = frozenset(
    {(Phase, "function"), (Penalty, "function"), *((Architecture, name) for name in ("present", "sample", "prepare"))}
)
"""The functions that may name players."""

RESERVED = frozenset(name for names in TABLE.values() for name in names)
"""What no coefficient, state or player may be called."""


@dataclass(frozen=True)
class ByName:
    """A function of a plugin, and the names of what it asks for."""

    function: Callable[..., Any]
    names: tuple[str, ...]
    needed: tuple[str, ...] = ()
    """Those without a default."""

    def __call__(self, available: Mapping[str, Any]) -> Any:
        return self.function(**{name: available[name] for name in self.names})


def by_name(record: Any, field: str, own: Collection[str] = (), players: Collection[str] = ()) -> ByName:
    """The function in a field of a record, ready to be given what it asks for.

    `own` names the coefficients and the state of the record that it belongs to; one goes before a player of that name.
    A parameter with a default keeps it, unless its name is one of `TABLE` or of these. Raises `PluginError` for a name
    that stands for nothing, with those that do.
    """
    type_ = type(record)
    function = getattr(record, field)
    names = [*TABLE[type_, field], *own]
    others = players if (type_, field) in WITH_PLAYERS else ()
    asked, needed = [], []
    for name, required in _asked(function, _field_in_words(record, field)).items():
        if name in names or (required and name in others):
            asked.append(name)
            if required:
                needed.append(name)
        elif required:
            raise PluginError(
                f"{_field_in_words(record, field)} asks for '{printable(name)}'; arguments go by name, and it may name "
                f"{', '.join(map(printable, dict.fromkeys([*others, *names])))}"
            )
    return ByName(function, tuple(asked), tuple(needed))


def metric_function(metric: Metric) -> ByName:
    """The `score` of a metric, ready to be given what it asks for: it may name an image source and its players too."""
    return by_name(metric, "score", ("generator", *metric.players))


def check_functions(record: Any) -> None:
    """Raise `PluginError` where a function of a record cannot be called by name, or a coefficient hides an argument."""
    for type_, field in TABLE:
        if isinstance(record, type_) and (function := getattr(record, field)) is not None:
            _asked(function, _field_in_words(record, field))
    if isinstance(record, (Loss, Penalty, Augmentation)):
        _check_coefficient_names(record)
    if isinstance(record, Augmentation):
        _check_adapts(record)
    if isinstance(record, Architecture):
        _check_player_names(record)
    if isinstance(record, Metric):
        metric_function(record)
        by_name(record, "settings")


def _check_adapts(record: Augmentation) -> None:
    """Raise `PluginError` for one that asks for sides that it treats alike, or declares `state` without `adapt`."""
    own = (*record.hyper, *record.state)
    asked = by_name(record, "function", own).names
    if record.same_for_real_and_fake and (named := [name for name in ("is_real", "fake") if name in asked]):
        raise PluginError(
            f"augmentation '{record.name}' asks for '{named[0]}'; say same_for_real_and_fake=False, for it treats real "
            "images and fakes differently"
        )
    if bool(record.state) != (record.adapt is not None):
        raise PluginError(
            f"augmentation '{record.name}' needs both `state` and `adapt`, which gives its next values, or neither"
        )
    if record.adapt is not None:
        by_name(record, "adapt", own)


def _check_player_names(architecture: Architecture) -> None:
    """Raise `PluginError` for names of players that functions cannot ask for, or judges that are none."""
    where = f"architecture '{architecture.name}'"
    for name in architecture.players:
        if not name.isidentifier() or name in RESERVED:
            raise PluginError(f"{where} calls a player '{printable(name)}'; give a name that a function can ask for")
    if "generator" not in architecture.players or len(set(architecture.players)) < len(architecture.players):
        raise PluginError(
            f"{where} has the players {_quoted_list(architecture.players)}; one is 'generator', each once"
        )
    for name in architecture.judges:
        if name not in architecture.players or name == "generator":
            raise PluginError(
                f"{where} has a judge '{printable(name)}', and its players are {_quoted_list(architecture.players)}"
            )


def _quoted_list(names: Collection[str]) -> str:
    return ", ".join(f"'{printable(name)}'" for name in names)


def _check_coefficient_names(record: Loss | Penalty | Augmentation) -> None:
    for kind, names in (("coefficient", record.hyper), ("state", record.state)):
        for name in names:
            if name in RESERVED or (kind == "state" and name in record.hyper):
                raise PluginError(
                    f"{type(record).__name__.lower()} '{record.name}' has a {kind} '{printable(name)}', and functions "
                    "are given something else under that name; rename it"
                )


def _field_in_words(record: Any, field: str) -> str:
    return f"{field} of {type(record).__name__.lower()} '{record.name}'"


def _asked(function: Callable[..., Any], what: str) -> dict[str, bool]:
    """The parameters that a function can be given by keyword, and whether each is required.

    A module counts by its `forward`; what a `partial` binds is not asked for. Raises `PluginError` for a function of
    which Python does not know them, or that takes any others.
    """
    wrap = "; wrap it in a lambda that names what it needs"
    called = getattr(function, "forward") if _is_module(function) else function  # noqa: B009, torch is not imported
    try:
        parameters = inspect.signature(called).parameters
    except (ValueError, TypeError):
        raise PluginError(f"{what} has no signature, and arguments go by name{wrap}") from None
    bound = _bound(called)
    for parameter in parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise PluginError(f"{what} takes '{printable(str(parameter))}', and arguments go by name{wrap}")
    return {name: parameter.default is parameter.empty for name, parameter in parameters.items() if name not in bound}


def _is_module(function: Callable[..., Any]) -> bool:
    """Whether it is a torch module, told without importing torch."""
    return any(type_.__module__ == "torch.nn.modules.module" for type_ in type(function).__mro__)


def _bound(function: Callable[..., Any]) -> set[str]:
    """The names that a `partial`, or one of a `partial`, has given already."""
    bound: set[str] = set()
    while isinstance(function, functools.partial):
        bound |= set(function.keywords)
        function = function.func
    return bound
