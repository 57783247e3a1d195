"""A second model takes the features that a first one has: nothing is computed again."""

import dagster as dg
import numpy as np
import pyarrow as pa

from ml_assets_tests.project import DOCUMENTS, flights

MODEL = """\
type: ml_assets.components.Model
attributes:
  name: {name}
  spine: {{table: flights, time: "arrived_at - INTERVAL 2 HOUR"}}
  label: {{table: flights, expression: "{label}", horizon: 1d}}
  features: [carrier_delays, last_flight, carrier_attributes]
  train: {{min_rows: 10, validation: 1d, test: 1d, gap: 6h}}
"""
FIRST, LAST = "2013-01-01", "2013-01-08"
VIEWS = ("carrier_delays", "last_flight", "carrier_attributes")


def declare(project, *models):
    project.declare(*DOCUMENTS.values(), *models)


def by_chance(day):
    """Flights whose delays no feature could tell: those of the project follow the hour."""
    rows = flights(day, hours=range(24))
    delays = np.random.default_rng(int(day[-2:])).permutation(np.linspace(-30, 60, rows.num_rows))
    return rows.set_column(rows.schema.get_field_index("delay"), "delay", pa.array(delays))


def built(project, *assets, first="", last=""):
    done = project.run(*assets, first=first, last=last)
    assert done.success
    return [event.materialization for event in done.get_asset_materialization_events()]


def computed(materializations, layer):
    return [
        f"{each.asset_key.path[1]} {each.partition}"
        for each in materializations
        if each.asset_key.path[0] == layer and not each.metadata["reused"].value
    ]


def test_a_second_model_over_the_same_views_recomputes_no_feature(project):
    late = MODEL.format(name="late", label="delay > 15")
    declare(project, late)
    for day in (f"2013-01-0{n}" for n in range(1, 9)):
        project.land(f"{day}.parquet", by_chance(day))
    project.land_carriers()
    built(project, "raw/flights", "tables/flights", first=FIRST, last=LAST)
    built(project, "raw/carriers", "tables/carriers")
    made = [
        *built(project, "features/carrier_delays", first=FIRST, last=LAST),
        *built(project, "features/last_flight", first=FIRST, last=LAST),
        *built(project, "features/carrier_attributes"),
        *built(project, "labels/late", first=FIRST, last="2013-01-07"),
        *built(project, "training_sets/late"),
    ]
    assert len(computed(made, "features")) == 8 + 8 + 1
    before = project.versions()

    declare(project, late, MODEL.format(name="very_late", label="delay > 30"))
    again = [
        *built(project, "features/carrier_delays", first=FIRST, last=LAST),
        *built(project, "features/last_flight", first=FIRST, last=LAST),
        *built(project, "features/carrier_attributes"),
        *built(project, "labels/very_late", first=FIRST, last="2013-01-07"),
        *built(project, "training_sets/very_late"),
    ]
    assert computed(again, "features") == []
    assert len([each for each in again if each.asset_key.path[0] == "features"]) == 17
    assert computed(again, "training_sets") == ["very_late None"]
    after = project.versions()
    assert {name: after[name] for name in before} == before  # not one commit to what stood
    rows = project.rows("training_sets/very_late")
    assert {name for name in rows[0] if "__" in name} >= {"carrier_delays__delay_mean_6h", "last_flight__last_delay"}
    assert any(row["carrier_delays__delay_mean_6h"] is not None for row in rows)
    spec = project.defs.resolve_asset_graph().get(dg.AssetKey(["training_sets", "very_late"]))
    assert {key.to_user_string() for key in spec.parent_keys} >= {f"features/{view}" for view in VIEWS}
