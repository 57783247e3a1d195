"""A model of a user's own that learns nothing, run by hand again and again: its failed judgement stays failed."""

from random import Random

import dagster as dg
import pytest

from ml_assets.steps import explain
from ml_assets.steps.works import Asset
from ml_assets_tests.components.test_model_runs import CONTRACTS, DAYS, MODEL, ORDERS, RETURNS, orders
from ml_assets_tests.project import Project, checks, materialized

MODELS = "models/order_return"


@pytest.fixture
def shop(project):
    """Orders that are returned by chance, up to the training set."""
    project.write("../../contracts.py", CONTRACTS)
    project.declare(ORDERS, RETURNS, MODEL)
    for day in DAYS:
        rows = orders(day)
        chance = [Random(n).random() < 0.5 for n in rows["order_id"].to_pylist()]  # noqa: S311
        place = rows.column_names.index("returned")
        project.land(f"{day}.parquet", rows.set_column(place, "returned", [chance]), table="orders")
    span = {"first": DAYS[0], "last": DAYS[-1]}
    for assets in (("raw/orders", "tables/orders"), ("features/returns",), ("labels/order_return",)):
        assert project.run(*assets, **span).success
    assert project.run("training_sets/order_return").success
    return project


def said(ran: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What the checks said that failed."""
    return {e.check_name: e.description or "" for e in ran.get_asset_check_evaluations() if not e.passed}


def verdict(shop: Project) -> explain.Verdict:
    return explain.one(Asset("models", shop.model("order_return")), shop.step(), "")


def test_a_model_that_learnt_nothing_stays_failed_when_it_is_run_again(shop):
    first, again = (shop.run(MODELS) for _ in range(2))
    assert materialized(again) == materialized(first)
    assert said(again) == said(first)
    (sentence,) = (each for each in said(first).values() if each.startswith("Validation log loss "))
    assert checks(again) == checks(first)
    assert not checks(again)["training_beat_a_constant"]
    assert verdict(shop).decision is explain.Decision.REFUSED
    assert sentence.rstrip(".") in verdict(shop).sentence()
    shop.declare(ORDERS, RETURNS, MODEL.replace("rounds: 10", "rounds: 11"))
    assert verdict(shop).decision is explain.Decision.WOULD_RUN
