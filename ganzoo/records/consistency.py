"""Consistency checks of a record: each value that follows from others is computed again and compared.

Each function looks for one kind of fault and yields a description of each. No plugin is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ganzoo.machine.timing import summary
from ganzoo.records.bounds import CLOSE, Bounds, bound_faults
from ganzoo.records.points import leading_series
from ganzoo.records.protocols import direction_of, protocol_id
from ganzoo.records.speeds import SUMMARIES, close, is_ordered, speed_contradictions
from ganzoo.records.store import BEFORE, identity_of, read_spec, run_folder, versions_in_id
from ganzoo.runs import Point, RunRecord, Score
from ganzoo.util.bootstrap import in_blocks, percentile_interval
from ganzoo.util.files import joint_sha256
from ganzoo.util.text import printable

MOST_MFU = 1.05
"""The highest plausible MFU: a step may beat its reference, a matrix product, as the two are measured one by one."""

POSITIVE: Bounds = (math.nextafter(0, 1), math.inf)


def faults(content: Mapping[str, Any], record: RunRecord) -> Iterator[str]:
    """All faults of `record`; `content` is the JSON that it was read from, before any upgrade."""
    yield from identity_faults(content)
    yield from place_faults(record)
    yield from status_faults(record)
    yield from dataset_faults(record)
    yield from speed_faults(record)
    yield from turn_faults(record)
    yield from protocol_faults(record)
    yield from score_faults(record)
    yield from training_faults(record)


def identity_faults(content: Mapping[str, Any]) -> Iterator[str]:
    """The run id must be the hash of the spec as written, the plugins' source and the versions."""
    environment = content.get("environment") or {}
    plugins = {name: facts.get("source_sha256") for name, facts in (environment.get("plugins") or {}).items()}
    if content["run_id"] != identity_of(content["spec"], plugins, versions_in_id(environment)):
        yield "run_id is not that of its spec, plugins and versions: one of them was changed"


def place_faults(record: RunRecord) -> Iterator[str]:
    """The folder must be named after the run, and its parent after the hardware."""
    assert record.path is not None
    place = record.path.resolve().parent
    wanted = run_folder(Path(), read_spec(record.spec), record.run_id)
    if place.name.removesuffix(BEFORE) != wanted.name:
        yield f"its folder is called {printable(place.name)}, and the run {wanted.name}"
    if place.parent.name != wanted.parent.name:
        yield f"it lies in {printable(place.parent.name)}, and was made on {wanted.parent.name}"
    hardware = record.hardware.get("id", record.spec["hardware"])
    if hardware != record.spec["hardware"]:
        yield f"hardware.id is {printable(hardware)}, and spec.hardware {printable(record.spec['hardware'])}"


def status_faults(record: RunRecord) -> Iterator[str]:
    """A failed run must have an error, a finished one must have none and all of its parts."""
    if record.ok and record.error:
        yield "status is ok, and there is an error"
    if not record.ok and not record.error:
        yield f"status is {record.status}, and no error says why"
    missing = [name for name in ("throughput", "hardware", "environment", "dataset") if not getattr(record, name)]
    if record.ok and missing:
        yield f"status is ok, and there is no {', '.join(missing)}"
    if record.ok and record.spec["kimg"] and not record.training:
        yield "status is ok, and there is no training"


def dataset_faults(record: RunRecord) -> Iterator[str]:
    """The dataset must be that of the spec."""
    for key, wanted in (("sha256", "dataset_sha256"), ("count", "dataset_images"), ("name", "dataset")):
        if record.dataset.get(key, record.spec[wanted]) != record.spec[wanted]:
            yield f"dataset.{key} is not spec.{wanted}"


def speed_faults(record: RunRecord) -> Iterator[str]:
    """Summaries must follow from their samples, the MFU from its parts; a share is at most 1."""
    yield from speed_contradictions(record)
    throughput: Mapping[str, Any] = record.throughput
    for name in SUMMARIES:
        if name in throughput:
            yield from _interval_faults(f"throughput.{name}", throughput[name], record)
    yield from _faults_outside("throughput", throughput, {"data_wait_share": (0, 1)})


def turn_faults(record: RunRecord) -> Iterator[str]:
    """A run takes turns with other runs than itself, each named by its id, in one session."""
    others, session = record.throughput.get("in_turn_with"), record.throughput.get("in_turn_session")
    if (others is None) != (not session):
        yield "throughput has one of in_turn_with and in_turn_session, and not the other"
    for other in others or ():
        if other == record.run_id or not re.fullmatch("[0-9a-f]{64}", other):
            yield f"throughput.in_turn_with has {printable(other, 80)}, which is no other run's id"


def doubts(record: RunRecord) -> Iterator[str]:
    """Implausible values that contradict nothing: no reason to run again."""
    mfu, flags = record.throughput.get("mfu"), record.throughput.get("flags")
    # If the record has a flag that other processes were at work, the peak may have been measured in a worse moment.
    if mfu is not None and mfu > MOST_MFU and not flags:
        yield (
            f"throughput.mfu is {mfu:g}, above {MOST_MFU}: the peak may have been measured in a worse moment; "
            "do the run again with `ganzoo bench --force --wait-until-quiet`"
        )


def _interval_faults(name: str, part: Mapping[str, Any], record: RunRecord) -> Iterator[str]:
    """An interval that is possible, and is not the one that the samples give."""
    if not part["samples"] or not is_ordered(part):
        return
    interval = _expected_interval(part, summary(part["samples"]), record)
    if interval and not all(map(close, (part["low"], part["high"]), interval)):
        yield f"{name}.low and .high are not the interval of the median that its samples give"


def _expected_interval(part: Mapping[str, Any], expected: Mapping[str, Any], record: RunRecord) -> Bounds | None:
    """The interval of the samples by the method of the record; None if that method cannot be repeated here."""
    if part.get("interval") == expected["interval"]:
        return expected["low"], expected["high"]
    if "interval" not in part and _same_numpy(record):
        return _interval_of_earlier_records(part["samples"])
    return None


def _interval_of_earlier_records(samples: Sequence[float]) -> Bounds:
    """As records before `interval` drew it, by a `Generator`, whose stream may change between versions of NumPy."""
    import numpy as np

    rng, size = np.random.default_rng(0), len(samples)
    medians = in_blocks(lambda count: rng.integers(size, size=(count, size)), np.asarray(samples, float), np.median)
    return percentile_interval(medians)


def _same_numpy(record: RunRecord) -> bool:
    import numpy

    return (record.environment.get("packages") or {}).get("numpy") == numpy.__version__


def protocol_faults(record: RunRecord) -> Iterator[str]:
    """The id of a protocol must follow from its content; its data must be those of the spec, or those held out."""
    data = _compared_images(record)
    for identity, content in record.protocols.items():
        where = f"protocol {printable(identity, 80)}"
        absent = {"metric", "extractor", "n_fake", "ema"} - set(content)
        if absent:
            yield f"{where} lacks {', '.join(sorted(absent))}"
            continue
        if identity != protocol_id(content):
            yield f"{where}: the id is not that of its content"
        compared = content.get("dataset_sha256")
        if compared is not None and compared not in data:
            yield f"{where}: dataset_sha256 is none of the images that were trained on, held out, or both"
        elif compared is not None and content.get("n_real", data[compared]) != data[compared]:
            yield f"{where}: n_real is not the number of those images, {data[compared]}"


def _compared_images(record: RunRecord) -> dict[str, int]:
    """The sha256 of the images that scores of a run may compare with, and how many these are."""
    trained, count = record.spec["dataset_sha256"], record.spec["dataset_images"]
    held_out, more = record.dataset.get("held_out_sha256"), record.dataset.get("held_out_count") or 0
    if held_out is None:
        return {trained: count}
    return {trained: count, held_out: more, joint_sha256([trained, held_out]): count + more}


def score_faults(record: RunRecord) -> Iterator[str]:
    """Each score must be within its bounds and its own interval, and have its protocol."""
    yield from bound_faults(record)
    for score in record.scores:
        protocol = record.protocols.get(score["protocol"])
        where = f"score {printable(score['metric'], 80)} at {score['kimg']:g} kimg"
        if protocol is None:
            yield f"{where}: no protocol is called {printable(score['protocol'], 80)}"
        elif protocol.get("ema") != score["ema"]:
            yield f"{where}: ema is {score['ema']}, and its protocol's {protocol.get('ema')}"
        low, value, high = score.get("sample_low"), score["value"], score.get("sample_high")
        if (low, high) != (None, None) and (low is None or value is None or high is None or not low <= value <= high):
            yield f"{where} is {value}, and its interval from {low} to {high} does not hold it"


def training_faults(record: RunRecord) -> Iterator[str]:
    """The budget must be spent, curves must have one length, and best and final must be those of the scores."""
    training: Mapping[str, Any] = record.training
    if not training:
        return
    yield from _faults_outside("training", training, {"kimg": POSITIVE, "train_seconds": POSITIVE})
    if record.ok and training.get("kimg", 0) < record.spec["kimg"] * (1 - CLOSE):
        yield f"training.kimg is {training.get('kimg', 0):g}, less than the budget of {record.spec['kimg']:g}"
    curves = training.get("curves") or {}
    if len({len(curve) for curve in curves.values()}) > 1:
        yield "training.curves differ in length"
    axis = [point for point in curves.get("kimg", ()) if point is not None]
    if any(later <= earlier for earlier, later in pairwise(axis)):
        yield "training.curves.kimg does not grow"
    series = leading_series(record.scores)
    for which, wanted in (("final", _finals), ("best", _bests)):
        # A failed run may have scores, but has neither best nor final.
        recorded = training.get(which)
        if recorded is None:
            if record.ok and series:
                yield f"training.{which} is absent, and there are scores"
            continue
        for name in sorted(set(recorded) | set(series)):
            if not any(_same_point(recorded.get(name), point) for point in wanted(series.get(name, ()), record)):
                yield f"training.{which}.{printable(name, 80)} is not that of its scores"


def _finals(scores: Sequence[Score], record: RunRecord) -> list[Score | None]:
    return [scores[-1]] if scores else [None]


def _bests(scores: Sequence[Score], record: RunRecord) -> list[Score | None]:
    """The candidates for best: the first lowest or highest; both if no protocol says which direction is better."""
    known = [(value, score) for score in scores if (value := score["value"]) is not None]
    if not known:
        return [None]
    ways = {direction_of(score["metric"], record.protocols.get(score["protocol"], {})) for _, score in known}
    least, greatest = (choose(known, key=lambda pair: pair[0])[1] for choose in (min, max))
    return [least] if ways == {"lower"} else [greatest] if ways == {"higher"} else [least, greatest]


def _same_point(point: Point | None, score: Score | None) -> bool:
    if point is None or score is None:
        return point is score
    return point["value"] == score["value"] and point["kimg"] == score["kimg"]


def _faults_outside(where: str, values: Mapping[str, Any], bounds: Mapping[str, Bounds]) -> Iterator[str]:
    for name, (low, high) in bounds.items():
        value = values.get(name)
        if isinstance(value, (int, float)) and not low <= value <= high:
            shown = "above 0" if low > 0 else f"from {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            yield f"{where}.{printable(name, 80)} is {value:g}, and not {shown}"
