"""Add scores to the record of a finished run, which stays in the layout of the version that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ganzoo.errors import RecordError
from ganzoo.records.points import best_and_final
from ganzoo.records.store import LARGEST_RECORD, content_of, json_value, read_content, valid_record
from ganzoo.runs import Protocol, RunRecord, Score
from ganzoo.util.files import write_atomically
from ganzoo.util.rights import with_owner
from ganzoo.util.text import printable


def add_scores(path: Path, scores: Sequence[Score], protocols: Mapping[str, Protocol]) -> RunRecord:
    """Add those scores that `record.json` at `path` does not have by their protocol yet; gives the record.

    Reads and writes without a lock: hold the run's claim (`ganzoo.records.folder.claim`). The spec is written as it
    was, for the run's id is its hash. Raises what `read_record` does, and `RecordError` where the record cannot be
    written or would be refused afterwards; then it is as it was.
    """
    content = read_content(path)
    record = valid_record(content, path)
    known = {_identity(score) for score in record.scores}
    seconds = {score["kimg"]: score["train_seconds"] for score in record.scores if "train_seconds" in score}
    added: list[Score] = []
    for score in scores:
        if _identity(score) not in known:
            timed: Score = {**score, "train_seconds": seconds[score["kimg"]]} if score["kimg"] in seconds else score
            added.append(timed)
    if not added:
        return record
    used = {identity: protocols[identity] for identity in dict.fromkeys(score["protocol"] for score in added)}
    every = {**record.protocols, **used}
    content["scores"] = [*content.get("scores", ()), *added]
    content["protocols"] = {**content.get("protocols", {}), **used}
    content["training"] = {**content["training"], **best_and_final([*record.scores, *added], every)}
    text = json.dumps(json_value(content), indent=1, allow_nan=False).encode()
    if len(text) > LARGEST_RECORD:
        raise RecordError(f"{printable(path)}: with these scores it would take more than {LARGEST_RECORD >> 20} MiB")
    record = valid_record(content_of(text, path), path)
    try:
        write_atomically(path, lambda stream: stream.write(text))
    except OSError as error:
        raise RecordError(f"cannot write {printable(path)}: {with_owner(error, path.parent)}") from error
    return record


def _identity(score: Score) -> tuple[str, str, float, bool]:
    return score["metric"], score["protocol"], score["kimg"], score["ema"]
