"""`bench --interleave`: the order of the rounds, what a record holds of them, and ratios from pairs of windows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_compare import of, rows, write  # noqa: F401, fixtures
from test_runner import plan_of, registry  # noqa: F401, a fixture

from ganzoo.comparing.baseline import with_baseline
from ganzoo.comparing.comparison import compare
from ganzoo.machine.timing import WINDOWS, summary
from ganzoo.records.consistency import turn_faults
from ganzoo.records.store import RECORD, read_record
from ganzoo.running.in_turn import run_in_turn
from ganzoo.running.launcher import RunInterrupted
from ganzoo.running.options import RunOptions
from ganzoo.running.rounds import throughput_of_rounds
from ganzoo.running.runner import run_plan
from ganzoo.running.wire import Failure, Outcome
from ganzoo.runs import BenchInterrupted, RunFinished, RunStarted

NAMES = "abcdefgh"


class Rounds:
    """A fake launcher: `order` has the letter of each run that was launched; `b2="oom"` is how the second of b ends."""

    def __init__(self, **endings: str) -> None:
        self.order = ""
        self.endings = endings

    def launch(self, request, on_message):
        assert request.windows == 1
        name = NAMES[request.spec["seed"]]
        self.order += name
        place = f"{name}{self.order.count(name)}"
        match self.endings.get(place, "ok"):
            case "ok":
                rate = summary([100.0 * self.order.count(name)])
                return Outcome(throughput={"train_images_per_second": rate, "flags": ["warm"], "disturbance": 0.0})
            case "interrupted":
                raise RunInterrupted(Outcome().failed("interrupted", Failure("KeyboardInterrupt", "stopped")))
            case "ended":
                raise RunInterrupted(Outcome())
            case status:
                return Outcome(status, Failure(status, status))


@pytest.fixture
def turns(registry, tmp_path):  # noqa: F811
    """`turns(launcher, seeds=2, **options)` measures runs in turn; events and notes are kept."""

    def turns(launcher, seeds=2, **options):
        parts = [(plan_of(range(seeds), throughput_only=True), turns.events.append)]
        how = RunOptions(interleave=True, **options)
        return run_in_turn(parts, registry, tmp_path, how, launcher=launcher, on_note=turns.notes.append)

    turns.events, turns.notes = [], []
    return turns


def test_every_other_round_goes_the_other_way_around_and_a_record_has_all_windows(turns):
    launcher = Rounds()
    records = turns(launcher, seeds=3)
    assert launcher.order == "abccbaabccbaabc"
    ids = {record.run_id for record in records}
    for record in records:
        speed = record.throughput
        assert speed["train_images_per_second"]["samples"] == [100.0, 200.0, 300.0, 400.0, 500.0]
        assert speed["train_images_per_second"]["median"] == 300.0
        assert speed["flags"] == ["warm"]
        assert set(speed["in_turn_with"]) == ids - {record.run_id}
        assert list(turn_faults(read_record(record.path))) == []
    assert len({record.throughput["in_turn_session"] for record in records}) == 1
    kinds = [type(event) for event in turns.events]
    assert kinds == [RunStarted] * 3 + [RunFinished] * 3
    assert turns.notes[0] == f"--interleave: round 1 of {WINDOWS}, 3 runs"


def test_what_is_measured_in_turn_already_is_skipped_and_anything_else_measured_anew(turns, registry, tmp_path):  # noqa: F811
    class Alone:
        def launch(self, request, on_message):
            assert request.windows is None
            return Outcome()

    run_plan(plan_of(range(2)), registry, tmp_path, launcher=Alone())
    launcher = Rounds()
    first = turns(launcher)
    assert launcher.order == "abbaabbaab"
    assert [record.throughput for record in turns(launcher)] == [record.throughput for record in first]
    assert launcher.order == "abbaabbaab"
    assert all(event.skipped for event in turns.events[-2:])
    turns(Rounds(), force=True)
    third = turns(launcher, seeds=3)
    assert launcher.order == "abbaabbaab" + "abccbaabccbaabc"
    assert {len(record.throughput["in_turn_with"]) for record in third} == {2}


def test_a_run_that_fails_drops_out_with_its_record_and_is_tried_again_where_that_is_asked(turns):
    launcher = Rounds(b2="crashed")
    records = turns(launcher, seeds=3)
    assert launcher.order == "abccbaacca" + "ac"
    assert [record.status for record in records] == ["ok", "crashed", "ok"]
    assert [len(record.throughput.get("in_turn_with", "none")) for record in records] == [1, 4, 1]
    again = Rounds(b2="crashed")
    assert [record.status for record in turns(again, seeds=3, retry=("crashed",), force=True)] == ["ok"] * 3
    assert again.order == "abccbbaabccbaabc"
    assert [record.status for record in turns(Rounds(a2="oom"), keep_going=False, force=True)] == ["oom"]


def test_what_was_interrupted_is_measured_anew_and_loses_no_record(turns, tmp_path):
    with pytest.raises(BenchInterrupted) as interrupt:
        turns(Rounds(b3="interrupted"))
    assert [record.status for record in interrupt.value.records] == ["interrupted"]
    assert [json.loads(path.read_text())["status"] for path in tmp_path.rglob(RECORD)] == ["interrupted"]
    launcher = Rounds()
    assert [record.status for record in turns(launcher)] == ["ok", "ok"]
    assert launcher.order == "abbaabbaab"
    with pytest.raises(BenchInterrupted):
        turns(Rounds(c1="interrupted"), seeds=3)
    with pytest.raises(BenchInterrupted):
        turns(Rounds(d1="ended"), seeds=4)
    assert sorted(json.loads(path.read_text())["status"] for path in tmp_path.rglob(RECORD)) == [
        *("interrupted", "ok", "ok"),
    ]


def test_rounds_are_as_good_as_the_worst_of_them():
    def of_round(**changes):
        return {
            "train_images_per_second": summary([100.0]),
            "window_seconds": [1.0],
            "short_windows": False,
            "warmup_steady": True,
            "warmup_seconds": 1.0,
            "peak_memory_bytes": 10,
            "disturbance": 0.0,
            "flags": [],
            "flops_per_image": 2.0,
            "peak_flops": 1000.0,
            "mfu": 0.2,
            "energy_joules_per_kimg": 5.0,
            "energy_reason": None,
            **changes,
        }

    worse = of_round(
        train_images_per_second=summary([300.0]),
        short_windows=True,
        warmup_steady=False,
        warmup_seconds=3.0,
        peak_memory_bytes=30,
        disturbance=0.5,
        flags=["busy"],
        peak_flops=3000.0,
        energy_joules_per_kimg=None,
        energy_reason="too short",
    )
    together = throughput_of_rounds([of_round(), worse])
    assert together["train_images_per_second"]["samples"] == [100.0, 300.0]
    assert together["mfu"] == pytest.approx(2.0 * 200 / 2000)
    expected = {"short_windows": True, "warmup_steady": False, "warmup_seconds": 2.0, "peak_memory_bytes": 30}
    expected |= {"disturbance": 0.5, "flags": ["busy"], "energy_joules_per_kimg": None, "energy_reason": "too short"}
    assert {name: together[name] for name in expected} == expected
    assert together["window_seconds"] == [1.0, 1.0]


# --- ratios -----------------------------------------------------------------------------------------------------------


def pair(write, session="s", dcgan=(80.0, 40.0, 20.0), mlp=(100.0, 50.0, 25.0), **mlp_changes):  # noqa: F811
    """Two runs that took turns on a machine that halves its speed from round to round."""
    ids = {"dcgan": "d" * 64, "mlp": "a" * 64}
    for variant, windows in (("dcgan", dcgan), ("mlp", mlp)):
        other = next(run_id for name, run_id in ids.items() if name != variant)
        facts = {"throughput__in_turn_with": [other], "throughput__in_turn_session": session}
        facts |= mlp_changes if variant == "mlp" else {}
        write(f"runs/{variant}", spec=of(variant), windows=list(windows), run_id=ids[variant], **facts)


def test_the_ratio_of_runs_that_took_turns_is_that_of_pairs(write, rows, invoke):  # noqa: F811
    pair(write)
    (found,) = [row for row in rows("runs", "--baseline", "mlp") if row["variant"] == "dcgan"]
    assert [found[f"ratio{part}"] for part in ("", "_low", "_high")] == pytest.approx([0.8] * 3)
    assert found["ratio_in_turn"] is True
    table = " ".join(invoke("compare", "runs", "--baseline", "mlp").out.split())
    assert "0.8 [0.8, 0.8]" in table
    assert "of dcgan: measured in turn with the baseline; the ratio is the median over pairs of windows" in table


@pytest.mark.parametrize(
    "apart",
    [
        {"throughput__in_turn_session": "another"},
        {"throughput__in_turn_with": ["f" * 64]},
        {"spec_seed": 1},
        {"windows": (100.0, 50.0)},
    ],
)
def test_other_runs_have_an_ordinary_ratio(apart, write, rows, tmp_path):  # noqa: F811
    windows = apart.pop("windows", (100.0, 50.0, 25.0))
    seed = apart.pop("spec_seed", 0)
    pair(write, mlp=windows, **apart)
    path = tmp_path / "runs" / "mlp" / RECORD
    content = json.loads(path.read_text())
    content["spec"]["seed"] = seed
    path.write_text(json.dumps(content))
    (found,) = [row for row in rows("runs", "--baseline", "mlp") if row["variant"] == "dcgan"]
    assert found["ratio_in_turn"] is False
    assert found["ratio_low"] < 0.6 < found["ratio_high"]


def test_a_doubtful_speed_has_no_ratio_in_turn_either(write, rows):  # noqa: F811
    pair(write, throughput__flags=["other processes used 31% of the CPU"])
    assert {row["ratio"] for row in rows("runs", "--baseline", "mlp")} == {None}
    asked = {row["variant"]: row["ratio"] for row in rows("runs", "--baseline", "mlp", "--doubtful")}
    assert asked["dcgan"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"in_turn_with": ["0" * 63], "in_turn_session": "s"}, "which is no other run's id"),
        ({"in_turn_with": ["1" * 64], "in_turn_session": "s"}, "which is no other run's id"),
        ({"in_turn_with": ["2" * 64]}, "has one of in_turn_with and in_turn_session"),
    ],
)
def test_doctor_finds_turns_that_cannot_be(changes, fault, write):  # noqa: F811
    path = write("runs/a", run_id="1" * 64, **{f"throughput__{name}": value for name, value in changes.items()})
    (found,) = turn_faults(read_record(path))
    assert fault in found


# --- a machine that grows slower --------------------------------------------------------------------------------------

DRIFTING = '''
"""Two variants on a machine that is slower in each process than in the one before: steps of 4 and of 8 of its ticks.

Windows are timed by a clock that only these steps move, so what else the machine does is nothing to it.
"""
from pathlib import Path
from types import SimpleNamespace
import ganzoo
import ganzoo.machine.timing
import torch
from torch import nn

COUNTER = Path(__file__).with_name("processes")
with COUNTER.open("ab") as stream:
    stream.write(b".")
TICK = 0.01 * (1 + COUNTER.stat().st_size / 4)
NOW = [0.0]
ganzoo.machine.timing.time = SimpleNamespace(perf_counter=lambda: NOW[0])

class Generator(nn.Module):
    def __init__(self, image_shape, latent):
        super().__init__()
        self.image_shape, self.line = image_shape, nn.Linear(latent, image_shape[1] * image_shape[2])

    def forward(self, latent):
        NOW[0] += TICK
        return self.line(latent).tanh().unflatten(1, self.image_shape)

class Discriminator(nn.Module):
    def __init__(self, image_shape):
        super().__init__()
        self.line = nn.Linear(image_shape[1] * image_shape[2], 1)

    def forward(self, images):
        return self.line(images.flatten(1)).squeeze(1)

def build(image_shape, latent, classes):
    return Generator(image_shape, latent), Discriminator(image_shape)

def loss(ticks):
    def discriminator(real, fake):
        NOW[0] += (ticks - 1) * TICK
        return {"real": real.mean(), "fake": fake.mean()}
    return ganzoo.Loss.of_logits(
        f"loss-{ticks}", discriminator=discriminator, generator=lambda fake: {"fool": fake.mean()}
    )

@ganzoo.hookimpl
def ganzoo_variants():
    networks = ganzoo.Architecture("lines", build, latent=4)
    for ticks in (4, 8):
        yield ganzoo.Variant(f"step-of-{ticks}", networks, loss=loss(ticks))
'''

TRUE_RATIO = 2.0


def ratio_of(records: list[Path]) -> tuple[float, float, float]:
    comparison = with_baseline(compare([read_record(path) for path in records]), "step-of-8", doubtful=True)
    (ratio,) = [row.ratio for row in comparison.rows if row.settings["variant"] == "step-of-4"]
    assert ratio is not None
    return ratio.low, ratio.value, ratio.high


def test_on_a_machine_that_grows_slower_the_true_ratio_is_found_in_turn_and_not_one_after_the_other(run_cli, tmp_path):
    (tmp_path / "drifting.py").write_text(DRIFTING)
    bench = (
        *("bench", "--models", "step-of-4,step-of-8", "--plugin", "drifting.py", "--batch-size", "8", "--quiet"),
        *("--device", "cpu", "--image-size", "16", "--throughput-only", "--throughput-seconds", "2"),
    )
    found = {}
    for name, options in (("after", ()), ("in-turn", ("--interleave",))):
        done = run_cli(*bench, *options, "--results", name)
        assert done.returncode == 0, done.stderr
        found[name] = ratio_of([*(tmp_path / name).rglob(RECORD)])
        (tmp_path / "processes").unlink()
    low, _, high = found["in-turn"]
    assert low <= TRUE_RATIO <= high, found
    low, _, high = found["after"]
    assert not low <= TRUE_RATIO <= high, found
    done = run_cli("doctor", "in-turn")
    assert done.returncode == 0, done.stdout + done.stderr
