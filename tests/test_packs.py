"""Packs of images (PacGAN): what a judge, penalties and augmentations see of them."""

from __future__ import annotations

import pytest
import torch
from trials import SEEN, batch_of, run_of, run_with, stepped

from ganzoo.training.loop import due_calls


@pytest.mark.parametrize("pack", [2, 4])
def test_a_judge_sees_packs_and_gives_one_logit_for_each(pack):
    run = run_of(f"plain+hinge+pac{pack}")
    batch, judge = batch_of(run), run.players["discriminator"]
    shapes = []
    judge.network.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    assert judge(batch.real).shape == (8 // pack,)
    assert shapes == [(8 // pack, pack, 8, 8)]
    # The first pack is made of the first images.
    judge.eval()
    packs = batch.real.reshape(8 // pack, pack, 8, 8)
    assert torch.equal(packs[0, 1], batch.real[1, 0])
    assert torch.equal(judge(batch.real), judge(packs))
    assert torch.equal(judge(batch.real), judge.network(packs))


def test_a_step_counts_images_and_its_terms_are_means_over_packs():
    run = run_of("plain+hinge+pac2")
    calls = due_calls(run)
    assert len(calls[0][1].real) == len(calls[0][1].latent) == 8
    logits = []
    run.players["discriminator"].register_forward_hook(lambda _, given, out: logits.append(out.detach()))
    terms, _ = run.perform(calls)
    assert [len(each) for each in logits] == [4, 4, 4]
    torch.testing.assert_close(terms["real"], (1 - logits[0]).relu().mean())


def test_the_option_is_the_name():
    named, optional = run_of("plain+hinge+pac2"), run_with("plain", "hinge", pack=2)
    assert stepped(named) == stepped(optional)


def test_penalties_get_packs():
    run = run_of("plain+hinge+of-inputs+r1+pac2")
    calls = due_calls(run)
    SEEN.clear()
    run.perform(calls)
    (seen,) = SEEN
    assert (seen["real"], seen["fake"], seen["logits"]) == ((4, 2, 8, 8), (4, 2, 8, 8), (4,))
    assert torch.equal(seen["images"], calls[0][1].real.reshape(4, 2, 8, 8))


def test_images_are_augmented_one_by_one_and_then_packed():
    run = run_of("plain+hinge+ones+pac2")
    seen = []
    run.players["discriminator"].network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    batch = batch_of(run)
    run.players["discriminator"](batch.real)
    # The augmentation makes the n-th image of what it is given n everywhere.
    assert seen[0].shape == (4, 2, 8, 8)
    assert torch.equal(seen[0][:, :, 0, 0], torch.arange(1.0, 9).view(4, 2))


def test_packs_and_heads_and_two_logits_go_together():
    run = run_of("plain+softmax+pac2")
    terms = stepped(run)
    assert all(torch.isfinite(torch.tensor(value)) for value in terms.values())
