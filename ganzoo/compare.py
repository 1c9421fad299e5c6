"""Records to tables: one row for each record, or one for each variant × dataset × settings × hardware over seeds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ganzoo.differences import differences
from ganzoo.records import read_spec
from ganzoo.types import RunRecord

if TYPE_CHECKING:
    import pandas

SETTINGS = ("variant", "dataset", "image_size", "kimg", "batch_size", "precision", "device", "threads", "hardware")
"""Records that agree in these, and whose specs otherwise differ in the seed only, are one row of a comparison."""


def score_columns(records: Sequence[RunRecord]) -> dict[tuple[str, str], str]:
    """The column of each (score, protocol): the score's name, and the protocol's id where there are several."""
    protocols: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for score in _final_scores(record):
            if score["protocol"] not in protocols[score["metric"]]:
                protocols[score["metric"]].append(score["protocol"])
    return {
        (metric, protocol): metric if len(found) == 1 else f"{metric} [{protocol}]"
        for metric, found in protocols.items()
        for protocol in found
    }


def shown_protocols(records: Sequence[RunRecord]) -> dict[str, Any]:
    """The protocols of the scores that a comparison shows, from id to content."""
    shown = {protocol for _, protocol in score_columns(records)}
    protocols = {identity: content for record in records for identity, content in record.protocols.items()}
    return {identity: protocols[identity] for identity in protocols if identity in shown}


def records_table(records: Sequence[RunRecord]) -> pandas.DataFrame:
    """One row for each record: settings, status, final scores, throughput, memory. Scores are of the EMA generator
    where there is one; scores of different protocols never share a column. A run that did not finish has none.
    """
    import pandas

    columns = score_columns(records)
    rows = []
    for record in records:
        spec, training, throughput = record.spec, record.training or {}, record.throughput or {}
        updates = training.get("updates") or {}
        row: dict[str, Any] = {
            "run_id": record.run_id,
            "status": record.status,
            "variant": spec["variant"],
            "dataset": spec["dataset"],
            "image_size": spec["image_shape"][1],
            "kimg": spec["kimg"],
            "batch_size": spec["batch_size"],
            "seed": spec["seed"],
            "precision": spec["precision"],
            "device": spec["device"],
            "threads": spec["threads"],
            "hardware": spec["hardware"],
            "generator_updates": updates.get("generator"),
            "discriminator_updates": updates.get("discriminator"),
            "train_seconds": training.get("train_seconds"),
            "train_images_per_second": _median(throughput, "train_images_per_second"),
            "train_images_per_second_error": _half_width(throughput, "train_images_per_second"),
            "sample_images_per_second": _median(throughput, "sample_images_per_second"),
            "peak_memory_bytes": throughput.get("peak_memory_bytes"),
            "mfu": throughput.get("mfu"),
            "energy_joules_per_kimg": throughput.get("energy_joules_per_kimg"),
            "flags": "; ".join(throughput.get("flags") or ()),
            "error": (record.error or {}).get("message"),
            "path": str(record.path) if record.path else None,
        }
        row |= dict.fromkeys(columns.values())
        for score in _final_scores(record):
            row[columns[score["metric"], score["protocol"]]] = score["value"]
        rows.append(row)
    table = pandas.DataFrame(rows)
    table.attrs["scores"] = list(columns.values())
    return table


def comparison(records: Sequence[RunRecord]) -> pandas.DataFrame:
    """One row for each variant × dataset × settings × hardware; means over seeds.

    `n` counts the seeds that finished and `failed` names how others ended; `SCORE` is the mean, `SCORE_sd` the sample
    standard deviation over seeds (NaN for one) and `SCORE_n` the number of seeds that have the score. Rows whose specs
    or code differ in anything but the seed are kept apart, and `differs` says what sets those of one variant on one
    dataset and hardware apart, beside the columns: `optimizer.learning_rate=0.0004`. `train_images_per_second_error`
    is half the width of a run's own 95 % interval, and `flags` what makes its speed doubtful.
    """
    import pandas

    table = records_table(records)
    scores = table.attrs["scores"]
    if table.empty:
        return table
    table["settings"] = [settings_key(record) for record in records]
    # One seed counts once: a run that was done again stands for the attempts that failed before it.
    table = table.assign(again=table["status"] != "ok").sort_values("again", kind="stable")
    table = table.drop_duplicates(["settings", "seed"]).sort_index()
    measures = [
        *scores,
        "train_images_per_second",
        "train_images_per_second_error",
        "sample_images_per_second",
        "peak_memory_bytes",
        "mfu",
        "energy_joules_per_kimg",
        "generator_updates",
        "discriminator_updates",
        "train_seconds",
    ]
    rows, examples = [], []
    for _, group in table.groupby("settings", sort=False):
        examples.append(records[group.index[0]])
        done = group[group["status"] == "ok"]
        failed = group[group["status"] != "ok"]
        row = {name: group.iloc[0][name] for name in SETTINGS}
        row |= {"differs": "", "n": len(done), "failed": ", ".join(sorted(set(failed["status"])))}
        row["error"] = failed["error"].iloc[0] if len(failed) else None
        row["flags"] = "; ".join(dict.fromkeys(flags for flags in done["flags"] if flags))
        for name in measures:
            values = pandas.to_numeric(done[name])
            row[name] = values.mean()
            if name in scores or name == "train_images_per_second":
                row[f"{name}_sd"] = values.std()
            if name in scores:
                row[f"{name}_n"] = int(values.count())
        rows.append(row)
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        alike[row["variant"], row["dataset"], row["hardware"]].append(index)
    for indexes in alike.values():
        for index, text in zip(indexes, differences([examples[index] for index in indexes]), strict=True):
            rows[index]["differs"] = text
    summary = pandas.DataFrame(rows)
    summary.attrs["scores"] = scores
    return summary


def settings_key(record: RunRecord) -> str:
    """All that a run is but its seed: the spec, and the code that ran it."""
    environment = record.environment or {}
    plugins = {name: facts.get("source_sha256") for name, facts in (environment.get("plugins") or {}).items()}
    spec = {name: value for name, value in read_spec(record.spec).to_json().items() if name != "seed"}
    return json.dumps([spec, plugins, environment.get("torch"), environment.get("ganzoo")], sort_keys=True)


def _final_scores(record: RunRecord) -> list[Any]:
    """The scores at the end of the budget, of the averaged generator where there is one.

    None where the run did not finish: what it scored on the way is no result of the budget.
    """
    if not record.ok or not record.scores:
        return []
    last = max(score["kimg"] for score in record.scores)
    final = [score for score in record.scores if score["kimg"] == last]
    averaged = [score for score in final if score["ema"]]
    return averaged or final


def _half_width(throughput: Any, key: str) -> float | None:
    summary = throughput.get(key)
    return (summary["high"] - summary["low"]) / 2 if summary else None


def _median(throughput: Any, key: str) -> float | None:
    summary = throughput.get(key)
    return summary["median"] if summary else None
