"""Validation and quarantine of 10 million rows x 10 columns, against SQL written by hand and three other libraries.

Every contender runs in a process of its own and reads the same Parquet file. What they check is the same: types, nulls,
ranges, sets, uniqueness, the missing share and the IQR outliers of a column. Ours and the hand-written SQL write valid
rows and quarantine, ours in order. The other libraries only find the bad rows, so they are compared with ours up to the
quarantine, without the valid rows; they live in a virtual environment that is made here.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import orders
from benchmarks.cost import Cost, measured, report
from benchmarks.peers import environment

ROWS = int(os.environ.get("ML_ASSETS_BENCH_ROWS", "10000000"))
_GIB = 1.5
_MEMORY = "1.2GB"  # of DuckDB, for both; the rest of the bound is for Python and what DuckDB does not count
_PEERS = {
    "pandera on pandas": "pandera_pandas",
    "pandera on polars": "pandera_polars",
    "Great Expectations": "great_expectations",
}
_NEEDED = ("pandera[pandas,polars]==0.35.0", "great-expectations==1.24.0", "pyarrow")


def costs(folder: Path) -> list[Cost]:
    """Ours against each peer, its memory against the bound, and many bad rows against few."""
    few, many = folder / "orders.parquet", folder / "bad_orders.parquet"
    orders.write(str(few), ROWS, 0.0001)
    orders.write(str(many), ROWS, 0.1)
    own = [sys.executable, "-W", "ignore", "-m", "benchmarks.validation"]
    spent, peak = measured([*own, "ours", str(few)])
    by_hand, _ = measured([*own, "by_hand", str(few)])
    worse, _ = measured([*own, "ours", str(many)])
    said = f"validate and quarantine {ROWS:,} rows x 10"
    found = [
        Cost(said, spent, "the SQL written by hand, not sorted", by_hand, 1.5),
        Cost(f"{said}, peak GiB", peak, "the bound, GiB", _GIB, 1.0),
        Cost(f"{said}, 10 % bad", worse, "the same with 0.01 % bad", spent, 1.5),
    ]
    finding, _ = measured([*own, "find", str(few)])
    python = environment("bench", _NEEDED, ", ".join(_PEERS))
    script = str(Path(__file__).with_name("validation_peers.py"))
    for peer, name in _PEERS.items() if python else ():
        theirs, _ = measured([python, "-W", "ignore", script, name, str(few)], 1)
        found.append(Cost(f"find the bad ones of {ROWS:,} rows x 10", finding, peer, theirs, 1.0))
    return found


def find(source: str) -> Callable[[], object]:
    """The same without the valid rows."""
    return ours(source, whole=False)


def ours(source: str, *, whole: bool = True) -> Callable[[], object]:
    """The rules compiled from the contract, streamed from file to file."""
    from ml_assets.engine import connect
    from ml_assets.tables import contract
    from ml_assets.tables.expectations import Outliers
    from ml_assets.tables.validate import Question, count, judged

    loaded = contract.load("benchmarks.orders.Orders", keys=["order_id"])
    asked = Question(loaded, outliers=(Outliers("price"),))
    valid, quarantine = _places(source)

    def run() -> None:
        with connect(memory_limit=_MEMORY, threads=2) as con:
            con.execute(f"SET temp_directory = '{source}.tmp'")
            con.execute(f"CREATE VIEW delivered AS SELECT * FROM read_parquet('{source}')")
            with judged(con, "delivered", None, asked) as outcome:
                if whole:
                    con.execute(f"COPY ({outcome.valid}) TO '{valid}' (FORMAT parquet)")
                con.execute(f"COPY ({outcome.quarantine}) TO '{quarantine}' (FORMAT parquet)")
            good = f"read_parquet('{valid}')" if whole else "delivered"
            counts = count(con, ["delivered"], good, f"read_parquet('{quarantine}')", outcome.duplicates)
            con.execute(f"SELECT count(*), count(discount), count(weight) FROM {good}").fetchall()
        if whole and not all(each.reconciles() for each in counts.values()):
            raise SystemExit(f"rows are lost: {counts}")

    return run


_RULES = {
    "order_id is not null": "order_id IS NOT NULL",
    "order_id from 0": "order_id >= 0",
    "customer is not null": "customer IS NOT NULL",
    "customer has 3 characters": "length(customer) >= 3",
    "quantity is not null": "quantity IS NOT NULL",
    "quantity in range": "quantity BETWEEN 0 AND 100",
    "price is not null": "price IS NOT NULL",
    "price in range": "price BETWEEN 0 AND 1000",
    "discount in range": "discount IS NULL OR discount BETWEEN 0 AND 10",
    "kind is not null": "kind IS NOT NULL",
    "kind is known": "kind IN ('a', 'b', 'c', 'd')",
    "paid is not null": "paid IS NOT NULL",
    "ordered_at is not null": "ordered_at IS NOT NULL",
    "weight in range": "weight IS NULL OR weight >= 0",
    "rating is not null": "rating IS NOT NULL",
    "rating is known": "rating IN (1, 2, 3, 4, 5)",
}


def by_hand(source: str) -> Callable[[], object]:
    """What a data engineer would write: a pass of aggregates, one for uniqueness, one for outliers, two copies."""
    from ml_assets.engine import connect

    rows = f"read_parquet('{source}')"
    valid, quarantine = _places(source)
    good = " AND ".join(f"({sql})" for sql in _RULES.values())
    cases = ", ".join(f"CASE WHEN NOT ({sql}) THEN '{name}' END" for name, sql in _RULES.items())
    names = "order_id, customer, quantity, price, discount, kind, paid, ordered_at, weight, rating"
    record = ", ".join(f"{name}: {name}" for name in names.split(", "))
    first_broken = f"list_filter([{cases}], lambda rule: rule IS NOT NULL)"

    def run() -> None:
        with connect(memory_limit=_MEMORY, threads=2) as con:
            con.execute(f"SET temp_directory = '{source}.tmp'")
            found = con.execute(
                f"SELECT count(*), count(discount), count(weight), quantile_cont(price, [0.25, 0.75]) FROM {rows}"
                f" WHERE {good}"
            ).fetchall()[0]
            low, high = found[3][0] * 2.5 - found[3][1] * 1.5, found[3][1] * 2.5 - found[3][0] * 1.5
            con.execute(f"SELECT count(*) FROM {rows} WHERE {good} AND NOT price BETWEEN {low} AND {high}").fetchall()
            twice = f"SELECT order_id FROM {rows} WHERE {good} GROUP BY order_id HAVING count(*) > 1"
            con.execute(f"CREATE TEMP TABLE twice AS {twice}")
            unique = "order_id NOT IN (FROM twice)"
            con.execute(
                f"COPY (SELECT {names}, _arrived_at AS known_at, partition_key FROM {rows} WHERE {good} AND {unique})"
                f" TO '{valid}' (FORMAT parquet)"
            )
            con.execute(
                f"COPY (SELECT partition_key, _file, _row, {first_broken} AS rules,"
                f" CAST(to_json({{{record}}}) AS VARCHAR) AS record, _arrived_at FROM {rows}"
                f" WHERE NOT ({good} AND {unique})) TO '{quarantine}' (FORMAT parquet)"
            )

    return run


def _places(source: str) -> tuple[str, str]:
    place = Path(f"{source}.out")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return str(place / "valid.parquet"), str(place / "quarantine.parquet")


if __name__ == "__main__":
    report({"ours": ours, "find": find, "by_hand": by_hand}[sys.argv[1]](sys.argv[2]))
