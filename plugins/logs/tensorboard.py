"""Curves to TensorBoard: `ganzoo bench --log tensorboard`, then `tensorboard --logdir runs`.

Event files lie in each run's folder, beside its record. A step is a real image shown, so 200k on the axis is 200 kimg.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ganzoo

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise ganzoo.PluginError("TensorBoard is not installed; pip install 'ganzoo[tensorboard]'") from error

EVENT_FILES = "events.out.tfevents.*"


class Log:
    """The curves of the run in progress."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.writer: SummaryWriter | None = None

    def write(self, kimg: float, values: Mapping[str, float | None]) -> None:
        """Write one point of each curve; skip those without a value."""
        step = step_of(kimg)
        if self.writer is None:
            # Hides what an earlier attempt wrote from this step on; the run goes on from what came before.
            self.writer = SummaryWriter(str(self.folder), purge_step=step)
        for name, value in values.items():
            if value is not None:
                self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Nothing more is to come."""
        if self.writer is not None:
            self.writer.close()


RUNS: dict[str, Log] = {}


@ganzoo.hookimpl
def ganzoo_event(event: ganzoo.Event) -> None:
    """Terms of the loss and the rate as they come, scores as `fid/ema` and `fid/raw`."""
    if isinstance(event, ganzoo.RunStarted):
        RUNS[event.run_id] = Log(event.folder)
    elif isinstance(event, ganzoo.TrainingProgress):
        RUNS[event.run_id].write(event.kimg, {**event.terms, "images per second": event.images_per_second})
    elif isinstance(event, ganzoo.Scored):
        RUNS[event.run_id].write(event.kimg, scores_by_name(event.scores))
    elif isinstance(event, ganzoo.RunFinished) and event.skipped:
        write_record(event.record)
    elif isinstance(event, ganzoo.RunFinished):
        RUNS.pop(event.run_id).close()


def scores_by_name(scores: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """`{"fid/ema": 12.3}`."""
    return {f"{score['metric']}/{'ema' if score['ema'] else 'raw'}": score["value"] for score in scores}


def write_record(record: ganzoo.RunRecord) -> None:
    """Append the curves of a finished run, from the last step that its event files hold."""
    if record.path is None:
        return
    written = last_step(record.path.parent)
    log = Log(record.path.parent)
    curves = record.training.get("curves") or {"kimg": []}
    points: list[tuple[Any, dict[str, Any]]] = [
        (kimg, {name: curves[name][place] for name in curves}) for place, kimg in enumerate(curves["kimg"])
    ]
    points += [(score["kimg"], scores_by_name([score])) for score in record.scores]
    for kimg, values in sorted(points, key=lambda point: point[0]):
        if step_of(kimg) > written:
            log.write(kimg, {name: value for name, value in values.items() if name != "kimg"})
    log.close()


def last_step(folder: Path) -> int:
    """The last step in the event files of a folder; -1 where there is none."""
    if not any(folder.glob(EVENT_FILES)):
        return -1
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    names = accumulator.Tags()["scalars"]
    return max((event.step for name in names for event in accumulator.Scalars(name)), default=-1)


def step_of(kimg: float) -> int:
    """Real images shown."""
    return round(1000 * kimg)
