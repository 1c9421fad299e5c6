"""A plain PyTorch GAN loop, as the official DCGAN example and the well-known collections of GAN scripts write it.

A DataLoader with 2 workers and per-image transforms, the default memory format, separate passes for real and fake,
gradients of the discriminator also computed in the generator's phase, Adam unfused, and `.item()` to print each loss.
On a GPU it copies each batch there and draws its latents there. The networks and the recipe are ganzoo's own, so that
only the loop differs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


class PlainLoop:
    """Trains by the non-saturating loss on an iterator of real images (N, C, H, W) in [-1, 1], on any device."""

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, latent: int, real: Iterator[Tensor], device: str = "cpu"
    ) -> None:
        self.generator = generator.to(device)
        self.discriminator = discriminator.to(device)
        self.device = device
        self.latent = latent
        self.real = real
        self.criterion = nn.BCEWithLogitsLoss()
        self.generator_optimizer = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def step(self) -> dict[str, float]:
        """One update of each player, and the losses that the script would print."""
        real = next(self.real).to(self.device)
        count = len(real)
        ones, zeros = torch.ones(count, device=self.device), torch.zeros(count, device=self.device)

        self.discriminator.zero_grad()
        loss_real = self.criterion(self.discriminator(real), ones)
        loss_real.backward()
        fake = self.generator(torch.randn(count, self.latent, device=self.device))
        loss_fake = self.criterion(self.discriminator(fake.detach()), zeros)
        loss_fake.backward()
        self.discriminator_optimizer.step()

        self.generator.zero_grad()
        loss_generator = self.criterion(self.discriminator(fake), ones)
        loss_generator.backward()
        self.generator_optimizer.step()
        return {"D": loss_real.item() + loss_fake.item(), "G": loss_generator.item()}


def mnist_loader(root: str, size: int, batch_size: int) -> Iterator[Tensor]:
    """Endless batches of MNIST by torchvision, each image transformed on its own."""
    from torchvision import datasets, transforms

    steps = [transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]
    if size != 28:
        steps.insert(0, transforms.Resize(size))
    dataset = datasets.MNIST(root, transform=transforms.Compose(steps))
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=2, drop_last=True)
    while True:
        for images, _ in loader:
            yield images
