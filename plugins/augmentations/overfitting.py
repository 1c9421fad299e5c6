"""How far a discriminator overfits, and a probability that follows it (Karras et al. 2020, arXiv:2006.06676).

ADA, APA and Diffusion-GAN keep this state and give this as their `adapt`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo_plugins.augmentations.one_logit import one_logit

MINIBATCHES = 4
"""The heuristic is the mean over so many, and then p is adjusted."""

HEURISTIC = {"r_t": 0.0, "signs": 0.0, "minibatches": 0.0}
"""The state beside p: the heuristic as of the last adjustment, its sum since then, and all minibatches so far."""


def adapt(
    real_logits: Tensor,
    images_seen: Tensor,
    p: Tensor,
    r_t: Tensor,
    signs: Tensor,
    minibatches: Tensor,
    target: Tensor,
    kimg: Tensor,
) -> dict[str, Tensor]:
    """The next state after a minibatch of real images, of which the judge gave these logits.

    Every fourth minibatch p, from 0 to 1, goes up where r_t = E[sign D(real)] (section 3, equation 1) is above
    `target` and down where it is below, by as much as takes it from 0 to 1 in `kimg` thousand images.
    """
    minibatches = minibatches + 1
    signs = signs + one_logit(real_logits).sign().mean()
    due = minibatches.remainder(MINIBATCHES) == 0
    heuristic = signs / MINIBATCHES
    step = MINIBATCHES * (images_seen / minibatches) / (1000 * kimg)
    adjusted = (p + (heuristic - target).sign() * step).clamp(0, 1)
    return {
        "p": torch.where(due, adjusted, p),
        "r_t": torch.where(due, heuristic, r_t),
        "signs": torch.where(due, 0, signs),
        "minibatches": minibatches,
    }
