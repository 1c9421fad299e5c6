"""The metrics of the zoo that give an interval from the features or logits of two samples, by name."""

from ganzoo_plugins.metrics import (
    authenticity,
    cmmd,
    density_coverage,
    fd_infinity,
    fid,
    inception_score,
    intra_fd,
    kid,
    precision_recall,
    vendi,
)

METRICS_OF_FEATURES = {
    metric.name: metric
    for plugin in (
        fid,
        inception_score,
        kid,
        precision_recall,
        density_coverage,
        fd_infinity,
        vendi,
        authenticity,
        cmmd,
        intra_fd,
    )
    for metric in plugin.ganzoo_metrics()
}
