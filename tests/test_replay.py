"""Steps whose operators were recorded once and are replayed on their tensors give the bits of eager steps.

A stand-in for CUDA graphs: what a capture would do once and a replay never does again, it shows on the CPU.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from replay import Replay
from skips import extra_of
from trials import differing, run_of, tensors_of, trial_of

from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import Assembly
from ganzoo.training.cuda_graph import WARMUP_STEPS, GraphedStep
from ganzoo.training.loop import train
from ganzoo.types import Schedule

LABELS = {
    "three players, state that adapts, stages, a slope": ("growing+three+shade+path", 2),
    "pairs, and a gradient by both": ("pairs+non-saturating+r1", 1),
    "packs, augmented": ("plain+hinge+pac2+shade", 1),
    "a lazy penalty": ("plain+hinge+steep-4", 2),
    "labels": ("labelled+non-saturating", 1),
    "heads": ("heads+rotations+turned", 1),
}
"""What is replayed, and how many recordings it takes: one for each stage, and for each set of phases that fall due."""

REPLAYED = 20


def level(label: str) -> Assembly:
    """A fresh run whose rates and moments stay: the optimizers of the CPU take them as numbers, which are recorded."""
    trial = trial_of(label)
    variant = trial.selection.variant
    moving = {
        name: schedule
        for name, schedule in variant.schedules.items()
        if not name.endswith((".learning_rate", ".beta1", ".beta2"))
    }
    selection = replace(trial.selection, variant=replace(variant, rate_decay=Schedule(), schedules=moving))
    return replace(trial, selection=selection).assemble()


def compared(label: str, steps: int) -> tuple[Assembly, Replay]:
    """Train so many steps as they are, and by replay; all that a run leaves has the same bits."""
    runs, recorder = [level(label) for _ in range(2)], Replay()
    runs[1].perform = GraphedStep(recorder)
    results = []
    for run in runs:
        torch.manual_seed(0)
        draws = max(update.phase.repeats for update in run.updates)
        results.append(train(run, 0.008 * draws * steps))
    assert results[0].curves == results[1].curves
    assert differing(*(tensors_of(run) for run in runs)) == []
    assert differing(*(dict(run.values.state) for run in runs)) == []
    assert differing(*(dict(run.average.average.named_parameters()) for run in runs)) == []
    assert recorder.replayed >= REPLAYED
    return runs[1], recorder


@pytest.mark.parametrize("what", LABELS)
def test_a_replayed_run_is_the_eager_one(what):
    label, recordings = LABELS[what]
    # A lazy phase falls due in every fourth step.
    steps = 4 * (WARMUP_STEPS + 1) + REPLAYED if "steep" in label else recordings * WARMUP_STEPS + REPLAYED
    run, recorder = compared(label, steps)
    assert recorder.recorded == recordings
    if "shade" in label:
        assert run.values.state["shade.strength"] != run_of(label).values.state["shade.strength"]


ZOO = discover().names("variants")
AUGMENTED = (
    "dcgan+hinge+diffaug+bcr+zcr",
    "dcgan+non-saturating+ada",
    "dcgan+non-saturating+apa+lecam",
    "mlp+softmax+pac2",
)
QUICK = ("bigan", "mgan", "mlp+softmax+pac2")


@pytest.mark.parametrize(
    "label",
    [
        pytest.param(label, marks=() if label in QUICK else (*extra_of(label), pytest.mark.slow))
        for label in (*ZOO, *AUGMENTED)
    ],
)
def test_a_replayed_run_of_the_zoo_is_the_eager_one(label):
    compared(label, 60)


def test_a_number_that_python_counts_stays_as_it_was_recorded():
    """Or a replay would prove nothing."""
    runs = [run_of("plain+hinge") for _ in range(2)]
    for run in runs:
        counting(run.players.generator.network)
    runs[1].perform = GraphedStep(Replay())
    for run in runs:
        torch.manual_seed(0)
        train(run, 0.008 * (WARMUP_STEPS + 3))
    calls = [run.players.generator.network.calls for run in runs]
    assert calls == [WARMUP_STEPS + 3, WARMUP_STEPS + 1]
    assert differing(*(tensors_of(run) for run in runs)) != []


def counting(network):
    """Let a network be fainter with every call."""
    forward, network.calls = network.forward, 0

    def fainter(latent, labels=None):
        network.calls += 1
        return (1 - 0.01 * network.calls) * forward(latent)

    network.forward = fainter
