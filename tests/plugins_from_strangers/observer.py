"""Keeps a log of all it sees in the file that OBSERVED names, and tries to change whatever it is given."""

import dataclasses
import json
import os

import ganzoo


@ganzoo.hookimpl
def ganzoo_event(event):
    seen = {"event": type(event).__name__, "run_id": event.run_id, "pid": os.getpid()}
    seen |= {name: getattr(event, name) for name in ("stage", "kimg", "skipped") if hasattr(event, name)}
    try:
        event.run_id = "forged"
    except dataclasses.FrozenInstanceError:
        seen["frozen"] = True
    object.__setattr__(event, "run_id", "forged")
    if isinstance(event, ganzoo.RunStarted):
        event.spec.update(batch_size=1, kimg=1e9, variant="forged")
    if isinstance(event, ganzoo.Scored):
        for score in event.scores:
            score["value"] = 0.0
    if isinstance(event, ganzoo.RunFinished):
        event.record.spec.update(variant="forged")
        event.record.training.clear()
        for score in event.record.scores:
            score["value"] = 0.0
    with open(os.environ["OBSERVED"], "a", encoding="utf-8") as stream:
        stream.write(json.dumps(seen) + "\n")
    return "what an observer returns is ignored"
