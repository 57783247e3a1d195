"""What a table is expected to be like, beyond what its contract says of single rows: the declarations.

`evaluate` judges them. Each one has the name of its asset check and a sentence for people.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from ml_assets.tables.schema import slug

Severity = Literal["warn", "error"]
Action = Literal["flag", "clip", "quarantine"]
LEAST_HISTORY, RECENT = 7, 28  # partitions: fewer are not judged against, and no more are looked at


@dataclass(frozen=True)
class Verdict:
    """The outcome of an expectation in one partition ("" where there are none).

    `numbers["judged"]` is False where there was too little to judge by; that passes. `query` finds all rows that are
    meant, over the views `tables.<table>` and `quarantine.<table>`; `examples` are at most ten of them.
    """

    check: str
    partition: str
    passed: bool
    severity: Severity
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    query: str | None = None

    @property
    def refuses(self) -> bool:
        """Whether the partition may not stand."""
        return not self.passed and self.severity == "error"


@dataclass(frozen=True)
class Missing:
    """The share of nulls in a column stays below a limit: at exactly the limit it fails."""

    column: str
    below: float = 0.10
    severity: Severity = "error"

    @property
    def check(self) -> str:
        """The name of the asset check."""
        return f"{slug(self.column)}__missing"

    @property
    def sentence(self) -> str:
        """What is expected."""
        return f"Less than {100 * self.below:g} % of {self.column} is missing."


@dataclass(frozen=True)
class MissingSpike:
    """The share of nulls in a column is not far above what the column itself had before.

    Above the median of the last 28 partitions by more than `spreads` robust standard deviations (1.4826 times the
    median absolute deviation, so that one bad day in the history does not hide the next), by more than `at_least`,
    since a column without nulls has no spread at all, and by more than three standard errors of a share among so few
    rows, since one null of 24 readings is no news. So 2 % -> 8 % among 900 rows is a spike although it is below 10 %.
    """

    column: str
    spreads: float = 3.0
    at_least: float = 0.03
    severity: Severity = "warn"

    @property
    def check(self) -> str:
        """The name of the asset check."""
        return f"{slug(self.column)}__missing_spike"

    @property
    def sentence(self) -> str:
        """What is expected."""
        return f"The missing share of {self.column} is not far above its usual one."


@dataclass(frozen=True)
class Outliers:
    """Few values lie beyond the fences Q1 - factor x IQR and Q3 + factor x IQR of their partition.

    Quartiles by linear interpolation, of the rows that keep every row rule, without duplicates. `quarantine` takes the
    rows beyond out of the table, `clip` puts the fence in place of the value, `flag` only counts; what a person
    released stays as it is. Nulls are no outliers. Where the IQR is 0 (a constant column, or one that is mostly one
    value, such as precipitation) the fences would call every other value an outlier: it is not judged. The check fails
    when more than `at_most` lie beyond; for a normal distribution 0.7 % do.
    """

    column: str
    factor: float = 1.5
    action: Action = "flag"
    at_most: float = 0.05
    severity: Severity = "warn"

    @property
    def check(self) -> str:
        """The name of the asset check."""
        return f"{slug(self.column)}__outliers"

    @property
    def rule(self) -> str:
        """The rule that a row in the quarantine broke."""
        return f"{self.column} within {self.factor:g} IQR"

    @property
    def sentence(self) -> str:
        """What is expected."""
        return f"At most {100 * self.at_most:g} % of {self.column} lie beyond {self.factor:g} interquartile ranges."


@dataclass(frozen=True)
class Volume:
    """The number of rows is near the median of the last 28 partitions: of the same weekday, where four are among them.

    Not judged before there are seven partitions, nor while the day of the partition is not over.
    """

    at_least: float = 0.5
    at_most: float = 2.0
    severity: Severity = "warn"

    @property
    def check(self) -> str:
        """The name of the asset check."""
        return "row_count_is_usual"

    @property
    def sentence(self) -> str:
        """What is expected."""
        return f"Between {self.at_least:g} and {self.at_most:g} times the usual number of rows."


@dataclass(frozen=True)
class Shift:
    """The values of a column are distributed as in the `reference` before: by the population stability index (PSI).

    0.2 is the textbook's limit of a major shift (Siddiqi, Credit Risk Scorecards, 2006). Two samples of one
    distribution differ too, by bins x (1/n + 1/m) on average: that is added to the limit, and a PSI that such chance
    reaches once in a thousand times is no shift either, so that small partitions do not cry wolf. `current` is how
    long the judged stretch is: a month against the month before leaves out the difference of single days.
    """

    column: str
    reference: timedelta = timedelta(days=28)
    psi: float = 0.2
    current: timedelta = timedelta(days=1)
    severity: Severity = "warn"

    @property
    def check(self) -> str:
        """The name of the asset check."""
        return f"{slug(self.column)}__shift"

    @property
    def sentence(self) -> str:
        """What is expected."""
        return f"{self.column} is distributed as in the {self.reference.days} days before (PSI up to {self.psi:g})."


@dataclass(frozen=True)
class References:
    """The values of a column are found in a column of another table, but for nulls, which refer to nothing."""

    column: str
    table: str
    to: str
    at_least: float = 0.8
    severity: Severity = "error"

    @property
    def check(self) -> str:
        """The name of the asset check."""
        return f"{slug(self.column)}__in_{slug(self.table)}"

    @property
    def sentence(self) -> str:
        """What is expected."""
        return f"At least {100 * self.at_least:g} % of {self.column} are in {self.table}.{self.to}."


Expectation = Missing | MissingSpike | Outliers | Volume | Shift | References


@dataclass(frozen=True)
class Fences:
    """The fences of a column in one partition, and how many of its `n` values lie beyond; None where not judged."""

    outliers: Outliers
    partition: str
    n: int
    beyond: int
    q1: float | None
    q3: float | None
    low: float | None
    high: float | None
