"""The same checks by other libraries, in an environment that has those and nothing of ours: see `validation`."""

import json
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

COLUMNS = ["order_id", "customer", "quantity", "price", "discount", "kind", "paid", "ordered_at", "weight", "rating"]


def pandera_pandas(source: str) -> Callable[[], object]:
    import pandas as pd
    import pandera.pandas as pa

    schema = _pandas_schema(pa, "datetime64[us, UTC]")
    return lambda: _all_errors(schema, pd.read_parquet(source, columns=COLUMNS))


def pandera_polars(source: str) -> Callable[[], object]:
    import pandera.polars as pa
    import polars as pl  # pyright: ignore[reportMissingImports]

    schema = _polars_schema(pa, pl)
    return lambda: _all_errors(schema, pl.read_parquet(source, columns=COLUMNS))


def _all_errors(schema, frame) -> None:
    try:
        schema.validate(frame, lazy=True)
    except Exception as error:
        if type(error).__name__ != "SchemaErrors":
            raise


def _pandas_schema(pa, instant):
    def few_missing(x):
        return x.isna().mean() < 0.1

    def few_outliers(x):
        q1, q3 = x.quantile(0.25), x.quantile(0.75)
        return (~x.between(q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1))).mean() <= 0.05

    return pa.DataFrameSchema(_columns(pa, instant, pa.Check(few_missing), pa.Check(few_outliers), "str"))


def _polars_schema(pa, pl):
    def few_missing(data):
        return data.lazyframe.select(pl.col(data.key).is_null().mean() < 0.1)

    def few_outliers(data):
        x = pl.col(data.key)
        q1, q3 = x.quantile(0.25, "linear"), x.quantile(0.75, "linear")
        beyond = ~x.is_between(q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1))
        return data.lazyframe.select(beyond.mean() <= 0.05)

    instant = pl.Datetime("us", "UTC")
    return pa.DataFrameSchema(_columns(pa, instant, pa.Check(few_missing), pa.Check(few_outliers), pl.String))


def _columns(pa, instant, few_missing, few_outliers, text):
    check = pa.Check
    return {
        "order_id": pa.Column(int, check.ge(0), unique=True),
        "customer": pa.Column(text, check.str_length(min_value=3)),
        "quantity": pa.Column(int, check.in_range(0, 100)),
        "price": pa.Column(float, [check.in_range(0, 1000), few_outliers]),
        "discount": pa.Column(float, [check.in_range(0, 10), few_missing], nullable=True),
        "kind": pa.Column(text, check.isin(list("abcd"))),
        "paid": pa.Column(bool),
        "ordered_at": pa.Column(instant),
        "weight": pa.Column(float, [check.ge(0), few_missing], nullable=True),
        "rating": pa.Column(int, check.isin([1, 2, 3, 4, 5])),
    }


def great_expectations(source: str) -> Callable[[], object]:
    import great_expectations as gx  # pyright: ignore[reportMissingImports]
    import pandas as pd
    from great_expectations import expectations as e  # pyright: ignore[reportMissingImports]

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batches = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
    suite = context.suites.add(gx.ExpectationSuite(name="orders"))
    filled = [name for name in COLUMNS if name not in ("discount", "weight")]
    rules = [e.ExpectColumnValuesToNotBeNull(column=name) for name in filled]
    rules += [e.ExpectColumnValuesToNotBeNull(column=name, mostly=0.9) for name in ("discount", "weight")]
    ranges = {"quantity": (0, 100), "price": (0, 1000), "discount": (0, 10), "weight": (0, None)}
    for name, (low, high) in ranges.items():
        rules.append(e.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high))
    rules += [
        e.ExpectColumnValuesToBeInSet(column="kind", value_set=list("abcd")),
        e.ExpectColumnValuesToBeInSet(column="rating", value_set=[1, 2, 3, 4, 5]),
        e.ExpectColumnValuesToBeUnique(column="order_id"),
        e.ExpectColumnValueLengthsToBeBetween(column="customer", min_value=3),
    ]
    types = {"order_id": "int64", "quantity": "int64", "price": "float64", "paid": "bool", "rating": "int64"}
    rules += [e.ExpectColumnValuesToBeOfType(column=name, type_=kind) for name, kind in types.items()]
    for rule in rules:
        suite.add_expectation(rule)
    definition = gx.ValidationDefinition(name="v", data=batches, suite=suite)

    def run() -> None:
        frame = pd.read_parquet(source, columns=COLUMNS)
        definition.run(batch_parameters={"dataframe": frame})
        q1, q3 = frame.price.quantile([0.25, 0.75])
        (~frame.price.between(q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1))).mean()

    return run


def main() -> None:
    run = globals()[sys.argv[1]](sys.argv[2])
    before = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    run()
    spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - before
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    sys.stdout.write("\n" + json.dumps({"cpu": spent, "peak": int(peak[1]) / 2**20 if peak else 0.0}) + "\n")


if __name__ == "__main__":
    main()
