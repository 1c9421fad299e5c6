"""State and monitors: values by hand, checkpoints, captured steps, curves, and what is refused before training."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from conftest import STRANGERS
from test_checkpoint import course, trained
from test_step_modes import Recorder
from torch.nn.functional import relu

from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import assemble
from ganzoo.training.cuda_graph import WARMUP_STEPS, GraphedStep
from ganzoo.training.loop import due_calls, run_step, train

PLUGIN = STRANGERS / "stateful.py"
REGISTRY = discover([str(PLUGIN)])


def planned(models, **options):
    plan = BenchPlan((models,), **{"batch_size": 8, "kimg": 0.12, "throughput_only": True, "device": "cpu"} | options)
    resolved = resolve(plan, REGISTRY)
    return resolved.runs[0].spec, resolved.dataset


def assembled(models, **options):
    spec, dataset = planned(models, **options)
    return assemble(spec, REGISTRY, dataset)


def state_of(run):
    return {name: value.tolist() for name, value in run.values.state.items()}


def test_lecam_has_the_gradients_and_the_averages_of_a_computation_by_hand():
    """Hinge with LeCam on mlp, step by step, with SGD so that a step is its gradient."""
    kinds = (f"*.{optimizer}.kind=sgd" for optimizer in ("optimizer", "discriminator_optimizer"))
    run = assembled("mlp+hinge+averages", set=(*kinds, "*.optimizer.learning_rate=0.1"))
    networks = [run.players.generator.network, run.players["discriminator"].network]
    (group,) = run.optimizers["discriminator"].param_groups
    assert group["momentum"] == 0
    real_mean = fake_mean = 0.0
    for _ in range(3):
        generator, discriminator = (copy.deepcopy(network).requires_grad_() for network in networks)
        calls = due_calls(run)
        run.perform(calls)
        batch = calls[0][1]
        real, fake = discriminator(batch.real), discriminator(generator(batch.latent).detach())
        distance = (real - fake_mean).square().mean() + (fake - real_mean).square().mean()
        (relu(1 - real).mean() + relu(1 + fake).mean() + 0.3 * distance).backward()
        for weight, after in zip(discriminator.parameters(), networks[1].parameters(), strict=True):
            torch.testing.assert_close(after, weight - group["lr"] * weight.grad, rtol=1e-4, atol=1e-7)
        real_mean = 0.9 * real_mean + 0.1 * real.mean().item()
        fake_mean = 0.9 * fake_mean + 0.1 * fake.mean().item()
        assert state_of(run) == pytest.approx(
            {"averages.real_mean": real_mean, "averages.fake_mean": fake_mean}, rel=1e-4
        )


@pytest.mark.parametrize("models", ["mlp+balanced", "mlp+hinge+averages"])
def test_a_run_that_goes_on_has_the_state_of_one_that_was_not_stopped(models):
    spec, dataset = planned(models, throughput_only=False)
    whole = trained(spec, dataset, registry=REGISTRY)
    part = trained(spec, dataset, leave_after=5, registry=REGISTRY)
    assert any(name.startswith("state/") for name in part[0])
    torch.manual_seed(12345)
    assert course(*trained(spec, dataset, saved=part, registry=REGISTRY)) == course(*whole)


@pytest.mark.parametrize("models", ["mlp+balanced", "mlp+hinge+averages"])
def test_a_replayed_step_writes_the_state_of_the_eager_one(models):
    states = []
    for graphed in (False, True):
        run = assembled(models)
        if graphed:
            run.perform = GraphedStep(Recorder(run))
        torch.manual_seed(0)
        for _ in range(WARMUP_STEPS + 20):
            run_step(run)
        states.append(state_of(run))
    assert states[0] == states[1] != state_of(assembled(models))


def test_state_and_monitors_are_curves_of_one_length(run_cli):
    bench = ("bench", "--models", "mlp+balanced", "--plugin", PLUGIN, "--kimg", "0.3", "--batch-size", "8")
    done = run_cli(*bench, "--fakes", "100", "--throughput-seconds", "0.1", "--device", "cpu", "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    curves = record["training"]["curves"]
    assert {"state/k", "discriminator/measure", "discriminator/real"} <= set(curves)
    assert len({len(curve) for curve in curves.values()}) == 1
    assert 0 < curves["state/k"][-1] <= 1
    assert curves["state/k"][0] != curves["state/k"][-1]
    (name,) = (folder.name for folder in run_cli.cwd.glob("runs/*/mlp*"))
    assert "state/k" in run_cli("show", next(run_cli.cwd.glob(f"runs/*/{name}"))).stdout
    assert run_cli("report", "runs").returncode == 0
    assert "state/k" in (run_cli.cwd / "report.html").read_text(encoding="utf-8")


def test_a_state_that_is_not_finite_ends_the_run():
    with pytest.raises(Exception, match="'state/k' became inf"):
        train(assembled("mlp+exploding"), 0.3)


REFUSED = {
    "undeclared": "loss 'undeclared' gives the state 'k', which it does not declare; write it as `state={'k': START}`",
    "misshapen": "gave the state 'k' as shape (2,); it was declared with the shape ()",
    "unwritten": "no function gives the state 'k' its next value; return it in ganzoo.Terms(state=…)",
    "unread": "no function reads the state 'k'",
    "twice-written": "the state 'k' is written by several phases (discriminator, generator); let one of them do so",
    "named-twice": "phase 'discriminator' gave 'pair' as a loss and as a monitor; rename one",
    "vector": "phase 'discriminator' gave a term 'real' of shape (",
    "no-terms": "loss 'no-terms' gave Tensor; it must give {name: 0-dim tensor} or ganzoo.Terms",
}


@pytest.mark.parametrize("loss", REFUSED)
def test_refused_before_training(loss, invoke):
    plan = ("bench", "--models", f"mlp+{loss}", "--plugin", PLUGIN, "--device", "cpu", "--throughput-only", "--dry-run")
    outcome = invoke(*plan)
    assert outcome.code == 2
    assert REFUSED[loss] in outcome.error
