"""The check of augmentations, each by itself on made-up images, and then before a judge."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganzoo.conformance.trial import Trial
from ganzoo.conformance.verdicts import Failed, Skipped
from ganzoo.evaluation.sampling import eval_mode
from ganzoo.training.assembly import Assembly
from ganzoo.training.augmenting import NamedAugmentation
from ganzoo.training.loop import due_calls
from ganzoo.training.terms import own_values
from ganzoo.types import Augmentation
from ganzoo.util.seeds import seeded
from ganzoo.util.text import printable

Function = Callable[[Tensor], Tensor]
"""Images to augmented images."""

LARGEST_ROOT_MEAN_SQUARE = 3.0
"""Images that are uniform in [-1, 1] have 0.58. Brightness and contrast may leave the range, as ADA's do; pixels from 0
to 255 have 147."""

STEP, TRIED_DIRECTIONS, SLOPE_TOLERANCE = 2e-3, 4, 0.05
"""How far and along how many directions differences are taken, and by what share of their size a derivative may differ
from them: in float32, with a pixel or two that a difference carries across a kink."""

CONFIDENT, MANY_IMAGES, ADAPTATIONS = 10.0, 1_000_000, 20
"""Real logits of a judge that overfits, and images between two of so many adaptations: enough for any state."""


def augmentation(trial: Trial) -> None:
    """Each augmentation has the derivatives that differences show, first and second; keeps near [-1, 1]; is off in eval
    mode; and unless it says otherwise, treats images alike whichever side they are from.

    Detach nothing on the way, look at nothing but what is given (whether images require gradients tells the sides
    apart), and draw from torch's global generators. One with state is tried where `adapt` brings it when the judge
    overfits.
    """
    records = trial.materials.augmentations
    if not records:
        raise Skipped("the recipe has no augmentation")
    run = trial.assemble()
    for record in records:
        _adapt_fully(run, record)
        for is_real in (None,) if record.same_for_real_and_fake else (True, False):
            _check_function(trial, run, record, is_real)
    _check_eval_mode(trial, run)


def _check_function(trial: Trial, run: Assembly, record: Augmentation, is_real: bool | None) -> None:
    named = f"augmentation '{printable(record.name)}'"
    (_, batch), *_ = due_calls(run)
    images = 2 * torch.rand_like(batch.real) - 1
    fake = 2 * torch.rand_like(batch.real) - 1
    asked = NamedAugmentation.of(record).function

    def function(given: Tensor) -> Tensor:
        with seeded(0, given.device):
            own = own_values(run.values, record)
            result = asked({"images": given, "labels": batch.labels, "is_real": is_real, "fake": fake, **own})
        augmented: Tensor = result if isinstance(result, Tensor) else result[0]
        return augmented

    plain = function(images)
    size = float(plain.square().mean().sqrt())
    if not size <= LARGEST_ROOT_MEAN_SQUARE:
        raise Failed(f"{named} gives images of a root mean square of {size:.3g}; keep them near [-1, 1]")
    if record.same_for_real_and_fake and not torch.equal(function(images.clone().requires_grad_()), plain):
        raise Failed(
            f"{named} treats the same images otherwise where they require gradients, as fakes do; treat all alike, or "
            "say same_for_real_and_fake=False"
        )
    weight = torch.randn_like(images)
    _check_slopes(named, lambda given: (weight * function(given)).double().sum(), images, "gradient")

    def slope(given: Tensor) -> Tensor:
        given = given if given.requires_grad else given.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((weight * function(given) ** 3).sum(), given, create_graph=True)
        return (weight.flip(0) * gradient).double().sum()

    _check_slopes(named, slope, images, "second derivative")


def _check_slopes(named: str, function: Function, images: Tensor, what: str) -> None:
    """Raise `Failed` where the gradient of a function of images is not what differences along directions show."""
    given = images.clone().requires_grad_()
    try:
        (gradient,) = torch.autograd.grad(function(given), given)
    except RuntimeError as error:
        raise Failed(f"{named} has no {what} by its images: {printable(error, 200)}") from error
    told, shown = [], []
    for _ in range(TRIED_DIRECTIONS):
        direction = torch.randn_like(images)
        ahead, behind = (function(images + sign * STEP * direction).detach() for sign in (1, -1))
        shown.append((ahead - behind) / (2 * STEP))
        told.append((gradient.double() * direction).sum())
    difference, size = torch.stack(told) - torch.stack(shown), torch.stack(shown)
    if difference.norm() > SLOPE_TOLERANCE * size.norm().clamp_min(1e-6):
        raise Failed(f"{named} has another {what} by its images than differences show; detach nothing on the way")


def _adapt_fully(run: Assembly, record: Augmentation) -> None:
    """Bring the state of an augmentation that adapts to where a judge that overfits brings it."""
    adapt = NamedAugmentation.of(record).adapt
    if adapt is None:
        return
    logits = torch.full((8,), CONFIDENT, device=run.batches.device)
    for count in range(1, ADAPTATIONS + 1):
        seen = torch.tensor(count * MANY_IMAGES, device=run.batches.device)
        following = adapt({"real_logits": logits, "images_seen": seen, **own_values(run.values, record)})
        for name, value in following.items():
            run.values.state[f"{record.name}.{name}"].copy_(value)


def _check_eval_mode(trial: Trial, run: Assembly) -> None:
    """Raise `Failed` where a judge in eval mode does not give what it gives of plain images."""
    inputs: dict[str, tuple[object, ...]] = {}
    for judge in run.players.judges:
        judge.network.register_forward_pre_hook(
            lambda _, given, name=judge.player_name: None if name in inputs else inputs.update({name: given})
        )
    run.perform(due_calls(run))
    for judge in run.players.judges:
        if judge.player_name not in inputs:
            continue
        outputs = []
        for call in (judge, judge.plain):
            with eval_mode(judge), torch.no_grad(), seeded(0, trial.device):
                outputs.append(_first(call(*inputs[judge.player_name])))
        if not torch.equal(*outputs):
            raise Failed(f"the {judge.player_name} augments in eval mode too")


def _first(logits: Tensor | list[Tensor]) -> Tensor:
    return logits[0] if isinstance(logits, list) else logits
