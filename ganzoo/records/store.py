"""Read, write and find records: one folder for each run, `record.json` written last and atomically."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import orjson

from ganzoo.errors import RecordError, RecordRefused
from ganzoo.records.bounds import bound_faults
from ganzoo.records.checkpoint import CHECKPOINT
from ganzoo.records.score_facts import facts_fault, with_score_facts
from ganzoo.records.settings import GENERATOR_PLAYER
from ganzoo.records.speeds import speed_contradictions
from ganzoo.records.upgrades import upgrade
from ganzoo.runs import LARGEST_TERM, SCHEMA, RunRecord, RunSpec, Status
from ganzoo.util.conversion import convert, fault_of, fault_of_json
from ganzoo.util.files import LINK, read_regular, reading_error, write_atomically
from ganzoo.util.rights import make_folder, with_owner
from ganzoo.util.text import printable, slug

RECORD = "record.json"
SAMPLES = "samples.png"
SAMPLE_IMAGES = 64
GENERATOR = "generator.safetensors"
BEST_GENERATOR = "generator-best.safetensors"
RUN_FILES = {RECORD: "record", CHECKPOINT: "checkpoint", SAMPLES: "picture", GENERATOR: "generator"}
"""The files that ganzoo writes to the folder of a run, and a word for each; further generators are beside them."""

KEPT_GENERATOR = re.compile(r"generator-(?:best|[0-9.e+]+kimg)\.safetensors")
"""The names of the generators that `--keep best` and `--keep all` keep."""

BEFORE = ".before"
"""Suffix of the folder to which `--force` moves a finished run until the new attempt has finished."""

QUARANTINE = "quarantine"
"""The folder to which `ganzoo doctor --fix` moves what is broken; ganzoo reads no record from it."""

LARGEST_RECORD = 16 << 20
"""The most bytes of a record, some thirty thousand scores; a larger file is refused before it is read."""

MOST_VALUES, MOST_CONTAINERS = 800_000, 200_000
"""The most values of a record, and the most objects and arrays. A text with more is refused before it is parsed: an
empty array is three bytes of text and sixty-four of memory.
"""

SURELY_SMALL = 1 << 20
"""A text of fewer bytes needs no counting."""

STATUSES = get_args(Status)


def kimg_text(kimg: float) -> str:
    """What a generator is called by that was kept after so much training."""
    return f"{kimg:.10g}"


def generator_file(kimg: float) -> str:
    """The file of the generator after so much training, with `--keep all`."""
    return f"generator-{kimg_text(kimg)}kimg.safetensors"


def is_run_file(name: str) -> bool:
    """Whether a file of this name in the folder of a run is ganzoo's."""
    return name in RUN_FILES or KEPT_GENERATOR.fullmatch(name) is not None


INSTALLED = ("ganzoo", "torch")
"""The distributions whose versions belong to every run's id."""


def versions_in_id(environment: Mapping[str, Any]) -> dict[str, str | None]:
    """The versions that belong to a run's id, of a record's `environment`: ganzoo's, torch's, those plugins import."""
    return {**(environment.get("distributions") or {}), **{name: environment.get(name) for name in INSTALLED}}


NOT_OF_TRAINING = ("scoring",)
"""The fields of a spec that are not in a run's id: a run that is scored anew has not been trained anew."""


def run_id_of(spec: RunSpec, plugin_hashes: Mapping[str, str | None], versions: Mapping[str, str | None]) -> str:
    """The sha256 of a run's training: its spec as canonical JSON, the hashes of the sources of the plugins that train,
    and the versions it runs on.
    """
    return identity_of(spec.to_json(), plugin_hashes, versions)


def identity_of(
    spec: Mapping[str, Any], plugin_hashes: Mapping[str, str | None], versions: Mapping[str, str | None]
) -> str:
    """As `run_id_of`, of a spec as JSON: with the fields of the version that wrote it.

    The spec of a record before schema 4 has its scoring among the other fields, and the id has it too.
    """
    trained = {name: value for name, value in spec.items() if name not in NOT_OF_TRAINING}
    content = {"spec": trained, "plugins": dict(plugin_hashes), "versions": dict(versions)}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def run_folder(results: Path, spec: RunSpec, run_id: str) -> Path:
    """`<results>/<hardware>/<variant>-<dataset>-s<seed>-<id>`, every part of it a slug."""
    name = f"{slug(spec.variant, 40)}-{slug(spec.dataset, 24)}-s{spec.seed}-{slug(run_id[:10])}"
    return results / slug(spec.hardware) / name


def write_record(record: RunRecord, folder: Path) -> RunRecord:
    """Write `record.json` in `folder` and return the record with its path. NaN and infinity become null.

    Parts that `read_record` would refuse are left out; a run that was ok then has the status crashed, with the reason.
    """
    path = folder / RECORD
    record = _readable(record, path)
    text = _text_of(record)
    try:
        make_folder(folder)
        write_atomically(path, lambda stream: stream.write(text))
    except OSError as error:
        raise RecordError(
            f"cannot write {printable(path)}: {with_owner(error, folder)}; choose another --results folder"
        ) from error
    return replace(record, path=path)


def _text_of(record: RunRecord) -> bytes:
    content = json_value(record.to_json())
    training = content["training"]
    if isinstance(training, dict) and isinstance(curves := training.get("curves"), dict):
        training["curves"] = {name: _without_absurd(curve) for name, curve in curves.items()}
    return json.dumps(content, indent=1, allow_nan=False, default=str).encode()


def _without_absurd(curve: Any) -> Any:
    """A curve with None for terms that are as good as infinite."""
    if not isinstance(curve, list):
        return curve
    return [None if isinstance(term, (int, float)) and abs(term) >= LARGEST_TERM else term for term in curve]


def _readable(record: RunRecord, path: Path) -> RunRecord:
    """The record if `read_record` accepts it; else a failed one with only the parts that `read_record` accepts."""
    fault = _fault_of_record(record, path)
    if fault is None:
        return record
    status, error = record.status, record.error
    if record.ok:
        status = "crashed"
        error = {"type": "RecordError", "message": f"what the run gave cannot be recorded: {fault}", "tail": ""}
    readable = RunRecord(record.schema, record.run_id, status, record.spec, error, command=record.command)
    for names in (LINKED_PARTS, *((name,) for name in PARTS if name not in LINKED_PARTS)):
        extended = replace(readable, **{name: getattr(record, name) for name in names})
        readable = extended if _fault_of_record(extended, path) is None else readable
    return readable


LINKED_PARTS = ("scores", "protocols", "training")
"""Parts of a record that refer to each other."""


def _fault_of_record(record: RunRecord, path: Path) -> str | None:
    """Why `read_record` would refuse a record, or None."""
    text = _text_of(record)
    if len(text) > LARGEST_RECORD:
        return f"it takes more than {LARGEST_RECORD >> 20} MiB"
    try:
        valid_record(content_of(text, path), path)
    except RecordError as error:
        return str(error).removeprefix(f"{printable(path)}: ")
    return None


def read_record(path: Path) -> RunRecord:
    """Read one `record.json`, or the folder that holds it.

    Raises `RecordRefused` with the fault, `RecordMissing` if there is no record, `RecordUnreadable` if the file system
    fails to read it, and `RecordError` if another version of ganzoo can.
    """
    path = path / RECORD if os.path.isdir(path) else path
    return valid_record(read_content(path), path)


def read_content(path: Path) -> dict[str, Any]:
    """The JSON of a record of any version, not upgraded. Raises what `read_record` raises."""
    try:
        return content_of(read_regular(path, LARGEST_RECORD), path)
    except OSError as error:
        raise reading_error(path, error) from error


def content_of(text: bytes, path: Path) -> dict[str, Any]:
    """The JSON of a record from its text, within the limits of any. Raises `RecordRefused` with the fault."""
    where = printable(path)
    if len(text) > SURELY_SMALL and (
        text.count(b",") >= MOST_VALUES or text.count(b"[") + text.count(b"{") > MOST_CONTAINERS
    ):
        raise RecordRefused(
            f"{where}: holds more than {MOST_VALUES:,} values, or {MOST_CONTAINERS:,} objects and arrays"
        )
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RecordRefused(f"{where}: is not JSON ({printable(error)})") from error
    if not isinstance(content, dict):
        raise RecordRefused(f"{where}: is not a record")
    if fault := fault_of_json(content):
        raise RecordRefused(f"{where}: {fault}")
    return content


def valid_record(content: Mapping[str, Any], path: Path) -> RunRecord:
    """A record by `record_of` whose scores are possible, too, and whose speeds are those of its samples.

    Raises `RecordError`.
    """
    record = record_of(content, path)
    for fault in (*bound_faults(record), *speed_contradictions(record)):
        raise RecordRefused(f"{printable(path)}: {fault}")
    return record


def record_of(content: Mapping[str, Any], path: Path) -> RunRecord:
    """Upgrade `content`, the JSON read from `path`, and hold it against the types and limits of a record.

    Raises `RecordRefused` with the fault, and `RecordError` for a version that is newer than this ganzoo.
    """
    where = printable(path)
    schema = content.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise RecordError(f"{where}: has schema {schema}, newer than {SCHEMA}; upgrade ganzoo to read it")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise RecordRefused(f"{where}: has no schema that this version knows")
    content = with_score_facts(upgrade(content))
    missing = [name for name in ("run_id", "status", "spec") if content.get(name) is None]
    if missing:
        raise RecordRefused(f"{where}: lacks {', '.join(missing)}")
    if content["status"] not in STATUSES:
        raise RecordRefused(f"{where}: has the unknown status {printable(content['status'])}")
    parts = {name: content[name] for name in RECORD_KEYS if content.get(name) is not None}
    fault = fault_of(parts, RunRecord) or fault_of(parts["spec"], RunSpec, "spec")
    fault = fault or _absent_player(parts["spec"]["recipe"]) or facts_fault(parts.get("protocols", {}))
    if fault:
        raise RecordRefused(f"{where}: {fault}")
    return RunRecord(**parts, path=path)


def _absent_player(recipe: Mapping[str, Any]) -> str:
    """What is wrong where a recipe does not say how the generator is updated, or whether it is averaged."""
    for key in ("optimizers", "averages"):
        if GENERATOR_PLAYER not in recipe[key]:
            return f"spec.recipe.{key} lacks '{GENERATOR_PLAYER}'"
    return ""


RECORD_KEYS = tuple(field.name for field in fields(RunRecord) if field.name != "path")

PARTS = tuple(name for name in RECORD_KEYS if name not in ("schema", "run_id", "status", "spec", "error", "command"))
"""The parts of a record that a failed run may lack."""


def read_spec(spec: Mapping[str, Any]) -> RunSpec:
    """A `RunSpec` from its JSON; an option that is newer than the record has its default."""
    return convert(spec, RunSpec)


def find_records(folders: Sequence[Path]) -> tuple[list[RunRecord], list[str]]:
    """Every record below `folders`, and one line for each record or folder that cannot be used.

    A file below several folders counts once. Of finished records with one run id and different content the first is
    kept. Raises `RecordError` for a folder that does not exist.
    """
    records: list[RunRecord] = []
    complaints: list[str] = []
    with garbage_collection_paused():
        for path in _all_record_files(folders, complaints):
            try:
                records.append(read_record(path))
            except RecordRefused as error:
                complaints.append(f"{error}; `ganzoo doctor --fix` moves it aside")
            except RecordError as error:
                complaints.append(str(error))
    return _without_duplicates(records, complaints), complaints


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pause garbage collection: records and tables have no cycles, and looking for some takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _without_duplicates(records: Sequence[RunRecord], complaints: list[str]) -> list[RunRecord]:
    """The records without copies, and without finished records that contradict an earlier one of the same run id.

    A failed attempt stays beside the finished run: it shows how often the run was tried.
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
            exists = folder.exists()
        except OSError as error:
            complaints.append(f"{printable(folder)}: cannot be read: {printable(error.strerror)}")
            continue
        if not exists:
            raise RecordError(f"{printable(folder)}: no such folder; run `ganzoo bench` first, or name another")
        files |= dict.fromkeys(_record_files(folder, complaints))
    return list(files)


def _record_files(folder: Path, complaints: list[str]) -> list[Path]:
    """The files called `record.json` below a folder, sorted, or the file itself; links to folders are complained of."""
    if folder.is_file():
        return [folder]

    # Path.rglob silently skips folders without read permission.
    def complain(error: OSError) -> None:
        complaints.append(f"{printable(error.filename)}: cannot be read: {printable(error.strerror)}")

    paths = []
    for place, folders, files in os.walk(folder, onerror=complain):
        folders[:] = [name for name in folders if name != QUARANTINE]
        complaints += [f"{printable(path)}: {LINK}" for path in links_among(folders, place)]
        paths += [Path(place, RECORD)] if RECORD in files else []
    return sorted(paths)


def links_among(folders: Sequence[str], place: str | Path) -> list[Path]:
    """Those of the folders in `place` that are symbolic links."""
    return [path for path in (Path(place, name) for name in folders) if path.is_symlink()]


def json_value(value: object) -> Any:
    """A value that JSON can hold: NaN and infinity become None, lone surrogates are escaped, keys become strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {json_value(str(key)): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    return value


def runs_called(beginning: str, results: Path = Path("runs")) -> list[RunRecord]:
    """The records below `results` whose id or folder's name starts with `beginning`."""
    records, _ = find_records([results]) if results.exists() else ([], [])
    return [
        record
        for record in records
        if record.path and (record.run_id.startswith(beginning) or record.path.parent.name.startswith(beginning))
    ]


def find_run(run: str | Path, results: Path = Path("runs")) -> RunRecord:
    """A record by its folder, its file, or the beginning of its id or folder's name below `results`.

    Raises `RecordError` if no run or several match.
    """
    if Path(run).exists():
        return read_record(Path(run))
    matches = runs_called(str(run), results)
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(printable(record.path.parent.name) for record in matches[:5] if record.path)
    reason = f"matches several runs ({names})" if matches else f"is no folder, and no run in {printable(results)}"
    raise RecordError(f"run '{printable(run)}' {reason}; give the folder that holds its record.json")
