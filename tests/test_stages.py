"""Stages: small images first, averages and evaluation at full size, and checkpoints within them."""

from __future__ import annotations

import pytest
import torch
from trials import REGISTRY, differing, run_of, trial_of

from ganzoo.evaluation.sampling import GeneratedImages
from ganzoo.training.loop import TermLog, TrainResult, train
from ganzoo.training.snapshot import restore, snapshot


def test_each_stage_sees_images_of_its_size_shrunk_by_the_mean():
    run = run_of("growing+three")
    sizes, images = [], []

    def note(_, given):
        sizes.append(given[0].shape[2])
        images.append(given[0].detach())

    run.players["discriminator"].network.register_forward_pre_hook(note)
    batches = []
    draw = type(run.batches).__next__

    class Noted(type(run.batches)):
        def __next__(self):
            batches.append(draw(self))
            return batches[-1]

    run.batches.__class__ = Noted
    train(run, 0.064)
    # Eight steps, of which each has three calls of the discriminator: on real images, on fakes, and by the generator.
    assert sizes == [4] * 12 + [8] * 12
    small = batches[0][0].reshape(8, 1, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(images[0], small)
    assert torch.equal(images[12], batches[4][0])


def test_in_eval_mode_images_have_the_full_size_in_every_stage():
    run = run_of("growing+three")
    shapes, blocks = [], []

    def evaluate(kimg):
        average = run.average.settled()
        drawn = torch.cat(
            list(GeneratedImages(average, 4, 4, run.draw_latent, torch.Generator().manual_seed(0), "cpu"))
        )
        shapes.append(tuple(drawn.shape))
        pixels = drawn.reshape(4, 4, 2, 4, 2)
        blocks.append(bool((pixels == pixels[:, :, :1, :, :1]).all()))

    train(run, 0.064, [0.016, 0.064], on_evaluate=evaluate)
    assert shapes == [(4, 1, 8, 8)] * 2
    # Early ones are enlarged by repeating pixels; later ones are drawn at the full size.
    assert blocks == [True, False]


@pytest.mark.parametrize("left_at", [2, 4, 5])
def test_a_run_that_is_left_in_a_stage_goes_on_bit_for_bit(left_at):
    """Of eight steps the first four are of the first stage."""
    run, log = run_of("growing+three+shade"), TermLog(TrainResult())
    saved = []

    def due():
        return run.step == left_at and not saved

    train(run, 0.064, log=log, pause_due=due, on_pause=lambda: saved.append(snapshot(run, log)))
    again = run_of("growing+three+shade")
    torch.manual_seed(99)
    train(again, 0.064, log=restore(again, *saved[0]))
    ours, theirs = snapshot(run, log)[0], snapshot(again, log)[0]
    assert differing(ours, theirs) == []
    assert any(name.startswith("state/") for name in ours)


def test_stages_are_planned_for_the_size_of_the_images():
    assert trial_of("growing+three").assemble().stages == ((0.5, 4), (1.0, 8))
    assert run_of("plain+hinge").stages == ((1.0, 8),)
    assert REGISTRY.get("architectures", "growing").record.stages((1, 8, 8)) == ((0.5, 4), (1.0, 8))
