"""Records for the tests of the report: copies of a committed record with some fields changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conftest import ONE_MACHINE

MODEL = min(ONE_MACHINE.glob("*/dcgan-digits-s0-*"))
FID = "fid-digits-cnn-5000-ema-b7ae57c3"


def set_rate(record: dict[str, Any], median: float, low: float | None = None, high: float | None = None) -> None:
    """Give a record another training rate, with samples and an MFU that go with it."""
    throughput = record["throughput"]
    samples = [low or median, median, high or median]
    throughput["train_images_per_second"] = {
        "median": median,
        "low": samples[0],
        "high": samples[2],
        "samples": samples,
    }
    if throughput.get("mfu") is not None:
        throughput["mfu"] = throughput["flops_per_image"] * median / throughput["peak_flops"]


def put_record(
    folder: Path,
    name: str,
    *,
    fid: Sequence[float | None] | None = None,
    seconds: Sequence[float] | None = None,
    rate: tuple[float, float, float] | None = None,
    status: str = "ok",
    message: str = "",
    pictures: bool = True,
    **spec: Any,
) -> dict[str, Any]:
    """Write a record to `folder / name`: `fid` by evaluation, `rate` as median, low and high, `spec` in its spec."""
    record = json.loads((MODEL / "record.json").read_text(encoding="utf-8"))
    assert not set(spec) - set(record["spec"])
    record["spec"] |= spec
    record["run_id"] = hashlib.sha256(name.encode()).hexdigest()
    record["status"] = status
    if status != "ok":
        record["error"] = {"type": "Diverged", "message": message, "tail": f"Traceback\n  {message}"}
    evaluations = sorted({score["kimg"] for score in record["scores"]})
    for score in record["scores"]:
        place = evaluations.index(score["kimg"])
        if fid is not None and score["protocol"] == FID:
            score["value"] = fid[place]
        if seconds is not None:
            score["train_seconds"] = seconds[place]
    if rate is not None:
        set_rate(record, *rate)
    place = folder / name
    place.mkdir(parents=True)
    (place / "record.json").write_text(json.dumps(record), encoding="utf-8")
    if pictures:
        shutil.copy(MODEL / "samples.png", place)
    return record
