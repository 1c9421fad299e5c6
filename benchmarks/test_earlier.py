"""A step of today against that of the commit before players, state and augmentations; and what an augmentation costs.

The two sides run in turn, each in a separate process. A GAN that uses none of the new must cost what it did: the lower
end of the interval of the ratios is above 0.95. No benchmark fails for being slow.
"""

from __future__ import annotations

import pytest
from bits.sides import install_packages
from contestants import Contestant
from test_ratios import alternate

EARLIER = "7d00431"
PAIRS = 32

STEPS = {"mlp": 60, "dcgan": 20, "wgan-gp": 4, "r3gan": 4}
"""Steps in each round: about a second."""

SHAPE = (16, 1, 64)
"""Pixels, channels and batch."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The packages of the earlier commit."""
    tree = tmp_path_factory.mktemp("earlier")
    install_packages(tree, EARLIER)
    return tree


def race(benchmark, title, first, second, steps, goal):
    """Time `steps` steps of two contestants in turn, after a round of each that counts for nothing."""
    first.seconds(steps)
    second.seconds(steps)
    alternate(benchmark, title, lambda: first.seconds(steps), lambda: second.seconds(steps), goal, PAIRS)


@pytest.mark.benchmark(group="against an earlier commit")
@pytest.mark.parametrize("variant", STEPS)
def test_a_step_takes_what_it_took(variant, benchmark, earlier):
    name = f"step:{variant}"
    with Contestant(name, *SHAPE, ours=True, tree=earlier) as before, Contestant(name, *SHAPE, ours=True) as today:
        race(
            benchmark,
            f"{variant}, a step of {EARLIER} over one of today",
            before,
            today,
            STEPS[variant],
            "interval above 0.95",
        )


@pytest.mark.benchmark(group="what an augmentation costs")
@pytest.mark.parametrize("augmentation", ["diffaug", "ada", "apa"])
def test_a_step_with_an_augmentation(augmentation, benchmark):
    with (
        Contestant(f"step:dcgan+non-saturating+{augmentation}", *SHAPE, ours=True) as augmented,
        Contestant("step:dcgan", *SHAPE, ours=True) as bare,
    ):
        title = f"dcgan with {augmentation} over dcgan, a step"
        race(benchmark, title, augmented, bare, STEPS["dcgan"], "what it costs")
