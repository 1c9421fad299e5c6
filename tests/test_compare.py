"""`ganzoo compare` and `ganzoo diff` on records on disk: rows, filters, baselines, machines, targets, regressions."""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import json
import os
import re
import statistics
from pathlib import Path

import pytest
from conftest import ONE_MACHINE

from ganzoo.comparing.comparison import compare
from ganzoo.comparing.table import comparison_table, records_table
from ganzoo.comparing.targets import first_as_good
from ganzoo.records.points import ScoreKey
from ganzoo.records.store import find_records
from ganzoo.util.significance import welch_p

BASE = json.loads(next(ONE_MACHINE.glob("*/dcgan-digits-*/record.json")).read_text())
"""A record of a real run, which the tests change."""

PROTOCOL = "fid-x"


@pytest.fixture
def write(tmp_path):
    """`write("runs/a", fid=20.0, rate=1000.0, spec={...})`: write the record of a finished run with these changes."""

    def write(place, *, fid=20.0, rate=1000.0, windows=None, evaluations=None, peak=1e9, spec=None, **changes):
        content = copy.deepcopy(BASE)
        spec = dict(spec or {})
        if "hardware" in spec:
            content["hardware"]["id"] = spec["hardware"]
        content["spec"] |= {"seed": 0, **spec}
        points = evaluations if evaluations is not None else [{"kimg": 40.0, "value": fid}]
        content["scores"] = [{"metric": "fid", "std": None, "protocol": PROTOCOL, "ema": True, **one} for one in points]
        content["protocols"] = {PROTOCOL: {"metric": "fid", "extractor": "digits-cnn", "ema": True}}
        values = [one for one in points if one["value"] is not None]
        if values:
            best = min(values, key=lambda one: one["value"])
            content["training"]["best"] = {"fid/ema": {"value": best["value"], "kimg": best["kimg"]}}
        windows = windows or [rate] * 3
        median = statistics.median(windows)
        summary = {"median": median, "low": min(windows), "high": max(windows), "samples": windows}
        speeds = {"train_images_per_second": summary, "flops_per_image": 1.0, "peak_flops": peak, "mfu": median / peak}
        content["throughput"] |= speeds
        for name, value in changes.items():
            part, _, key = name.partition("__")
            if key:
                content[part][key] = value
            else:
                content[part] = value
        content["run_id"] = changes.get("run_id") or hashlib.sha256(json.dumps(content).encode()).hexdigest()
        path = tmp_path / place / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture
def rows(invoke):
    """`rows("runs", "--sort", "fid")`: the comparison as JSON."""

    def rows(*arguments):
        outcome = invoke("compare", *arguments, "--format", "json")
        assert outcome.code == 0, outcome.err
        return json.loads(outcome.out)

    return rows


def of(variant, seed=0, **more):
    return {"variant": variant, "seed": seed, **more}


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def race(write):
    """Three variants of three seeds: two that are statistically indistinguishable, and one that is worse."""
    for seed, values in enumerate([(10.0, 10.3, 30.0), (10.4, 10.1, 30.2), (10.2, 10.6, 30.1)]):
        for variant, fid in zip(("mlp", "dcgan", "wgan"), values, strict=True):
            write(f"runs/{variant}-{seed}", fid=fid, rate=1000.0 + 100 * seed, spec=of(variant, seed))


def test_means_deviations_and_counts_are_over_training_seeds(race, rows):
    found = {row["variant"]: row for row in rows("runs")}
    assert found["mlp"]["fid"] == pytest.approx(10.2)
    assert found["mlp"]["fid_sd"] == pytest.approx(0.2)
    assert (found["mlp"]["fid_n"], found["mlp"]["n"]) == (3, 3)
    assert found["mlp"]["train_images_per_second"] == 1100
    assert found["mlp"]["train_images_per_second_sd"] == pytest.approx(100)
    assert found["mlp"]["fid_low"] < 10.2 < found["mlp"]["fid_high"]
    alike = {variant: row["fid_not_told_apart"] for variant, row in found.items()}
    assert alike == {"mlp": "dcgan", "dcgan": "mlp", "wgan": ""}


def test_intervals_from_the_sample_are_means_over_the_seeds_that_have_one(write, rows, invoke):
    for seed, (fid, ends) in enumerate(((10.0, (9.0, 11.0)), (12.0, (10.0, 14.0)), (14.0, None))):
        interval = {} if ends is None else dict(zip(("sample_low", "sample_high"), ends, strict=True))
        write(f"runs/mlp-{seed}", evaluations=[{"kimg": 40.0, "value": fid, **interval}], spec=of("mlp", seed))
    write("runs/dcgan", fid=20.0, spec=of("dcgan"))
    found = {row["variant"]: (row["fid_sample_low"], row["fid_sample_high"]) for row in rows("runs")}
    assert found == {"mlp": (9.5, 12.5), "dcgan": (None, None)}
    assert "FD digits-cnn: 12.00, 95 % of samples 10 to 14" in invoke("show", "runs/mlp-1").out
    assert "FD digits-cnn: 14.00\n" in invoke("show", "runs/mlp-2").out


def test_table_is_in_the_order_of_the_mean_with_intervals_and_names_what_is_not_told_apart(race, write, invoke, rows):
    for seed, fid in enumerate((5.0, 9.0, 40.0)):
        write(f"runs/wide-{seed}", fid=fid, spec=of("wide", seed))
    assert [row["variant"] for row in rows("runs")] == ["mlp", "dcgan", "wide", "wgan"], "scatter is not rewarded"
    out = invoke("compare", "runs").out
    shown = [line.split()[0] for line in out.splitlines() if re.match(r" *(mlp|dcgan|wide|wgan) ", line)]
    assert shown == ["mlp", "dcgan", "wide", "wgan"]
    assert "10.20 [9.72, 10.71]" in out
    assert "the best mean first, with its 95 % interval over seeds" in out
    lines = [line.strip() for line in out.splitlines() if "not told apart" in line]
    assert lines == [
        "FD digits-cnn: mlp is not told apart from dcgan, wide",
        "FD digits-cnn: dcgan is not told apart from wide",
        "FD digits-cnn: wide is not told apart from wgan",
    ]
    assert "rank" not in out


def test_a_row_judged_by_its_own_teacher_is_noted_and_left_out_of_the_order(race, write, invoke, rows):
    for seed, fid in enumerate((2.0, 2.1, 2.2)):
        write(f"runs/taught-{seed}", fid=fid, spec=of("taught", seed), training__teachers=["digits-cnn"])
    for seed, fid in enumerate((1.0, 1.1, 1.2)):
        write(f"runs/eyes-{seed}", fid=fid, spec=of("eyes", seed), training__teachers=["inception", "0" * 64])
    found = rows("runs")
    assert [row["variant"] for row in found] == ["eyes", "mlp", "dcgan", "wgan", "taught"]
    assert found[-1]["fid"] == pytest.approx(2.1), "its score is shown"
    assert found[-1]["fid_not_told_apart"] is None
    note = "FD digits-cnn: taught is judged by its own teacher, and left out of the order"
    assert [line.strip() for line in invoke("compare", "runs").out.splitlines() if "teacher" in line] == [note]
    assert invoke("leaderboard", "runs").code == 0
    assert f"- {note}" in Path("runs/README.md").read_text(encoding="utf-8").splitlines()


def test_a_teacher_is_known_by_its_weights_too(race, write, rows):
    path = write("runs/taught", fid=2.0, spec=of("taught"), training__teachers=["f" * 64])
    content = json.loads(path.read_text())
    content["protocols"][PROTOCOL]["weights_sha256"] = "f" * 64
    path.write_text(json.dumps(content))
    assert [row["variant"] for row in rows("runs")] == ["mlp", "dcgan", "wgan", "taught"]


def test_scores_by_an_extractor_of_other_images_are_noted(write, invoke):
    for variant, fid in (("mlp", 10.0), ("dcgan", 20.0)):
        path = write(f"runs/{variant}", fid=fid, spec=of(variant, dataset="cifar10"))
        content = json.loads(path.read_text())
        facts = {"dataset": "cifar10", "extractor_for": "digits", "dataset_images": "natural"}
        content["protocols"][PROTOCOL] |= facts
        path.write_text(json.dumps(content))
    note = "FD digits-cnn: digits-cnn was made for digits, and cifar10 has natural images"
    assert [line.strip() for line in invoke("compare", "runs").out.splitlines() if "made for" in line] == [note]


@pytest.mark.parametrize("known", [{}, {"extractor_for": "digits"}, {"extractor_for": "x", "dataset_images": "x"}])
def test_nothing_is_noted_where_the_kinds_of_images_agree_or_are_unknown(known, write, invoke):
    path = write("runs/mlp")
    content = json.loads(path.read_text())
    content["protocols"][PROTOCOL] |= known
    path.write_text(json.dumps(content))
    assert "made for" not in invoke("compare", "runs").out


def test_one_seed_each_tells_nothing_apart(write, invoke, rows):
    for variant, fid in (("mlp", 10.0), ("dcgan", 30.0), ("wgan", 20.0)):
        write(f"runs/{variant}", fid=fid, spec=of(variant))
    out = invoke("compare", "runs").out
    assert "one seed each: no test of which score is better" in out
    assert "told apart" not in out
    assert [(row["variant"], row["fid_not_told_apart"], row["fid_low"]) for row in rows("runs")] == [
        ("mlp", None, None),
        ("wgan", None, None),
        ("dcgan", None, None),
    ]


def test_table_of_two_rows_shows_difference_interval_and_p_value(race, invoke):
    out = " ".join(invoke("compare", "runs", "--where", "variant!=dcgan").out.split())
    p_value = welch_p([10.0, 10.4, 10.2], [30.0, 30.2, 30.1])
    assert re.search(
        rf"FD digits-cnn, mlp − wgan: -19.9 \[-20.\d+, -19.\d+\], Welch p = {p_value:.2g}, 3 and 3 seeds", out
    )


def test_resumed_runs_are_one_row_over_seeds(write, rows):
    for seed in range(3):
        write(f"runs/{seed}", fid=10.0 + seed, spec=of("mlp", seed, continues=f"{seed:064x}"))
    write("runs/straight", fid=9.0, spec=of("mlp"))
    found = {row["n"]: row for row in rows("runs")}
    assert set(found) == {1, 3}
    assert found[3]["fid"] == 11.0
    assert found[3]["differs"] == "continues=another run"


def test_row_whose_seeds_differ_in_commit_is_noted(write, invoke):
    for seed, commit in enumerate(("aaaa", "bbbb-dirty")):
        write(f"runs/{seed}", spec=of("mlp", seed), environment__git=commit)
    assert "mlp: seeds differ in commit (aaaa, bbbb-dirty)" in invoke("compare", "runs").out


def test_row_whose_seeds_differ_in_memory_or_flags_is_noted(write, invoke):
    for seed, memory in enumerate((24, 24.01, 64)):
        own = {"hardware__machine_memory_bytes": int(memory * 2**30), "environment__flags": {"omp_num": str(seed % 2)}}
        write(f"runs/{seed}", spec=of("mlp", seed), **own)
    out = invoke("compare", "runs").out
    assert "mlp: seeds differ in memory (24 GiB, 64 GiB)" in out
    assert "mlp: seeds differ in omp_num (0, 1)" in out


def test_a_flag_that_is_known_not_to_be_set_differs_from_one_that_is(write, invoke):
    known = ({"malloc": None}, {"malloc": "8"}, {})
    for seed, flags in enumerate(known):
        own = {"environment__flags": flags, "environment__packages": {"torchvision": None if seed else "0.2"}}
        write(f"runs/{seed}", spec=of("mlp", seed), **own, hardware__driver=(None, "550", "550")[seed])
    out = invoke("compare", "runs").out
    assert "mlp: seeds differ in malloc (none, 8)" in out
    assert "mlp: seeds differ in torchvision (0.2, none)" in out
    assert "seeds differ in driver" not in out, "a driver that could not be read is not known"


def test_throughput_flags_are_noted_once_with_the_largest_share_and_all_variants(write, invoke):
    for variant, shares in (("mlp", (20, 31)), ("dcgan", (31, 8)), ("wgan", (None, None))):
        for seed, share in enumerate(shares):
            flags = [f"other processes used {share}% of the CPU"] if share else []
            write(f"runs/{variant}-{seed}", spec=of(variant, seed), throughput__flags=flags)
    out = invoke("compare", "runs").out
    assert [line.strip() for line in out.splitlines() if "used" in line] == [
        "* dcgan, mlp: other processes used 31% of the CPU"
    ]


def test_the_difference_of_two_rows_names_its_budget_where_there_are_several(write, invoke):
    for kimg in (10.0, 20.0):
        for variant in ("mlp", "dcgan"):
            points = [{"kimg": kimg, "value": 5.0}]
            write(f"runs/{kimg}/{variant}", evaluations=points, spec=of(variant, kimg=kimg))
    out = invoke("compare", "runs").out
    assert "at 10 kimg: " in out
    assert "at 20 kimg: " in out


@pytest.mark.parametrize("width", [90, 140, 200])
def test_a_table_of_seeds_and_machines_keeps_words_whole(width, write, invoke, monkeypatch):
    for machine in ("amd-epyc-x2-t1", "amd-epyc-x2-t2"):
        for variant in ("mlp", "dcgan-dense"):
            for seed in range(3):
                spec = of(variant, seed, hardware=machine, batch_size=64 if variant == "mlp" else 128)
                write(f"runs/{machine}/{variant}-{seed}", fid=20.0 + seed, rate=1000.0 + seed, spec=spec)
    monkeypatch.setenv("COLUMNS", str(width))
    out = invoke("compare", "runs").out
    rows = [line for line in out.splitlines() if line.strip().startswith(("mlp ", "dcgan-dense "))]
    tables = 2 if width == 90 else 1
    assert len(rows) == 4 * tables
    assert all("amd-epyc-x2-t" in row for row in rows), "a row is one line, and its machine is read at once"
    assert sum("21.00 [18.66, 23.64]" in row for row in rows) == 4
    assert sum("MiB" in row for row in rows) == 4


def test_rows_of_different_budgets_are_not_told_apart_together(race, write, rows):
    for seed in range(3):
        write(f"runs/long-{seed}", fid=1.0 + seed / 10, spec=of("mlp", seed, kimg=80.0))
    found = {(row["variant"], row["kimg"]): row["fid_not_told_apart"] for row in rows("runs")}
    assert found == {("mlp", 40.0): "dcgan", ("dcgan", 40.0): "mlp, 40 kimg", ("wgan", 40.0): "", ("mlp", 80.0): None}
    assert list(found)[-1] == ("mlp", 80.0), "budgets are in no order of quality"


def test_a_row_of_one_seed_is_told_apart_from_none_beside_others_that_are(race, write, rows):
    write("runs/single", fid=1.0, spec=of("r3gan"))
    found = {row["variant"]: row["fid_not_told_apart"] for row in rows("runs")}
    assert found == {"r3gan": None, "mlp": "dcgan", "dcgan": "mlp", "wgan": ""}


def test_recipe_difference_is_shown_apart_from_the_machine(write, rows, invoke):
    slower = {**BASE["spec"]["optimizer"], "learning_rate": 0.0001}
    changes = {"hardware": "fast", "memory_format": "contiguous", "optimizer": slower}
    for seed in range(2):
        write(f"runs/a{seed}", fid=20.0 + seed, spec=of("dcgan", seed, hardware="slow"))
        write(f"runs/b{seed}", fid=30.0 + seed, spec=of("dcgan", seed, **changes))
    assert [row["differs"] for row in rows("runs")] == [
        f"optimizer.learning_rate={rate:g}" for rate in (BASE["spec"]["optimizer"]["learning_rate"], 0.0001)
    ]
    out = invoke("compare", "runs").out
    assert "not merged: dcgan, optimizer.learning_rate 0.0002 vs 0.0001" in out
    assert "FD digits-cnn, dcgan (slow − fast, optimizer.learning_rate 0.0002 vs 0.0001): -10 [" in " ".join(
        out.split()
    )


def test_renamed_plugin_is_named_as_what_keeps_rows_apart(write, invoke):
    for name in ("hinge", "my-hinge"):
        plugins = {name: {"version": "0.1.0", "source_sha256": "a" * 64}}
        write(f"runs/{name}", spec=of("dcgan"), environment__plugins=plugins)
    out = invoke("compare", "runs").out
    assert "not merged: dcgan, plugin hinge aaaaaaaaaa vs none, plugin my-hinge none vs aaaaaaaaaa" in out


@pytest.fixture
def two_protocols(write):
    """Two variants scored by one protocol, two by another."""
    for variant, fid, protocol in (("mlp", 10.0, "x"), ("dcgan", 30.0, "x"), ("wgan", 12.0, "y"), ("lsgan", 33.0, "y")):
        for seed in range(3):
            path = write(f"runs/{variant}-{seed}", fid=fid + seed / 10, spec=of(variant, seed))
            path.write_text(path.read_text().replace(f'"{PROTOCOL}"', f'"fid-{protocol}"'))


def test_each_protocol_of_a_score_has_an_order_of_its_own(two_protocols, invoke, rows, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    lines = {line.split()[0]: line.split() for line in invoke("compare", "runs").out.splitlines() if line.split()}
    assert lines["variant"][:7] == ["variant", *("FD", "digits-cnn", "[fid-x]", "FD", "digits-cnn", "[fid-y]")]
    assert [row["variant"] for row in rows("runs")] == ["mlp", "dcgan", "wgan", "lsgan"]
    assert [row["fid [fid-y]_not_told_apart"] for row in rows("runs")] == [None, None, "", ""]


def test_the_heads_of_a_target_name_the_protocol_where_there_are_several(two_protocols, invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    out = invoke("compare", "runs", "--target-fid", 20).out
    assert all(f"kimg to FD digits-cnn [fid-{protocol}] ≤ 20" in out for protocol in "xy")


def test_difference_of_two_rows_of_one_variant_names_the_changed_setting(write, invoke):
    for seed in range(2):
        write(f"runs/a{seed}", fid=20.0 + seed, spec=of("dcgan", seed, batch_size=64))
        write(f"runs/b{seed}", fid=30.0 + seed, spec=of("dcgan", seed, batch_size=128))
    assert "FD digits-cnn, dcgan (batch_size 64 vs 128): -10 [-11, -9], Welch p = " in invoke("compare", "runs").out


def test_rows_that_are_not_merged_are_noted_with_both_values(write, invoke):
    write("runs/a", spec=of("dcgan", batch_size=64))
    write("runs/b", spec=of("dcgan", batch_size=128))
    assert "not merged: dcgan, batch_size 64 vs 128" in invoke("compare", "runs").out


@pytest.mark.parametrize("name", ["precision", "seed", "mfu", "n", "run_id", "ratio", "torch", "fid_best", "x_sd"])
def test_score_named_like_a_setting_does_not_replace_it(name, write, rows, invoke):
    score = {"metric": name, "value": 0.75, "std": None, "protocol": "p-x", "kimg": 40.0, "ema": True}
    protocols = {"p-x": {"metric": name, "ema": True}}
    for seed in range(2):
        write(f"runs/{seed}", scores=[score], protocols=protocols, spec=of("mlp", seed))
    (row,) = rows("runs")
    assert (row[f"{name} [p-x]"], row["precision"], row["n"]) == (0.75, "fp32", 2)
    (head,) = (line for line in invoke("compare", "runs").out.splitlines() if line.split()[:1] == ["variant"])
    assert name in head.split()
    assert list(records_table(find_records([Path("runs")])[0])["seed"]) == [0, 1]


def test_scores_named_like_derived_columns_do_not_replace_them(write, rows, invoke):
    names = ("fid", "ratio", "normalized_ratio", "fid_best", "fid_low", "fid_target_kimg", "fid_difference_p")
    scores = [
        {"metric": name, "value": 10.0 + place, "std": None, "protocol": "p-x", "kimg": 40.0, "ema": True}
        for place, name in enumerate(names)
    ]
    for variant in ("mlp", "dcgan"):
        for seed in range(2):
            write(f"runs/{variant}-{seed}", scores=scores, protocols={"p-x": {"ema": True}}, spec=of(variant, seed))
    found = rows("runs", "--baseline", "mlp", "--target-fid", 20)
    for row in found:
        assert [row[name if name == "fid" else f"{name} [p-x]"] for name in names] == [10.0 + n for n in range(7)]
    assert (found[0]["ratio"], found[0]["fid_best"], found[0]["fid_target_kimg"]) == (1.0, 10.0, 40.0)
    assert invoke("compare", "runs", "--baseline", "mlp").code == 0


def test_each_dataset_and_image_size_has_a_separate_table(write, invoke):
    write("runs/a", spec=of("dcgan"))
    write("runs/b", spec=of("dcgan", dataset="mnist", image_shape=[1, 28, 28]))
    out = invoke("compare", "runs").out
    assert "dataset digits, image size 16" in out
    assert "dataset mnist, image size 28" in out
    assert out.count("seeds") >= 2


def test_best_and_final_are_both_kept(write, rows):
    points = [{"kimg": 10.0, "value": 8.0}, {"kimg": 40.0, "value": 12.0}]
    write("runs/a", evaluations=points)
    (row,) = rows("runs")
    assert (row["fid"], row["fid_best"]) == (12.0, 8.0)
    records, _ = find_records([Path("runs")])
    assert list(records_table(records)["fid_best_kimg"]) == [10.0]


@pytest.mark.parametrize("columns", [100, 120])
def test_default_table_fits_the_terminal_width(columns, invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = invoke("compare", ONE_MACHINE, "--where", "dataset=digits").out
    lines = out.splitlines()
    assert max(map(len, lines)) <= columns
    rows = [line.split() for line in lines if line.strip().startswith("dcgan ")]
    assert [row[-1] for row in rows] == ["1"] * len(rows), "a row is one line"
    assert any({"128", "MiB"} <= set(row) for row in rows)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_csv_cells_are_escaped_against_formulas(name, write, invoke):
    write("runs/a", spec=of(name))
    (row,) = csv.DictReader(io.StringIO(invoke("compare", "runs", "--format", "csv").out))
    assert row["variant"] == f"'{name}"
    assert float(row["fid"]) == 20.0


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_csv_headers_are_escaped_against_formulas(name, write, invoke):
    score = {"metric": name, "value": 0.75, "std": None, "protocol": "p-x", "kimg": 40.0, "ema": True}
    write("runs/a", scores=[score], protocols={"p-x": {"metric": name, "ema": True}})
    (row,) = csv.DictReader(io.StringIO(invoke("compare", "runs", "--format", "csv").out))
    assert float(row[f"'{name}"]) == 0.75
    assert all(head[0].isalpha() or head.startswith(f"'{name}") for head in row)


# --- filters and order ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        (["variant=mlp"], {"mlp"}),
        (["variant==mlp"], {"mlp"}),
        (["variant!=mlp"], {"dcgan", "wgan"}),
        (["variant=*gan"], {"dcgan", "wgan"}),
        (["kimg>=40"], {"mlp", "dcgan", "wgan"}),
        (["fid<15", "variant=dcgan"], {"dcgan"}),
        (["optimizer.learning_rate=0.0002", "seed>1"], {"mlp", "dcgan", "wgan"}),
        (["flips=false"], {"mlp", "dcgan", "wgan"}),
        (["optimizer.betas=0.5,0.999"], {"mlp", "dcgan", "wgan"}),
    ],
)
def test_where_keeps_records_that_meet_every_condition(conditions, kept, race, rows):
    arguments = [part for condition in conditions for part in ("--where", condition)]
    assert {row["variant"] for row in rows("runs", *arguments)} == kept


@pytest.mark.parametrize("condition", ["torch=2.16.0", "plugin dcgan=bbbbbbbbbb", "git=b*", "ganzoo!=0.1.0"])
def test_where_filters_by_versions_plugin_and_commit(condition, write, rows):
    for digit, torch, version in (("a", "2.15.0", "0.1.0"), ("b", "2.16.0", "0.2.0")):
        plugins = {"dcgan": {"version": version, "source_sha256": digit * 64}}
        environment = {**BASE["environment"], "plugins": plugins, "torch": torch, "ganzoo": version, "git": digit * 12}
        write(f"runs/{digit}", fid=10.0 if digit == "a" else 20.0, spec=of("dcgan"), environment=environment)
    assert [row["fid"] for row in rows("runs", "--where", condition)] == [20.0]


@pytest.mark.parametrize(
    ("condition", "fix"),
    [
        ("mlp", "--where mlp: write COLUMN=VALUE, as in dataset=mnist or kimg>=100"),
        ("datset=mnist", "no column is called 'datset'; did you mean 'dataset'"),
        ("kimg>=much", "'kimg' is a number; give one to compare it with"),
        ("variant>=3", "'variant' is text; compare it with = or !="),
        ("dataset=mnist", "--where dataset=mnist: holds for none of the 9 records; widen it"),
    ],
)
def test_invalid_where_condition_is_refused(condition, fix, race, invoke):
    outcome = invoke("compare", "runs", "--where", condition)
    assert outcome.code == 2
    assert fix in outcome.error


@pytest.mark.parametrize(
    ("order", "variants"),
    [
        (("--sort", "fid"), ["mlp", "dcgan", "wgan"]),
        (("--sort", "-fid"), ["wgan", "dcgan", "mlp"]),
        (("--sort=-variant",), ["wgan", "mlp", "dcgan"]),
    ],
)
def test_sort_by_column_ascending_and_descending(order, variants, race, rows, invoke):
    assert [row["variant"] for row in rows("runs", *order)] == variants
    table = invoke("compare", "runs", *order).out
    assert [line.split()[0] for line in table.splitlines() if line.strip().startswith((*variants,))] == variants


def test_missing_values_sort_last_ascending_and_descending(race, write, rows):
    write("runs/none", evaluations=[{"kimg": 40.0, "value": None}], spec=of("r3gan"))
    assert rows("runs", "--sort", "fid")[-1]["variant"] == "r3gan"
    assert rows("runs", "--sort", "-fid")[-1]["variant"] == "r3gan"


@pytest.mark.parametrize("head", ["seeds", "Updates", "updates D/G", "batch size", "FID", "train time", "differs"])
def test_rows_are_sorted_by_every_column_that_people_see(head, race, invoke):
    assert invoke("compare", "runs", f"--sort={head}").code == 0


def test_sorting_by_seeds_takes_their_number(race, write, rows):
    write("runs/dcgan-7", spec=of("dcgan", 7))
    assert rows("runs", "--sort=-seeds")[0]["variant"] == "dcgan"
    assert rows("runs", "--sort", "seeds")[-1]["variant"] == "dcgan"


def test_an_unknown_column_to_sort_by_is_refused(race, invoke):
    assert "no column is called 'fdi'; did you mean 'fid'" in invoke("compare", "runs", "--sort", "fdi").error


# --- a baseline -------------------------------------------------------------------------------------------------------


def test_baseline_adds_differences_to_every_row(race, rows, invoke):
    found = {row["variant"]: row for row in rows("runs", "--baseline", "mlp")}
    assert found["wgan"]["fid_difference"] == pytest.approx(19.9)
    assert found["wgan"]["fid_difference_low"] < 19.9 < found["wgan"]["fid_difference_high"]
    assert found["wgan"]["fid_difference_p"] == pytest.approx(welch_p([30.0, 30.2, 30.1], [10.0, 10.4, 10.2]))
    assert found["wgan"]["ratio"] == 1.0
    assert found["mlp"]["fid_difference"] is None
    assert "FD digits-cnn − mlp" in invoke("compare", "runs", "--baseline", "mlp").out


def test_a_baseline_of_one_seed_has_a_difference_and_no_p_value(write, rows):
    write("runs/a", fid=10.0, spec=of("mlp"))
    write("runs/b", fid=12.0, spec=of("dcgan"))
    found = {row["variant"]: row for row in rows("runs", "--baseline", "mlp")}
    assert found["dcgan"]["fid_difference"] == 2.0
    assert found["dcgan"].get("fid_difference_p") is None


def test_row_with_several_baselines_leaves_the_others_unaffected(write, rows):
    for machine in ("a-x1-t1", "a-x1-t2"):
        for variant, fid in (("mlp", 10.0), ("dcgan", 12.0)):
            write(f"runs/{machine}/{variant}", fid=fid, spec=of(variant, hardware=machine))
    write("runs/gpu/dcgan", fid=13.0, spec=of("dcgan", hardware="gpu-x1"))
    found = {(row["variant"], row["hardware"]): row for row in rows("runs", "--baseline", "mlp")}
    assert found["dcgan", "a-x1-t1"]["fid_difference"] == found["dcgan", "a-x1-t2"]["fid_difference"] == 2.0
    assert found["dcgan", "gpu-x1"]["fid_difference"] is None


def test_missing_or_ambiguous_baseline_is_refused(race, write, invoke):
    for form in ("table", "json"):
        outcome = invoke("compare", "runs", "--baseline", "mpl", "--format", form)
        assert outcome.code == 2
        assert "--baseline mpl: no row is of that variant; did you mean 'mlp'" in outcome.error
    write("runs/big", spec=of("mlp", batch_size=64))
    outcome = invoke("compare", "runs", "--baseline", "mlp")
    assert outcome.code == 2
    assert "--baseline mlp: has 2 rows on digits (batch_size 64 vs 128); choose one with --where" in outcome.error


# --- machines ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def machines(write):
    """Two variants on two machines, one of them with different batches, and one on a single machine."""
    slow = {"hardware": "slow-x2-t2"}
    fast = {"hardware": "fast-x1-t4", "threads": 4, "memory_format": "contiguous", "linear_backend": "blas"}
    write("runs/a/dcgan", windows=[90.0, 100.0, 110.0], peak=1e9, spec=of("dcgan", **slow))
    write("runs/b/dcgan-0", windows=[380.0, 400.0, 420.0], peak=8e9, spec=of("dcgan", **fast))
    write("runs/b/dcgan-1", windows=[590.0, 600.0, 610.0], peak=8e9, spec=of("dcgan", 1, **fast))
    write("runs/a/mlp", spec=of("mlp", batch_size=64, **slow))
    write("runs/b/mlp", spec=of("mlp", batch_size=128, **fast))
    write("runs/b/wgan", spec=of("wgan", **fast))


def test_matched_runs_have_throughput_ratios_to_the_baseline_machine(machines, invoke):
    outcome = invoke("compare", "runs", "--by", "hardware", "--baseline", "slow-x2-t2", "--format", "json")
    assert outcome.code == 0
    slow, fast = json.loads(outcome.out)
    assert (slow["hardware"], slow["ratio"], slow["normalized_ratio"]) == ("slow-x2-t2", 1.0, 1.0)
    # 500 against 100 images/s, on a machine with eight times the peak.
    assert (fast["hardware"], fast["ratio"], fast["normalized_ratio"]) == ("fast-x1-t4", 5.0, 0.625)
    assert fast["ratio_low"] < 5.0 < fast["ratio_high"]
    # The bootstrap may draw either of the two fast runs twice.
    assert (fast["ratio_low"], fast["ratio_high"]) == pytest.approx((390 / 110, 605 / 90), rel=0.05)
    assert fast["normalized_ratio_low"] == pytest.approx(fast["ratio_low"] / 8)
    assert outcome.err.splitlines() == [
        "ganzoo: not matched: mlp on digits: batch_size 64 vs 128",
        "ganzoo: not matched: wgan on digits: only on fast-x1-t4",
    ]


def test_failed_run_has_no_throughput_ratio_and_shows_its_status(write, invoke):
    error = {"type": "E", "message": "went wrong", "tail": ""}
    for machine in ("a-x1-t1", "b-x1-t1"):
        write(f"runs/{machine}/mlp", spec=of("mlp", hardware=machine))
        changes = {"status": "diverged", "error": error, "throughput": {}, "scores": []}
        write(f"runs/{machine}/dcgan", spec=of("dcgan", hardware=machine), **changes)
    outcome = invoke("compare", "runs", "--by", "hardware", "--format", "json")
    found = {(row["variant"], row["hardware"]): row for row in json.loads(outcome.out)}
    assert found["mlp", "a-x1-t1"]["ratio"] == 1.0
    assert found["dcgan", "a-x1-t1"]["ratio"] is None
    assert found["dcgan", "a-x1-t1"]["normalized_ratio"] is None
    assert invoke("compare", "runs", "--by", "hardware").out.count("diverged") == 2


def test_the_table_of_machines_explains_its_ratios(machines, invoke):
    outcome = invoke("compare", "runs", "--by", "hardware", "--baseline", "fast-x1-t4")
    assert "0.2 [" in outcome.out
    assert "ratio: of images/s to those of fast-x1-t4" in outcome.out
    assert "per peak" in outcome.out


def test_machines_match_across_torch_versions_but_not_across_plugin_sources(write, invoke):
    plugins = {"dcgan": {"version": "0.1.0", "source_sha256": "b" * 64}}
    for variant, changes in {"dcgan": {"environment__torch": "9.9"}, "mlp": {"environment__plugins": plugins}}.items():
        own = {"environment__plugins": {"dcgan": {"version": "0.1.0", "source_sha256": "a" * 64}}}
        write(f"runs/a/{variant}", spec=of(variant, hardware="slow"), **(own if variant == "mlp" else {}))
        write(f"runs/b/{variant}", spec=of(variant, hardware="fast"), **changes)
    outcome = invoke("compare", "runs", "--by", "hardware")
    assert "9.9" in outcome.out
    assert BASE["environment"]["torch"] in outcome.out
    assert outcome.err == "ganzoo: not matched: mlp on digits: plugin dcgan aaaaaaaaaa vs bbbbbbbbbb\n"


def test_machine_table_shows_differing_step_mode_and_commit(write, invoke):
    write("runs/a/dcgan", spec=of("dcgan", hardware="slow"), environment__git="aaaa")
    write("runs/b/dcgan", spec=of("dcgan", hardware="fast", step_mode="compile"), environment__git="bbbb")
    out = invoke("compare", "runs", "--by", "hardware").out
    for told in ("step_mode=eager", "step_mode=compile", "commit", "aaaa", "bbbb"):
        assert told in out


def test_machine_tables_are_per_dataset_and_have_all_requested_columns(write, invoke):
    for machine in ("slow", "fast"):
        for dataset in ("digits", "mnist"):
            for variant in ("mlp", "dcgan"):
                spec = of(variant, hardware=machine, dataset=dataset)
                write(f"runs/{machine}/{dataset}/{variant}", fid=20.0, spec=spec)
    out = invoke("compare", "runs", "--by", "hardware", "--target-fid", "30").out
    assert out.count("per peak: ") == out.count(f"{PROTOCOL}: ") == 2
    for told in ("dataset digits", "dataset mnist", "FD digits-cnn ≤ 30", "one seed each"):
        assert told in " ".join(out.split())
    assert out.count("20.00") == 8


def test_machines_that_cannot_be_compared_are_an_error(machines, write, invoke):
    outcome = invoke("compare", "runs/a", "--by", "hardware")
    assert outcome.code == 2
    assert "every record is of slow-x2-t2; name a folder of another machine" in outcome.error
    assert "no record is of that hardware" in invoke("compare", "runs", "--by", "hardware", "--baseline", "h100").error
    outcome = invoke("compare", "runs", "--by", "hardware", "--where", "variant=mlp")
    assert outcome.code == 2
    assert "nothing ran alike" in outcome.error
    assert "batch_size" in outcome.error


# --- targets ----------------------------------------------------------------------------------------------------------


def test_target_is_reached_at_the_first_evaluation_at_or_below_it(write, rows, invoke):
    def points(*values, seconds=None):
        extra = [{} if seconds is None else {"train_seconds": seconds * index} for index in range(1, len(values) + 1)]
        return [
            {"kimg": 10.0 * index, "value": value, **more}
            for index, (value, more) in enumerate(zip(values, extra, strict=True), 1)
        ]

    write("runs/a0", evaluations=points(50.0, 20.0, 25.0, seconds=3.0), spec=of("mlp", 0))
    write("runs/a1", evaluations=points(50.0, 30.0, 19.0, seconds=3.0), spec=of("mlp", 1))
    write("runs/a2", evaluations=points(50.0, 30.0, 21.0, seconds=3.0), spec=of("mlp", 2))
    write("runs/b", evaluations=points(50.0, 40.0), spec=of("dcgan"))
    write("runs/c", evaluations=points(10.0), spec=of("wgan"), throughput__energy_joules_per_kimg=7.0)
    write("runs/d", evaluations=[], spec=of("r3gan"))
    found = {row["variant"]: row for row in rows("runs", "--target-fid", 20)}
    mlp = found["mlp"]
    assert (mlp["fid_target"], mlp["fid_target_scored"], mlp["fid_target_reached"]) == (20.0, 3, 2)
    assert (mlp["fid_target_kimg"], mlp["fid_target_seconds"]) == (25.0, 7.5)
    assert mlp["fid_target_kimg_sd"] == pytest.approx(statistics.stdev([20.0, 30.0]))
    assert mlp["fid_target_joules"] is None
    assert (found["dcgan"]["fid_target_scored"], found["dcgan"]["fid_target_reached"]) == (1, 0)
    assert found["dcgan"]["fid_target_kimg"] is None
    assert (found["wgan"]["fid_target_joules"], found["wgan"]["fid_target_seconds"]) == (70.0, None)
    assert found["r3gan"]["fid_target_scored"] == 0
    lines = {
        line.split()[0]: line for line in invoke("compare", "runs", "--target-fid", 20).out.splitlines() if line.split()
    }
    assert "25 ± 7.07 (2/3)" in lines["mlp"]
    assert "not reached" in lines["dcgan"]
    assert "not scored" in lines["r3gan"]
    records, _ = find_records([Path("runs/b")])
    fid = ScoreKey("fid", PROTOCOL)
    assert first_as_good(records[0], fid, 20.0, "lower") is None
    assert first_as_good(records[0], fid, 40.0, "lower").kimg == 20.0
    assert first_as_good(records[0], fid, 45.0, "higher").kimg == 10.0


@pytest.mark.parametrize("target", ["0", "-3", "nan"])
def test_invalid_target_is_refused(target, race, invoke):
    assert "give a number above 0" in invoke("compare", "runs", f"--target-fid={target}").error


@pytest.mark.parametrize("target", ["fid", "fid:", ":20", "fid:low", "fid:nan", "fid:inf"])
def test_target_of_another_form_is_refused(target, race, invoke):
    assert "write SCORE:VALUE, as in fid:30" in invoke("compare", "runs", "--target", target).error


def test_target_fid_is_short_for_a_target_of_the_fid(race, rows, invoke):
    assert rows("runs", "--target", "fid:10.2") == rows("runs", "--target-fid", "10.2")
    assert "not allowed with argument" in invoke("compare", "runs", "--target", "fid:10", "--target-fid", 10).error


def test_score_that_is_better_when_higher_reaches_its_target_from_below(write, rows, invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    facts = {"is": {"title": "IS", "better": "higher", "bounds": [1.0, None]}}
    protocol = {"metric": "inception-score", "ema": True, "scores": facts}
    scores = [
        {"metric": "is", "value": value, "std": None, "protocol": "is-x", "kimg": kimg, "ema": True}
        for kimg, value in ((10.0, 2.0), (20.0, 4.5), (40.0, 5.0))
    ]
    write("runs/mlp", scores=scores, protocols={"is-x": protocol}, spec=of("mlp"))
    (row,) = rows("runs", "--target", "is:4")
    assert (row["is_target"], row["is_target_reached"], row["is_target_kimg"]) == (4.0, 1, 20.0)
    assert "kimg to IS ≥ 4" in invoke("compare", "runs", "--target", "is:4").out


def test_target_without_any_fid_is_noted_once(write, invoke):
    score = {"metric": "is", "value": 5.0, "std": None, "protocol": "is-x", "kimg": 40.0, "ema": True}
    for variant in ("mlp", "dcgan"):
        write(f"runs/{variant}", scores=[score], protocols={"is-x": {"metric": "is", "ema": True}}, spec=of(variant))
    outcome = invoke("compare", "runs", "--target-fid", 20, "--format", "json")
    assert outcome.code == 0
    assert outcome.err == "ganzoo: --target-fid 20: no finished run has that score; nothing is added\n"
    assert [row["is"] for row in json.loads(outcome.out)] == [5.0, 5.0]


# --- regressions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def earlier(write):
    write("before/dcgan", fid=20.0, rate=1000.0, spec=of("dcgan"))
    write("before/mlp", fid=40.0, rate=5000.0, spec=of("mlp"))


AGAINST = ("--against", "before")


@pytest.mark.parametrize(
    ("fid", "rate", "tolerances", "code"),
    [
        (20.9, 950.0, ("fid:5%", "train_images_per_second:10%"), 0),
        (21.1, 1000.0, ("fid:5%",), 3),
        (10.0, 3000.0, ("fid:5%", "train_images_per_second:10%"), 0),
        (20.0, 890.0, ("train_images_per_second:10%",), 3),
        (20.0, 890.0, ("train_images_per_second:12.5%",), 0),
        (20.1, 1000.0, ("fid:0%",), 3),
    ],
)
def test_a_figure_is_judged_in_the_direction_in_which_it_is_better(fid, rate, tolerances, code, earlier, write, invoke):
    write("now/dcgan", fid=fid, rate=rate, spec=of("dcgan"), environment__torch="9.9")
    write("now/mlp", fid=40.0, rate=5000.0, spec=of("mlp"))
    arguments = [part for tolerance in tolerances for part in ("--fail-on", tolerance)]
    outcome = invoke("compare", "now", *AGAINST, *arguments)
    assert outcome.code == code, outcome.err
    assert ("regression: dcgan on digits" in outcome.err) == (code == 3)
    assert "regression: mlp" not in outcome.err
    assert "dcgan" in outcome.out, "the comparison is printed all the same"


def test_regression_message_has_size_interval_and_p_value(write, invoke):
    for seed, (before, now) in enumerate([(20.0, 30.0), (20.2, 30.1), (20.1, 30.2)]):
        write(f"before/{seed}", fid=before, spec=of("dcgan", seed))
        write(f"now/{seed}", fid=now, spec=of("dcgan", seed))
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%", "--format", "csv")
    assert outcome.code == 3
    (line,) = outcome.err.splitlines()
    assert "fid 20.1 -> 30.1, 49.8% worse (allowed 5%); difference +10 [" in line
    assert "Welch p = " in line
    (row,) = csv.DictReader(io.StringIO(outcome.out))
    assert float(row["fid"]) == pytest.approx(30.1)


def test_rows_on_one_side_of_against_are_named_with_their_differences(earlier, write, invoke):
    write("now/dcgan", fid=20.0, spec=of("dcgan"))
    write("now/mlp", fid=40.0, spec=of("mlp", batch_size=64))
    write("now/wgan", spec=of("wgan"))
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%")
    assert outcome.code == 3, "a recipe that was changed has not become better"
    assert "regression: mlp on digits" in outcome.err
    assert "fid was 40, and there is none now: the row is not in these records (batch_size 128 vs 64)" in outcome.err
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%", "--allow-missing")
    assert outcome.code == 0
    notes = [line.removeprefix("ganzoo: not compared: ") for line in outcome.err.splitlines() if "not compared" in line]
    hardware = BASE["spec"]["hardware"]
    assert notes == [
        f"mlp on digits, 16 px, 40 kimg, batch 128, {hardware}: not in these records, only in --against "
        "(batch_size 128 vs 64)",
        f"mlp on digits, 16 px, 40 kimg, batch 64, {hardware}: only in these records, not in --against "
        "(batch_size 64 vs 128)",
        f"wgan on digits, 16 px, 40 kimg, batch 128, {hardware}: only in these records, not in --against",
    ]


def test_missing_figure_is_a_regression(earlier, write, invoke):
    error = {"type": "E", "message": "went wrong", "tail": ""}
    write("now/dcgan", spec=of("dcgan"), status="diverged", error=error)
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%")
    assert outcome.code == 3
    assert "regression: dcgan on digits" in outcome.err
    assert "fid was 20, and there is none now" in outcome.err


def test_score_by_another_protocol_is_a_regression(earlier, write, invoke):
    write("now/mlp", fid=40.0, spec=of("mlp"))
    path = write("now/dcgan", fid=1.0, spec=of("dcgan"))
    text = path.read_text()
    path.write_text(text.replace(f'"{PROTOCOL}"', '"fid-y"'))
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%")
    assert outcome.code == 3
    assert "regression: dcgan on digits" in outcome.err
    assert "there is none now by that protocol: fid-x there, fid-y here" in outcome.err


@pytest.mark.parametrize(("allowed", "code"), [((), 3), (("--allow-missing",), 0)])
def test_failed_seeds_are_a_regression(allowed, code, write, invoke):
    """The mean over the remaining seeds may look fine."""
    error = {"type": "Diverged", "message": "went wrong", "tail": ""}
    for seed in range(3):
        write(f"before/{seed}", fid=20.0 + seed, spec=of("dcgan", seed))
        lost = {"status": "diverged", "error": error} if seed else {}
        write(f"now/{seed}", fid=20.0, spec=of("dcgan", seed), **lost)
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%", *allowed)
    assert outcome.code == code
    (line,) = outcome.err.splitlines()
    assert line.startswith("ganzoo: regression: dcgan on digits" if code else "ganzoo: dcgan on digits")
    assert line.endswith("; 3 seeds had it, 1 now: 2 diverged")


def test_seeds_not_run_are_a_regression_and_additional_seeds_are_not(earlier, write, invoke):
    write("before/dcgan-1", fid=20.0, spec=of("dcgan", 1))
    write("now/dcgan", fid=20.0, spec=of("dcgan"))
    for seed in range(2):
        write(f"now/mlp-{seed}", fid=40.0, spec=of("mlp", seed))
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%")
    assert outcome.code == 3
    dcgan, mlp = outcome.err.splitlines()
    assert "regression: dcgan on digits" in dcgan
    assert dcgan.endswith("; 2 seeds had it, 1 now")
    assert "regression" not in mlp
    assert invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%", "--allow-missing").code == 0


def test_row_whose_runs_all_failed_is_a_regression_despite_allow_missing(earlier, write, invoke):
    error = {"type": "E", "message": "went wrong", "tail": ""}
    write("now/dcgan", spec=of("dcgan"), status="diverged", error=error)
    write("now/mlp", fid=40.0, spec=of("mlp"))
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%", "--allow-missing")
    assert outcome.code == 3
    assert "regression: dcgan on digits" in outcome.err
    assert "fid was 20, and there is none now: 1 diverged" in outcome.err


def test_score_by_another_protocol_is_only_noted_with_allow_missing(earlier, write, invoke):
    write("now/mlp", fid=40.0, spec=of("mlp"))
    path = write("now/dcgan", fid=1.0, spec=of("dcgan"))
    path.write_text(path.read_text().replace(f'"{PROTOCOL}"', '"fid-y"'))
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%", "--allow-missing")
    assert outcome.code == 0
    assert "regression" not in outcome.err
    (line,) = (line for line in outcome.err.splitlines() if "not compared" in line)
    assert line.startswith("ganzoo: not compared: dcgan on digits")
    assert line.endswith(": there is no fid by that protocol: fid-x there, fid-y here")


def test_several_rows_of_one_spec_are_refused_by_fail_on(earlier, write, invoke):
    write("before/again", fid=20.0, spec=of("dcgan", seed=1), environment__torch="9.9")
    write("now/dcgan", fid=20.0, spec=of("dcgan"))
    write("now/mlp", fid=40.0, spec=of("mlp"))
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%")
    assert outcome.code == 2
    assert "has several rows on one side (torch " in outcome.error
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%", "--allow-missing")
    assert outcome.code == 0
    assert "not compared: dcgan" in outcome.err


def test_fail_on_with_nothing_to_compare_is_an_error(earlier, write, invoke):
    write("now/wgan", spec=of("wgan"))
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%")
    assert outcome.code == 2
    assert "--against: nothing could be compared: " in outcome.error
    write("now/dcgan", spec=of("dcgan"))
    outcome = invoke("compare", "now", *AGAINST, "--fail-on", "recall:5%")
    assert outcome.code == 2
    assert "--against has no recall" in outcome.error


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (("--fail-on", "fid:5%"), "--against and --fail-on: give both"),
        (AGAINST, "--against and --fail-on: give both"),
        ((*AGAINST, "--fail-on", "fid"), "--fail-on fid: write FIGURE:SHARE%, as in fid:5%"),
        ((*AGAINST, "--fail-on", "fid:5"), "write FIGURE:SHARE%"),
        ((*AGAINST, "--fail-on", "fdi:5%"), "no metric says in which direction 'fdi' is better; did you mean 'fid'"),
        (("--against", "nowhere", "--fail-on", "fid:5%"), "nowhere: no such folder"),
    ],
)
def test_invalid_against_and_fail_on_are_refused(arguments, fix, earlier, write, invoke):
    write("now/dcgan", spec=of("dcgan"))
    outcome = invoke("compare", "now", *arguments)
    assert outcome.code == 2
    assert fix in outcome.error


# --- two runs side by side --------------------------------------------------------------------------------------------


@pytest.fixture
def pair(write):
    plugins = {"dcgan": {"version": "0.1.0", "source_sha256": "a" * 64}}
    other = {"dcgan": {"version": "0.1.0", "source_sha256": "b" * 64}}
    write("runs/a", fid=20.0, rate=1000.0, hardware__driver="550.1", environment__plugins=plugins)
    write(
        "runs/b",
        fid=25.0,
        rate=500.0,
        spec={"batch_size": 64},
        hardware__driver="560.2",
        environment__torch="9.9",
        environment__plugins=other,
        environment__flags={**BASE["environment"]["flags"], "cudnn_benchmark": True},
    )


def test_diff_shows_changed_settings_and_figures(pair, invoke):
    outcome = invoke("diff", "runs/a", "runs/b", "--json")
    assert outcome.code == 0
    diff = json.loads(outcome.out)
    assert diff["hardware"] == {"driver": ["550.1", "560.2"]}
    assert diff["software"] == {"torch": [BASE["environment"]["torch"], "9.9"]}
    assert diff["flags"] == {"cudnn_benchmark": [False, True]}
    assert diff["plugins"] == {"dcgan": ["0.1.0 aaaaaaaaaa", "0.1.0 bbbbbbbbbb"]}
    assert diff["settings"] == {"batch_size": ["128", "64"]}
    assert diff["figures"]["fid"] == {"a": 20.0, "b": 25.0, "change": 0.25}
    assert diff["figures"]["train_images_per_second"]["change"] == -0.5
    out = invoke("diff", "runs/a", "runs/b").out
    assert "560.2" in out
    assert "+25.0%" in out
    assert "-50.0%" in out


def test_diff_says_nothing_of_how_doubtful_speeds_moved_unless_asked(pair, write, invoke):
    write("runs/busy", fid=25.0, rate=500.0, throughput__flags=["other processes used 31% of the CPU"])
    diff = json.loads(invoke("diff", "runs/a", "runs/busy", "--json").out)
    figures = diff["figures"]
    assert figures["train_images_per_second"] == {"a": 1000.0, "b": 500.0, "change": None}
    assert {figures[name]["change"] for name in ("mfu", "sample_latency_seconds", "train_seconds")} == {None}
    assert figures["fid"]["change"] == 0.25
    assert figures["peak_memory_bytes"]["change"] == 0.0
    assert diff["doubts"] == [[], ["other processes used 31% of the CPU"]]
    out = " ".join(invoke("diff", "runs/a", "runs/busy").out.split())
    assert "-50.0%" not in out
    said = "no change of a doubtful speed (B: other processes used 31% of the CPU); --doubtful shows it all the same"
    assert said in out
    asked = invoke("diff", "runs/a", "runs/busy", "--doubtful").out
    assert "-50.0%" in asked
    assert "doubtful" not in asked
    assert "doubtful" not in invoke("diff", "runs/a", "runs/b").out


def test_diff_of_a_run_with_itself_shows_no_difference(pair, invoke):
    outcome = invoke("diff", "runs/a", "runs/a")
    assert "machine, software, flags, plugins and settings are the same" in outcome.out


def test_diff_says_which_run_failed_and_how(pair, write, invoke):
    error = {"type": "Diverged", "message": "generator/[red]fool became NaN", "tail": ""}
    write("runs/failed", status="diverged", error=error)
    out = invoke("diff", "runs/a", "runs/failed").out
    assert out.splitlines()[0] == "B ended as diverged: generator/[red]fool became NaN"
    assert json.loads(invoke("diff", "runs/failed", "runs/a", "--json").out)["status"] == ["diverged", "ok"]
    assert "ended as" not in invoke("diff", "runs/a", "runs/b").out


def test_diff_of_a_missing_run_is_refused(pair, invoke):
    assert "run 'c' is no folder, and no run in runs" in invoke("diff", "runs/a", "c").error


# --- records in the folders -------------------------------------------------------------------------------------------


def test_conflicting_finished_records_of_one_run_id_are_named(write, rows, invoke):
    write("runs/a", fid=20.0, run_id="1" * 64)
    write("runs/b", fid=30.0, run_id="1" * 64)
    write("runs/c", fid=40.0, spec=of("mlp"))
    outcome = invoke("compare", "runs", "--format", "json")
    assert [row["fid"] for row in json.loads(outcome.out)] == [20.0, 40.0]
    assert outcome.err.splitlines() == [
        "ganzoo: left out: runs/b/record.json: has the run id of runs/a/record.json but other content; "
        "compare them with `ganzoo diff`, and remove one"
    ]


def test_copies_and_failed_attempts_of_one_run_id_do_not_conflict(write, invoke, tmp_path):
    path = write("runs/a", fid=20.0, run_id="1" * 64)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "record.json").write_bytes(path.read_bytes())
    write("runs/failed", run_id="1" * 64, status="crashed", error={"type": "E", "message": "m", "tail": ""})
    outcome = invoke("compare", "runs", "copy", "runs", "--format", "json")
    assert outcome.err == ""
    (row,) = json.loads(outcome.out)
    assert (row["n"], row["failed"]) == (1, "")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"scores": [{"metric": "fid", "value": "12", "protocol": "p", "kimg": 1.0, "ema": True}]}, "value is '12'"),
        ({"scores": [{"metric": "fid", "value": 1.0, "protocol": None, "kimg": 1.0, "ema": True}]}, "protocol"),
        ({"throughput__train_images_per_second": {"median": 3.0}}, "train_images_per_second lacks its"),
        ({"throughput__train_images_per_second": 3.0}, "train_images_per_second is 3.0; it must be an object"),
        ({"throughput__mfu": "much"}, "mfu is 'much'"),
        ({"throughput__flags": [3]}, "flags"),
        ({"training__updates": {"generator": "many"}}, "generator is 'many'"),
        ({"training__best": 5}, "best is 5"),
        ({"environment__plugins": {"fid": "1.0"}}, "fid is '1.0'"),
        ({"throughput__mfu": float("nan")}, "is not JSON"),
        ({"throughput__mfu": 1e300}, "throughput.mfu is 1e+300; it must be a number below 1e+30"),
        ({"training__train_seconds": -1e31}, "training.train_seconds is -1e+31; it must be a number from 0"),
        (
            {"evaluations": [{"kimg": 40.0, "value": 1.7e308}]},
            "scores[0].value is 1.7e+308; it must be a number below 1e+30",
        ),
        ({"training__train_seconds": float("inf")}, "is not JSON"),
    ],
)
def test_record_with_a_wrong_type_is_named(changes, complaint, write, invoke):
    write("runs/good", fid=20.0)
    write("runs/bad", **changes)
    outcome = invoke("compare", "runs", "--format", "json")
    assert outcome.code == 0
    assert [row["fid"] for row in json.loads(outcome.out)] == [20.0]
    (line,) = outcome.err.splitlines()
    assert line.startswith("ganzoo: left out: runs/bad/record.json: ")
    assert complaint in line


def test_a_record_whose_parts_are_null_is_used(write, rows):
    write("runs/a", throughput={}, training={}, environment={}, hardware={}, protocols={})
    (row,) = rows("runs")
    assert (row["fid"], row["train_images_per_second"]) == (20.0, None)


def test_unreadable_folder_is_one_warning(write, invoke, monkeypatch):
    write("runs/a")
    exists = Path.exists

    def refuse(self, **more):
        if self.name == "locked":
            raise PermissionError(13, "Permission denied", str(self))
        return exists(self, **more)

    monkeypatch.setattr(Path, "exists", refuse)
    outcome = invoke("compare", "locked", "runs", "--format", "json")
    assert outcome.code == 0
    assert len(json.loads(outcome.out)) == 1
    assert outcome.err == "ganzoo: left out: locked: cannot be read: Permission denied\n"


# --- output to a file -------------------------------------------------------------------------------------------------


def test_output_file_is_not_overwritten_without_force(race, invoke, tmp_path):
    outcome = invoke("compare", "runs", "--format", "csv", "-o", "table.csv")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "ganzoo: wrote table.csv\n")
    before = (tmp_path / "table.csv").read_text()
    assert before.startswith("variant,dataset,")
    outcome = invoke("compare", "runs", "-o", "table.csv")
    assert outcome.code == 2
    assert "-o table.csv: exists; choose another file or pass --force" in outcome.error
    assert (tmp_path / "table.csv").read_text() == before
    assert invoke("compare", "runs", "-o", "table.csv", "--force").code == 0
    assert "FD digits-cnn" in (tmp_path / "table.csv").read_text()
    assert "the folder nowhere does not exist" in invoke("compare", "runs", "-o", "nowhere/table.csv").error


def test_output_file_on_a_full_disk_is_one_line_and_the_old_file_stays(race, invoke, tmp_path, monkeypatch):
    (tmp_path / "table.csv").write_text("precious")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = invoke("compare", "runs", "-o", "table.csv", "--force")
    assert outcome.code == 2
    assert outcome.error == "ganzoo: -o table.csv: cannot be written: No space left on device; choose another place"
    assert (tmp_path / "table.csv").read_text() == "precious"
    assert not list(tmp_path.glob(".table.csv*"))


# --- from Python ------------------------------------------------------------------------------------------------------


def test_compare_from_python_gives_the_rows_of_the_command(race, rows, tmp_path):
    import ganzoo

    table = ganzoo.compare_records(tmp_path / "runs", where="variant=*gan", target_fid=15)
    assert list(table["variant"]) == ["dcgan", "wgan"]
    assert list(table["fid_not_told_apart"]) == ["", ""]
    assert list(table["fid_target_reached"]) == [3, 0]
    as_json = json.loads(table.to_json(orient="records", double_precision=15))
    assert as_json == rows("runs", "--where", "variant=*gan", "--target-fid", 15)
    with pytest.raises(ganzoo.UsageError, match="holds for none of the 9 records"):
        ganzoo.compare_records(tmp_path / "runs", where=["kimg>100"])


# --- the rows behind a table ------------------------------------------------------------------------------------------


def test_rows_and_table_are_in_one_order(race, tmp_path):
    records, _ = find_records([tmp_path / "runs"])
    comparison = compare(records)
    assert [row.spec["variant"] for row in comparison.rows] == list(comparison_table(comparison)["variant"])


# --- doubtful speeds --------------------------------------------------------------------------------------------------


BUSY = ["other processes used 31% of the CPU"]


@pytest.fixture
def disturbed(write):
    """Two variants, of which the MLP was measured while another process took a core, before and now."""
    for side, factor in (("before", 1.0), ("now", 0.5)):
        write(f"{side}/mlp", rate=8000.0 * factor, spec=of("mlp"), throughput__flags=BUSY)
        write(f"{side}/dcgan", rate=1000.0, spec=of("dcgan"))


def test_a_doubtful_speed_has_no_ratio_unless_asked_for(disturbed, rows, invoke):
    found = {row["variant"]: row["ratio"] for row in rows("now", "--baseline", "dcgan")}
    assert found == {"mlp": None, "dcgan": None}
    assert {row["ratio"] for row in rows("now", "--baseline", "mlp")} == {None}, "nor has one to a doubtful speed"
    asked = {row["variant"]: row["ratio"] for row in rows("now", "--baseline", "dcgan", "--doubtful")}
    assert asked["mlp"] == 4.0
    table = invoke("compare", "now", "--baseline", "dcgan").out
    assert "no ratio of a rate with a star, nor to one: it is doubtful; --doubtful shows it all the same" in table
    assert "of dcgan" not in table
    table = invoke("compare", "now", "--baseline", "dcgan", "--doubtful").out
    assert "of dcgan" in table
    assert "no ratio" not in table


def test_machines_have_no_ratio_over_a_doubtful_speed(write, rows):
    write("runs/a", rate=100.0, spec=of("dcgan", hardware="one"))
    write("runs/b", rate=18.5, spec=of("dcgan", hardware="two"), throughput__flags=BUSY)
    matched = ("runs", "--by", "hardware", "--baseline", "one")
    assert [(row["ratio"], row["normalized_ratio"]) for row in rows(*matched)] == [(1.0, 1.0), (None, None)]
    assert [row["ratio"] for row in rows(*matched, "--doubtful")] == [1.0, 0.185]


def test_fail_on_gives_no_verdict_on_a_doubtful_speed_and_says_so(disturbed, invoke):
    command = ("compare", "now", *AGAINST, "--fail-on", "images/s:10%", "--fail-on", "fid:5%")
    outcome = invoke(*command)
    assert outcome.code == 0, outcome.err
    assert "mlp on digits" in outcome.err
    assert "train_images_per_second is doubtful (other processes used 31% of the CPU)" in outcome.err
    assert "mlp on digits, 16 px, 40 kimg, batch 128" in outcome.err
    assert invoke(*command, "--doubtful").code == 3
    only = ("compare", "now", *AGAINST, "--where", "variant=mlp", "--fail-on", "images/s:10%")
    assert invoke(*only).code == 2, "what could not be judged has not passed"


def test_speeds_alone_stand_by_variant_and_batch_the_fastest_first_and_doubtful_ones_behind(write, invoke, rows):
    swept = [("mlp", 256, 9000.0), ("mlp", 16, 500.0), ("mlp", 64, 4000.0), ("dcgan", 64, 5000.0)]
    for variant, batch, rate in swept:
        spec = of(variant, kimg=0.0, batch_size=batch)
        write(f"runs/{variant}-{batch}", evaluations=[], rate=rate, spec=spec)
    busy = of("wgan", kimg=0.0, batch_size=64)
    write("runs/wgan", evaluations=[], rate=20000.0, spec=busy, throughput__flags=BUSY)
    assert [(row["variant"], row["batch_size"]) for row in rows("runs")] == [
        *(("mlp", 16), ("mlp", 64), ("mlp", 256), ("dcgan", 64), ("wgan", 64))
    ]
    out = invoke("compare", "runs").out
    assert "not merged" not in out, "the batch sizes of a sweep stand in a column"
    assert "kimg 0" not in out
    assert "kimg –, speed only" in out


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_verdicts_are_data_and_tell_batches_apart(write, invoke):
    for batch in (16, 64, 256):
        write(f"before/{batch}", fid=20.0, rate=1000.0, spec=of("dcgan", batch_size=batch))
        write(f"now/{batch}", fid=19.0, rate=1000.0 - batch, spec=of("dcgan", batch_size=batch))
    rule = ("--fail-on", "images/s:10%", "--fail-on", "FID:5%")
    outcome = invoke("compare", "now", *AGAINST, *rule, "--verdicts", "found.json")
    assert outcome.code == 3
    told = [line for line in outcome.err.splitlines() if "regression" in line]
    assert ["batch 256" in line for line in told] == [True]
    found = json.loads(Path("found.json").read_text())
    assert (found["verdict"], found["not_compared"]) == ("regression", [])
    speeds = [one for one in found["figures"] if one["figure"] == "train_images_per_second"]
    assert sorted((one["batch_size"], one["verdict"], one["worse_by"]) for one in speeds) == [
        *((16, "ok", 0.016), (64, "ok", 0.064), (256, "regression", 0.256))
    ]
    fid = found["figures"][-1]
    assert (fid["figure"], fid["protocol"], fid["better"], fid["allowed"]) == ("fid", PROTOCOL, "lower", 0.05)
    assert (fid["before"], fid["now"], fid["difference"], fid["difference_p"]) == (20.0, 19.0, -1.0, None)
    assert (fid["seeds_before"], fid["seeds_now"], fid["reason"]) == (1, 1, None)


def test_rows_that_differ_in_the_recipe_alone_have_names_of_their_own(write, invoke):
    faster = {**BASE["spec"]["optimizer"], "learning_rate": 0.01}
    for side, fid in (("before", 20.0), ("now", 40.0)):
        write(f"{side}/a", fid=fid, spec=of("dcgan"))
        write(f"{side}/b", fid=fid, spec=of("dcgan", optimizer=faster))
    told = [
        line.split(": fid")[0] for line in invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%").err.splitlines()
    ]
    assert len(set(told)) == 2
    assert any("optimizer.learning_rate=0.01" in name for name in told)


def test_a_figure_that_is_gone_is_a_verdict_with_its_reason(earlier, write, invoke):
    write("now/dcgan", fid=20.0, spec=of("dcgan"))
    assert invoke("compare", "now", *AGAINST, "--fail-on", "fid:5%", "--verdicts", "found.json").code == 3
    gone = json.loads(Path("found.json").read_text())["figures"][-1]
    assert (gone["variant"], gone["verdict"], gone["now"], gone["worse_by"]) == ("mlp", "regression", None, None)
    assert gone["reason"] == "the row is not in these records"


def test_verdicts_need_something_to_judge(write, invoke):
    write("runs/a", spec=of("mlp"))
    outcome = invoke("compare", "runs", "--verdicts", "found.json")
    assert (outcome.code, outcome.error) == (2, "ganzoo: --verdicts: needs --fail-on, whose verdicts it is for")


@pytest.mark.parametrize("word", ["images/s", "train_images_per_second", "Images/s"])
def test_rows_are_sorted_by_the_word_of_the_table(word, write, rows):
    for variant, rate in (("mlp", 5.0), ("dcgan", 9.0), ("wgan", 7.0)):
        write(f"runs/{variant}", rate=rate, spec=of(variant))
    assert [row["variant"] for row in rows("runs", f"--sort=-{word}")] == ["dcgan", "wgan", "mlp"]


# --- numbers are whole ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("dataset", ["digits", "mnist"])
def test_no_number_breaks_in_a_narrow_table(width, dataset, invoke, monkeypatch):
    command = ("compare", ONE_MACHINE, "--where", f"dataset={dataset}", "--baseline", "dcgan", "--target-fid", 30)
    monkeypatch.setenv("COLUMNS", "400")
    wide = invoke(*command).out.split()
    monkeypatch.setenv("COLUMNS", str(width))
    narrow = invoke(*command).out
    assert max(map(len, narrow.splitlines())) <= width
    numbers = {word for word in wide if re.fullmatch(r"[\[-]*\d[\d.,:/%]*[\],]*", word)}
    assert len(numbers) > 20
    assert numbers - set(narrow.split()) == set()
