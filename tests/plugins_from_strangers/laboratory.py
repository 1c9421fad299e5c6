"""A dataset, a feature extractor, a metric and a reporter in one file: all that a score needs, in a moment."""

import hashlib
from pathlib import Path

import torch
from torch import nn

import ganzoo


def load(request):
    labels = torch.arange(256) % 4
    position = torch.arange(request.image_size)
    stripes = ((position[None] // (labels[:, None] + 1)) % 2 * 255).to(torch.uint8)
    images = stripes[:, None, None].expand(-1, 1, request.image_size, -1).contiguous()
    return ganzoo.LabelledImages(images, labels, source="made up", split="all")


class Pooled(nn.Module):
    def forward(self, images):
        pooled = nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).mean(1).flatten(1)
        return pooled, pooled[:, :4]


def weights(path):
    return path or Path(__file__)


def mean_gap(real, fake, settings):
    return {"mean-gap": (real.features.mean(0) - fake.features.mean(0)).norm().item()}


@ganzoo.hookimpl
def ganzoo_datasets():
    yield ganzoo.Dataset(
        "stripes", load, lambda request: "1", image_size=8, features="pooled", kimg=0.512, fakes=64, summary="4 widths"
    )


@ganzoo.hookimpl
def ganzoo_feature_extractors():
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    yield ganzoo.FeatureExtractor("pooled", weights, lambda path: Pooled(), sha256=digest, preprocessing="none")


@ganzoo.hookimpl
def ganzoo_metrics():
    yield ganzoo.Metric(
        "mean-gap",
        mean_gap,
        better={"mean-gap": "lower"},
        title={"mean-gap": "Gap of means"},
        bounds={"mean-gap": (0, None)},
        log=("mean-gap",),
    )


@ganzoo.hookimpl
def ganzoo_reporters():
    yield ganzoo.Reporter("names", lambda table: "\n".join(table["variant"]))
