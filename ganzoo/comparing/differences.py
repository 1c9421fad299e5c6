"""What sets runs apart that look alike in a table: recipes, data, and the versions of what ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import orjson

from ganzoo.comparing.settings import ROW_SETTINGS
from ganzoo.records.settings import setting, spec_over_seeds, whole_spec
from ganzoo.records.store import INSTALLED
from ganzoo.runs import RunRecord
from ganzoo.util.text import printable

BROUGHT_ALONG = ("hardware", *(each.name for each in ROW_SETTINGS if each.with_machine), "memory_format")
"""Fields of a spec that follow from the machine; between two machines they are no news."""

OF_THE_MACHINE = (*BROUGHT_ALONG, "step_mode", "torch")
"""Fields of a spec, and the version, in which the same work may differ between machines; a table says where it does."""

FIELDS_WITH_COLUMN = (*(each.name for each in ROW_SETTINGS), "seed")
"""Fields of a spec that a table shows anyway; `image_size` stands for a part of `image_shape`."""

CAUSES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "image_shape": lambda spec: setting(spec, "image_shape")[1:],
    "dataset_sha256": lambda spec: setting(spec, "image_shape")[1:],
    "memory_format": lambda spec: setting(spec, "hardware"),
}
"""Fields that follow from what a table shows: they set apart only runs that agree in that."""

HASH_DIGITS = 10


def differences(records: Sequence[RunRecord]) -> list[str]:
    """For each record what sets it apart from the others, `optimizer.learning_rate=0.0004, torch 2.11.0`, or nothing.

    A field that others have and this one lacks reads `none`. A plugin is compared where several used it, a version
    where it is known: a run whose process died leaves none.
    """
    wholes = [spec_over_seeds(record.spec) for record in records]
    # One optimizer for all players is said once.
    others = {name for spec in wholes for name in spec if name.endswith("_optimizer")}
    hidden = {*FIELDS_WITH_COLUMN}
    hidden |= {name for name in others if all(spec.get(name) in (None, spec["optimizer"]) for spec in wholes)}
    specs = [dict(flat("", {name: spec[name] for name in spec if name not in hidden})) for spec in wholes]
    telling = _fields_that_differ(specs, wholes)
    versions = [versions_of(record) for record in records]
    changed = {
        name
        for name in {name for known in versions for name in known}
        if len({known[name] for known in versions if name in known}) > 1
    }
    texts = []
    for spec, names, known in zip(specs, telling, versions, strict=True):
        parts = [*_assignments(spec, names), *(f"{name} {value}" for name, value in known.items() if name in changed)]
        texts.append(printable(", ".join(parts), 300))
    return texts


def disagreements_of_rows(records: Sequence[RunRecord], ignored: Container[str] = ("seed",)) -> list[str]:
    """`disagreements` of examples of rows that stand in no order of before and after: by their batch sizes."""
    return disagreements(sorted(records, key=lambda record: int(setting(record.spec, "batch_size"))), ignored)


def disagreements(records: Sequence[RunRecord], ignored: Container[str] = ("seed",)) -> list[str]:
    """In what runs disagree, `batch_size 64 vs 128`: fields of the spec by dotted names, then versions of the code.

    `ignored` names fields of the spec and versions that may differ.
    """
    differing = differing_settings(records, ignored) | differing_versions(records, ignored) or _lone_plugins(records)
    return [printable(f"{name} {' vs '.join(dict.fromkeys(values))}", 200) for name, values in differing.items()]


def differing_settings(records: Sequence[RunRecord], ignored: Container[str] = ()) -> dict[str, list[str]]:
    """The fields of the specs that differ, by dotted names, each record's as text; `none` where it has none."""
    sides = [
        dict(flat("", {name: value for name, value in _settings_of(record, ignored).items() if name not in ignored}))
        for record in records
    ]
    names = dict.fromkeys(name for side in sides for name in side)
    texts = {name: [setting_text(name, side[name]) if name in side else "none" for side in sides] for name in names}
    return {name: values for name, values in texts.items() if len(set(values)) > 1}


def _settings_of(record: RunRecord, ignored: Container[str]) -> dict[str, Any]:
    return spec_over_seeds(record.spec) if "seed" in ignored else whole_spec(record.spec)


def differing_versions(records: Sequence[RunRecord], ignored: Container[str] = ()) -> dict[str, list[str]]:
    """The versions of torch, ganzoo and plugins that are known of all and differ."""
    sides = [versions_of(record) for record in records]
    shared = [name for name in sides[0] if name not in ignored and all(name in side for side in sides)]
    return {name: values for name in shared if len(set(values := [side[name] for side in sides])) > 1}


def _lone_plugins(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """The plugins that some of the runs used and others did not. Mostly that follows from something else."""
    versions = [versions_of(record) for record in records]
    sides = [{name: known[name] for name in known if name.startswith(PLUGIN)} for known in versions]
    if not all(sides):
        return {}
    lone = dict.fromkeys(name for side in sides for name in side if not all(name in other for other in sides))
    return {name: [side.get(name, "none") for side in sides] for name in lone}


def _fields_that_differ(specs: Sequence[Mapping[str, Any]], wholes: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """For each spec the names of the fields in which it differs from any other of the same cause."""
    telling: list[list[str]] = [[] for _ in specs]
    for name in dict.fromkeys(name for spec in specs for name in spec):
        cause = CAUSES.get(name, lambda whole: None)
        alike: dict[bytes, list[int]] = defaultdict(list)
        for index, whole in enumerate(wholes):
            alike[orjson.dumps(cause(whole))].append(index)
        for indexes in alike.values():
            if len({orjson.dumps(specs[index].get(name)) for index in indexes}) > 1:
                for index in indexes:
                    telling[index].append(name)
    return telling


def _assignments(spec: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """`name=value` for each; of a whole branch that the spec lacks, its root once."""
    shown = (f"{name}={setting_text(name, spec[name])}" if name in spec else _lacking(spec, name) for name in names)
    return list(dict.fromkeys(shown))


def _lacking(spec: Mapping[str, Any], name: str) -> str:
    parts = name.split(".")
    for length in range(1, len(parts)):
        root = ".".join(parts[:length])
        if not any(other.startswith(f"{root}.") for other in spec):
            return f"{root}=none"
    return f"{name}=none"


def setting_text(name: str, value: object) -> str:
    """As `--set` takes it: numbers in full, lists with commas between, a hash by its first digits."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, (list, tuple)):
        return printable(",".join(setting_text(name, item) for item in value), 40)
    return str(value)[:HASH_DIGITS] if name.endswith("sha256") else str(value)


def flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Nested values of a spec by dotted names, things in a list by their own names; what is empty is not there."""
    if isinstance(value, (list, tuple)) and all(
        isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in value
    ):
        value = {item["name"]: {key: entry for key, entry in item.items() if key != "name"} for item in value}
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from flat(f"{prefix}.{name}" if prefix else str(name), item)
    else:
        yield prefix, value


PLUGIN = "plugin "
"""What stands before the name of a plugin among versions."""


def versions_of(record: RunRecord) -> dict[str, str]:
    """`torch`, `ganzoo`, what plugins import, and `plugin NAME`, to a version or the first digits of a source's hash.

    What is not known is not there.
    """
    environment: Mapping[str, Any] = record.environment or {}
    known = {**(environment.get("distributions") or {}), **{name: environment.get(name) for name in INSTALLED}}
    for name, facts in (environment.get("plugins") or {}).items():
        known[f"{PLUGIN}{name}"] = (facts.get("source_sha256") or "")[:HASH_DIGITS]
    return {name: value for name, value in known.items() if value}
