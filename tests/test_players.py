"""Players by name: what they are given, how a loss judges them, and who is trained by what."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import relu, softplus
from trials import REGISTRY, SEEN, batch_of, course, differing, operators_of_step, run_of, run_with, tensors_of

from ganzoo.errors import PluginError
from ganzoo.losses import between, gradient, gradient_penalty, r1, squared_norm
from ganzoo.training.loop import due_calls, train
from ganzoo.types import Inputs

# --- one loss in two spellings ----------------------------------------------------------------------------------------

SPELLINGS = {
    "what is put before the judge": ("pairs+non-saturating", "pairs+pairs-phases"),
    "functions of logits": ("plain+hinge", "plain+hinge-phases"),
}


@pytest.mark.parametrize("what", SPELLINGS)
def test_two_spellings_of_one_loss_are_one_loss(what):
    runs = [run_of(label) for label in SPELLINGS[what]]
    (terms, weights), (other_terms, other_weights) = map(course, runs)
    assert terms == other_terms
    assert differing(weights, other_weights) == []
    if what == "functions of logits":
        # The phases of pairs are written without the minus that the rule of the real side puts before the logits.
        assert operators_of_step(runs[0]) == operators_of_step(runs[1])
    updates = [train(run_of(label), 0.04).updates for label in SPELLINGS[what]]
    assert updates[0] == updates[1] == dict.fromkeys(runs[0].players, 5)


def test_phases_that_do_not_share_fakes_have_latents_of_their_own():
    shared, apart = (due_calls(run_of(f"plain+hinge-{kind}")) for kind in ("phases", "apart"))
    assert torch.equal(shared[0][1].latent, shared[1][1].latent)
    assert not torch.equal(apart[0][1].latent, apart[1][1].latent)
    assert torch.equal(shared[0][1].latent, apart[0][1].latent)


# --- what a player is given -------------------------------------------------------------------------------------------


def test_labels_are_left_out_where_a_network_has_no_room_for_them():
    run = run_of("half-labelled+non-saturating")
    batch = batch_of(run)
    given = []
    run.players["discriminator"].network.register_forward_pre_hook(lambda _, inputs: given.append(len(inputs)))
    judge = run.players["discriminator"].eval()
    assert torch.equal(judge(batch.real, batch.labels), judge(batch.real))
    assert torch.equal(judge(batch.real, None), judge(batch.real))
    assert given == [1, 1, 1, 1]
    generator = run.players.generator.eval()
    others = (batch.labels + 1) % batch.classes
    assert not torch.equal(generator(batch.latent, batch.labels), generator(batch.latent, others))


def test_an_unconditional_network_with_optional_labels_is_given_none():
    # The network asserts it.
    course(run_of("optional+non-saturating+r1"), steps=1)
    batch = batch_of(run := run_of("optional+non-saturating"))
    assert run.players["discriminator"](batch.real, batch.labels).shape == (8,)


def test_any_other_surplus_is_an_error():
    run = run_of("plain+hinge")
    batch = batch_of(run)
    for surplus in (batch.latent, batch.real):
        with pytest.raises(PluginError, match="the discriminator is given 2 inputs, and its forward takes 1"):
            run.players["discriminator"](batch.real, surplus)
    with pytest.raises(PluginError, match="is given 3 inputs"):
        run.players["discriminator"](batch.real, batch.latent, batch.labels)


def test_inputs_are_the_inputs_of_a_call():
    run = run_of("pairs+non-saturating")
    batch, judge = batch_of(run), run.players["discriminator"].eval()
    assert torch.equal(judge(Inputs((batch.real, batch.latent))), judge(batch.real, batch.latent))


# --- gradients by what a judge is given -------------------------------------------------------------------------------


def by_hand(judge, *inputs):
    """Gradients of the summed logits by torch alone."""
    network = copy.deepcopy(judge.network)
    leaves = [value.clone().requires_grad_() for value in inputs if value.is_floating_point()]
    given = iter(leaves)
    logits = network(*(next(given) if value.is_floating_point() else value for value in inputs))
    return torch.autograd.grad(logits.sum(), leaves)


def test_gradients_by_inputs_are_those_of_torch_and_r1_is_their_squared_norm():
    run = run_of("pairs+non-saturating")
    batch, judge = batch_of(run), run.players["discriminator"]
    of_images, of_codes = by_hand(judge, batch.real, batch.latent)
    found = gradient(judge, Inputs((batch.real, batch.latent)))
    assert isinstance(found, Inputs)
    torch.testing.assert_close(found[0], of_images)
    torch.testing.assert_close(found[1], of_codes)
    squares = of_images.square().sum((1, 2, 3)) + of_codes.square().sum(1)
    torch.testing.assert_close(squared_norm(found), squares)
    gamma = torch.tensor(3.0)
    torch.testing.assert_close(r1(judge, Inputs((batch.real, batch.latent)), gamma=gamma), 1.5 * squares.mean())


def test_labels_ride_along_in_a_gradient():
    run = run_of("labelled+non-saturating")
    batch, judge = batch_of(run), run.players["discriminator"]
    found = gradient(judge, Inputs((batch.real, batch.labels)))
    assert len(found) == 1
    torch.testing.assert_close(found[0], by_hand(judge, batch.real, batch.labels)[0])


def test_between_is_one_mixture_of_all_that_are_real_numbers_and_keeps_the_labels():
    real = Inputs((torch.zeros(64, 1, 2, 2), torch.zeros(64, 3), torch.arange(64)))
    fake = Inputs((torch.ones(64, 1, 2, 2), torch.ones(64, 3), torch.arange(64) + 1))
    images, codes, labels = between(real, fake)
    share = images[:, 0, 0, 0]
    assert torch.equal(images, share.view(-1, 1, 1, 1).expand_as(images))
    assert torch.equal(codes, share[:, None].expand_as(codes))
    assert torch.equal(labels, torch.arange(64))
    assert 0 <= share.min() < 0.2 < 0.8 < share.max() <= 1
    torch.manual_seed(0)
    alone = between(real[0], fake[0])
    torch.manual_seed(0)
    assert torch.equal(between(real, fake)[0], alone)


def test_the_gradient_penalty_of_pairs_is_that_of_torch():
    run = run_of("pairs+non-saturating")
    batch, judge = batch_of(run), run.players["discriminator"]
    real, fake = Inputs((batch.real, batch.latent)), Inputs((-batch.real, batch.latent.flip(0)))
    torch.manual_seed(0)
    images, codes = between(real, fake)
    of_images, of_codes = by_hand(judge, images, codes)
    norm = (of_images.square().sum((1, 2, 3)) + of_codes.square().sum(1)).sqrt()
    torch.manual_seed(0)
    penalty = gradient_penalty(judge, real, fake, weight=torch.tensor(10.0))
    torch.testing.assert_close(penalty, 10 * (norm - 1).square().mean(), rtol=1e-4, atol=1e-6)


# --- heads ------------------------------------------------------------------------------------------------------------


def test_heads_come_from_the_forward_pass_of_the_logits():
    run = run_of("heads+rotations")
    calls, heads = due_calls(run), []
    judge = run.players["discriminator"]
    batch = calls[0][1]
    network = copy.deepcopy(judge.network)
    judge.network.register_forward_hook(lambda *given: heads.append(given[-1]["rotation"].detach()))
    terms = run.perform(calls)
    # Real and fake in the discriminator's phase, fakes in the generator's; functions that name heads ask for no more.
    assert len(heads) == 3
    expected = network(batch.real)
    torch.testing.assert_close(heads[0], expected["rotation"])
    torch.testing.assert_close(terms[0]["heads"], expected["rotation"].square().mean())
    assert torch.equal(judge.heads(batch.real)["logits"], judge(batch.real))


def test_heads_are_augmented_with_the_logits():
    run = run_of("heads+rotations+doubled")
    batch, judge = batch_of(run), run.players["discriminator"]
    for name, value in judge.heads(batch.real).items():
        torch.testing.assert_close(value, judge.network(2 * batch.real)[name].view_as(value))
    assert torch.equal(judge.plain(batch.real), judge.network(batch.real)["logits"])
    judge.eval()
    assert torch.equal(judge(batch.real), judge.network(batch.real)["logits"])


def test_a_penalty_of_heads_trains_them_alone_and_by_name():
    run = run_of("heads+hinge+turned")
    before = {name: tensor.clone() for name, tensor in tensors_of(run).items()}
    terms, after = course(run, steps=1)
    assert "discriminator/turned" in terms[0]
    assert not torch.equal(before["discriminator.rotation.weight"], after["discriminator.rotation.weight"])
    # Without it the head gets no gradient, and stays.
    run = run_of("heads+hinge")
    _, without = course(run, steps=1)
    assert torch.equal(before["discriminator.rotation.weight"], without["discriminator.rotation.weight"])


# --- penalties and what they see --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "graph"),
    [("plain+hinge+of-generator", True), ("plain+hinge+of-judge", False), ("plain+hinge-phases+of-judge", False)],
)
def test_fakes_have_their_graph_for_a_penalty_of_the_generator_and_none_for_one_of_the_judge(label, graph):
    run = run_of(label)
    # What preflight has seen is forgotten.
    SEEN.clear()
    run.perform(due_calls(run))
    (seen,) = SEEN
    assert seen["fake"] is graph
    # The judge's logits depend on its own weights.
    assert seen["logits"] is True


def test_a_penalty_of_the_generator_moves_the_generator_alone():
    with_penalty, without = (course(run_of(f"plain+hinge{more}"), steps=1)[1] for more in ("+of-generator", ""))
    moved = {name.partition(".")[0] for name in differing(with_penalty, without)}
    assert moved == {"generator"}


# --- who makes what is judged as real ---------------------------------------------------------------------------------


def real_terms(loss, expected):
    """The term that trains the encoder in the first step, beside one computed from the real logits by hand."""
    run = run_of(f"pairs+{loss}")
    calls = due_calls(run)
    logits = []
    judge = run.players["discriminator"]
    judge.register_forward_hook(lambda _, given, out: logits.append((given[1].requires_grad, out.detach())))
    _, terms = run.perform(calls)
    (of_real,) = (out for by_encoder, out in logits[2:] if by_encoder)
    torch.testing.assert_close(terms["real_fool"], expected(of_real))
    return terms


def test_who_makes_the_real_side_is_trained_by_minus_the_real_logits():
    terms = real_terms("squares", lambda real: (-real - 1).square().mean())
    assert set(terms) == {"fool", "real_fool"}
    real_terms("non-saturating", lambda real: softplus(real).mean())
    real_terms("hinge", lambda real: real.mean())


def test_a_loss_declares_another_function_of_the_real_side():
    real_terms("squares-declared", lambda real: real.square().mean())


def test_a_loss_that_compares_trains_the_real_side_by_itself():
    run = run_of("pairs+relative")
    terms, after = course(run, steps=1)
    assert "generator/real_pair" not in terms[0]
    start = tensors_of(run_of("pairs+relative"))
    assert "encoder.body.1.weight" in differing(start, after)


# --- labels of fakes --------------------------------------------------------------------------------------------------


def test_labels_of_fakes_are_drawn_from_a_stream_of_their_own():
    drawn, taken = (run_with("labelled", "non-saturating", draw_labels=each) for each in (True, False))
    other = 0
    for _ in range(3):
        ours, theirs = due_calls(drawn), due_calls(taken)
        for (_, batch), (_, plain) in zip(ours, theirs, strict=True):
            for name in ("real", "labels", "latent"):
                assert torch.equal(getattr(batch, name), getattr(plain, name)), name
            assert torch.equal(plain.fake_labels, plain.labels)
            assert set(batch.fake_labels.tolist()) <= set(range(drawn.classes))
            other += int((batch.fake_labels != batch.labels).sum())
    assert other > 0
    given = {}
    for name in ("generator", "discriminator"):
        drawn.players[name].register_forward_pre_hook(
            lambda _, inputs, name=name: given.setdefault(name, []).append(inputs[1])
        )
    calls = due_calls(drawn)
    drawn.perform(calls)
    batch = calls[0][1]
    assert torch.equal(given["generator"][0], batch.fake_labels)
    assert [torch.equal(labels, batch.labels) for labels in given["discriminator"][:2]] == [True, False]


def test_the_hinge_phases_are_the_loss_of_the_zoo():
    """Values by hand of the first step."""
    run = run_of("plain+hinge")
    calls = due_calls(run)
    generator, judge = (copy.deepcopy(run.players[name].network) for name in ("generator", "discriminator"))
    batch = calls[0][1]
    fake = generator(batch.latent)
    expected = {"real": relu(1 - judge(batch.real)).mean(), "fake": relu(1 + judge(fake)).mean()}
    terms, _ = run.perform(calls)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value.detach())
    assert REGISTRY.get("losses", "hinge").record.phases == ()
