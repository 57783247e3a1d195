"""What a person sees who opens the UI, and what happens when they click."""

import re
import time

import pytest
from playwright.sync_api import expect

from ml_assets.demo.graph import Graph

pytestmark = pytest.mark.browser
ASSETS_BY_LAYER = {
    "raw": 5,
    "tables": 5,
    "features": 6,
    "labels": 1,
    "training_sets": 1,
    "models": 1,
    "evaluations": 1,
    "releases": 1,
    "endpoints": 1,
    "predictions": 1,
    "outcomes": 1,
    "drift": 1,
    "performance": 1,
    "consistency": 1,
}


def wait_for(address, asset, condition):
    """Wait until Dagster says something about an asset."""
    graph, until = Graph(address, "ml_assets", since=0), time.monotonic() + 90
    while not condition(graph.snapshot().assets[asset]):
        assert time.monotonic() < until, f"waited too long for {asset}"
        time.sleep(0.2)


def test_the_graph_of_the_flights_shows_every_layer(dagster, page, screenshot):
    # So large that the graph is drawn with all its details: small nodes show the last part of their key only.
    page.set_viewport_size({"width": 5200, "height": 2400})
    page.goto(f"{dagster}/locations/ml_assets/asset-groups/flights")
    for layer, n_assets in ASSETS_BY_LAYER.items():
        expect(page.get_by_text(layer, exact=True)).to_have_count(n_assets)
    screenshot(page, "graph")
    page.set_viewport_size({"width": 1600, "height": 1000})
    page.goto(f"{dagster}/locations/ml_assets/asset-groups/flights")
    expect(page.get_by_text("arrival_delay", exact=True).first).to_be_visible()
    screenshot(page, "graph_as_opened")


def test_a_click_on_materialize_runs_an_asset_to_green(dagster, page, screenshot):
    # By its sensor; before that the UI asks for a confirmation.
    wait_for(dagster, "tables/aircraft", lambda asset: asset.materialized_at)
    page.goto(f"{dagster}/assets/tables/aircraft")
    expect(page.get_by_text("3,322")).to_be_visible()  # rows
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("View", exact=True).click()  # in the note that a run was launched
    expect(page).to_have_url(re.compile(r"/runs/[0-9a-f-]{36}"))
    expect(page.get_by_text("Success", exact=True)).to_be_visible()
    expect(page.get_by_text("Finished execution of run")).to_be_visible()
    screenshot(page, "run")
    page.goto(f"{dagster}/assets/tables/aircraft?view=events")
    expect(page.get_by_text("true", exact=True)).to_be_visible()  # `reused`: the same content is not stored again
    screenshot(page, "events")


def test_a_failed_check_shows_its_reason(dagster, page, screenshot):
    wait_for(dagster, "tables/weather", lambda asset: any(check.passed is False for check in asset.checks))
    page.goto(f"{dagster}/assets/tables/weather?view=checks")
    expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
    page.get_by_text(re.compile("files_are_read")).first.click()
    expect(page.get_by_text(re.compile(r"2013-01-02\.parquet: unreadable.*deliver it again"))).to_be_visible()
    expect(page.get_by_text("This is a blocking asset check.")).to_be_visible()
    screenshot(page, "failed_check")


def test_the_component_docs_describe_the_four_nouns_and_their_fields(dagster, page, screenshot):
    page.goto(f"{dagster}/locations/ml_assets/components/library")
    page.locator("a[href$='/packages/ml_assets']").click()
    for noun in ("Table", "FeatureView", "Model", "Endpoint"):
        expect(page.get_by_role("heading", name=f"ml_assets.components.{noun}", exact=True)).to_be_visible()
    screenshot(page, "components")
    page.get_by_role("heading", name="ml_assets.components.Table", exact=True).click()
    expect(page.get_by_text("The columns that identify a row.")).to_be_visible()  # of a required field
    expect(page.get_by_text("The column that says when it happened.")).to_be_visible()  # of an optional one
    screenshot(page, "component")
