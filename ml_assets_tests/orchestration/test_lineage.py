"""Where people and programs find what a column is made from."""

import dagster as dg


def lineage_of(materialization):
    found = materialization.asset_materialization.metadata.get("dagster/column_lineage")
    deps = found.column_lineage.deps_by_column if found else {}
    return {
        column: [(d.asset_key.to_user_string(), d.column_name) for d in sources] for column, sources in deps.items()
    }


def materialized(instance, asset):
    events = instance.fetch_materializations(dg.AssetKey.from_user_string(asset), limit=10).records
    return [lineage_of(event) for event in events]


def test_the_newest_materialization_of_a_run_over_days_tells_the_lineage(project):
    project.land_days("2013-01-01", "2013-01-02")
    assert project.run("raw/flights", "tables/flights", first="2013-01-01", last="2013-01-02").success
    assert project.run("features/carrier_delays", first="2013-01-01", last="2013-01-02").success
    newest, *older = materialized(project.instance, "features/carrier_delays")
    assert newest["delay_mean_6h"] == [("tables/flights", "delay")]
    assert newest["carrier"] == [("tables/flights", "carrier")]
    assert newest["feature_timestamp"] == [("tables/flights", "known_at")]
    assert older == [{}]  # two events of a run need not say the same
    assert materialized(project.instance, "tables/flights") == [{}, {}]


def test_the_columns_of_a_view_say_in_words_what_they_are_made_from(project):
    spec = project.defs.resolve_asset_graph().get(dg.AssetKey(["features", "carrier_delays"]))
    said = {column.name: column.description for column in spec.metadata["dagster/column_schema"].schema.columns}
    assert said["delay_mean_6h"] == "mean of delay over 6h\n\nFrom [`flights.delay`](/assets/tables/flights)"


def test_a_view_whose_sql_cannot_be_followed_loads_without_lineage(project):
    project.write(
        "last_flight.sql",
        "SELECT carrier, known_at, d AS last_delay FROM (SELECT carrier, known_at, COLUMNS('delay') AS d FROM flights)",
    )
    spec = project.defs.resolve_asset_graph().get(dg.AssetKey(["features", "last_flight"]))
    said = {column.name: column.description for column in spec.metadata["dagster/column_schema"].schema.columns}
    assert said["last_delay"] in (None, "")
