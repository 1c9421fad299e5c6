"""The conformance checks of a variant, each a function of a `Trial`: it returns, or raises `Failed` or `Skipped`.

The docstring of a check tells an author what it demands and how to fix what it finds. All but `shapes` work at the
smallest images that the architecture claims, with batches of 8. `checks` lists these and those of its other files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ganzoo.conformance.apart import call_apart
from ganzoo.conformance.initial_weights import initial_weights, initial_weights_elsewhere
from ganzoo.conformance.noise import NoNoise
from ganzoo.conformance.trial import Trial, TwoTones, go_to, through_stages
from ganzoo.conformance.verdicts import Failed, Skipped
from ganzoo.errors import GanzooError, UsageError
from ganzoo.evaluation.sampling import eval_mode
from ganzoo.losses import in_training
from ganzoo.machine.hostsync import HostSync, no_host_sync
from ganzoo.machine.settings import resolve_step_mode
from ganzoo.records.settings import whole_spec
from ganzoo.records.store import read_spec
from ganzoo.registry.isolation import check_settings, settings_in_force
from ganzoo.running.process import REPEATABLE
from ganzoo.training.assembly import Assembly
from ganzoo.training.augmenting import Augmenting
from ganzoo.training.cuda_graph import WARMUP_STEPS, CudaCapture
from ganzoo.training.judging import Presenter
from ganzoo.training.loop import due_calls, run_step
from ganzoo.training.penalties import NamedPenalty, penalty_alone
from ganzoo.training.phase_update import Given
from ganzoo.training.progressive import shrunk
from ganzoo.training.weights import NetworkState, load_state, state_of
from ganzoo.types import Batch, ImageShape
from ganzoo.util.seeds import seeded
from ganzoo.util.text import error_line, printable

GRADIENT_TOLERANCE = 1e-5
"""Relative norm by which captured and compiled gradients may differ from eager ones, in float32."""

ROUNDING = 1e-3
"""Relative norm by which two orders of summation may differ, after many layers: batches of another size or layout."""

BATCHES = 5
"""Gradients differ only if they do so on each of so many batches: on some, rounding carries an activation across the
kink of a ReLU or a maximum, and the gradient jumps by up to some thousandths of its norm."""

STEPS, STEPS_BETWEEN_LOOKS = 1000, 20
"""Steps in which a variant has to learn the toy target in one attempt, and the steps between two looks at it."""

ATTEMPTS = ((5.0, -1.0, 0), (1.0, 0.1, 0), (5.0, -1.0, 1))
"""The factor of the recipe's learning rates, the contrast of the toy's second picture, and the seed.

Five times the rates let most recipes learn within `STEPS` from pictures that vary; the rest learns from their mean.
"""

LEARNED = 0.6
"""A generator has learned when less than this share of the energy of its images is off the target, twice in a row."""


def runs(trial: Trial) -> None:
    """The recipe resolves and two steps run. Everything else needs this; the message is that of the exception."""
    try:
        run = trial.assemble()
        for _ in range(2):
            run_step(run)
    except (Exception, SystemExit) as error:
        reason = printable(error) if isinstance(error, GanzooError) else error_line(error)
        raise Failed(reason) from error


def leaves_settings(trial: Trial) -> None:
    """Networks and phases leave the process's settings: threads, precision, determinism, anomaly detection and others.

    Take the change out of `forward`, phases and penalties. (What an import or `build` changes is put back.)
    """
    run = trial.assemble()
    before = settings_in_force()
    run_step(run)
    check_settings(before)


def shapes(trial: Trial) -> None:
    """At every size and channel count that the architecture claims, images are (N, C, H, W) in [-1, 1] and logits fit.

    In eval mode too, in which images are scored. Mend `build`, end the generator in a tanh, or claim less in
    `image_sizes` and `channels`.
    """
    presenter, pack = Presenter.of(trial.architecture), trial.spec.recipe.pack
    for shape in trial.shapes:
        named = "x".join(map(str, shape))
        images: dict[str, Tensor] = {}
        try:
            run = trial.assemble(trial.spec_at(shape, batch_size=2 * pack))
            generator = run.players.generator
            for stage in through_stages(run):
                (_, batch), *_ = due_calls(run)
                with torch.no_grad():
                    images[stage] = generator(batch.latent, batch.labels)
                    for judge in trial.architecture.judges[:1]:
                        run.players[judge](*presenter.fake(Given(run.players, batch, run.values)))
                    with eval_mode(generator):
                        images[f"{stage} in eval mode"] = generator(batch.latent, batch.labels)
        except Exception as error:
            reason = printable(error) if isinstance(error, GanzooError) else error_line(error)
            raise Failed(f"at {named}: {reason}") from error
        for mode, drawn in images.items():
            low, high = float(drawn.min()), float(drawn.max())
            if not -1 <= low <= high <= 1:
                values = f"values from {low:.3g} to {high:.3g}"
                raise Failed(f"at {named}{mode} the generator gives {values}; they must be in [-1, 1]")


def finite_terms(trial: Trial) -> None:
    """Every term and every monitor of every phase is a finite number in the first steps, of each stage.

    Keep logarithms and roots away from 0, for instance by `softplus` or a small number under the root.
    """
    run = trial.assemble()
    for stage in through_stages(run):
        run.step = 0
        for step in range(4):
            calls = due_calls(run)
            for (update, _), terms in zip(calls, run.perform(calls), strict=True):
                for name, term in terms.items():
                    if not torch.isfinite(term):
                        raise Failed(f"the term '{update.phase.name}/{name}' is {float(term)} in step {step}{stage}")
            run.step += 1


def updates(trial: Trial) -> None:
    """Each phase moves each target that its `updates` names and nothing else, and every weight in use gets a gradient.

    A target that stays has no part in the phase's terms. Weights that move beside it are changed by hand: do so in
    `after`, which is given those of the phase alone. Weights that get no gradient are cut off from all terms, by a
    `detach` for instance; those of modules that no phase calls, of a judge's heads that no term reads, and those that
    `build` freezes, may be.
    """
    run = trial.assemble(share_fakes=False)
    players = {name: player.network for name, player in run.players.items()}
    learnable, frozen, namesakes = _learnable(run, players), _frozen(run), _namesakes(players)
    for stage in through_stages(run):
        for update in run.updates:
            before = _weight_copies(players)
            update(_batch(run))
            after = _weight_copies(players)
            moved = [name for name in before if name not in frozen and not torch.equal(before[name], after[name])]
            for target in update.phase.targets:
                if not any(name.startswith(f"{target}.") for name in moved):
                    raise Failed(f"phase '{update.phase.name}' updates '{target}' and leaves it as it was{stage}")
            for name in moved:
                targets = tuple(f"{target}." for target in update.phase.targets)
                if not any(namesake.startswith(targets) for namesake in namesakes[name]):
                    raise Failed(f"phase '{update.phase.name}' moves '{name}', which its `updates` does not name")
    if idle := _without_gradient(run, players, learnable):
        more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
        named = ", ".join(f"'{name}'" for name in idle[:3])
        raise Failed(f"no phase gives a gradient to {named}{more}; is something detached on the way?")


def penalty_gradients(trial: Trial) -> None:
    """Every penalty has a gradient by the weights of its player.

    Take gradients from `ganzoo.losses.gradient`, and do not detach them. A penalty that is flat near the
    start (one-sided ones are) is tried at larger weights too.
    """
    penalties = _penalties(trial)
    if not penalties:
        raise Skipped("the recipe has no penalty")
    run = trial.assemble()
    presenter, augmenting = Presenter.of(trial.architecture), Augmenting(trial.materials.augmentations)
    augmenting.install(run.players, run.values)
    given = Given(run.players, _batch(run), run.values)
    for penalty in penalties:
        named = NamedPenalty.of(penalty, presenter)
        weights = [weight for weight in run.players[named.player].parameters() if weight.requires_grad]
        function = penalty_alone(named, presenter, augmenting)
        for _ in range(3):
            with in_training(run.players.together):
                terms = function(given)
            # One of monitors alone is minimized by nobody.
            if not terms.losses or _has_gradient(torch.stack(list(terms.losses.values())).sum(), weights):
                break
            with torch.no_grad():
                torch._foreach_mul_([weight.data for weight in weights], 4.0)
        else:
            raise Failed(f"penalty '{penalty.name}' has no gradient by the {named.player}'s weights")


def captured_gradients(trial: Trial) -> None:
    """The gradients of a phase that is captured as a CUDA graph and replayed are those of the eager phase.

    Keep state in buffers and draw from torch: what Python does is done once, when the graph is recorded.
    """
    if torch.device(trial.device).type != "cuda":
        raise Skipped(f"CUDA graphs need a CUDA device, and this is {trial.device}")
    call_apart(trial, captured_gradients_here)


def captured_gradients_here(trial: Trial) -> None:
    """`captured_gradients` in this process, which a failed capture may spoil."""
    run, other = trial.assemble(share_fakes=False), trial.assemble(share_fakes=False)
    _load_states(other, _states(run))
    capture = CudaCapture(trial.device)

    def replayed(index: int, batch: Batch) -> list[Tensor]:
        update = other.updates[index]
        kept = _states(other)
        for _ in range(WARMUP_STEPS):
            capture.warm_up(lambda: [update.gradients(batch)])
            _clear(other)
        replay, _ = capture.record(lambda: [update.gradients(batch)])
        gradients = [weight.grad for weight in update.updated]
        _load_states(other, kept)
        torch.manual_seed(index)
        replay()
        return [gradient.clone() for gradient in gradients if gradient is not None]

    _compare_gradients(run, other, replayed, "captured")


def compiled_gradients(trial: Trial) -> None:
    """The gradients of a compiled phase are those of the eager phase.

    Where they differ, something in the phase or the networks does another thing under `torch.compile`.
    """
    try:
        resolve_step_mode("compile", trial.device)
    except UsageError:
        raise Skipped("torch.compile needs a C++ compiler, and none is installed") from None
    # A limit on recompilations, shared by all that was compiled before, would let the rest run eagerly.
    torch._dynamo.reset()
    from torch._inductor.utils import fresh_cache

    # Compiled code draws other random numbers than eager code, unless it is asked for the same. A cache of its own
    # leaves nothing behind, and trips over nothing that a killed process left in the user's.
    with torch._inductor.config.patch(fallback_random=True), fresh_cache():
        run, other = (trial.assemble(share_fakes=False, linear="blas", step_mode=mode) for mode in ("eager", "compile"))
        _load_states(other, _states(run))
        _compare_gradients(run, other, lambda index, batch: _gradients(other, index, batch), "compiled")


def same_bits(trial: Trial) -> None:
    """One seed gives the same weights after a few steps, bit for bit, and another seed starts from others.

    Draw from torch's global generators in `build` and in phases, and from `rng` in `draw_latent`; from nothing else.
    The weights that another process starts from are the same too, in the same order: go through no set in `build`.
    """
    if torch.device(trial.device).type == "cuda":
        call_apart(trial, same_bits_of_one_process, REPEATABLE | os.environ)
    else:
        same_bits_of_one_process(trial)
    for ours, theirs in zip_longest(initial_weights(trial), initial_weights_elsewhere(trial)):
        if ours != theirs:
            name, *_ = ours or theirs
            raise Failed(
                f"'{name}' starts otherwise in another process; go through a list in place of a set in `build`"
            )


def same_bits_of_one_process(trial: Trial) -> None:
    """The part of `same_bits` that one process can tell. CUDA repeats itself only where it is asked to."""
    torch.use_deterministic_algorithms(torch.device(trial.device).type == "cuda")
    (start, first), (_, again), (other, _) = (_weights_along(trial, seed) for seed in (0, 0, 1))
    for name, weight in first.items():
        if not torch.equal(weight, again[name]):
            raise Failed(f"'{name}' differs between two runs of one seed; draw from torch's global generators only")
    if all(torch.equal(weight, other[name]) for name, weight in start.items()):
        raise Failed("two seeds give the same weights; draw the initial weights from torch's global generator")


def no_host_sync_in_a_phase(trial: Trial) -> None:
    """No phase, penalty, network or `after` makes the host wait for the device.

    Leave out `.item()`, printing, branches on tensors and indexing by masks; `torch.where` chooses without waiting.
    """
    run = trial.assemble(share_fakes=False)
    run_step(run)
    for update in run.updates:
        batch = _batch(run)
        try:
            with no_host_sync(trial.device):
                update.gradients(batch)
                update.call_after()
        except HostSync as sync:
            raise Failed(f"phase '{update.phase.name}' waits for the device: {sync}") from None
        finally:
            _clear(run)


def batch_independence(trial: Trial) -> None:
    """In eval mode the generator draws the same image from a latent alone as in company.

    Scores are taken in batches of another size than training has. Normalize by running statistics in eval mode. The
    discriminator is free to look at its whole batch. Noise that the generator draws itself is taken for a constant.
    """
    run = trial.assemble()
    run_step(run)
    batch, generator = _batch(run), run.players.generator
    with eval_mode(generator), torch.no_grad(), NoNoise():
        together = generator(batch.latent, batch.labels)
        labels = [None] * len(together) if batch.labels is None else batch.labels[:, None]
        try:
            alone = torch.cat([generator(*one) for one in zip(batch.latent[:, None], labels, strict=True)])
        except Exception as error:
            raise Failed(f"in eval mode no image can be drawn alone: {error_line(error)}") from error
    if _distance(alone, together) > ROUNDING:
        raise Failed("in eval mode an image depends on the others of its batch; use running statistics there")


def state_dict(trial: Trial) -> None:
    """Networks that are built anew and given the weights of trained ones compute the same.

    What decides the output belongs into parameters and buffers, not into plain attributes; extra state is to be JSON.
    """
    run, anew = trial.assemble(), trial.assemble(seed=trial.spec.seed + 1)
    for _ in range(3):
        run_step(run)
    for name, (inputs, named_inputs) in _inputs_of_networks(run).items():
        old, new = run.players[name], anew.players[name]
        state = state_of(old.network)
        if state.left_out:
            named = printable(", ".join(state.left_out), 100)
            raise Failed(f"{named} of the {name} can be neither a tensor nor JSON, so no file can keep it")
        try:
            load_state(new.network, state)
        except RuntimeError as error:
            raise Failed(f"the {name}'s state dict does not fit one that is built anew: {printable(error)}") from error
        outputs = []
        for player in (old, new):
            with eval_mode(player), torch.no_grad(), seeded(0, trial.device):
                outputs.append(tree_leaves(player.network(*inputs, **named_inputs)))
        if not all(torch.equal(*(output.nan_to_num() for output in pair)) for pair in zip(*outputs, strict=True)):
            raise Failed(
                f"the rebuilt {name} gives another output with the same weights; register what decides it as buffers"
            )


def json_spec(trial: Trial) -> None:
    """The spec is the same after a JSON round trip, by which it reaches a run's process and its record.

    Options are text, finite numbers, true, false, None, and lists and text-keyed dicts of these.
    """
    spec = trial.spec.to_json()
    restored = whole_spec(read_spec(json.loads(json.dumps(spec, allow_nan=False))).to_json())
    for name, value in whole_spec(spec).items():
        if _as_lists(value) != _as_lists(restored[name]):
            raise Failed(
                f"{name} is {printable(value, 100)}, and after a JSON round trip {printable(restored[name], 100)}"
            )


def memory_formats(trial: Trial) -> None:
    """In channels_last the networks compute what they compute in the ordinary format, gradients included.

    Use `flatten` or `reshape` where a `view` of what a convolution or a gradient gives is refused. (A bench falls back
    to the ordinary format and is slower.) This is tried in each number of channels.
    """
    smallest = min(size for _, size, _ in trial.shapes)
    for shape in trial.shapes:
        if shape[1] == smallest:
            _compare_formats(trial, shape)


def _compare_formats(trial: Trial, shape: ImageShape) -> None:
    spec = trial.spec_at(shape)
    run, other = (
        trial.assemble(spec, share_fakes=False, memory_format=layout) for layout in ("contiguous", "channels_last")
    )
    _load_states(other, _states(run))
    try:
        _compare_gradients(run, other, lambda index, batch: _gradients(other, index, batch), "channels_last", ROUNDING)
    except RuntimeError as error:
        where = f"in channels_last with {shape[0]} channel(s)"
        raise Failed(f"{where}: {printable(error)}; use flatten or reshape in place of view") from error


def learns(trial: Trial) -> None:
    """The generator comes to draw a toy target, one dark and one bright half, in one of a few attempts.

    Look at the signs of the terms (all are minimized), at the learning rates, and at what reaches the generator. A
    recipe that is kept for the record says so by `expect_learning=False` and a `reason`.
    """
    variant = trial.selection.variant
    if not variant.expect_learning:
        raise Skipped(variant.reason or "the variant does not expect to learn, and gives no reason")
    best = 1.0
    for attempt in ATTEMPTS:
        error = _lowest_error(trial, *attempt)
        if error < LEARNED:
            return
        best = min(best, error)
    raise Failed(
        f"did not learn the toy target in {len(ATTEMPTS)} attempts of {STEPS} steps: {best:.0%} of its image energy is "
        f"off-target (passes below {LEARNED:.0%}); check signs of terms and learning rates"
    )


def _lowest_error(trial: Trial, rate_factor: float, contrast: float, seed: int) -> float:
    """The lowest error that holds twice in a row; the attempt ends when it is below `LEARNED`."""
    spec = trial.spec_at(trial.spec.image_shape, batch_size=16)
    optimizers = {
        player: replace(optimizer, learning_rate=rate_factor * optimizer.learning_rate)
        for player, optimizer in spec.recipe.optimizers.items()
    }
    run = trial.assemble(replace(spec, seed=seed, recipe=replace(spec.recipe, optimizers=optimizers)), contrast)
    toy, before, lowest = TwoTones.of(spec.image_shape, contrast), 1.0, 1.0
    for step in range(1, STEPS + 1):
        go_to(run, (step - 1) / STEPS)
        run_step(run)
        if step % STEPS_BETWEEN_LOOKS == 0:
            now = _error(run, toy)
            before, lowest = now, min(lowest, max(before, now))
            if lowest < LEARNED:
                break
    return lowest


# --- what several checks need -----------------------------------------------------------------------------------------


def _batch(run: Assembly) -> Batch:
    real, labels = next(run.batches)
    real = shrunk(real, run.players.generator.image_size)
    return Batch(real, labels, run.draw_latent(len(real), run.latent_rng), classes=run.classes)


def _inputs_of_networks(run: Assembly) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """What each player's network is given in a step, by the player's name; one that no phase calls is absent."""
    inputs: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def note(name: str, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [value for value in (*given, *named.values()) if isinstance(value, Tensor)]
        if not any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors)):
            inputs.setdefault(name, (tuple(map(_copied, given)), {key: _copied(value) for key, value in named.items()}))

    hooks = [
        player.network.register_forward_pre_hook(
            lambda _, given, named, name=name: note(name, given, named), with_kwargs=True
        )
        for name, player in run.players.items()
    ]
    run_step(run)
    for hook in hooks:
        hook.remove()
    return inputs


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _weight_copies(players: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{player}.{name}": weight.detach().clone()
        for player, network in players.items()
        for name, weight in network.named_parameters()
    }


def _weights_along(trial: Trial, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of the weights at the start of a run and after a few steps."""
    run = trial.assemble(seed=seed)
    players = run.players
    start = _weight_copies(players)
    for _ in range(3):
        run_step(run)
    return start, _weight_copies(players)


def _learnable(run: Assembly, players: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """The weights that some phase updates, by name, but for those that `build` has frozen."""
    targets = tuple(f"{target}." for update in run.updates for target in update.phase.targets)
    named = {f"{player}.{name}": w for player, network in players.items() for name, w in network.named_parameters()}
    return {name: weight for name, weight in named.items() if name.startswith(targets) and weight.requires_grad}


def _frozen(run: Assembly) -> set[str]:
    """The names of the weights that `build` has frozen."""
    players = run.players
    return {f"{name}.{weight}" for name, player in players.items() for weight in player.frozen_weights}


def _namesakes(players: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """All the names of the weight that has a name: one that both networks hold has one in each."""
    names: dict[int, list[str]] = {}
    for player, network in players.items():
        for name, weight in network.named_parameters(remove_duplicate=False):
            names.setdefault(id(weight), []).append(f"{player}.{name}")
    return {name: same for same in names.values() for name in same}


def _without_gradient(
    run: Assembly, players: Mapping[str, nn.Module], learnable: Mapping[str, nn.Parameter]
) -> list[str]:
    """Which of these weights get no gradient within a few steps, though the module that holds them is called."""
    idle = dict(learnable)
    called: set[nn.Module] = set()
    watch = nn.modules.module.register_module_forward_pre_hook(lambda module, _: called.add(module))
    try:
        # Several, for what lies behind a weight that starts at zero gets its first gradient in the second.
        for _ in through_stages(run):
            for _ in range(3):
                for update in run.updates:
                    update.gradients(_batch(run))
                    learning = {id(weight) for weight in update.updated if _learns(weight)}
                    idle = {name: weight for name, weight in idle.items() if id(weight) not in learning}
                    _clear(run)
                run_step(run)
    finally:
        watch.remove()
    idle = {name: weight for name, weight in idle.items() if _owner(players, name) in called}
    unread = _of_heads_alone(run, idle) if idle else set()
    return [name for name in idle if name not in unread]


def _of_heads_alone(run: Assembly, weights: Mapping[str, nn.Parameter]) -> set[str]:
    """Which of these weights a judge's heads depend on, and its logits do not."""
    inputs, found = _inputs_of_networks(run), set[str]()
    for weight in weights.values():
        weight.requires_grad_()
    for judge in run.players.judges:
        if judge.player_name in inputs:
            given, named = inputs[judge.player_name]
            output = judge.network(*given, **named)
            if isinstance(output, Mapping):
                found |= _reaching(output, weights) - _reaching(output["logits"], weights)
    return found


def _reaching(output: object, weights: Mapping[str, nn.Parameter]) -> set[str]:
    """Which of these weights an output depends on."""
    leaves = [leaf.sum() for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.requires_grad]
    if not leaves:
        return set()
    gradients = torch.autograd.grad(leaves, list(weights.values()), retain_graph=True, allow_unused=True)
    return {name for name, gradient in zip(weights, gradients, strict=True) if gradient is not None}


def _learns(weight: Tensor) -> bool:
    """Whether it has a gradient. That of a bias may cancel out, as in the last layer of a Wasserstein critic."""
    return weight.grad is not None and (weight.dim() < 2 or bool(weight.grad.any()))


def _owner(players: Mapping[str, nn.Module], name: str) -> nn.Module:
    """The module that holds the weight `name`."""
    player, _, path = name.partition(".")
    return players[player].get_submodule(path.rpartition(".")[0])


def _penalties(trial: Trial) -> Sequence[Any]:
    return trial.materials.penalties


def _has_gradient(value: Tensor, weights: Sequence[Tensor]) -> bool:
    if not value.requires_grad:
        return False
    gradients = torch.autograd.grad(value, weights, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def _gradients(run: Assembly, index: int, batch: Batch) -> list[Tensor]:
    """What the phase `index` gives to the weights that it updates, with random numbers seeded by the index."""
    update = run.updates[index]
    torch.manual_seed(index)
    update.gradients(batch)
    gradients = [weight.grad.clone() for weight in update.updated if weight.grad is not None]
    _clear(run)
    return gradients


def _compare_gradients(
    run: Assembly,
    other: Assembly,
    theirs: Callable[[int, Batch], list[Tensor]],
    manner: str,
    tolerance: float = GRADIENT_TOLERANCE,
) -> None:
    """Raise `Failed` if the gradients `theirs` of a phase differ from the eager ones of `run` on each of `BATCHES`."""
    for index, update in enumerate(run.updates):
        distances: list[float] = []
        while not any(distance <= tolerance for distance in distances):
            if len(distances) == BATCHES:
                raise Failed(
                    f"phase '{update.phase.name}': {manner} gradients differ from eager ones by {min(distances):.1e} "
                    f"of their norm (allowed: {tolerance:.0e})"
                )
            batch = _batch(run)
            eager, other_gradients = _gradients(run, index, batch), theirs(index, batch)
            same = len(eager) == len(other_gradients)
            distances.append(_distance(_concatenated(other_gradients), _concatenated(eager)) if same else float("inf"))


def _concatenated(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _distance(actual: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to what is expected."""
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-30))


def _clear(run: Assembly) -> None:
    for player in run.players.values():
        for parameter in player.parameters():
            parameter.grad = None


def _states(run: Assembly) -> list[NetworkState]:
    """Copies of what the two networks hold."""
    states = [state_of(player) for player in run.players.values()]
    return [
        replace(state, tensors={name: tensor.clone() for name, tensor in state.tensors.items()}) for state in states
    ]


def _load_states(run: Assembly, states: Sequence[NetworkState]) -> None:
    for player, state in zip(run.players.values(), states, strict=True):
        load_state(player, state)


def _as_lists(value: object) -> Any:
    """`value` with its tuples as lists, as JSON returns them."""
    if isinstance(value, Mapping):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _error(run: Assembly, toy: TwoTones) -> float:
    latent = run.draw_latent(64, torch.Generator(run.batches.device).manual_seed(0))
    labels = torch.arange(64, device=run.batches.device) % toy.classes
    with eval_mode(run.players.generator), torch.no_grad():
        return toy.error(run.players.generator(latent, labels))
