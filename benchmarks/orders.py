"""The table that validation is measured on: ten columns, and the rules that every contender checks."""

from datetime import datetime

import pandera.pandas as pa


class Orders(pa.DataFrameModel):
    """Types, nulls, ranges, sets and uniqueness; the missing share and the IQR of `price` are checked beside it."""

    order_id: int = pa.Field(ge=0)
    customer: str = pa.Field(str_length={"min_value": 3})
    quantity: int = pa.Field(ge=0, le=100)
    price: float = pa.Field(ge=0, le=1000)
    discount: float = pa.Field(nullable=True, ge=0, le=10)
    kind: str = pa.Field(isin=["a", "b", "c", "d"])
    paid: bool
    ordered_at: datetime
    weight: float = pa.Field(nullable=True, ge=0)
    rating: int = pa.Field(isin=[1, 2, 3, 4, 5])


def write(path: str, rows: int, bad: float) -> None:
    """Write orders as they come out of one delivered file; a share of them has a negative quantity or no such kind.

    The ids are unique and in no order, for a number of rows that 7919 does not divide.
    """
    from ml_assets.engine import connect

    with connect(threads=2) as con:
        con.execute("SELECT setseed(0.5)")
        kind = f"CASE WHEN wrong > {1 - bad / 2} THEN 'z' ELSE chr(97 + CAST(floor(random() * 4) AS INTEGER)) END"
        con.execute(f"""
            COPY (SELECT
                (i * 7919) % {rows} AS order_id, 'c' || CAST(100 + floor(random() * 100000) AS BIGINT) AS customer,
                CASE WHEN wrong < {bad / 2} THEN -1 ELSE CAST(floor(random() * 100) AS BIGINT) END AS quantity,
                random() * 1000 AS price, CASE WHEN random() < 0.05 THEN NULL ELSE random() * 10 END AS discount,
                {kind} AS kind,
                random() < 0.5 AS paid, TIMESTAMPTZ '2024-01-01' + to_microseconds(i * 8000) AS ordered_at,
                random() * random() * 500 AS weight, 1 + CAST(floor(random() * 5) AS BIGINT) AS rating,
                '2024-01-01' AS partition_key, 'orders.parquet' AS _file, i + 1 AS _row,
                TIMESTAMPTZ '2024-01-02' AS _arrived_at
            FROM (SELECT i, random() AS wrong FROM range({rows}) AS t(i))) TO '{path}' (FORMAT parquet)""")
