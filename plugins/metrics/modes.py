"""Modes covered and their balance, by the extractor's classes (Srivastava et al. 2017, arXiv:1705.07761)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import ganzoo

AGREEMENT = 0.5
"""The share of real labels that the extractor must predict for its classes to count as the dataset's."""

ENOUGH = 10
"""Real images of a class from which on that share must be reached in the class too: with fewer a slip would tell."""


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, float | ganzoo.NoScore]:
    """`modes`: how many classes are predicted at least once among the fakes. `kl`: KL(fake ‖ real) in nats.

    KL = Σ f log(f / r) over the shares f of the predicted classes of the fakes and r of the labels of the real images:
    0 when balanced alike, infinite when a fake is of a class that no real image has. Both depend on the number of
    fakes (26 000 for stacked-mnist in the literature). The classes of the dataset and of the extractor meet by their
    names; there is no score where they do not, or where the extractor predicts others than the labels, as Inception
    does on digits. NaN for logits that are not finite.
    """
    if real.labels is None or not fake.logits.isfinite().all():
        return {"modes": float("nan"), "kl": float("nan")}
    if not fake.logits.shape[1]:
        none = ganzoo.NoScore("the extractor tells no classes apart")
        return {"modes": none, "kl": none}
    columns = list(real.logit_names) or [str(column) for column in range(fake.logits.shape[1])]
    labels = as_columns(real.labels, real.class_names, columns)
    if isinstance(labels, ganzoo.NoScore):
        return {"modes": labels, "kl": labels}
    fault = disagreement(real, labels, settings["agreement"], columns)
    if fault is not None:
        return {"modes": fault, "kl": fault}
    fake_shares = fake.logits.argmax(1).bincount(minlength=len(columns)).double() / len(fake.logits)
    real_shares = labels.bincount(minlength=len(columns)).double() / len(labels)
    seen = fake_shares > 0
    divergence = (fake_shares[seen] * (fake_shares[seen] / real_shares[seen]).log()).sum().item()
    foreign = [columns[column] for column in (seen & (real_shares == 0)).nonzero().flatten().tolist()]
    infinite = ganzoo.NoScore(f"infinite: no real image is of class {few(foreign)}, and a fake is")
    return {"modes": float(seen.sum()), "kl": infinite if foreign else divergence}


def as_columns(labels: Tensor, class_names: Sequence[str], columns: Sequence[str]) -> Tensor | ganzoo.NoScore:
    """The columns of the logits that have the names of the labels. Without names a class is called by its number."""
    names = list(class_names) or [str(label) for label in range(int(labels.max()) + 1)]
    places = {name: column for column, name in enumerate(columns)}
    unknown = [names[label] for label in labels.unique().tolist() if names[label] not in places]
    if unknown:
        return ganzoo.NoScore(
            f"the extractor has no class called {few(unknown)}; its {len(columns)} are {few(columns)}"
        )
    return torch.tensor([places.get(name, -1) for name in names])[labels]


def disagreement(real: ganzoo.Sample, labels: Tensor, least: float, columns: Sequence[str]) -> ganzoo.NoScore | None:
    """Why the extractor's classes are not those of the real images, judged by what it predicts for them; or None."""
    right = real.logits.argmax(1) == labels
    share = right.double().mean().item()
    if share < least:
        what = f"the extractor predicts {share:.0%} of the real labels"
        return ganzoo.NoScore(f"{what}, so its classes are not the dataset's")
    counts = labels.bincount(minlength=len(columns))
    missed = (counts >= ENOUGH) & (labels[right].bincount(minlength=len(columns)) < least * counts)
    if missed.any():
        which = few([columns[column] for column in missed.nonzero().flatten().tolist()])
        return ganzoo.NoScore(f"the extractor takes most real images of class {which} for another class")
    return None


def few(names: Sequence[str]) -> str:
    """The first names of a list."""
    return ", ".join([*names[:5], "…"] if len(names) > 5 else names)


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
