"""The messages between a bench and the process that does a run, and the JSON that they are sent as.

The bench sends a `RunRequest`, and the line `STOP` if the run is to save itself and end. The run sends a `Message` for
each thing that happens, and last its `Outcome`. Each is one JSON object on one line; `kind` says which it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ganzoo.runs import (
    DatasetFacts,
    Environment,
    FileFacts,
    HardwareFacts,
    Protocol,
    RunRequest,
    Score,
    ScoringJob,
    Status,
    Throughput,
    Training,
    Yardstick,
)
from ganzoo.util.conversion import convert

STOP = "stop"
"""The line that asks a run to save itself and end."""


@dataclass(frozen=True)
class Stage:
    """The run has moved on to `stage`: loading, measuring, reference, training or scoring."""

    stage: str


@dataclass(frozen=True)
class Progress:
    """The training has come to `kimg` in `seconds`; `terms` are means since the last such message."""

    kimg: float
    seconds: float
    terms: Mapping[str, float]


@dataclass(frozen=True)
class Scores:
    """The generator was scored at `kimg`."""

    kimg: float
    scores: Sequence[Score]


@dataclass(frozen=True)
class Note:
    """A line for the user."""

    line: str


Message = Stage | Progress | Scores | Note
"""What a run says before its outcome."""

OnMessage = Callable[[Message], None]


@dataclass(frozen=True)
class Failure:
    """Why a run did not end well: the type and message of the error, and the last lines that were printed about it."""

    type: str
    message: str
    tail: str = ""


@dataclass
class Outcome:
    """What a run gives: the fields of its record that only the run can fill in. What it did not reach stays empty.

    A run fills it in as it goes, so that one that fails leaves what it had. `error` is None only where `status` is ok.
    """

    status: Status = "ok"
    error: Failure | None = None
    scores: list[Score] = field(default_factory=list)
    yardsticks: list[Yardstick] = field(default_factory=list)
    protocols: dict[str, Protocol] = field(default_factory=dict)
    throughput: Throughput = field(default_factory=Throughput)
    training: Training = field(default_factory=Training)
    parameters: dict[str, int] = field(default_factory=dict)
    dataset: DatasetFacts = field(default_factory=DatasetFacts)
    hardware: HardwareFacts = field(default_factory=HardwareFacts)
    environment: Environment = field(default_factory=Environment)
    files: dict[str, FileFacts] = field(default_factory=dict)

    def failed(self, status: Status, error: Failure) -> Outcome:
        """End as `status` for this reason; gives the outcome itself."""
        self.status, self.error = status, error
        return self


MESSAGE_TYPES: dict[str, type[Message | Outcome]] = {
    "stage": Stage,
    "progress": Progress,
    "scored": Scores,
    "note": Note,
    "outcome": Outcome,
}
"""What a message is called in its JSON."""

KIND_OF = {type_: kind for kind, type_ in MESSAGE_TYPES.items()}


def encode(message: Message | Outcome) -> str:
    """A message as one line of JSON, without its end."""
    return json.dumps({"kind": KIND_OF[type(message)], **asdict(message)})


def decode(line: str | bytes) -> Message | Outcome:
    """The message that a line holds. Raises `ValueError` where it holds none, as the half line of a killed process."""
    content = json.loads(line)
    try:
        message = MESSAGE_TYPES[content.pop("kind")](**content)
        if isinstance(message, Outcome) and message.error is not None:
            message.error = Failure(**content["error"])
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"the line holds no message of a run: {error!r}") from error
    return message


def encode_request(request: RunRequest) -> str:
    """A request as one line of JSON, without its end."""
    return json.dumps(asdict(request))


def decode_request(line: str) -> RunRequest:
    """The request that a line holds."""
    content = json.loads(line)
    tuples = {name: tuple(content[name]) for name in ("plugins", "search_path")}
    tuples["jobs"] = convert(content["jobs"], tuple[ScoringJob, ...])
    return RunRequest(**{**content, **tuples})
