"""Ten skews between what is trained on and what is served, planted in a real store or bundle: none takes traffic."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.errors import EndpointError
from ml_assets.records import StepResult
from ml_assets.serving import bundle
from ml_assets.steps import catalogue, evaluation
from ml_assets.steps.specs import ViewSpec
from ml_assets_tests.flights import NAME, World, copied, ended, finding, release_copy

ALWAYS = {"first": datetime(1970, 1, 1, tzinfo=UTC), "last": datetime(2100, 1, 1, tzinfo=UTC)}
Alter = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def shared(grown, tmp_path_factory):
    """Version 1 is proven and has the traffic, version 2 is released: the same model under another number."""
    world = World(copied(grown.home, tmp_path_factory.mktemp("skews") / "home"), grown.spec)
    with ended(world):
        world.serve()
        release_copy(world)
        yield world


@pytest.fixture
def online(shared):
    """Version 1 has the traffic again."""
    shared.server().apply({"1": 1.0})
    return shared


@dataclass(frozen=True)
class View:
    """A feature view of a world, in the lake and online."""

    world: World
    spec: ViewSpec

    @classmethod
    def of(cls, world: World, name: str) -> "View":
        return cls(world, next(view for view in world.spec.views if view.view.name == name))

    def rows(self) -> pa.Table:
        """What the lake has."""
        return self.world.rows(self.spec.name)

    def put_online(self, rows: pa.Table) -> None:
        """Put rows in place of all that the store has of the view."""
        store, view = self.world.step().online_store, self.spec.view
        stored = max(name for name in store.views() if name.partition("@")[0] == view.name)
        columns = [*view.entity, "feature_timestamp", *view.features()]
        keep = self.spec.keep if self.spec.daily else None
        store.replace(stored, view.entity, view.features(), rows.select(columns), keep=keep, **ALWAYS)


def altered(column: str, change: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> Alter:
    return lambda rows: rows.set_column(rows.column_names.index(column), column, change(rows[column]))


def truncated(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.trunc(values), pa.int64())


def before(moment: datetime) -> Alter:
    return lambda rows: rows.filter(pc.less(rows["feature_timestamp"], pa.scalar(moment, pa.timestamp("us", "UTC"))))


LOCAL = timedelta(hours=5)  # New York's clock taken for UTC
SKEWS = {
    "dtype int": ("carrier_delays", altered("arrival_delay_minutes_mean_1d", truncated)),
    "dtype float32": ("carrier_delays", altered("late_rate_7d", lambda v: pc.cast(v, pa.float32(), safe=False))),
    "time zone": ("weather_at_origin", altered("feature_timestamp", lambda v: pc.subtract(v, LOCAL))),
    "null becomes 0": ("weather_at_origin", altered("pressure_mb", lambda v: pc.fill_null(v, 0.0))),
    "stale": ("carrier_delays", before(datetime(2013, 1, 14, 12, tzinfo=UTC))),
    "unit": ("weather_at_origin", altered("visibility_miles", lambda v: pc.multiply(v, 1.609344))),
    "key case": ("carrier_delays", altered("carrier", pc.utf8_lower)),
    "rounding": ("origin_delays", altered("departure_delay_minutes_mean_3h", lambda v: pc.round(v, 2))),
}
SAID = {
    "dtype int": r"`carrier_delays__arrival_delay_minutes_mean_1d` differs in \d+: offline \S+, online -?\d+\.0 for",
    "dtype float32": r"`carrier_delays__late_rate_7d` differs in",
    "time zone": r"`weather_at_origin__\w+` differs in .*both from the row of 2013-01-",
    "null becomes 0": r"`weather_at_origin__pressure_mb` differs in \d+: offline null, online 0\.0 for origin",
    "stale": r"`carrier_delays__\w+` differs in .*the online row is that of 2013-01-14 11:00:00, offline that of",
    "unit": r"`weather_at_origin__visibility_miles` differs in .*both from the row of",
    "key case": r"`carrier_delays__\w+` differs in .*no online row was found, offline that of",
    "rounding": r"`origin_delays__departure_delay_minutes_mean_3h` differs in",
}


def shares(world: World) -> dict[str, float]:
    return {version: share for version, share in world.server().status().weights.items() if share}


def refused(result: StepResult, world: World, said: str) -> None:
    """The new version has no traffic, the old one has it all, and the check names the feature."""
    proof = finding(result, catalogue.EQUAL_BITS.name)
    assert (result.produced, proof.passed) == ({}, False)
    assert re.search(said, proof.sentence), proof.sentence
    assert shares(world) == {"1": 1.0}
    answered = predict(world.server().status().url, evaluation.fetch(world.spec, world.step(), "1").golden.requests)
    assert {each["version"] for each in answered} == {"1"}


@pytest.mark.parametrize("kind", SKEWS)
def test_a_skew_of_the_online_rows_blocks_the_traffic_and_is_named(online, kind):
    name, alter = SKEWS[kind]
    view = View.of(online, name)
    view.put_online(alter(view.rows()))
    try:
        refused(online.serve(), online, SAID[kind])
    finally:
        view.put_online(view.rows())


def test_a_default_for_unseen_entities_that_training_does_not_know_blocks_the_traffic_and_is_named(online):
    view = View.of(online, "aircraft_attributes")
    rows = view.rows()
    flown = {tail for tail in online.rows("tables/flight_schedules")["tailnum"].to_pylist() if tail}
    unseen = sorted(flown.difference(rows["tailnum"].to_pylist()))
    assert len(unseen) > 10
    average = {"age_years": 12.0, "seats": 150.0, "engines": 2.0, "manufacturer": "BOEING"}
    default = pa.Table.from_pylist([{**rows.slice(0, 1).to_pylist()[0], **average, "tailnum": t} for t in unseen])
    view.put_online(pa.concat_tables([rows, default.cast(rows.schema)]))
    try:
        refused(online.serve(), online, r"`aircraft_attributes__\w+` differs in .*offline none does")
    finally:
        view.put_online(rows)


def test_rows_of_another_version_of_the_view_block_the_traffic_and_are_named(online, tmp_path):
    view = View.of(online, "carrier_delays")
    late = view.spec.view.aggregations["late"]
    later = replace(late, expression="arrival_delay_minutes > 30")
    edited = replace(view.spec.view, aggregations={**view.spec.view.aggregations, "late": later})
    elsewhere = World(copied(online.home, tmp_path / "home", leave=["endpoints"]), online.spec)
    days = elsewhere.step().lake.partitions(view.spec.name)
    elsewhere.compute(*days, views=[replace(view.spec, view=edited)])
    view.put_online(elsewhere.rows(view.spec.name))
    try:
        refused(online.serve(), online, r"`carrier_delays__late_rate_\w+` differs in .*both from the row of")
    finally:
        view.put_online(view.rows())


def reordered(world: World, feature: str) -> None:
    """Write the bundle of version 1 with the categories of an input the other way round."""
    folder = world.home / "bundles" / NAME / "1"
    packed = bundle.read(folder)
    inputs = tuple(
        replace(each, categories=each.categories[::-1]) if each.name == feature else each
        for each in packed.schema.inputs
    )
    for path in folder.iterdir():
        path.unlink()
    schema = msgspec.structs.replace(packed.schema, inputs=inputs)
    bundle.write(folder, model_text=packed.model_text, schema=schema, golden=packed.golden)


@pytest.fixture
def unserved(grown, tmp_path):
    """Version 1 is released, and no server ever ran."""
    left = ["endpoints", "lake/objects/certificates", "lake/objects/memo/certificates"]
    world = World(copied(grown.home, tmp_path / "home", leave=left), grown.spec)
    with ended(world):
        yield world


def test_another_order_of_the_categories_of_a_feature_blocks_the_first_version_and_is_named(unserved):
    reordered(unserved, "aircraft_attributes__manufacturer")
    result = unserved.serve()
    proof = finding(result, catalogue.EQUAL_BITS.name)
    assert (result.produced, proof.passed, shares(unserved)) == ({}, False, {})
    assert "encodes `aircraft_attributes__manufacturer` otherwise than the rows that the model was" in proof.sentence
    with pytest.raises(EndpointError, match=r"503: .*takes no traffic until its parity is proven"):
        predict(unserved.server().status().url, evaluation.fetch(unserved.spec, unserved.step(), "1").golden.requests)


def test_another_order_of_the_categories_of_the_request_is_not_even_loaded_and_is_named(unserved):
    reordered(unserved, "carrier")
    with pytest.raises(EndpointError, match=r"nothing serves.*computes carrier otherwise than when the model was"):
        unserved.serve()
    assert shares(unserved) == {}


def test_without_a_skew_the_new_version_takes_the_traffic(online):
    result = online.serve()
    assert finding(result, catalogue.EQUAL_BITS.name).passed
    assert "all 61 inputs and scores have equal bits" in finding(result, catalogue.EQUAL_BITS.name).sentence
    assert shares(online) == {"2": 1.0}
