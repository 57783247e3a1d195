"""Contracts are written as source text and imported from a temporary folder, as a user's module would be."""

import io
import textwrap
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_assets import engine
from ml_assets.tables import contract
from ml_assets.tables.contract import Contract
from ml_assets.tables.delivery import DeliveredFile, read_delivery, stamp, stamped_schema

HEAD = """\
from datetime import date, datetime
from typing import Annotated, ClassVar, Optional

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

"""
FLIGHTS = """
class Flights(pa.DataFrameModel):
    flight_id: str = pa.Field(description="Unique id")
    carrier: str = pa.Field(isin=["UA", "B6"])
    departed_at: datetime = pa.Field(nullable=True)
    arrived_at: datetime
    delay: float = pa.Field(in_range={"min_value": -120, "max_value": 2000}, nullable=True)
    seats: int = pa.Field(gt=0)
    cancelled: bool

    class Config:
        metadata: ClassVar = {"rules": {"arrives after departure": "arrived_at >= departed_at"}}
"""
NOON = datetime(2013, 1, 5, 12, tzinfo=UTC)
FLIGHT = {
    "flight_id": "f1",
    "carrier": "UA",
    "departed_at": NOON,
    "arrived_at": NOON,
    "delay": 1.5,
    "seats": 100,
    "cancelled": False,
}
_numbers = count()


@pytest.fixture
def declare(tmp_path, monkeypatch) -> Callable[..., str]:
    """Write a module of contracts, answer the reference of a class in it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(body: str, name: str, module: str | None = None) -> str:
        module = module or f"contracts_{next(_numbers)}"
        (tmp_path / f"{module}.py").write_text(HEAD + textwrap.dedent(body))
        return f"{module}.{name}"

    return write


@pytest.fixture
def one_column(declare) -> Callable[..., str]:
    """The reference of a contract with one column `x`."""
    return lambda kind, field="": declare(
        f"class Table(pa.DataFrameModel):\n    x: {kind} = pa.Field({field})\n", "Table"
    )


@pytest.fixture
def flights(declare) -> Contract:
    return contract.load(declare(FLIGHTS, "Flights"), keys=["flight_id"])


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    return engine.connect(threads=1)


def parquet(rows: Sequence[dict] | pa.Table) -> bytes:
    """A Parquet file of these rows."""
    buffer = io.BytesIO()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows)), buffer)
    return buffer.getvalue()


def deliver(of: Contract, rows: Sequence[dict], *, name="a.parquet", partition="2013-01-05", at=NOON) -> pa.Table:
    """Rows as they come out of a delivered file."""
    schema = pa.schema(list(stamped_schema(of))[: len(of.columns)])
    content = parquet(pa.Table.from_pylist(list(rows), schema=schema))
    return stamp(read_delivery(content, name, of), DeliveredFile(name, content, partition, at))
