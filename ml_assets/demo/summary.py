"""What a session comes to: numbers for a machine (`var/demo/summary.json`) and words for a person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from ml_assets.adapters.deployment import replace_file
from ml_assets.demo.graph import Snapshot
from ml_assets.demo.progress import rows
from ml_assets.demo.questions import Flight, Latency

_INTERVALS = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "log_loss": "log loss", "brier": "Brier score"}


@dataclass(frozen=True)
class Metric:
    """A metric of the champion on the newest rows, with its interval."""

    name: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """As a person reads it."""
        return f"{_INTERVALS[self.name]} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def metrics(evaluation: Mapping[str, Any]) -> list[Metric]:
    """The metrics in the metadata of an evaluation; those without an interval are left out."""
    return [
        Metric(name, evaluation[name], evaluation[f"{name}_low"], evaluation[f"{name}_high"])
        for name in _INTERVALS
        if evaluation.get(f"{name}_low") is not None
    ]


def examples(asked: Sequence[Flight], answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each flight with the answer and what happened."""
    return [
        {
            "flight": flight.label,
            "scheduled_departure_at": flight.scheduled_departure_at.isoformat(),
            "score": answer["score"],
            "version": answer["version"],
            "arrival_delay_minutes": flight.delay_minutes,
            "late": flight.late,
            "fate": flight.fate,
        }
        for flight, answer in zip(asked, answers, strict=True)
    ]


def counts(snapshot: Snapshot, since: float) -> dict[str, Any]:
    """How much is there, and how much of it came about since a moment."""
    layers = rows(snapshot)
    fresh = [key for key, state in snapshot.assets.items() if (state.materialized_at or 0) > since]
    return {
        "assets": sum(row.n_assets for row in layers),
        "assets_materialized": sum(row.n_done for row in layers),
        "assets_materialized_in_this_session": len(fresh),
        "partitions_materialized": sum(row.n_partitions for row in layers),
        "checks_passed": sum(row.n_passed for row in layers),
        "checks_failed": sum(row.n_failed for row in layers),
        "checks_warned": sum(row.n_warned for row in layers),
        "runs": len([run for run in snapshot.runs if (run.started_at or 0) > since]),
        "runs_failed": sum(run.status == "FAILURE" for run in snapshot.runs if (run.started_at or 0) > since),
    }


def trainings(models: Mapping[str, Sequence[Mapping[str, Any]]], since: float) -> int:
    """How many models were trained since a moment: materializations that found one in place do not count."""
    return sum(each["at"] > since and not each.get("reused") for found in models.values() for each in found)


def write(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


def answers_table(shown: Sequence[Mapping[str, Any]]) -> Table:
    """The answers beside what happened."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("flight", "scheduled (UTC)", "late, says the model", "happened"):
        table.add_column(name, justify="right" if name.startswith("late") else "left")
    for each in shown:
        style = {True: "red", False: "green", None: "yellow"}[each["late"]]
        table.add_row(
            each["flight"],
            each["scheduled_departure_at"][:16].replace("T", " "),
            f"{each['score']:.0%}",
            Text(each["fate"] or "unknown", style=style),
        )
    return table


def latency_json(measured: Latency) -> dict[str, float]:
    """Milliseconds, as the summary holds them."""
    return {"p50_ms": round(measured.p50_ms, 3), "p99_ms": round(measured.p99_ms, 3), "requests": measured.n_requests}
