"""What players, state and augmentations cost a GAN that uses none of them: no operator and no byte of a step.

The figures are those of commit 7d00431, before there were any, counted there by these very functions.
"""

from __future__ import annotations

import pytest
import torch
from trials import operators_of_step, run_of, trial_of

FIGURES = {
    "mlp": (246, 49_920_964),
    "dcgan": (172, 12_367_348),
    "wgan-gp": (938, 63_672_848),
    "r3gan": (1_221, 68_119_816),
}
"""Operators of a step, and the bytes of what they give, at 16 px in grey with batches of 8."""

COUNTED_WITH = "2.14"
"""The version of torch. Another one may put the same step together of other operators."""


@pytest.mark.parametrize("variant", FIGURES)
def test_a_step_has_the_operators_and_bytes_that_it_had(variant):
    trial = trial_of(variant)
    run = trial.assemble(trial.spec_at((1, 16, 16)), linear="blas", memory_format="contiguous")
    counted = operators_of_step(run)
    if torch.__version__.startswith(f"{COUNTED_WITH}."):
        assert counted == FIGURES[variant]
    else:
        assert counted == pytest.approx(FIGURES[variant], rel=0.1)


def test_what_is_used_is_counted():
    labels = ("plain+hinge", "plain+hinge+doubled", "plain+hinge+r1")
    plain, augmented, penalized = (operators_of_step(run_of(label)) for label in labels)
    assert plain < augmented < penalized
