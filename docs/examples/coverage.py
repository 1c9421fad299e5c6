"""A metric: density and coverage of the real images by the fakes (Naeem et al. 2020, arXiv:2002.09797).

ganzoo bench --models dcgan --metrics fid,density-coverage --plugin coverage.py
"""

import ganzoo
import torch


def settings(n_real, n_fake):
    return {"neighbours": min(5, n_real - 1)}


def score(real, fake, settings):
    """Equations 3 and 4: balls around the real images, as wide as to their k-th neighbour."""
    k = settings["neighbours"]
    if k < 1:
        alone = ganzoo.NoScore("the only real image has no neighbour")
        return {"density": alone, "coverage": alone}
    among_real = torch.cdist(real.features, real.features)
    radii = among_real.kthvalue(k + 1, dim=1).values  # the nearest is the image itself
    inside = torch.cdist(real.features, fake.features) < radii[:, None]
    return {"density": inside.sum(0).double().mean().item() / k, "coverage": inside.any(1).double().mean().item()}


@ganzoo.hookimpl
def ganzoo_metrics():
    yield ganzoo.Metric(
        "density-coverage",
        score,
        better={"density": "higher", "coverage": "higher"},
        settings=settings,
        summary="how densely the fakes lie where the real images are, and how many of these they reach",
        reference="Naeem et al. 2020, arXiv:2002.09797",
    )
