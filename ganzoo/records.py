"""Read, write and find records: one folder for each run, `record.json` written last and atomically."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import orjson

from ganzoo.contract import check_record
from ganzoo.errors import PluginError, RecordError
from ganzoo.files import write_atomically
from ganzoo.text import printable, slug
from ganzoo.types import SCHEMA, RunRecord, RunSpec

RECORD = "record.json"
SAMPLES = "samples.png"
GENERATOR = "generator.safetensors"
STATUSES = ("ok", "diverged", "oom", "crashed", "timeout", "interrupted")


def run_id_of(spec: RunSpec, plugin_hashes: Mapping[str, str | None], versions: Mapping[str, str]) -> str:
    """The sha256 of a run's canonical JSON, of the source of the plugins it uses and of the versions it runs on."""
    content = {"spec": spec.to_json(), "plugins": dict(plugin_hashes), "versions": dict(versions)}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def run_folder(results: Path, spec: RunSpec, run_id: str) -> Path:
    """`<results>/<hardware>/<variant>-<dataset>-s<seed>-<id>`, every part of it a slug."""
    name = f"{slug(spec.variant, 40)}-{slug(spec.dataset, 24)}-s{spec.seed}-{run_id[:10]}"
    return results / slug(spec.hardware) / name


def write_record(record: RunRecord, folder: Path) -> RunRecord:
    """Write `record.json` in `folder` and return the record with its path. NaN and infinity become null."""
    text = json.dumps(_without_nan(record.to_json()), indent=1, allow_nan=False, default=str)
    path = folder / RECORD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda stream: stream.write(text.encode()))
    except OSError as error:
        raise RecordError(
            f"cannot write {printable(path)}: {error.strerror}; choose another --results folder"
        ) from error
    return replace(record, path=path)


def read_record(path: Path) -> RunRecord:
    """Read one `record.json`, or the folder that holds it. Raises `RecordError` saying what is wrong with it."""
    path = path / RECORD if path.is_dir() else path
    where = printable(path)
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{where}: cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise RecordError(f"{where}: is not JSON ({printable(error)})") from error
    if not isinstance(content, dict):
        raise RecordError(f"{where}: is not a record")
    schema = content.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise RecordError(f"{where}: has schema {schema}, newer than {SCHEMA}; upgrade ganzoo to read it")
    if schema != SCHEMA:
        raise RecordError(f"{where}: has no schema that this version knows")
    missing = [name for name in ("run_id", "status", "spec") if name not in content]
    if missing:
        raise RecordError(f"{where}: lacks {', '.join(missing)}")
    if content["status"] not in STATUSES:
        raise RecordError(f"{where}: has the unknown status {printable(content['status'])}")
    spec = content["spec"]
    absent = REQUIRED_OF_SPEC - set(spec) if isinstance(spec, dict) else {"spec"}
    if absent:
        raise RecordError(f"{where}: its spec lacks {', '.join(sorted(absent)[:5])}")
    given = {name: content[name] for name in RECORD_KEYS if content.get(name) is not None}
    record = RunRecord(**given, path=path)
    try:
        check_record(record)
        check_record(read_spec(record.spec))
        _check_figures(record)
    except (PluginError, TypeError) as error:
        raise RecordError(f"{where}: {error}") from error
    return record


RECORD_KEYS = tuple(field.name for field in fields(RunRecord) if field.name != "path")
REQUIRED_OF_SPEC = {field.name for field in fields(RunSpec) if field.default is MISSING}
SPEC_DEFAULTS = {field.name: None if field.default is MISSING else field.default for field in fields(RunSpec)}
SPEC_TUPLES = ("image_shape", "metrics", "phases", "penalties", "evaluate_at_kimg")


def read_spec(spec: Mapping[str, Any]) -> RunSpec:
    """A `RunSpec` from the JSON of a record; a field that came later has its default."""
    values = whole_spec(spec)
    for name in SPEC_TUPLES:
        values[name] = tuple(values[name])
    return RunSpec(**values)


def whole_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `RunSpec` as a record has them, by name; one that came later has its default."""
    return {name: spec.get(name, default) for name, default in SPEC_DEFAULTS.items()}


RATES = ("train_images_per_second", "sample_images_per_second")
JSON_NUMBERS = (float, int, type(None))
NUMBERS = ("peak_memory_bytes", "mfu", "energy_joules_per_kimg", "peak_flops")


def _check_figures(record: RunRecord) -> None:
    """Check what tables are made of, wherever it lies in the record. Raises `PluginError`."""
    for score in record.scores:
        if any(name not in score for name in ("metric", "value", "protocol", "kimg", "ema")):
            raise PluginError("a score lacks its metric, value, protocol, kimg or ema")
        _number(score, "value", "a score's ")
        _number(score, "kimg", "a score's ")
        if not isinstance(score["metric"], str) or not isinstance(score["protocol"], str):
            raise PluginError("a score's metric or protocol is no name")
    for name in RATES:
        summary = record.throughput.get(name)
        if summary is not None:
            _whole_summary(summary, f"throughput.{name}")
    for name in NUMBERS:
        _number(record.throughput, name, "throughput.")
    flags = record.throughput.get("flags") or ()
    if not isinstance(flags, list | tuple) or not all(isinstance(flag, str) for flag in flags):
        raise PluginError("throughput.flags must be a list of texts")
    _number(record.training, "train_seconds", "training.")
    updates = _mapping(record.training, "updates", "training.")
    for player in updates:
        _number(updates, player, "training.updates.")
    best = _mapping(record.training, "best", "training.")
    for key in best:
        point = _mapping(best, key, "training.best.")
        _number(point, "value", f"training.best.{key}.")
        _number(point, "kimg", f"training.best.{key}.")
    plugins = _mapping(record.environment, "plugins", "environment.")
    for plugin in plugins:
        _mapping(plugins, plugin, "environment.plugins.")


def _whole_summary(summary: Any, place: str) -> None:
    if not isinstance(summary, Mapping) or any(name not in summary for name in ("median", "low", "high")):
        raise PluginError(f"{place} lacks its median, low or high")
    for name in ("median", "low", "high"):
        _number(summary, name, f"{place}.")
    samples = summary.get("samples") or ()
    if not isinstance(samples, list | tuple) or not all(isinstance(sample, int | float) for sample in samples):
        raise PluginError(f"{place}.samples must be a list of numbers")


def _number(held: Mapping[str, Any], name: str, place: str) -> None:
    value = held.get(name)
    if type(value) not in JSON_NUMBERS:
        raise PluginError(f"{place}{printable(name)} is {printable(repr(value), 80)}; it must be a number or null")


def _mapping(held: Mapping[str, Any], name: str, place: str) -> Mapping[str, Any]:
    value = held.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise PluginError(f"{place}{printable(name)} is {printable(repr(value), 80)}; it must be an object")
    return value or {}


def find_records(folders: Sequence[Path]) -> tuple[list[RunRecord], list[str]]:
    """Every record below `folders`, and one line for each record or folder that cannot be used.

    A file that is met twice counts once. Of two finished records of one run id with different content the first is
    kept. Raises `RecordError` for a folder that is not there.
    """
    records: list[RunRecord] = []
    complaints: list[str] = []
    with _many_objects():
        for path in _all_record_files(folders, complaints):
            try:
                records.append(read_record(path))
            except RecordError as error:
                complaints.append(str(error))
    return _of_different_runs(records, complaints), complaints


@contextmanager
def _many_objects() -> Iterator[None]:
    """No garbage collection for a while: parsing makes no cycles, and looking for them takes half of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _of_different_runs(records: Sequence[RunRecord], complaints: list[str]) -> list[RunRecord]:
    """The records without copies of what is there, and without what contradicts it.

    A failed attempt stays beside the finished run: it says how often the run was tried.
    """
    first: dict[str, RunRecord] = {}
    kept: list[RunRecord] = []
    for record in records:
        known = first.setdefault(record.run_id, record) if record.ok else record
        if known is record:
            kept.append(record)
        elif replace(known, path=record.path) != record:
            complaints.append(
                f"{printable(record.path)}: has the run id of {printable(known.path)} but other content; "
                "compare them with `ganzoo diff`, and remove one"
            )
    return kept


def _all_record_files(folders: Sequence[Path], complaints: list[str]) -> list[Path]:
    """The record files below all `folders`, each once."""
    files: dict[Path, None] = {}
    for folder in folders:
        try:
            there = folder.exists()
        except OSError as error:
            complaints.append(f"{printable(folder)}: cannot be read: {printable(error.strerror)}")
            continue
        if not there:
            raise RecordError(f"{printable(folder)}: no such folder; run `ganzoo bench` first, or name another")
        files |= dict.fromkeys(_record_files(folder, complaints))
    return list(files)


def _record_files(folder: Path, complaints: list[str]) -> list[Path]:
    """The files called `record.json` below a folder, sorted, or the file itself."""
    if folder.is_file():
        return [folder]

    # Path.rglob passes over what it may not read without a word.
    def complain(error: OSError) -> None:
        complaints.append(f"{printable(error.filename)}: cannot be read: {printable(error.strerror)}")

    return sorted(Path(place, RECORD) for place, _, files in os.walk(folder, onerror=complain) if RECORD in files)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value
