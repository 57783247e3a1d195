"""A model and an endpoint of a user's own, with a whole number as key, run by Dagster from files to performance."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import dagster as dg
import pyarrow as pa
import pytest

from ml_assets.adapters.deployment import LocalEndpoint
from ml_assets.adapters.settings import Settings
from ml_assets_tests.project import Project, checks, days, failure, materialized

CONTRACTS = """\
from datetime import datetime

import pandera.pandas as pa


class Orders(pa.DataFrameModel):
    order_id: int
    customer: str
    weight: float
    ordered_at: datetime
    returned: bool
    known_at: datetime
"""
ORDERS = """\
type: ml_assets.components.Table
attributes:
  name: orders
  source: {files: "orders/*.parquet"}
  contract: PACKAGE.contracts.Orders
  keys: [order_id]
  partitions: {column: ordered_at, start: "2013-01-01", end: "2013-01-31"}
  event_timestamp: ordered_at
  known_at: known_at
"""
RETURNS = """\
type: ml_assets.components.FeatureView
attributes:
  name: returns
  table: orders
  entity: [customer]
  every: 1h
  aggregations:
    returned: {expression: "CAST(returned AS DOUBLE)", functions: [mean, count], windows: [2d]}
"""
MODEL = """\
type: ml_assets.components.Model
attributes:
  name: order_return
  spine: {table: orders, time: ordered_at}
  label: {table: orders, expression: returned}
  features: [returns]
  train: {validation: 2d, test: 2d, rounds: 10, min_rows: 500, search: {trials: 1}}
  gates: {roc_auc: {at_least: 0.6, beats_baseline: false}}
"""
ENDPOINT = """\
type: ml_assets.components.Endpoint
attributes:
  name: order_return
  model: order_return
"""
DAYS = days("2013-01-01", "2013-01-10")
WHOLE = ("training_sets", "models", "evaluations", "releases", "endpoints")
DAILY = ("predictions", "outcomes", "consistency", "drift", "performance")


def orders(day: str) -> pa.Table:
    """An order every three minutes; half of the customers return three of four, the others one of four."""
    start, first = datetime.fromisoformat(day).replace(tzinfo=UTC), 480 * int(day[-2:])
    numbers = range(first, first + 480)
    ordered = [start + timedelta(minutes=3 * (n - first)) for n in numbers]
    often = [(n * 7919) % 11 < 5 for n in numbers]
    time = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "order_id": pa.array(numbers, pa.int64()),
            "customer": [f"C{(n * 7919) % 11}" for n in numbers],
            "weight": [float(n % 13) for n in numbers],
            "ordered_at": pa.array(ordered, time),
            "returned": [((n * 31) % 4 != 0) == o for n, o in zip(numbers, often, strict=True)],
            "known_at": pa.array([at + timedelta(hours=1) for at in ordered], time),
        }
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The project, run once from files to performance."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ML_ASSETS_HOME", str(folder / "var"))
        patch.syspath_prepend(folder / "code")
        project = Project(folder / "code", {})
        project.write("../../contracts.py", CONTRACTS)
        project.declare(ORDERS, RETURNS, MODEL, ENDPOINT)
        for day in DAYS:
            project.land(f"{day}.parquet", orders(day), table="orders")
        yield project
        server(project).stop()


def server(project: Project) -> LocalEndpoint:
    settings = Settings.from_environment()
    return LocalEndpoint(settings.endpoints / "order_return", name="order_return", online_store=settings.online_store)


@pytest.fixture(scope="module")
def ran(shop) -> list[dg.ExecuteInProcessResult]:
    span = {"first": DAYS[0], "last": DAYS[-1]}
    steps = [("raw/orders", "tables/orders"), ("features/returns",), ("labels/order_return",)]
    return [
        *(shop.run(*assets, **span) for assets in steps),  # a run over a range goes no further than one step
        shop.run(*(f"{layer}/order_return" for layer in WHOLE)),
        *(shop.run(f"{layer}/order_return", **span) for layer in DAILY),
    ]


def test_every_asset_is_materialized_and_every_blocking_check_passes(shop, ran):
    assert [failure(result) for result in ran if not result.success] == []
    made = {name for result in ran for name in materialized(result)}
    assert made == {
        "raw/orders", "tables/orders", "features/returns", "labels/order_return",
        *(f"{layer}/order_return" for layer in (*WHOLE, *DAILY)),
    }  # fmt: skip
    verdicts = {name: passed for result in ran for name, passed in checks(result).items()}
    assert {"roc_auc_at_least", "answers_equal_the_offline_prediction_bit_for_bit"} <= set(verdicts)
    assert not [name for name, passed in verdicts.items() if not passed and name.startswith(("answers", "every"))]


def test_all_of_a_history_with_fewer_rows_than_10_000_proves_parity_and_that_is_said(ran):
    proven = [
        evaluation
        for result in ran
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.check_name == "answers_equal_the_offline_prediction_bit_for_bit"
    ]
    (said,) = {evaluation.description for evaluation in proven}
    assert said
    assert said.startswith("all 4,800 rows of history: fewer than 10,000; as of 4,800 times from 2013-01-01")
    assert {evaluation.metadata["rows"].value for evaluation in proven} == {4_800}


def test_keys_that_are_numbers_stay_numbers_and_find_their_labels(shop, ran):
    rows = shop.rows("outcomes/order_return")
    assert {type(row["order_id"]) for row in rows} == {int}
    assert len({row["order_id"] for row in rows}) == len(rows) > 400
    assert sum(row["label"] is not None for row in rows) > 0.9 * len(rows)


def test_a_second_run_asks_nothing_and_commits_nothing(shop, ran):
    before = shop.versions()
    again = [shop.run(f"{layer}/order_return", first=DAYS[0], last=DAYS[-1]) for layer in DAILY]
    assert all(result.success and materialized(result) for result in again)
    assert shop.versions() == before


def test_a_version_that_answers_otherwise_fails_the_run_with_the_sentence_and_gets_no_traffic(shop, ran):
    home, store = Settings.from_environment().home, shop.step().online_store
    place = home / "lake" / "objects" / "releases" / "order_return.json"
    released = place.read_text()
    shutil.copytree(home / "bundles" / "order_return" / "1", home / "bundles" / "order_return" / "2")
    view = shop.view("returns")
    rows = shop.lake.dataset("features/returns").to_table().drop_columns(["partition_key"])
    names = view.view.features()
    flipped = rows.set_column(
        rows.column_names.index(names[0]), names[0], pa.array([1 - (v or 0) for v in rows[names[0]].to_pylist()])
    )
    store.write("returns@1", view.view.entity, names, flipped)
    place.write_text(json.dumps(json.loads(released) | {"version": "2", "previous": "1"}))
    result = shop.run("endpoints/order_return")
    place.write_text(released)
    store.write("returns@1", view.view.entity, names, rows)
    assert not result.success
    assert materialized(result) == {}
    assert not checks(result)["answers_equal_the_offline_prediction_bit_for_bit"]
    said = {e.check_name: e.description for e in result.get_asset_check_evaluations()}
    assert "4,751 of all 4,800 rows of history" in said["answers_equal_the_offline_prediction_bit_for_bit"]
    assert "`returns__returned_mean_2d` differs in" in said["answers_equal_the_offline_prediction_bit_for_bit"]
    assert {v: w for v, w in server(shop).status().weights.items() if w} == {"1": 1.0}


def test_a_failed_gate_fails_the_run_and_releases_nothing(shop, ran):
    shop.declare(ORDERS, RETURNS, MODEL.replace("at_least: 0.6", "at_least: 0.999"), ENDPOINT)
    place = Settings.from_environment().home / "lake" / "objects" / "releases" / "order_return.json"
    before = place.read_text()
    result = shop.run("evaluations/order_return", "releases/order_return", "endpoints/order_return")
    shop.declare(ORDERS, RETURNS, MODEL, ENDPOINT)
    assert not result.success
    assert not checks(result)["roc_auc_at_least"]
    assert not {"releases/order_return", "endpoints/order_return"} & set(materialized(result))
    assert place.read_text() == before
    assert server(shop).status().weights["1"] == 1.0
