"""A run between two steps, as plain tensors and JSON: all that decides its further course; and back again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.errors import RecordError
from ganzoo.training.assembly import Assembly
from ganzoo.training.loop import TermLog, TrainResult
from ganzoo.training.weights import extra_states, load_extra_states
from ganzoo.util.conversion import convert
from ganzoo.util.text import printable

OTHERS = ("optimizer", "batches", "random", "terms", "state", "extra")
"""What the names of a snapshot's other tensors begin with."""


@dataclass(frozen=True)
class State:
    """What a snapshot holds beside tensors: JSON-safe."""

    step: int
    drawn: int
    result: TrainResult
    term_counts: dict[str, int]
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of each network what its modules keep beside their tensors, by the module's name."""


def snapshot(run: Assembly, log: TermLog) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """`(tensors, state)`: copies on the CPU of weights, moving average, optimizers, the losses' state, data order and
    random numbers; and the curves, clocks and counters as a JSON object.
    """
    tensors = {name: tensor.detach() for name, tensor in _weights(run)}
    for player, optimizer in run.optimizers.items():
        for name, parameter in _parameters(run, player).items():
            for kind, value in optimizer.state.get(parameter, {}).items():
                if value is not None:
                    tensors[f"optimizer/{player}/{name}/{kind}"] = value.detach()
    tensors |= {f"batches/{name}": tensor for name, tensor in run.batches.position().items()}
    tensors |= {f"random/{name}": tensor for name, tensor in _random_states(run).items()}
    tensors |= {f"terms/{name}": tensor for name, tensor in log.sums.items()}
    tensors |= {f"state/{name}": tensor for name, tensor in run.values.state.items()}
    extra: dict[str, dict[str, Any]] = {}
    for player, network in _networks(run).items():
        states = extra_states(network)
        beside = {name: value for name, value in states.items() if not isinstance(value, Tensor)}
        extra |= {player: beside} if beside else {}
        tensors |= {f"extra/{player}/{name}": states[name].detach() for name in states.keys() - beside.keys()}
    # Cloned, for a training that goes on must not change what is being written.
    copies = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    return copies, asdict(State(run.step, run.batches.drawn, log.result, dict(log.counts), extra))


def restore(run: Assembly, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> TermLog:
    """Put a fresh assembly where a `snapshot` was taken, and give the log to go on with.

    Raises `RecordError` where the snapshot is of another run, or of none.
    """
    _check_same_names(run, tensors)
    try:
        at = convert(state, State)
        with torch.no_grad():
            for name, tensor in _weights(run):
                if tensor.shape != tensors[name].shape:
                    raise RecordError(
                        f"the checkpoint's {name} is {tuple(tensors[name].shape)}, not {tuple(tensor.shape)}"
                    )
                tensor.copy_(tensors[name])
        for player, network in _networks(run).items():
            load_extra_states(network, at.extra.get(player, {}) | _below(f"extra/{player}/", tensors))
        for name, tensor in run.values.state.items():
            if tensor.shape != tensors[f"state/{name}"].shape:
                raise RecordError(f"the checkpoint's state '{name}' has another shape")
            tensor.copy_(tensors[f"state/{name}"])
        for player, optimizer in run.optimizers.items():
            _restore_optimizer(optimizer, _parameters(run, player), _below(f"optimizer/{player}/", tensors))
        run.batches.go_to(_below("batches/", tensors), at.drawn)
        run.step = at.step
        log = TermLog(at.result)
        device = run.batches.device
        log.sums.update({name: tensor.to(device) for name, tensor in _below("terms/", tensors).items()})
        log.counts.update(at.term_counts)
        _restore_random_states(run, _below("random/", tensors))
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise RecordError(f"the checkpoint does not hold this run: {printable(error, 200)}") from error
    return log


def _networks(run: Assembly) -> dict[str, nn.Module]:
    """The players, and their moving averages as `average of PLAYER`."""
    averages = {f"average of {name}": average.average for name, average in run.averages.items() if average.enabled}
    return {**run.players, **averages}


def _weights(run: Assembly) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer of the players and of the average, buffers that no state dict holds included."""
    for player, network in _networks(run).items():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            yield f"{player}/{name}", tensor


def _check_same_names(run: Assembly, tensors: Mapping[str, Tensor]) -> None:
    """Raise `RecordError` where the saved networks and the fresh ones do not hold the same.

    A buffer that a network makes in its first forward pass would silently begin anew.
    """
    fresh = {name for name, _ in _weights(run)}
    saved = {name for name in tensors if name.partition("/")[0] not in OTHERS}
    if more := _first_names(saved - fresh):
        reason = "which the networks lack when they are built; a buffer must be registered in __init__"
        raise RecordError(f"the checkpoint holds {more}, {reason}")
    if absent := _first_names(fresh - saved):
        raise RecordError(f"the checkpoint does not hold this run: it lacks {absent}")


def _first_names(names: Set[str]) -> str:
    return printable(", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else ""), 200)


def _parameters(run: Assembly, player: str) -> dict[str, nn.Parameter]:
    """What a player's optimizer updates, by name: another process may build the modules in another order."""
    return dict(run.players[player].named_parameters())


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], states: Mapping[str, Tensor]
) -> None:
    # load_state_dict would replace the groups that the schedules hold on to.
    on_device = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    for key, value in states.items():
        name, _, kind = key.rpartition("/")
        parameter = parameters[name]
        if value.shape == parameter.shape and kind != "step":
            # In the layout of its parameter, which a fused update asks for.
            copy = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        else:
            copy = value.to(parameter.device if on_device or kind != "step" else "cpu", copy=True)
        optimizer.state[parameter][kind] = copy.detach()


def _random_states(run: Assembly) -> dict[str, Tensor]:
    states = {"latents": run.latent_rng.get_state(), "cpu": torch.get_rng_state()}
    if run.label_rng is not None:
        states["labels"] = run.label_rng.get_state()
    if run.batches.device.type != "cpu":
        states["device"] = torch.get_device_module(run.batches.device).get_rng_state()
    return states


def _restore_random_states(run: Assembly, states: Mapping[str, Tensor]) -> None:
    run.latent_rng.set_state(states["latents"])
    if run.label_rng is not None:
        run.label_rng.set_state(states["labels"])
    torch.set_rng_state(states["cpu"])
    if run.batches.device.type != "cpu":
        torch.get_device_module(run.batches.device).set_rng_state(states["device"])


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is called `prefix…`, by the rest of the name."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
