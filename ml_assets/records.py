"""Frozen records that cross the borders between packages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The first part of every asset key, in the order in which the graph is drawn.
LAYERS = (
    "raw",
    "tables",
    "features",
    "labels",
    "training_sets",
    "models",
    "evaluations",
    "releases",
    "endpoints",
    "predictions",
    "outcomes",
    "consistency",
    "drift",
    "performance",
)


@dataclass(frozen=True)
class Markdown:
    """Text that a user interface renders as Markdown."""

    text: str


@dataclass(frozen=True)
class Url:
    """An address that a user interface shows as a link."""

    address: str


@dataclass(frozen=True)
class Produced:
    """One partition ("" where there are none) that a step has written, or found already written."""

    data_version: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    reused: bool = False  # the fingerprint was known: nothing was computed


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, with a sentence that says why."""

    check: str
    passed: bool
    sentence: str
    warn: bool = False  # a failure is a warning, not an error
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepResult:
    """What a step did: partitions that now hold what they should, and the outcomes of its checks.

    A partition that was asked for and is not in `produced` was refused; what it held before stays in place.
    """

    produced: Mapping[str, Produced]
    findings: tuple[Finding, ...] = ()


def unchanged(*checks: str) -> tuple[Finding, ...]:
    """What the checks say when a step had nothing to do."""
    sentence = "Nothing was computed: the inputs are those of what stands, which was checked then."
    return tuple(Finding(check, passed=True, sentence=sentence) for check in checks)
