"""A score is no part of a training: finished runs are scored by more, and nothing is trained again."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import CommandLine, forked, made_once
from test_upgrades import stored

import ganzoo
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.records.adding import add_scores
from ganzoo.records.consistency import identity_faults
from ganzoo.records.protocols import protocol_id
from ganzoo.records.store import BEST_GENERATOR, GENERATOR, RECORD, read_content, read_record
from ganzoo.registry.discovery import discover
from ganzoo.running.identified import RunsOfPlan
from ganzoo.runs import SCHEMA
from ganzoo.util.files import sha256_of_file

SHORT = (
    *("bench", "--models", "mlp", "--kimg", 0.256, "--batch-size", 64, "--device", "cpu", "--threads", 1),
    *("--throughput-seconds", 0.02, "--fakes", 60, "--quiet"),
)

SPREAD = """
import ganzoo


def score(real, fake):
    return {{"spread": {factor} * float(fake.features.std())}}


@ganzoo.hookimpl
def ganzoo_metrics():
    yield ganzoo.Metric("spread", score, better={{"spread": "higher"}})
"""
"""A metric; to edit its code is to change `factor`."""


STOPPING = """
import os, signal
from pathlib import Path

import ganzoo


@ganzoo.hookimpl
def ganzoo_event(event):
    if isinstance(event, ganzoo.Scored) and not Path("stopped").exists():
        Path("stopped").touch()
        os.kill(os.getpid(), signal.SIGINT)
"""
"""An observer that stops the bench, once, as Ctrl-C does."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, session_environment) -> Path:
    """Results with one run that kept the best of its four evaluations too."""

    def make(folder: Path) -> Path:
        done = CommandLine(folder)(*SHORT, "--keep", "best")
        assert done.returncode == 0, done.stderr
        return folder / "runs"

    return made_once("trained", make, tmp_path_factory)


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """The folder of that run, copied to ./runs."""
    shutil.copytree(trained, tmp_path / "runs")
    (record,) = (tmp_path / "runs").rglob(RECORD)
    return record.parent


@pytest.fixture
def asked(invoke, forked_runs) -> Callable[..., str]:
    """`asked("bench", …)`: stderr of a command that must succeed, its runs forked."""

    def asked(*arguments: object) -> str:
        outcome = invoke(*arguments)
        assert outcome.code == 0, outcome.err
        asked.out = outcome.out
        return outcome.err

    return asked


def content_of(run: Path) -> dict:
    return json.loads((run / RECORD).read_text())


def values(run: Path) -> dict[tuple[str, str, float], float]:
    """The scores of a record by name, extractor and kimg, of the averaged generator; fails where one is there twice."""
    content = content_of(run)
    found = {}
    for score in content["scores"]:
        if score["ema"]:
            key = score["metric"], content["protocols"][score["protocol"]]["extractor"], score["kimg"]
            assert key not in found
            found[key] = score["value"]
    return found


def last(run: Path) -> float:
    return max(kimg for _, _, kimg in values(run))


# --- what makes an id -------------------------------------------------------------------------------------------------


def test_the_id_of_a_run_covers_its_training_and_not_how_it_is_scored(tmp_path):
    registry = discover()
    plan = BenchPlan(("mlp",), kimg=1.0, device="cpu", threads=1)

    def identity(**changes) -> str:
        resolved = resolve(replace(plan, **changes), registry)
        return next(iter(RunsOfPlan(resolved, registry, tmp_path))).run_id

    scored = [{"metrics": ("kid",)}, {"features": ("mnist-cnn",)}, {"fakes": 77}, {"eval_every": 0.1}]
    assert {identity(**changes) for changes in scored} == {identity()}
    trained = [{"kimg": 2.0}, {"seed": 1}, {"batch_size": 16}, {"set": ("mlp.label_smoothing=0.1",)}]
    assert len({identity(), *(identity(**changes) for changes in trained)}) == 5


def test_the_id_of_a_protocol_covers_the_code_of_metric_and_extractor(run):
    for identity, content in content_of(run)["protocols"].items():
        assert set(content["code"]) == {"digit-cnns", content["metric_plugin"]}
        assert identity == protocol_id(content)
        edited = dict.fromkeys(content["code"], "0" * 64)
        assert protocol_id({**content, "code": edited}) != identity


# --- a bench with other scores ----------------------------------------------------------------------------------------


def test_a_bench_with_other_scores_trains_nothing_and_adds_them(run, asked):
    before, weights = content_of(run), sha256_of_file(run / GENERATOR)
    said = asked(*SHORT, "--metrics", "fid,kid", "--features", "digits-cnn,mnist-cnn")
    assert f"{run.name}: trained before; scoring what it kept by kid under digits-cnn; fid, kid under mnist-cnn" in said
    now = content_of(run)
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    assert sha256_of_file(run / GENERATOR) == weights
    for part in ("run_id", "spec", "throughput", "environment", "files", "status"):
        assert now[part] == before[part]
    assert now["training"]["curves"] == before["training"]["curves"]
    assert now["scores"][: len(before["scores"])] == before["scores"]
    end = last(run)
    assert {("kid", "digits-cnn", end), ("fid", "mnist-cnn", end), ("kid", "mnist-cnn", end)} <= set(values(run))
    added = now["scores"][len(before["scores"]) :]
    assert all(score["code"] and score["date"] and score["train_seconds"] for score in added)
    # Once more: all is there.
    stamp = (run / RECORD).stat()
    again = asked(*SHORT, "--metrics", "fid,kid", "--features", "digits-cnn,mnist-cnn")
    assert "scoring" not in again
    assert (run / RECORD).stat() == stamp


def test_other_fakes_are_another_protocol(run, asked):
    asked(*SHORT, "--metrics", "fid", "--fakes", 80)
    counts = {content["n_fake"] for content in content_of(run)["protocols"].values() if content["metric"] == "fid"}
    assert counts == {60, 80}


def test_an_edited_metric_trains_nothing_and_is_scored_anew(tmp_path, asked):
    plugin = tmp_path / "spread.py"
    command = (*SHORT, "--metrics", "spread", "--plugin", plugin)
    plugin.write_text(SPREAD.format(factor=1))
    asked(*command)
    (record,) = (tmp_path / "runs").rglob(RECORD)
    trained = sha256_of_file(record.parent / GENERATOR)
    plugin.write_text(SPREAD.format(factor=2))
    asked(*command)
    assert list((tmp_path / "runs").rglob(RECORD)) == [record]
    assert sha256_of_file(record.parent / GENERATOR) == trained
    content = json.loads(record.read_text())
    end = max(score["kimg"] for score in content["scores"])
    first, second = (score for score in content["scores"] if score["kimg"] == end and score["ema"])
    assert second["value"] == 2 * first["value"]
    assert first["protocol"] != second["protocol"]
    assert first["code"] != second["code"]


def test_a_generator_that_was_thrown_away_is_told_in_one_line(run, invoke, forked_runs):
    for name in (GENERATOR, BEST_GENERATOR):
        (run / name).unlink()
    before = (run / RECORD).read_bytes()
    outcome = invoke(*SHORT, "--metrics", "kid")
    (line,) = (line for line in outcome.err.splitlines() if "generator" in line)
    assert outcome.code == 0
    remedy = "`ganzoo bench --force` trains it again"
    assert line.endswith(f"its generator was thrown away, so it has no kid under digits-cnn; {remedy}")
    refused = invoke("score", run, "--metrics", "kid")
    assert refused.code == 2
    assert refused.error.endswith(f"{run.name}: its generator was thrown away; {remedy}")
    assert (run / RECORD).read_bytes() == before


def test_a_metric_that_fails_leaves_the_record_as_it_was(run, tmp_path, invoke, forked_runs):
    plugin = tmp_path / "broken.py"
    plugin.write_text(SPREAD.format(factor="[]"))
    before = (run / RECORD).read_bytes()
    for command in ((*SHORT, "--metrics", "spread"), ("score", run, "--metrics", "spread")):
        outcome = invoke(*command, "--plugin", plugin)
        assert outcome.code == 1
        assert "could not be scored" in outcome.err
        assert "its record stays as it was" in outcome.err
        assert (run / RECORD).read_bytes() == before


# --- ganzoo score -----------------------------------------------------------------------------------------------------


def test_score_gives_what_the_training_gave_and_doubles_no_entry(run, asked):
    whole = values(run)
    content = content_of(run)
    content["scores"] = [score for score in content["scores"] if score["kimg"] < last(run)]
    content["protocols"] = {score["protocol"]: content["protocols"][score["protocol"]] for score in content["scores"]}
    (run / RECORD).write_text(json.dumps(content))
    for _ in range(2):
        asked("score", run, "--metrics", "fid,is", "--fakes", 60)
        assert values(run) == whole


def test_score_scores_every_generator_that_was_kept(run, asked):
    files = content_of(run)["files"]
    assert {name: sha256_of_file(run / name) for name in files} == {
        name: facts["sha256"] for name, facts in files.items()
    }
    asked("score", "mlp-digits", "--metrics", "prc", "--fakes", 60)
    scored = {kimg for metric, _, kimg in values(run) if metric == "recall"}
    assert scored == {files[name]["kimg"] for name in (GENERATOR, BEST_GENERATOR)}
    assert "recall digits-cnn" in " ".join(asked.out.split())


def test_two_at_once_on_one_run_lose_nothing(run, tmp_path):
    command = [*forked("ganzoo"), "score", str(run), "--fakes", "60", "--metrics"]
    at_once = [
        subprocess.Popen([*command, metric], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        for metric in ("kid", "prc")
    ]
    for process in at_once:
        _, said = process.communicate()
        assert process.returncode == 0, said
    end = last(run)
    assert {(name, "digits-cnn", end) for name in ("fid", "is", "kid", "precision", "recall")} <= set(values(run))


def test_score_of_a_run_refuses_what_cannot_be(run, tmp_path, invoke):
    assert "a run is scored against the images it was trained on" in invoke("score", run, "--dataset", "mnist").error
    assert "no metric is called 'nope'" in invoke("score", run, "--metrics", "nope").error
    (tmp_path / "images").mkdir()
    assert "images are scored alone" in invoke("score", run, tmp_path / "images").error
    weights = (run / GENERATOR).read_bytes()
    (run / GENERATOR).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    damaged = invoke("score", run, "--metrics", "kid", "--fakes", 60)
    assert damaged.code == 2
    assert "is damaged or was changed" in damaged.error


@pytest.mark.parametrize("version", range(1, SCHEMA + 1))
def test_scores_are_added_to_a_record_of_every_schema(version, tmp_path):
    path = tmp_path / RECORD
    shutil.copy(stored(version), path)
    before, written = read_record(path), read_content(path)
    end = before.training["kimg"]
    (old,) = {score["protocol"] for score in before.scores if score["metric"] == "fid" and score["ema"]}
    content = {**before.protocols[old], "n_fake": 77}
    new = {**before.scores[0], "metric": "fid", "protocol": protocol_id(content), "kimg": end, "ema": True}
    new["value"] = 1.5
    for _ in range(2):
        after = add_scores(path, [new], {protocol_id(content): content})
        assert list(after.scores[:-1]) == list(before.scores)
        assert after.scores[-1]["value"] == 1.5
        assert before.protocols.items() <= after.protocols.items()
    assert read_content(path)["spec"] == written["spec"]
    assert list(identity_faults(read_content(path))) == list(identity_faults(written))
    assert after.training["final"] == before.training["final"]


# --- several extractors, several generators ---------------------------------------------------------------------------


def test_several_extractors_score_one_training_and_titles_name_them(tmp_path, asked, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    asked(*SHORT, "--metrics", "fid", "--features", "mnist-cnn,digits-cnn")
    assert "FD mnist-cnn  FD digits-cnn" in asked.out
    (path,) = (tmp_path / "runs").rglob(RECORD)
    fids = values(path.parent)
    assert {extractor for _, extractor, _ in fids} == {"digits-cnn", "mnist-cnn"}
    # The first extractor's are the run's best and final.
    end = last(path.parent)
    assert read_record(path).training["final"]["fid/ema"]["value"] == fids["fid", "mnist-cnn", end]
    # For programs it is one score by two protocols.
    asked("compare", "runs", "--sort", "fid", "--format", "json")
    (row,) = json.loads(asked.out)
    by_protocol = {name: value for name, value in row.items() if name.startswith("fid [") and name.endswith("]")}
    assert set(by_protocol.values()) == {fids["fid", name, end] for name in ("digits-cnn", "mnist-cnn")}


def test_keep_best_keeps_the_generator_of_the_best_evaluation(run, asked):
    files, fids = content_of(run)["files"], values(run)
    best = min((value, kimg) for (name, _, kimg), value in fids.items() if name == "fid")
    assert files[BEST_GENERATOR]["kimg"] == best[1]
    assert files[GENERATOR]["kimg"] == last(run)
    images = {at: ganzoo.sample(run, 4, at=at) for at in ("final", "best", f"{best[1]:g}")}
    assert images["best"].equal(images[f"{best[1]:g}"])
    assert images["best"].equal(images["final"]) == (best[1] == last(run))


def test_keep_all_keeps_a_generator_for_each_evaluation(tmp_path, asked, invoke):
    asked(*SHORT, "--metrics", "fid", "--keep", "all")
    (record,) = (tmp_path / "runs").rglob(RECORD)
    run = record.parent
    points = {kimg for _, _, kimg in values(run)}
    kept = {name: facts["kimg"] for name, facts in content_of(run)["files"].items() if "kimg" in facts}
    assert kept == {GENERATOR: last(run), **{f"generator-{kimg:g}kimg.safetensors": kimg for kimg in points}}
    asked("score", run, "--metrics", "kid", "--fakes", 60)
    assert {kimg for name, _, kimg in values(run) if name == "kid"} == points
    assert asked("doctor", tmp_path / "runs") == ""
    refused = invoke("sample", run, "--at", "best", "-n", 4)
    assert refused.code == 2
    assert "--at best: the run kept no such generator; it has final, 0.064," in refused.error


def test_generators_that_were_kept_outlive_an_interruption(tmp_path, invoke, forked_runs, monkeypatch):
    """A run that is stopped after its first evaluation goes on, and keeps that generator too."""
    plugin = tmp_path / "stopping.py"
    plugin.write_text(STOPPING)
    command = (*SHORT, "--metrics", "fid", "--keep", "all", "--plugin", plugin)
    assert invoke(*command).code == 130
    (record,) = (tmp_path / "runs").rglob(RECORD)
    assert json.loads(record.read_text())["status"] == "interrupted"
    outcome = invoke(*command)
    assert outcome.code == 0, outcome.err
    content = json.loads(record.read_text())
    assert content["training"]["resumed_at_kimg"]
    points = {score["kimg"] for score in content["scores"]}
    kept = {facts["kimg"] for name, facts in content["files"].items() if name not in (GENERATOR, "samples.png")}
    assert kept == points
    for name, facts in content["files"].items():
        assert sha256_of_file(record.parent / name) == facts["sha256"]


def test_eval_every_is_told_of_a_finished_run(run, asked):
    said = asked(*SHORT, "--eval-every", 0.032)
    assert (
        "--eval-every says nothing of a finished run, which was scored at other kimg; --force trains it again" in said
    )


def test_keep_refuses_another_word_before_anything_is_trained(invoke):
    assert "--keep some: choose from final, best, all" in invoke(*SHORT, "--keep", "some").error
