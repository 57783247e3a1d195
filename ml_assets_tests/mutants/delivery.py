"""A good delivery of flights, and mutants of it: rows of text, so that every byte of a file is in a test's hands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from ml_assets_tests.project import parquet

Row = dict[str, str]
Rows = list[Row]
PLENTY = 1000  # rows, so that a tenth of a percent is one row
CONTRACTS = """\
from datetime import datetime

import pandera.pandas as pa


class Flights(pa.DataFrameModel):
    flight_id: str = pa.Field(str_matches=r"[A-Z]{2}-\\d{4}-\\d{2}-\\d{2}-\\d{4}$")
    carrier: str = pa.Field(isin=["UA", "B6", "DL"])
    tailnum: str = pa.Field(nullable=True, str_length={"min_value": 5, "max_value": 6})
    gate: str = pa.Field(nullable=True)
    seats: int = pa.Field(ge=1, le=853)
    delay: float = pa.Field(nullable=True, ge=-60, le=600)
    distance: float = pa.Field(gt=0)
    arrived_at: datetime
    known_at: datetime

    class Config:
        metadata = {"rules": {"arrived_before_known": "arrived_at <= known_at"}}
        unique = ["tailnum", "arrived_at"]


class Aircraft(pa.DataFrameModel):
    tailnum: str
    seats: int
"""
# What a table declares beside the rest; the rest is that of `flights`, the plain one.
TABLES = {
    "flights": """
  source: {files: "flights/*.csv*", format: {max_bytes: 200KB}}
  expectations:
    missing: {delay: 0.1, gate: null}
    spikes: null
    volume: null
    references: {tailnum: {table: aircraft, column: tailnum, at_least: 0.8}}""",
    "usual": """
  expectations: {missing: {default: null}, shift: {delay: {reference: 28d, psi: 0.2}}}""",
    "measured": """
  expectations:
    volume: null
    outliers:
      delay: {action: flag, at_most: 0.05}
      seats: {action: clip, severity: error, at_most: 0.05}
      distance: {action: quarantine, factor: 3}""",
    "evolving": """
  schema_drift: {columns: evolve, data_type: discard_row}
  expectations: {missing: {gate: null}, volume: null}""",
    "discarding_rows": """
  schema_drift: {columns: discard_row, data_type: discard_row}
  expectations: {volume: null}""",
    "discarding_values": """
  schema_drift: {columns: discard_value, data_type: discard_value}
  expectations: {volume: null}""",
    "local": """
  source: {files: "local/*", format: {time_zone: America/New_York}}
  expectations: {volume: null}""",
}
_TABLE = """\
type: ml_assets.components.Table
attributes:
  name: NAME
  contract: PACKAGE.contracts.Flights
  keys: [flight_id]
  partitions: {column: known_at, start: "2012-02-20", end: "2012-06-30"}
  event_timestamp: arrived_at
  known_at: known_at
  invalid_rows: {fail_above: 0.05}"""
_AIRCRAFT = """\
type: ml_assets.components.Table
attributes:
  name: aircraft
  source: {files: "aircraft/*.parquet"}
  contract: PACKAGE.contracts.Aircraft
  keys: [tailnum]
"""
_VIEW = """\
type: ml_assets.components.FeatureView
attributes:
  name: NAME_delays
  sql: SELECT carrier, known_at, arrived_at AS event_timestamp, delay AS last_delay FROM NAME
  entity: [carrier]
  every: 1h
  max_age: 1h
"""


def documents(tables: Mapping[str, str]) -> dict[str, str]:
    """The YAML of tables that declare this, each with a view that is made from it."""
    found = {"aircraft": _AIRCRAFT}
    for name, own in tables.items():
        source = "" if "source:" in own else f'\n  source: {{files: "{name}/*.csv*"}}'
        found[name] = _TABLE.replace("NAME", name) + source + own + "\n"
        found[f"{name}_delays"] = _VIEW.replace("NAME", name)
    return found


def good(day: str, n: int = 40) -> Rows:
    """Flights of a day that keep everything that was promised of them; the values do not depend on the day."""
    rows = []
    for i in range(n):
        arrived_at = datetime.fromisoformat(day) + timedelta(seconds=40 * i)
        rows.append(
            {
                "flight_id": f"UA-{day}-{i:04}",
                "carrier": ("UA", "B6", "DL")[i % 3],
                "tailnum": f"N{100 + i % 50}UA",
                "gate": f"A{i % 20}",
                "seats": str(100 + i % 40),
                "delay": f"{i * 37 % 101 - 20}.5",
                "distance": f"{200 + i * 7 % 1000}.0",
                "arrived_at": f"{arrived_at.isoformat()}Z",
                "known_at": f"{(arrived_at + timedelta(seconds=30)).isoformat()}Z",
            }
        )
    return rows


def aircraft() -> bytes:
    """The aircraft that the good flights name."""
    tailnums = sorted({row["tailnum"] for row in good("2012-02-20", 50)})
    return parquet(pa.table({"tailnum": tailnums, "seats": pa.array([100] * len(tailnums), pa.int64())}))


def csv(rows: Rows) -> bytes:
    """The bytes of a file; the header is line 1."""
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    return "\n".join([*lines, ""]).encode()


@dataclass(frozen=True)
class Mutant:
    """A good delivery of `n` rows with its rows edited, then its text; named as the day with a suffix."""

    edit: Callable[[Rows], Rows] = list
    text: Callable[[bytes], bytes] = bytes
    n: int = 40
    suffix: str = ".csv"

    def rows(self, day: str) -> Rows:
        """What is delivered of a day, row by row."""
        return self.edit(good(day, self.n))

    def content(self, day: str) -> bytes:
        """What is delivered of a day."""
        return self.text(csv(self.rows(day)))


def as_parquet(rows: Rows) -> bytes:
    """The same rows as a Parquet file; an empty field is null, `NaN` and `inf` are what they are."""
    types = {"seats": pa.int64(), "delay": pa.float64(), "distance": pa.float64()}
    types |= dict.fromkeys(("arrived_at", "known_at"), pa.timestamp("us", "UTC"))
    texts = {name: pa.array([row[name] or None for row in rows], pa.string()) for name in rows[0]}
    return parquet(pa.table({name: text.cast(types.get(name, pa.string())) for name, text in texts.items()}))


def put(column: str, value: str, *lines: int) -> Callable[[Rows], Rows]:
    """Put a value into the rows of these lines; `{day}` in it is that of the row."""

    def edit(rows: Rows) -> Rows:
        for line in lines:
            row = rows[line - 2]
            row[column] = value.replace("{day}", row["known_at"][:10])
        return rows

    return edit


def without(column: str) -> Callable[[Rows], Rows]:
    """Leave a column out."""
    return lambda rows: [{name: value for name, value in row.items() if name != column} for row in rows]


def adding(column: str, *values: str) -> Callable[[Rows], Rows]:
    """A column behind the others, empty where there are no more values."""

    def edit(rows: Rows) -> Rows:
        return [{**row, column: values[i] if i < len(values) else ""} for i, row in enumerate(rows)]

    return edit


def again(line: int, **values: str) -> Callable[[Rows], Rows]:
    """Deliver the row of a line once more, at the end, with other values."""
    return lambda rows: [*rows, {**rows[line - 2], **values}]


def together(*edits: Callable[[Rows], Rows]) -> Callable[[Rows], Rows]:
    """One edit after the other."""

    def edit(rows: Rows) -> Rows:
        for each in edits:
            rows = each(rows)
        return rows

    return edit
