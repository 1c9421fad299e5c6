"""Checkpoints: they hold everything that decides how a run continues, and a damaged one is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file
from test_training import REGISTRY, SEEDS, VARIANTS, architecture_of, each, planned

from ganzoo.data.batches import Batches
from ganzoo.errors import RecordError
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.records.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import TermLog, TrainResult, train
from ganzoo.training.snapshot import restore, snapshot
from ganzoo.util.tensorfiles import read_header

BATCH = 8


class Saved(Exception):
    """Raised to stop training between two steps."""


def trained(spec, dataset, *, leave_after=None, saved=None, registry=REGISTRY):
    """`(tensors, state)` at the end of the budget or after `leave_after` steps, starting from `saved` if given."""
    run = assemble(spec, registry, dataset)
    log = restore(run, *saved) if saved else TermLog(TrainResult())

    def leave():
        raise Saved

    try:
        train(run, spec.kimg, log=log, pause_due=lambda: run.step == leave_after, on_pause=leave)
    except Saved:
        assert run.step == leave_after
    return snapshot(run, log)


def course(tensors, state):
    """The state that two trainings of one spec must share: everything but times."""
    result = {name: value for name, value in state["result"].items() if name != "train_seconds"}
    digests = {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}
    return digests, {**state, "result": result}


RECIPES = {
    "schedules": ("dcgan", {"set": ("dcgan.rate_decay.kind=cosine",)}),
    "rmsprop": ("wgan", {"set": ("wgan.optimizer.kind=rmsprop",)}),
    "momentum": ("mlp", {"set": ("mlp.optimizer.kind=sgd", "mlp.momentum=0.9")}),
    "flips": ("mlp", {"set": ("mlp.flips=true",)}),
    "lazy": ("dcgan+non-saturating+r1", {"set": ("dcgan+non-saturating+r1.lazy.r1.every=3",)}),
    "no average": ("mlp", {"set": ("mlp.ema_half_life_kimg=0",)}),
}


QUICK = SEEDS | {"bigan", "began", "diffusion-gan", "progan", "stylegan2-small"}
"""Three players, states, stages, and lazy phases of both players."""


@pytest.mark.parametrize("recipe", each([*VARIANTS, *RECIPES], quick=QUICK))
def test_restored_run_is_bit_for_bit_the_uninterrupted_one(recipe):
    models, options = RECIPES.get(recipe, (recipe, {}))
    size = min(architecture_of(models).image_sizes or (16,)) if recipe in VARIANTS else 16
    spec, dataset = planned(models, image_size=size, batch_size=BATCH, throughput_only=False, kimg=0.12, **options)
    whole = trained(spec, dataset)
    part = trained(spec, dataset, leave_after=2)
    # A new process starts with another random state.
    torch.manual_seed(12345)
    tensors, state = trained(spec, dataset, saved=part)
    assert state["result"]["kimg"] >= 0.12
    assert state["step"] > 2
    assert course(tensors, state) == course(*whole)


TURNED = """
import math

import ganzoo
from torch import nn

ORDER = ["first", "second", "third"]


class Generator(nn.Module):
    def __init__(self, image_shape, latent):
        super().__init__()
        for name in ORDER:
            self.add_module(name, nn.Linear(latent, latent))
        self.image_shape = image_shape
        self.out = nn.Linear(latent, math.prod(image_shape))

    def forward(self, latent):
        hidden = self.third(self.second(self.first(latent).tanh()).tanh()).tanh()
        return self.out(hidden).tanh().unflatten(1, self.image_shape)


def build(image_shape, latent, classes):
    return Generator(image_shape, latent), nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(image_shape), 1), nn.Flatten(0)
    )


@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture("turned", build, latent=8, image_sizes=None)
"""
"""All layers have one shape, and their order may differ between processes, as that of a set does."""


def test_checkpoint_restores_networks_built_in_another_order(tmp_path):
    (tmp_path / "turned.py").write_text(TURNED)
    registry = discover([str(tmp_path / "turned.py")])
    plan = BenchPlan(("turned+non-saturating",), batch_size=BATCH, kimg=0.12, device="cpu")
    resolved = resolve(plan, registry)
    spec, dataset = resolved.runs[0].spec, resolved.dataset
    whole = trained(spec, dataset, registry=registry)
    part = trained(spec, dataset, leave_after=5, registry=registry)
    registry.get("architectures", "turned").record.build.__globals__["ORDER"].reverse()
    after = trained(spec, dataset, saved=part, registry=registry)
    assert list(after[0]) != list(whole[0])
    assert course(*after) == course(*whole)


LATE_BUFFER = """
import math

import ganzoo
import torch
from torch import nn


class Discriminator(nn.Module):
    def __init__(self, image_shape):
        super().__init__()
        self.head = nn.Linear(math.prod(image_shape), 1)

    def forward(self, images):
        if not hasattr(self, "seen"):
            self.register_buffer("seen", torch.zeros((), device=images.device))
        self.seen = self.seen + 1
        return self.head(images.flatten(1)).squeeze(1) / self.seen


def build(image_shape, latent, classes):
    generator = nn.Sequential(nn.Linear(latent, math.prod(image_shape)), nn.Tanh(), nn.Unflatten(1, image_shape))
    return generator, Discriminator(image_shape)


@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture("late", build, latent=8, image_sizes=None)
"""


def test_checkpoint_buffer_missing_in_a_fresh_network_is_not_dropped_silently(tmp_path):
    (tmp_path / "late.py").write_text(LATE_BUFFER)
    registry = discover([str(tmp_path / "late.py")])
    plan = BenchPlan(("late+non-saturating",), batch_size=BATCH, kimg=0.12, device="cpu", throughput_only=False)
    resolved = resolve(plan, registry)
    spec, dataset = resolved.runs[0].spec, resolved.dataset
    part = trained(spec, dataset, leave_after=5, registry=registry)
    with pytest.raises(
        RecordError, match=r"holds discriminator/network\.seen, which the networks lack when they are built"
    ):
        trained(spec, dataset, saved=part, registry=registry)


def test_a_checkpoint_without_a_part_of_the_networks_is_refused_by_name():
    spec, dataset = planned("mlp")
    tensors, state = snapshot(assemble(spec, REGISTRY, dataset), TermLog(TrainResult()))
    name = next(name for name in tensors if name.startswith("average of generator/"))
    del tensors[name]
    with pytest.raises(RecordError, match=f"does not hold this run: it lacks {name}"):
        restore(assemble(spec, REGISTRY, dataset), tensors, state)


def test_optimizer_state_of_an_unknown_parameter_is_refused():
    spec, dataset = planned("mlp")
    tensors, state = snapshot(assemble(spec, REGISTRY, dataset), TermLog(TrainResult()))
    strange = {"optimizer/generator/network.other/exp_avg": torch.zeros(3)}
    with pytest.raises(RecordError, match=r"the checkpoint does not hold this run: 'network\.other'"):
        restore(assemble(spec, REGISTRY, dataset), tensors | strange, state)


def test_streamed_batches_resume_at_their_position(tmp_path):
    _, dataset = planned("mlp")

    def batches():
        return Batches(dataset, 32, seed=5, device="cpu", flips=True, resident=False)

    whole = batches()
    drawn = [next(whole) for _ in range(120)]
    part = batches()
    for _ in range(57):
        next(part)
    rest = batches()
    rest.go_to({name: tensor.clone() for name, tensor in part.position().items()}, part.drawn)
    for real, labels in drawn[57:]:
        again, same = next(rest)
        assert torch.equal(real, again)
        assert torch.equal(labels, same)
    assert rest.drawn == whole.drawn


# --- the file ---------------------------------------------------------------------------------------------------------

SAMPLE = Checkpoint("ab" * 32, {"weight": torch.arange(6.0).reshape(2, 3)}, {"kimg": 1.5, "note": '"sha256":"'})


@pytest.fixture
def path(tmp_path):
    write_checkpoint(tmp_path / "checkpoint.safetensors", SAMPLE)
    return tmp_path / "checkpoint.safetensors"


def test_checkpoint_round_trip(path):
    read = read_checkpoint(path)
    assert (read.run_id, read.state) == (SAMPLE.run_id, SAMPLE.state)
    assert torch.equal(read.tensors["weight"], SAMPLE.tensors["weight"])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_checksum_covers_the_file_without_the_checksum(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    signed = json.loads(content[8 : 8 + length])["__metadata__"]["sha256"]
    unsigned = content.replace(signed.encode(), b"0" * 64)
    assert hashlib.sha256(unsigned).hexdigest() == signed


def test_flipped_bit_in_a_checkpoint_is_refused(path):
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(RecordError):
            read_checkpoint(path)


def test_truncated_or_extended_checkpoint_is_refused(path):
    content = path.read_bytes()
    for other in (b"", content[:7], content[:50], content[:-1], content + b"\0"):
        path.write_bytes(other)
        with pytest.raises(RecordError):
            read_checkpoint(path)


def test_checkpoint_of_another_version_is_refused(path):
    content = path.read_bytes().replace(b'"schema":"2"', b'"schema":"9"')
    path.write_bytes(content)
    with pytest.raises(RecordError, match="is a checkpoint of version 9"):
        read_checkpoint(path)


def test_pickle_in_place_of_a_checkpoint_is_refused_unopened(path, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'opened')!r}, 'w')",))

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(RecordError, match="is a pickle, which can run code"):
        read_checkpoint(path)
    torch.save(Bomb(), path)
    with pytest.raises(RecordError, match="is a pickle, which can run code"):
        read_checkpoint(path)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x4B50])
def test_header_whose_length_begins_like_a_pickle_is_no_pickle(length, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata={"fill": ""})
    (empty,) = struct.unpack("<Q", path.read_bytes()[:8])
    save_file({"weight": torch.ones(2)}, path, metadata={"fill": "x" * (length - empty)})
    assert path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"PK")
    assert read_header(path)["weight"]["shape"] == [2]


def test_weights_file_in_place_of_a_checkpoint_is_refused(path):
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(RecordError, match="is no checkpoint: its metadata lacks schema"):
        read_checkpoint(path)


def test_a_checkpoint_of_other_networks_is_refused():
    spec, dataset = planned("mlp")
    other, _ = planned("mlp", set=("mlp.latent=7",))
    run = assemble(spec, REGISTRY, dataset)
    tensors, state = snapshot(run, TermLog(TrainResult()))
    with pytest.raises(RecordError, match="the checkpoint's generator"):
        restore(assemble(other, REGISTRY, dataset), tensors, state)
    with pytest.raises(RecordError, match="the checkpoint"):
        restore(assemble(planned("dcgan")[0], REGISTRY, dataset), tensors, state)


def test_old_checkpoint_stays_until_the_new_one_is_complete(path, monkeypatch):
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(path, Checkpoint("cd" * 32, {}, {}))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
