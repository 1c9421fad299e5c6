"""Modes covered and their balance, by the extractor's classes (Srivastava et al. 2017, arXiv:1705.07761)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ganzoo

AGREEMENT = 0.5
"""The share of real labels that the extractor must predict for its classes to count as the dataset's."""


def score(real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]) -> Mapping[str, float]:
    """`modes`: how many classes are predicted at least once among the fakes. `kl`: KL(fake ‖ real) in nats.

    KL = Σ f log(f / r) over the shares f of the predicted classes of the fakes and r of the labels of the real images:
    0 when balanced alike, infinite when a fake is of a class that no real image has. Both depend on the number of
    fakes (26 000 for stacked-mnist in the literature) and are NaN where the extractor's classes are not the
    dataset's, as with Inception on digits, or logits are not finite.
    """
    unscored = {"modes": float("nan"), "kl": float("nan")}
    if real.labels is None or not fake.logits.isfinite().all():
        return unscored
    classes = fake.logits.shape[1]
    agreement = (real.logits.argmax(1) == real.labels).double().mean()
    if agreement < settings["agreement"] or real.labels.max() >= classes:
        return unscored
    fake_shares = fake.logits.argmax(1).bincount(minlength=classes).double() / len(fake.logits)
    real_shares = real.labels.bincount(minlength=classes).double() / len(real.labels)
    seen = fake_shares > 0
    divergence = fake_shares[seen] * (fake_shares[seen] / real_shares[seen]).log()
    return {"modes": float(seen.sum()), "kl": divergence.sum().item()}


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics modes`, which gives `modes` and `kl`."""
    yield ganzoo.Metric(
        "modes",
        score,
        better={"modes": "higher", "kl": "lower"},
        bounds={"modes": (0, None), "kl": (0, None)},
        settings=lambda n_real, n_fake: {"agreement": AGREEMENT},
        labelled=True,
        summary="classes found among the fakes, and the divergence of their shares from the real ones",
        reference="Srivastava et al. 2017, arXiv:1705.07761; Lin et al. 2018, arXiv:1712.04086",
    )
