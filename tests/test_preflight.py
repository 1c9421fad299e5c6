"""Parameters and FLOPs counted before a run, against counts by hand and by torch's counter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_training import VARIANTS, assembled, each, planned
from torch.utils.flop_counter import FlopCounterMode

from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import due_calls, train
from ganzoo.training.preflight import preflight

REGISTRY = discover()


@pytest.mark.parametrize("variant", each(VARIANTS))
def test_flops_of_every_variant_are_counted_and_uncounted_operators_named(variant):
    spec, _ = planned(variant)
    checked = preflight(spec, REGISTRY)
    assert checked.flops_per_image > 1e6
    assert checked.uncounted
    # Only small operators are uncounted: no convolution and no matrix product.
    assert not set(checked.uncounted) & {"convolution", "convolution_backward", "mm", "addmm", "bmm", "linear"}


def test_mlp_parameters_and_flops_equal_a_count_by_hand():
    """Two FLOPs for a multiply-add; a backward pass costs once more for weights and once more for inputs."""
    spec, _ = planned("mlp", set=("mlp.ema_half_life_kimg=0",))
    pixels = 16 * 16
    generator = [100 * 256, 256 * 512, 512 * 512, 512 * pixels]
    discriminator = [pixels * 512, 512 * 512, 512 * 512, 512]
    forward_generator, forward_discriminator = sum(generator), sum(discriminator)
    # In the discriminator's phase neither pass needs a gradient with respect to the images.
    discriminator_phase = forward_generator + 2 * (3 * forward_discriminator - discriminator[0])
    # The fakes are shared, the discriminator is frozen, and no gradient with respect to the latent is needed.
    generator_phase = 2 * forward_discriminator + 2 * forward_generator - generator[0]
    expected = 2 * (discriminator_phase + generator_phase)
    assert preflight(spec, REGISTRY).flops_per_image == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("variant", ["dcgan", "deconv-mlp", "cnn-pool", "infogan"])
def test_counted_flops_equal_those_of_a_real_step(variant):
    run = assembled(variant)
    spec, _ = planned(variant)
    products = {torch.ops.mkldnn._linear_pointwise: lambda x, weight, *rest, **more: 2 * x[0] * x[1] * weight[0]}
    with FlopCounterMode(display=False, custom_mapping=products) as counter:
        for update, batch in due_calls(run):
            update.gradients(batch)
    assert preflight(spec, REGISTRY).flops_per_image == pytest.approx(
        counter.get_total_flops() / spec.recipe.batch_size
    )


def test_flops_weight_repeated_and_lazy_phases_by_their_share():
    def flops(models, *settings):
        return preflight(planned(models, set=settings)[0], REGISTRY).flops_per_image

    without = flops("dcgan+hinge")
    every = flops("dcgan+hinge+r1", "*.lazy.r1.every=2")
    seldom = flops("dcgan+hinge+r1", "*.lazy.r1.every=8")
    assert every - without == pytest.approx(4 * (seldom - without))
    # With five discriminator updates for each generator update, an image costs less.
    assert flops("dcgan", "*.discriminator.repeats=5") < without


def test_memory_format_rule(monkeypatch):
    def layout(models, **options):
        return preflight(planned(models, **options)[0], REGISTRY).memory_format

    assert layout("dcgan") == "channels_last"
    assert layout("mlp") == "contiguous"
    assert layout("mlp-conv") == "channels_last"


def test_network_that_views_convolution_outputs_runs_in_contiguous_format(tmp_path):
    plugin = tmp_path / "viewer.py"
    plugin.write_text(
        '''"""A discriminator as many are written: with a view where channels_last wants a reshape."""
from torch import nn

import ganzoo


class Viewer(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 4, 2, 1)
        self.head = nn.Linear(512, 1)

    def forward(self, images):
        hidden = self.convolution(images)
        return self.head(hidden.view(len(hidden), -1)).squeeze(1)


def build(image_shape, latent, classes):
    return nn.Sequential(nn.Linear(latent, 256), nn.Tanh(), nn.Unflatten(1, (1, 16, 16))), Viewer()


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("viewer", ganzoo.Architecture("viewer", build, image_sizes=(16,), channels=(1,)), "hinge")
'''
    )
    registry = discover([str(plugin)])
    resolved = resolve(BenchPlan(("viewer", "dcgan"), batch_size=8, throughput_only=True), registry)
    assert [run.spec.memory_format for run in resolved.runs] == ["contiguous", "channels_last"]
    train(assemble(resolved.runs[0].spec, registry, resolved.dataset), 0.05)


def test_compiled_steps_do_not_share_fakes_and_count_their_flops():
    eager, compiled = (preflight(planned("dcgan", step_mode=mode)[0], REGISTRY) for mode in ("eager", "compile"))
    assert compiled.flops_per_image > 1.05 * eager.flops_per_image


def test_channels_last_gradients_equal_contiguous_ones_up_to_rounding():
    spec, dataset = planned("dcgan")
    runs = [
        assemble(replace(spec, memory_format=layout), REGISTRY, dataset) for layout in ("contiguous", "channels_last")
    ]
    assert runs[1].players.generator.network[4].weight.is_contiguous(memory_format=torch.channels_last)
    for ours, theirs in zip(due_calls(runs[0]), due_calls(runs[1]), strict=True):
        assert torch.equal(ours[1].real, theirs[1].real)
        ours[0].gradients(ours[1])
        theirs[0].gradients(theirs[1])
        for one, other in zip(ours[0].updated, theirs[0].updated, strict=True):
            assert (one.grad - other.grad).norm() <= 1e-5 * one.grad.norm()
            one.grad = other.grad = None
