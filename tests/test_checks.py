"""Conformance checks: each finds its flaw and no other, the zoo passes, and `ganzoo check` reports the results."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import HANGING
from skips import NO_ACCELERATOR, extra_of, of_zoo

from ganzoo.conformance import variant_checks
from ganzoo.conformance.apart import call_apart
from ganzoo.conformance.checks import CHECKS
from ganzoo.conformance.initial_weights import initial_weights, initial_weights_elsewhere
from ganzoo.conformance.metric_checks import METRIC_CHECKS
from ganzoo.conformance.trial import Trial
from ganzoo.conformance.variant_checks import ATTEMPTS, BATCHES, captured_gradients, finite_terms, runs
from ganzoo.conformance.verdicts import Failed, Skipped
from ganzoo.errors import PluginError, UnknownName, UsageError
from ganzoo.machine.hostsync import HostSync, no_host_sync
from ganzoo.output import checking
from ganzoo.planning.selection import select
from ganzoo.registry.discovery import discover
from ganzoo.testing import Rehearsal, check, parametrize_checks, subjects_of

FLAWED = Path(__file__).parent / "plugins_from_strangers" / "flawed.py"
FLAWED_PARTS = FLAWED.with_name("flawed_parts.py")
VARIANTS = discover().names("variants")
COMPILER = shutil.which("g++") or shutil.which("clang++")
DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"

DEAR = {"shapes", "compiled-gradients"}
"""Slow checks: only tests marked slow apply them to the zoo."""


def outcome(name: str, plugins=(FLAWED, FLAWED_PARTS), checks=None) -> dict[str, dict[str, str]]:
    """`{"failed": {check: reason}, "skipped": {check: reason}, "passed": {…}}` of one subject."""
    (subject,) = subjects_of(name, plugins, DEVICE)
    found: dict[str, dict[str, str]] = {"passed": {}, "failed": {}, "skipped": {}}
    for check_name in checks or subject.checks:
        result = subject.result(check_name)
        found[result.status][check_name] = result.reason
    return found


# --- each check finds its flaw ----------------------------------------------------------------------------------------

REASONS = {
    "runs": "the flux capacitor is empty",
    "runs-unread": "no function reads the coefficient 'margin'",
    "runs-no-home": "joins the phase that updates the discriminator as a whole, and loss",
    "leaves-settings": "a network or a phase has changed a setting of the process: cuDNN, from ",
    "shapes": "at 1x12x12 the generator gives values from -",
    "shapes-in-eval-mode": "at 1x8x8 in eval mode the generator gives values from nan to nan",
    "finite-terms": "the term 'discriminator/idle' is -inf in step 0",
    "updates": "phase 'generator' updates 'discriminator.spare' and leaves it as it was",
    "updates-beside": "phase 'generator' moves 'discriminator.head.bias', which its `updates` does not name",
    "updates-detached": "no phase gives a gradient to 'generator.hidden.weight', 'generator.hidden.bias'",
    "updated-or-frozen": "no phase updates 'encoder.body.1.weight', and `build` does not freeze it; name it in",
    "frozen-weights": "'discriminator.frozen', which `build` has frozen, changes in training; change it nowhere",
    "frozen-weights-statistics": "'discriminator.frozen.layers.1.running_mean', which `build` has frozen, changes in",
    "averages": "the average of 'generator.hidden.weight' is not that of its values",
    "lazy-correction": "says lazy_correction, and no lazy phase updates the discriminator; take it out",
    "penalty-gradients": "no gradient by the discriminator's weights",
    "augmentation": "has another gradient by its images than differences show",
    "augmentation-once": "has another second derivative by its images than differences show",
    "augmentation-sides": "treats the same images otherwise where they require gradients, as fakes do",
    "augmentation-range": "gives images of a root mean square of 4.",
    "state-moves": "the state 'state-moves-anchor.level' never changes, wherever it begins",
    "state-moves-to-infinity": "the state 'state-moves-to-infinity-anchor.level' becomes inf in the first steps",
    "captured-gradients": "phase 'discriminator': captured gradients differ",
    "compiled-gradients": "phase 'discriminator': compiled gradients differ",
    "same-bits": "'generator.network.hidden.weight' differs between two runs of one seed",
    "same-bits-seedless": "two seeds give the same weights",
    "same-bits-unordered": "starts otherwise in another process",
    "resumes": "a run that is taken up again goes another way",
    "no-host-sync-in-a-phase": "phase 'discriminator' waits for the device: .item() in flawed.py, line ",
    "batch-independence": "in eval mode no image can be drawn alone",
    "batch-independence-mixed": "in eval mode an image depends on the others of its batch",
    "seeded-drawing": "one seed draws other images the second time",
    "seeded-drawing-sample": "it must give (8, 1, 8, 8) in [-1, 1]",
    "state-dict": "the rebuilt generator gives another output with the same weights",
    "state-dict-beside": "_extra_state of the generator can be neither a tensor nor JSON",
    "json-spec": "options is {'flavours': {8: 1, 12: 1}}, and after a JSON round trip {'flavours': {'8': 1, '12': 1}}",
    "memory-formats": "use flatten or reshape in place of view",
    "memory-formats-scaled": "phase 'discriminator': channels_last gradients differ from eager ones",
    "memory-formats-in-colour": "in channels_last with 3 channel(s): view size is not compatible",
    "three-channels": "in three channels the term 'discriminator/idle' is -inf",
    "learns": "did not learn the toy target",
}


def check_of(flaw: str) -> str:
    """The check that finds a flaw; the name of the flaw begins with it."""
    return next(name for name in CHECKS if flaw.startswith(name))


def test_every_check_has_a_flaw_that_it_finds():
    assert list(dict.fromkeys(check_of(flaw) for flaw in REASONS)) == list(CHECKS)
    variants = discover([str(FLAWED), str(FLAWED_PARTS)]).offers["variants"]
    flawed = [offer.record.name for offer in variants if offer.plugin in (FLAWED.name, FLAWED_PARTS.name)]
    assert sorted(flawed) == sorted(["sound", "sound-parts", *(f"flawed-{flaw}" for flaw in REASONS)])


NOT_OF_SOUND = {"lazy-correction", "augmentation", "state-moves", "three-channels"}
"""The checks of what `sound` does not have, and `sound-parts` does."""


@pytest.mark.parametrize(
    ("name", "absent"), [("sound", NOT_OF_SOUND), pytest.param("sound-parts", set(), marks=pytest.mark.slow)]
)
@pytest.mark.longest
def test_flawless_variant_passes_every_check(name, absent):
    found = outcome(name)
    expected = absent | (set() if DEVICE != "cpu" else {"captured-gradients"})
    expected |= set() if COMPILER else {"compiled-gradients"}
    assert (found["failed"], set(found["skipped"])) == ({}, expected)


def test_flawless_variant_of_more_parts_passes_every_quick_check():
    quick = [name for name in CHECKS if name not in {"compiled-gradients", "same-bits", "learns"}]
    found = outcome("sound-parts", checks=quick)
    assert (found["failed"], set(found["skipped"]) - {"captured-gradients"}) == ({}, set())


@pytest.mark.parametrize("flaw", REASONS)
def test_a_flaw_is_found_by_its_check_and_by_no_other_that_is_quick(flaw, monkeypatch):
    # Compiling and a second process take seconds, and learning takes a thousand steps an attempt.
    monkeypatch.setattr("ganzoo.conformance.variant_checks.ATTEMPTS", ATTEMPTS[:1])
    dear = {"compiled-gradients", "same-bits", "learns"} - {check_of(flaw)}
    assert_found(flaw, [name for name in CHECKS if name not in dear])


@pytest.mark.slow
@pytest.mark.parametrize("flaw", REASONS)
def test_a_flaw_is_found_by_its_check_and_by_no_other(flaw):
    assert_found(flaw, list(CHECKS))


def assert_found(flaw, checks):
    if flaw == "captured-gradients" and DEVICE == "cpu":
        pytest.skip(f"{NO_ACCELERATOR}CUDA graphs need a CUDA device")
    if flaw == "compiled-gradients" and not COMPILER:
        pytest.skip("torch.compile needs a C++ compiler")
    found = outcome(f"flawed-{flaw}", checks=checks)
    # What waits for the device cannot be captured either.
    also = {"captured-gradients"} if flaw == "no-host-sync-in-a-phase" and DEVICE != "cpu" else set()
    assert set(found["failed"]) == {check_of(flaw)} | also, found["failed"]
    assert REASONS[flaw] in found["failed"][check_of(flaw)]
    if check_of(flaw) == "runs":
        assert found["skipped"] == dict.fromkeys(checks[1:], "'runs' failed")


def test_flawed_networks_compute_on_whichever_device_they_are_moved_to():
    registry = discover([str(FLAWED), str(FLAWED_PARTS)])
    for name in ("sound", "sound-parts", *(f"flawed-{flaw}" for flaw in REASONS if flaw != "runs")):
        architecture = registry.get("variants", name).record.architecture
        built = architecture.build((1, 8, 8), 16, 0)
        networks = built.values() if isinstance(built, dict) else built
        generator, discriminator, *_ = (network.to("meta") for network in networks)
        assert discriminator(generator(torch.zeros(4, 16, device="meta"))).shape == (4,), name


@pytest.mark.parametrize(
    ("flaw", "check", "expected"),
    [
        ("sound", finite_terms, None),
        ("flawed-finite-terms", finite_terms, Failed),
        ("flawed-runs", runs, Failed),
        ("sound", captured_gradients, Skipped),
    ],
)
def test_a_check_in_a_process_of_its_own_ends_as_it_does_here(flaw, check, expected):
    registry = discover([str(FLAWED)])
    trial = Trial(registry, *select(registry, [flaw]), plugins=(str(FLAWED),))
    ends = []
    for done in (check, partial(call_apart, function=check)):
        try:
            ends.append(done(trial))
        except (Failed, Skipped) as verdict:
            ends.append((type(verdict), str(verdict)))
    assert ends[0] == ends[1]
    assert ends[0] is None if expected is None else ends[0][0] is expected


def kill(trial):
    """No check survives it."""
    os._exit(3)


def test_a_check_that_ends_its_process_has_failed(monkeypatch):
    registry = discover([str(FLAWED)])
    trial = Trial(registry, *select(registry, ["sound"]), plugins=(str(FLAWED),))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(Failed, match="its process ended with exit code 3 and said nothing"):
        call_apart(trial, kill)


def test_subprocess_check_fails_where_the_plugin_cannot_be_loaded():
    registry = discover([str(FLAWED)])
    trial = Trial(registry, *select(registry, ["sound"]))
    with pytest.raises(Failed, match="no variant is called 'sound'"):
        initial_weights_elsewhere(trial)


STRAY = """
import threading, time
import ganzoo

threading.Thread(target=time.sleep, args=(3600,)).start()

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("unused", architecture="mlp", loss="hinge")
"""


@pytest.mark.timeout(HANGING)
def test_stray_thread_of_a_plugin_does_not_keep_the_subprocess_check_alive(tmp_path):
    (tmp_path / "stray.py").write_text(STRAY)
    registry = discover([str(FLAWED)])
    trial = Trial(registry, *select(registry, ["sound"]), plugins=(str(FLAWED), str(tmp_path / "stray.py")))
    assert initial_weights_elsewhere(trial) == initial_weights(trial)


METRIC_REASONS = {
    "scores": "it scores 'gulf', and `better` names 'gap'",
    "same-scores": "the same images get other scores the second time",
    "json-settings": "settings are {'sizes': {1: 500}}, and after JSON {'sizes': {'1': 500}}",
    "direction": "and `better` says higher",
    "within-bounds": ", and its `bounds` are 0 to 1e-06; correct either",
    "class-names": "where the dataset has its classes in another order; let labels and logits meet by",
    "few-images": "RuntimeError: ",
}


def test_a_flaw_of_a_metric_is_found_by_its_check_and_by_no_other():
    assert list(METRIC_REASONS) == list(METRIC_CHECKS)
    assert outcome("sound-gap")["failed"] == {}
    for flaw, reason in METRIC_REASONS.items():
        found = outcome(f"flawed-{flaw}")
        assert set(found["failed"]) == {flaw}, found
        assert reason in found["failed"][flaw]


# --- device synchronization, detected on the CPU ----------------------------------------------------------------------

WAITS = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "branch": lambda x: 1 if x.sum() > 0 else 2,
    "format": lambda x: f"{x.sum():.2f}",
    "repr": lambda x: repr(x),
    "cpu": lambda x: x.cpu(),
    "device written out": lambda x: x.to("cpu"),
    "numpy": lambda x: x.numpy(),
    "tolist": lambda x: x.tolist(),
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "where of one argument": lambda x: torch.where(x > 0),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: torch.unique(x),
    "equal": lambda x: torch.equal(x, x),
    "tensor as an index": lambda x: torch.zeros(9)[x.long().abs()[0]],
}

HARMLESS = {
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "clamp": lambda x: x.clamp(0, 1),
    "masked_fill": lambda x: x.masked_fill(x > 0, 0.0),
    "to its own device": lambda x: x.to(x.device, torch.float64),
    "shape": lambda x: torch.zeros(len(x), x.shape[0]),
    "backward": lambda x: x.clone().requires_grad_().square().sum().backward(),
    "an optimizer's step": lambda x: torch.optim.Adam([torch.nn.Parameter(x)]).step(),
}


@pytest.mark.parametrize("wait", WAITS)
def test_device_synchronization_is_reported_with_its_line(wait):
    with pytest.raises(HostSync, match=r"in test_checks\.py, line \d+"), no_host_sync("cpu"):
        WAITS[wait](torch.ones(4))


def test_device_synchronization_in_the_backward_pass_is_reported():
    x = torch.ones(4, requires_grad=True)
    total = (2 * x).sum()
    x.register_hook(lambda gradient: gradient * gradient.max().item())
    with pytest.raises(HostSync), no_host_sync("cpu"):
        total.backward()


@pytest.mark.parametrize("use", HARMLESS)
def test_code_without_device_synchronization_passes(use):
    with no_host_sync("cpu"):
        HARMLESS[use](torch.ones(4))


# --- the zoo ----------------------------------------------------------------------------------------------------------


OF_SOME = {
    *("frozen-weights", "averages", "lazy-correction", "penalty-gradients", "augmentation", "state-moves"),
    "three-channels",
}
"""The checks of what not every recipe has."""

QUICK_VARIANTS = ("mlp", "dcgan", "wgan-gp", "conv-sgd", "cdcgan")


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=() if name in QUICK_VARIANTS else (*extra_of(name), pytest.mark.slow))
        for name in VARIANTS
    ],
)
def test_zoo_passes_the_quick_checks(variant):
    found = outcome(variant, (), [name for name in CHECKS if name not in DEAR])
    assert found["failed"] == {}
    assert set(found["skipped"]) <= {*OF_SOME, "captured-gradients", "learns"}
    assert ("learns" in found["skipped"]) == (variant == "conv-sgd")


@pytest.mark.slow
@pytest.mark.parametrize("variant", of_zoo(VARIANTS))
def test_zoo_passes_the_slow_checks(variant):
    assert outcome(variant, (), DEAR)["failed"] == {}


@pytest.mark.parametrize("metric", discover().names("metrics"))
def test_zoo_metrics_pass_the_checks(metric):
    assert outcome(metric, ())["failed"] == {}


# --- the command ------------------------------------------------------------------------------------------------------

QUICK = """
import ganzoo
from torch import nn
from torch.nn.functional import softplus


def build(image_shape, latent, classes):
    generator = nn.Sequential(nn.Linear(latent, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))


{hooks}
"""

PARTS = """
@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture("lonely", build, latent=8, image_sizes=(8,), channels=(1,))


@ganzoo.hookimpl
def ganzoo_losses():
    yield ganzoo.Loss.of_logits(
        "lonely-loss",
        discriminator=lambda real, fake: {"real": softplus(-real).mean(), "fake": softplus(fake).mean()},
        generator=lambda fake: {"fool": softplus(-fake).mean()},
    )
    yield ganzoo.Penalty("lonely-penalty", lambda discriminator, real: discriminator(real).square().mean())


@ganzoo.hookimpl
def ganzoo_metrics():
    yield ganzoo.Metric("constant", lambda real, fake, settings: {"one": 1.0}, better={"one": "higher"})
"""

VARIANT = """
@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant(
        "quick",
        ganzoo.Architecture("quick", build, latent=8, image_sizes=(8,), channels=(1,)),
        "non-saturating",
        expect_learning=False,
        reason="too small to learn anything",
    )
"""


@pytest.fixture
def plugin(tmp_path):
    """`plugin(hooks)`: write a plugin file with these hooks and return its path."""

    def write(hooks: str, name: str = "quick") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(QUICK.replace("{hooks}", hooks))
        return path

    return write


def test_skipped_checks_give_their_reason_and_exit_code_0(plugin, invoke, monkeypatch):
    # Compiling is what takes longest, and is not tested here.
    monkeypatch.setenv("CXX", "no-compiler")
    outcome = invoke("check", plugin(VARIANT), "--json")
    assert outcome.code == 0, outcome
    results = json.loads(outcome.out)
    assert [result["check"] for result in results] == list(CHECKS)
    assert all(set(result) == {"subject", "check", "status", "reason", "seconds"} for result in results)
    skipped = {result["check"]: result["reason"] for result in results if result["status"] == "skipped"}
    assert skipped["learns"] == "too small to learn anything"
    assert skipped["captured-gradients"] == "CUDA graphs need a CUDA device, and this is cpu"
    assert skipped["penalty-gradients"] == "the recipe has no penalty"
    assert all(result["reason"] == "" for result in results if result["status"] == "passed")


def test_only_the_checks_that_are_asked_for_are_run_and_each_is_named_as_it_begins(plugin, invoke):
    path = plugin(VARIANT)
    outcome = invoke("check", path, "--only", "json-spec", "--only", "state-dict", "--json")
    assert outcome.code == 0, outcome
    assert [result["check"] for result in json.loads(outcome.out)] == ["state-dict", "json-spec"]
    (subject,) = {result["subject"] for result in json.loads(outcome.out)}
    assert outcome.err.splitlines() == [f"{subject}: state-dict (1 of 2)", f"{subject}: json-spec (2 of 2)"]
    assert invoke("check", path, "--only", "json-spec,state-dict", "--json").err == outcome.err
    refused = invoke("check", path, "--only", "state-dict,jsonspec")
    assert (refused.code, "--only jsonspec: no check is called that; did you mean 'json-spec'?" in refused.error) == (
        2,
        True,
    )


def test_a_bar_on_a_terminal_names_the_check_under_way_and_is_gone_at_the_end(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(checking, "unfailing_stderr", lambda: screen)
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = []
    for check_name in checking.each_shown("my[gan]", ["runs", "json-spec"]):
        shown.append(check_name)
        assert ("my[gan]: runs" in screen.getvalue()) or check_name == "runs"
    assert shown == ["runs", "json-spec"]
    assert screen.getvalue().endswith("\x1b[2K")


@pytest.mark.parametrize(("wrong", "found"), [(BATCHES - 1, False), (BATCHES, True)])
def test_gradients_differ_only_if_they_do_on_each_of_several_batches(wrong, found):
    """On a few, rounding may carry an activation across the kink of a ReLU."""
    registry = discover([str(FLAWED)])
    run = Trial(registry, *select(registry, ["sound"])).assemble()
    left = dict.fromkeys(range(len(run.updates)), wrong)

    def theirs(index, batch):
        left[index] -= 1
        return [gradient + (left[index] >= 0) for gradient in variant_checks._gradients(run, index, batch)]

    with pytest.raises(Failed, match="other gradients differ from eager ones") if found else nullcontext():
        variant_checks._compare_gradients(run, run, theirs, "other")


def test_a_file_that_is_among_the_plugins_too_is_checked_all_the_same(plugin, invoke):
    path = plugin(VARIANT)
    other = Path(path.parent, "..", path.parent.name, path.name)
    outcome = invoke("check", path, "--plugin", other, "--only", "json-spec", "--json")
    assert [result["status"] for result in json.loads(outcome.out)] == ["passed"]


def test_failed_check_is_in_the_table_with_exit_code_1(invoke, stranger):
    outcome = invoke("check", "flawed-scores", "--plugin", stranger("flawed"))
    assert outcome.code == 1
    rows = {line.split()[0]: line for line in outcome.out.splitlines() if line.split()}
    assert "failed" in rows["scores"]
    assert METRIC_REASONS["scores"] in rows["scores"]
    assert "skipped" in rows["direction"]
    assert "'scores' failed" in rows["direction"]


@pytest.mark.parametrize(
    ("target", "fix"),
    [
        ("dcgann", "did you mean 'dcgan'"),
        ("digits", "nothing to check; variants, architectures, losses and metrics have checks"),
        ("absent.py", "does not exist"),
    ],
)
def test_unknown_check_target_is_exit_code_2(target, fix, invoke):
    outcome = invoke("check", target)
    assert outcome.code == 2
    assert fix in outcome.error


def test_a_file_that_cannot_be_loaded_is_exit_code_2_with_its_reason(invoke, stranger):
    outcome = invoke("check", stranger("raises_on_import"))
    assert outcome.code == 2
    assert "no licence found" in outcome.error


def test_a_file_is_checked_for_all_that_it_yields_each_part_with_a_partner(plugin):
    names = [subject.name for subject in subjects_of(plugin(PARTS))]
    expected = ["lonely+non-saturating", "dcgan+lonely-loss", "dcgan+non-saturating+lonely-penalty", "constant"]
    assert names == expected
    # Inline parts of a variant are checked with it.
    assert [subject.name for subject in subjects_of(plugin(VARIANT, "other"))] == ["quick"]


def test_check_takes_the_names_of_the_command_line():
    assert [subject.name for subject in subjects_of("wgan*")] == ["wgan", "wgan-gp"]
    assert [subject.name for subject in subjects_of("mlp+hinge+r1")] == ["mlp+hinge+r1"]
    assert len(subjects_of("all")) == len(VARIANTS)
    # dcgan is also an architecture; the check of the variant covers it.
    assert [subject.name for subject in subjects_of("dcgan")] == ["dcgan"]
    assert [subject.name for subject in subjects_of("least-squares")] == ["dcgan+least-squares"]
    with pytest.raises(UnknownName):
        subjects_of("wgann*")


def test_checks_leave_no_trace(plugin, session_environment, tmp_path):
    before = set(session_environment.rglob("*"))
    state = torch.get_rng_state()
    path = plugin(VARIANT)
    files = set(tmp_path.iterdir())
    results = list(check(path))
    assert not [result for result in results if result.status == "failed"]
    assert torch.equal(torch.get_rng_state(), state)
    assert set(session_environment.rglob("*")) == before
    assert {path for path in tmp_path.iterdir() if path.name != "__pycache__"} == files


# --- from Python and pytest -------------------------------------------------------------------------------------------


def test_rehearsal_can_be_stepped_by_hand(plugin):
    variant = Rehearsal("quick", [plugin(VARIANT)])
    batch = variant.batch()
    assert (batch.real.shape, batch.labels.shape, batch.latent.shape) == ((8, 1, 8, 8), (8,), (8, 8))
    assert variant.discriminator(batch.real, batch.labels).shape == (8,)
    before = variant.images(4)
    assert torch.equal(variant.images(4), before)
    assert set(variant.step()) == {"discriminator/real", "discriminator/fake", "generator/fool"}
    assert not torch.equal(variant.images(4), before)
    again = Rehearsal("quick", [plugin(VARIANT)])
    assert torch.equal(again.images(4), before)


def test_each_check_is_a_test_of_pytest(plugin, stranger, tmp_path):
    """A pass, a skip with its reason, a failure with its reason and without a traceback."""
    (tmp_path / "test_conformance.py").write_text(
        "from ganzoo.testing import parametrize_checks\n\n\n"
        f"@parametrize_checks('flawed-direction', plugins=[{str(stranger('flawed'))!r}])\n"
        "def test_metric(check):\n    check()\n\n\n"
        f"@parametrize_checks({str(plugin(VARIANT))!r})\n"
        "def test_variant(check):\n    check()\n"
    )
    command = (sys.executable, "-m", "pytest", "-rA", "-k", "metric or learns or json", "-p", "no:cacheprovider")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANGING)
    assert "1 failed, 6 passed, 2 skipped" in done.stdout
    assert "flawed-direction, direction: 'gap' is" in done.stdout
    assert "too small to learn anything" in done.stdout
    assert "Traceback" not in done.stdout


def test_pytest_fixtures_load_nothing_until_used(tmp_path):
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\n\ndef test_nothing():\n"
        "    assert 'ganzoo.pytest_plugin' in sys.modules\n"
        "    assert not {'torch', 'numpy', 'rich', 'ganzoo_plugins'} & set(sys.modules)\n"
    )
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANGING)
    assert done.returncode == 0, done.stdout


def test_invalid_check_targets_are_refused_where_they_are_named(stranger):
    with pytest.raises(UsageError, match="did you mean 'dcgan'"):
        parametrize_checks("dcgann")
    with pytest.raises(PluginError, match="no licence found"):
        parametrize_checks(stranger("raises_on_import"))
    with pytest.raises(UsageError, match="nothing to check"):
        parametrize_checks("digits")
