"""Records to tables: one row for each record, or one for each variant × dataset × settings × hardware over seeds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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


def records_table(records: Sequence[RunRecord]) -> pandas.DataFrame:
    """One row for each record: settings, status, final scores, throughput, memory. Scores are of the EMA generator
    where there is one; scores of different protocols never share a column.
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
            "sample_images_per_second": _median(throughput, "sample_images_per_second"),
            "peak_memory_bytes": throughput.get("peak_memory_bytes"),
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

    `n` counts the seeds that finished and `failed` those that did not; `SCORE` is the mean and `SCORE_sd` the sample
    standard deviation over seeds (NaN for one). Rows whose specs differ in anything else are kept apart.
    """
    import pandas

    table = records_table(records)
    scores = table.attrs["scores"]
    if table.empty:
        return table
    table["settings"] = [_settings_key(record) for record in records]
    # One seed counts once: a run that was done again stands for the attempts that failed before it.
    table = table.assign(again=table["status"] != "ok").sort_values("again", kind="stable")
    table = table.drop_duplicates(["settings", "seed"]).sort_index()
    measures = [
        *scores,
        "train_images_per_second",
        "sample_images_per_second",
        "peak_memory_bytes",
        "generator_updates",
        "discriminator_updates",
        "train_seconds",
    ]
    rows = []
    for _, group in table.groupby("settings", sort=False):
        done = group[group["status"] == "ok"]
        failed = group[group["status"] != "ok"]
        row = {name: group.iloc[0][name] for name in SETTINGS}
        row |= {"n": len(done), "failed": ", ".join(sorted(set(failed["status"])))}
        row["error"] = failed["error"].iloc[0] if len(failed) else None
        for name in measures:
            values = pandas.to_numeric(done[name])
            row[name] = values.mean()
            if name in scores or name == "train_images_per_second":
                row[f"{name}_sd"] = values.std()
        rows.append(row)
    summary = pandas.DataFrame(rows)
    summary.attrs["scores"] = scores
    return summary


def _settings_key(record: RunRecord) -> str:
    """All that a run is but its seed: the spec, and the code that ran it."""
    environment = record.environment or {}
    plugins = {name: facts.get("source_sha256") for name, facts in (environment.get("plugins") or {}).items()}
    spec = {name: value for name, value in record.spec.items() if name != "seed"}
    return json.dumps([spec, plugins, environment.get("torch"), environment.get("ganzoo")], sort_keys=True)


def _final_scores(record: RunRecord) -> list[Any]:
    """The scores at the end of the budget, of the averaged generator where there is one."""
    if not record.scores:
        return []
    last = max(score["kimg"] for score in record.scores)
    final = [score for score in record.scores if score["kimg"] == last]
    averaged = [score for score in final if score["ema"]]
    return averaged or final


def _median(throughput: Any, key: str) -> float | None:
    summary = throughput.get(key)
    return summary["median"] if summary else None
