"""Plugins that do not fit the language, or each other: one line that says what to change, and nothing is trained."""

from __future__ import annotations

import hashlib

import pytest
import torch
from conftest import STRANGERS

PLUGIN = STRANGERS / "refused.py"

REFUSED = {
    "a player that no phase updates": (
        "encoder+phases",
        "no phase updates the player 'encoder', and `build` does not freeze it; choose a loss whose phases do",
    ),
    "a surplus argument that is no label": (
        "plain+surplus",
        "the discriminator is given 2 inputs, and its forward takes 1; only labels are left out",
    ),
    "a penalty whose inputs are ambiguous": (
        "plain+judged-twice+of-fakes",
        "penalty 'of-fakes' needs one call discriminator(what the generator gave) in phase 'discriminator', found 2; "
        "return Terms(…, judged=(real, fake))",
    ),
    "a penalty of nobody": ("plain+phases+of-nobody", "penalty 'of-nobody' is a term of 'critic', and the players are"),
    "packs of a conditional architecture": (
        "conditional+of-logits+pac2",
        "architecture 'conditional' is conditional, and packs of images have no labels; leave pack at 1",
    ),
    "packs under a loss of labels": (
        "plain+by-labels+pac2",
        "loss 'by-labels' asks for labels, which need one logit for each image; the judge gives (4,) for 8 images",
    ),
    "packs under a penalty of labels": (
        "plain+of-logits+of-labels+pac2",
        "penalty 'of-labels' asks for labels, and packs of images have none; leave pack at 1",
    ),
    "packs that the batch does not fill": (
        "plain+of-logits+pac3",
        "batch_size 8 cannot be divided into packs of 3 images",
    ),
    "packs that nobody builds": (
        "encoder+of-logits+pac2",
        "builds no discriminator for packs of images; let its build name discriminator_shape",
    ),
    "an augmentation that changes the shape": (
        "plain+of-logits+halving",
        "augmentation 'halving' gave (8, 1, 8, 8) for images of (8, 1, 16, 16); it must keep their shape",
    ),
    "a loss that names an unknown player": (
        "plain+unknown-player",
        "function of phase 'generator' asks for 'critic'; arguments go by name, and it may name generator, "
        "discriminator, batch",
    ),
    "two augmentations that adapt": (
        "plain+of-logits+first+second",
        "augmentations first and second both adapt to what the judge says; give one of them",
    ),
    "a last stage of another size": (
        "late-stage+of-logits",
        "for images of 16 px give sizes that divide it, in ascending order up to 16",
    ),
    "a stage that does not divide the size": (
        "odd-stage+of-logits",
        "for images of 16 px give sizes that divide it, in ascending order up to 16",
    ),
    "weights that are not there": (
        "elsewhere+of-logits",
        "there is no of-refused.pt: it is not installed; pip install no-such-package",
    ),
}


@pytest.fixture
def refused(invoke, tmp_path):
    """`refused(models, plugin)`: the error of a bench that has trained nothing."""

    def refused(models, plugin=PLUGIN):
        plan = ("bench", "--models", models, "--plugin", plugin, "--image-size", "16", "--batch-size", "8")
        outcome = invoke(*plan, "--device", "cpu", "--throughput-only")
        assert outcome.code == 2, outcome
        assert outcome.error.isprintable()
        assert not (tmp_path / "runs").exists()
        return outcome.error

    return refused


@pytest.mark.parametrize("fault", REFUSED)
def test_refused_before_training(fault, refused):
    models, reason = REFUSED[fault]
    assert reason in refused(models)


def test_what_is_refused_here_is_planned_where_nothing_is_wrong(invoke):
    plan = ("bench", "--plugin", PLUGIN, "--image-size", "16", "--batch-size", "8", "--device", "cpu", "--dry-run")
    for models in ("plain+phases", "plain+of-logits+pac2", "conditional+by-labels", "plain+of-logits+first"):
        assert invoke(*plan, "--models", models, "--throughput-only").code == 0


def test_a_glob_leaves_out_what_does_not_fit_with_a_note(invoke, tmp_path):
    variants = (
        "import ganzoo\n\n@ganzoo.hookimpl\ndef ganzoo_variants():\n"
        "    yield ganzoo.Variant('fitting', 'plain', 'phases')\n"
        "    yield ganzoo.Variant('fits-not', 'encoder', 'phases')\n"
    )
    (tmp_path / "variants.py").write_text(variants)
    plan = ("bench", "--models", "fit*", "--plugin", PLUGIN, "--plugin", tmp_path / "variants.py", "--batch-size", "8")
    outcome = invoke(*plan, "--image-size", "16", "--device", "cpu", "--throughput-only", "--dry-run")
    assert outcome.code == 0, outcome
    assert "fits-not" in outcome.err
    assert "no phase updates the player 'encoder'" in outcome.err
    assert "fits-not" not in outcome.out


# --- weights from elsewhere -------------------------------------------------------------------------------------------


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """`weights(tensors)`: put a file of them where the plugin looks, in a cache of its own; its sha256."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)

    def put(tensors):
        torch.save(tensors, folder / "of-refused.pt")
        return hashlib.sha256((folder / "of-refused.pt").read_bytes()).hexdigest()

    return put


def test_altered_weights_are_refused_with_both_hashes(weights, refused):
    actual = weights({"weight": torch.zeros(1, 256), "bias": torch.zeros(1)})
    line = refused("elsewhere+of-logits")
    assert (
        f"of-refused.pt has sha256 {actual}, not the {'0' * 64} of of-refused.pt; move it away to get the right" in line
    )


def test_weights_of_another_shape_are_refused_with_both_shapes(weights, refused, tmp_path):
    actual = weights({"weight": torch.zeros(1, 64), "bias": torch.zeros(1)})
    (tmp_path / "known.py").write_text(PLUGIN.read_text().replace('"0" * 64', f'"{actual}"'))
    line = refused("elsewhere+of-logits", tmp_path / "known.py")
    assert "size mismatch for weight" in line
    assert "[1, 64]" in line
    assert "[1, 256]" in line


def test_the_right_weights_are_taken(weights, invoke, tmp_path):
    actual = weights({"weight": torch.zeros(1, 256), "bias": torch.zeros(1)})
    (tmp_path / "known.py").write_text(PLUGIN.read_text().replace('"0" * 64', f'"{actual}"'))
    plan = ("bench", "--models", "elsewhere+of-logits", "--plugin", tmp_path / "known.py", "--image-size", "16")
    outcome = invoke(*plan, "--batch-size", "8", "--device", "cpu", "--throughput-only", "--dry-run")
    assert outcome.code == 0, outcome
    assert "meta" not in outcome.err


# --- version 1 --------------------------------------------------------------------------------------------------------

OLD = """
import ganzoo
from torch.nn.functional import softplus

def terms(real, fake):
    return {{"real": softplus(-real).mean(), "fake": softplus(fake).mean()}}

LOSS = ganzoo.Loss.of_logits("old", discriminator=terms, generator=lambda fake: {{"fool": softplus(-fake).mean()}})

{0}
"""

VERSION_1 = {
    "a penalty that says what it uses": (
        """
@ganzoo.hookimpl
def ganzoo_variants():
    penalty = ganzoo.Penalty("p", ganzoo.losses.r1, hyper={"gamma": 1.0}, every=4, uses_fakes=False)
    yield ganzoo.Variant("old", "mlp", LOSS, penalties=(penalty,))
""",
        "left out: ganzoo_variants raised TypeError: Penalty.__init__() got an unexpected keyword argument "
        "'uses_fakes' (of version 1 of the language; leave it out, for what a function does not name is not computed)",
    ),
    "an optimizer of the discriminator, on import": (
        """
OLD = ganzoo.Variant("old", "mlp", LOSS, discriminator_optimizer=ganzoo.Optimizer())

@ganzoo.hookimpl
def ganzoo_variants():
    yield OLD
""",
        "unexpected keyword argument 'discriminator_optimizer' (of version 1 of the language; write optimizers="
        "{'discriminator': …})",
    ),
    "functions of logits that were called by position": (
        """
@ganzoo.hookimpl
def ganzoo_variants():
    loss = ganzoo.Loss.of_logits("positions", discriminator=lambda r, f: terms(r, f), generator=LOSS.generator)
    yield ganzoo.Variant("old", "mlp", loss)
""",
        "discriminator of loss 'positions' asks for 'r'; arguments go by name, and it may name real, fake, real_heads",
    ),
    "a phase that was called by position": (
        """
@ganzoo.hookimpl
def ganzoo_variants():
    phase = ganzoo.Phase("d", lambda g, d, b, h: {"d": d(b.real).mean()}, "discriminator")
    yield ganzoo.Variant("old", "mlp", ganzoo.Loss("positions", phases=(phase,)))
""",
        "function of phase 'd' asks for 'g'; arguments go by name, and it may name generator, discriminator, batch",
    ),
    "labels beside the inputs of a penalty": (
        """
@ganzoo.hookimpl
def ganzoo_variants():
    def function(discriminator, real, labels, gamma):
        return ganzoo.losses.r1(discriminator, real, labels, gamma=gamma)

    yield ganzoo.Variant("old", "mlp", LOSS, penalties=(ganzoo.Penalty("p", function, hyper={"gamma": 1.0}),))
""",
        "labels ride along in the inputs: write r1(discriminator, real, …) and its coefficients by name",
    ),
}


@pytest.mark.parametrize("fault", VERSION_1)
def test_a_plugin_of_version_1_is_told_what_to_change(fault, invoke, tmp_path):
    code, reason = VERSION_1[fault]
    (tmp_path / "old.py").write_text(OLD.format(code))
    plan = ("bench", "--models", "old", "--plugin", tmp_path / "old.py", "--batch-size", "8", "--device", "cpu")
    outcome = invoke(*plan, "--throughput-only")
    assert outcome.code == 2, outcome
    # A plugin that cannot be loaded has a line of its own, before the one that misses what it would have offered.
    (line,) = (line for line in outcome.err.splitlines() if reason in line)
    assert line.isprintable()
    assert not (tmp_path / "runs").exists()
