"""An architecture: nearest-neighbour upsampling and 3 x 3 convolutions, against the checkerboards of transposed ones.

ganzoo bench --models 'upsampling+hinge' --plugin upsampling.py
"""

import ganzoo
from torch import nn

STAGES = {16: 2, 32: 3, 64: 4}


class Discriminator(nn.Module):
    def __init__(self, channels, widths):
        super().__init__()
        layers = []
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2), nn.AvgPool2d(2)]
            channels = width
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(widths[-1] * 4 * 4, 1)

    def features(self, images):
        return self.trunk(images)

    def forward(self, images):
        return self.head(self.features(images)).squeeze(1)


def build(image_shape, latent, classes, *, width: int = 32):
    channels, size, _ = image_shape
    widths = [width * 2**stage for stage in range(STAGES[size])]
    before = widths[-1]
    layers = [nn.Linear(latent, before * 4 * 4), nn.Unflatten(1, (before, 4, 4))]
    for after in reversed(widths):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        before = after
    generator = nn.Sequential(*layers, nn.Conv2d(before, channels, 3, padding=1), nn.Tanh())
    return generator, Discriminator(channels, widths)


@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture(
        "upsampling",
        build,
        summary="upsampling and convolutions against convolutions and pooling",
        reference="Odena et al. 2016, doi:10.23915/distill.00003",
        image_sizes=tuple(STAGES),
    )
