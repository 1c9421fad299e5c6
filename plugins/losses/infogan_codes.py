"""InfoGAN's bound as penalties that join any loss (Chen et al. 2016, arXiv:1606.03657).

`infogan-codes` is the discriminator's term and brings the generator's with it. Both train on the same bound,
as in the authors' code, where the variant `infogan` keeps it from the discriminator's trunk. Gaussians have unit
variance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor
from torch.nn.functional import log_softmax

import ganzoo
from ganzoo_plugins.losses.of_heads import head

COEFFICIENTS = {"category": 1.0, "continuous": 0.1}
"""The paper's lambda for either kind of code: 1, and for continuous ones less (section 6)."""


def code_terms(
    fake_heads: Mapping[str, Tensor], latent: Tensor, category: Tensor, continuous: Tensor
) -> dict[str, Tensor]:
    """-L_I without its constant: the negative log-likelihood of the codes with which `latent` (N, L) begins.

    The head `category` (N, K) is a softmax, each of `continuous` (N, C) the mean of a Gaussian (equation 5).
    """
    logits, means = (
        head(fake_heads, name, "infogan-codes", "dcgan-heads-unlabelled") for name in ("category", "continuous")
    )
    categories, codes = logits.shape[1], logits.shape[1] + means.shape[1]
    log_likelihood = (latent[:, :categories] * log_softmax(logits, 1)).sum(1)
    squared_error = (latent[:, categories:codes] - means).square().sum(1)
    return {"category": -category * log_likelihood.mean(), "continuous": continuous * squared_error.mean() / 2}


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Penalty]:
    """For architectures whose latent begins with codes: `dcgan-heads-unlabelled+non-saturating+infogan-codes`."""
    for name, player, with_it in (
        ("infogan-codes", "", ("infogan-codes-generator",)),
        ("infogan-codes-generator", "generator", ()),
    ):
        yield ganzoo.Penalty(
            name,
            code_terms,
            hyper=COEFFICIENTS,
            player=player,
            penalties=with_it,
            summary="the codes of the latent can be read back from the fakes",
            reference="Chen et al. 2016, arXiv:1606.03657, equation 5",
        )
