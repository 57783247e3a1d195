"""Skews between what is trained on and what is served, planted in a real store or bundle: none takes traffic.

Each is looked for in 10,000 rows of history, as a user's endpoint does.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.errors import EndpointError
from ml_assets.features.encode import Input
from ml_assets.features.view import FeatureView
from ml_assets.records import StepResult
from ml_assets.serving import bundle
from ml_assets.serving.bundle import ServingSchema, ViewRef
from ml_assets.steps import catalogue, evaluation, parity
from ml_assets.steps.certificate import Certificate
from ml_assets.steps.specs import ViewSpec
from ml_assets_tests.flights import NAME, World, copied, ended, finding, register_copy, release_copy

ALWAYS = {"first": datetime(1970, 1, 1, tzinfo=UTC), "last": datetime(2100, 1, 1, tzinfo=UTC)}
Alter = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def shared(grown, tmp_path_factory):
    """Version 1 is proven and has the traffic, version 2 is released: the same model under another number."""
    world = World(copied(grown.home, tmp_path_factory.mktemp("skews") / "home"), grown.spec, parity_rows=10_000)
    with ended(world):
        world.serve()
        release_copy(world)
        register_copy(world)
        yield world


@pytest.fixture
def online(shared):
    """Version 1 has the traffic again, and version 2 no proof that stands."""
    shared.server().apply({"1": 1.0})
    (shared.home / f"lake/objects/memo/certificates/{NAME}/2.json").unlink(missing_ok=True)
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
        store.replace(stored, view.entity, view.features(), rows.select(columns), **ALWAYS)


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
    "dtype int": r"`carrier_delays__arrival_delay_minutes_mean_1d` differs in [\d,]+: offline \S+, online -?\d+\.0 for",
    "dtype float32": r"`carrier_delays__late_rate_7d` differs in",
    "time zone": r"`weather_at_origin__\w+` differs in .*both from the row of 2013-01-",
    "null becomes 0": r"`weather_at_origin__pressure_mb` differs in [\d,]+: offline null, online 0\.0 for origin",
    "stale": r"`carrier_delays__\w+` differs in .*the online row is that of 2013-01-14 11:00:00, offline that of",
    "unit": r"`weather_at_origin__visibility_miles` differs in .*both from the row of",
    "key case": r"`carrier_delays__\w+` differs in .*no online row was found, offline that of",
    "rounding": r"`origin_delays__departure_delay_minutes_mean_3h` differs in",
}


def later(view: FeatureView) -> FeatureView:
    """Late is from half an hour on."""
    assert view.aggregations
    late = replace(view.aggregations["late"], expression="arrival_delay_minutes > 30")
    return replace(view, aggregations={**view.aggregations, "late": late})


def mlflow_of(world: World) -> Any:
    import mlflow

    return mlflow.MlflowClient(world.settings.mlflow_uri, world.settings.mlflow_uri)


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
    elsewhere = World(copied(online.home, tmp_path / "home", leave=["endpoints"]), online.spec)
    days = elsewhere.step().lake.partitions(view.spec.name)
    elsewhere.compute(*days, views=[replace(view.spec, view=later(view.spec.view))])
    view.put_online(elsewhere.rows(view.spec.name))
    try:
        refused(online.serve(), online, r"`carrier_delays__late_rate_\w+` differs in .*both from the row of")
    finally:
        view.put_online(view.rows())


def rebundled(world: World, change: Callable[[ServingSchema], dict[str, Any]]) -> None:
    """Write the bundle of version 1 with another schema."""
    folder = world.home / "bundles" / NAME / "1"
    packed = bundle.read(folder)
    for path in folder.iterdir():
        path.unlink()
    schema = msgspec.structs.replace(packed.schema, **change(packed.schema))
    bundle.write(folder, model_text=packed.model_text, schema=schema, golden=packed.golden)


def reordered(world: World, feature: str) -> None:
    """The categories of an input the other way round."""

    def turned(each: Input) -> Input:
        return replace(each, categories=each.categories[::-1]) if each.name == feature else each

    rebundled(world, lambda schema: {"inputs": tuple(map(turned, schema.inputs))})


def rejoined(world: World, view: str, **settings: Any) -> None:
    """A view joined by other settings: by the server, and by whoever asks the bundle what the lake should give."""

    def changed(ref: ViewRef) -> ViewRef:
        return msgspec.structs.replace(ref, **settings) if ref.name == view else ref

    rebundled(world, lambda schema: {"views": tuple(map(changed, schema.views))})


@pytest.fixture
def unserved(grown, tmp_path):
    """Version 1 is released, and no server ever ran."""
    left = ["endpoints", "lake/objects/certificates", "lake/objects/memo/certificates"]
    world = World(copied(grown.home, tmp_path / "home", leave=left), grown.spec, parity_rows=10_000)
    with ended(world):
        yield world


def certificate(world: World) -> Certificate:
    found = parity.read(world.endpoint, world.step(), "1")
    assert found
    return found


HOURS = 3_600_000_000
SETTINGS = {
    "delay": (
        ("carrier_delays", {"delay_us": 2 * HOURS}),
        "`carrier_delays.delay` is 2:00:00 in the bundle, 0:15:00 in the training set",
        "carrier_delays__",
    ),
    "max_age": (
        ("inbound_aircraft", {"max_age_us": None}),
        "`inbound_aircraft.max_age` is null in the bundle, 2 days, 0:00:00 in the training set",
        "inbound_aircraft__",
    ),
    "defaults": (
        ("aircraft_attributes", {"defaults": {"seats": 150.0}}),
        "`aircraft_attributes.defaults.seats` is 150.0 in the bundle, none in the training set",
        "aircraft_attributes__seats",
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_view_that_the_bundle_joins_otherwise_than_the_training_set_was_joined_takes_no_traffic(unserved, setting):
    (view, settings), said, inputs = SETTINGS[setting]
    rejoined(unserved, view, **settings)
    result = unserved.serve()
    proof, found = finding(result, catalogue.EQUAL_BITS.name), certificate(unserved)
    assert (result.produced, proof.passed, proof.warn, shares(unserved)) == ({}, False, False, {})
    assert proof.sentence.startswith(
        "the bundle joins otherwise than the rows that the model was trained with: " + said
    )
    assert found.differing == {}  # the server and the lake agree: both read the bundle
    assert list(found.learnt.settings) == [said.split("`")[1]]
    assert found.learnt.joined
    assert all(name.startswith(inputs) for name in found.learnt.joined)
    assert found.learnt.corrected == 0
    assert f"the bundle joins `{inputs}" in proof.sentence


def test_a_training_set_that_was_not_joined_as_it_says_takes_no_traffic_and_is_named(unserved):
    """The settings are the same, and the values are not: as if the join itself had been wrong then."""
    spec, lake = unserved.spec, unserved.step().lake
    rows, column = unserved.rows(spec.training_set), "weather_at_origin__humidity_pct"
    lake.write(spec.training_set, altered(column, lambda v: pc.add(v, 1.0))(rows))
    version, client = lake.version(spec.training_set), mlflow_of(unserved)
    client.set_model_version_tag(NAME, "1", "training_set.lake_version", str(version))
    proof = finding(unserved.serve(), catalogue.EQUAL_BITS.name)
    assert (proof.passed, proof.warn, shares(unserved)) == (False, False, {})
    said = rf"^the bundle joins `{column}` otherwise than .* with, in [\d,]+: (\S+) in the training set, (\S+) joined"
    then, now = re.findall(said, proof.sentence)[0]
    assert float(then) == float(now) + 1


def test_another_version_of_a_view_than_the_model_was_trained_with_takes_no_traffic_and_is_named(unserved):
    view = View.of(unserved, "carrier_delays")
    edited = unserved.having(
        views=tuple(replace(v, view=later(v.view)) if v is view.spec else v for v in unserved.spec.views)
    )
    edited.compute(*unserved.step().lake.partitions(view.spec.name), views=[edited.spec.views[0]])
    rejoined(unserved, "carrier_delays", version=2)
    result = unserved.serve()
    proof, found = finding(result, catalogue.EQUAL_BITS.name), certificate(unserved)
    assert (result.produced, proof.passed, proof.warn, shares(unserved)) == ({}, False, False, {})
    assert "`carrier_delays.version` is 2 in the bundle, 1 in the training set" in proof.sentence
    assert (found.differing, found.views["carrier_delays"]) == ({}, 2)


def test_a_declaration_that_was_edited_after_the_training_takes_nothing_from_what_was_trained_before(unserved):
    view = View.of(unserved, "carrier_delays").spec.view
    now = replace(view, delay=timedelta(hours=3), max_age=timedelta(days=9), defaults={"late_rate_7d": 0.5})
    edited = unserved.having(views=tuple(replace(v, view=now) if v.view is view else v for v in unserved.spec.views))
    result = edited.serve()
    assert finding(result, catalogue.EQUAL_BITS.name).passed
    assert shares(unserved) == {"1": 1.0}


def test_a_lake_that_was_corrected_since_the_training_is_a_warning(unserved):
    view, lake = View.of(unserved, "weather_at_origin"), unserved.step().lake
    corrected = altered("humidity_pct", lambda v: pc.add(v, 1.0))(view.rows())
    lake.write(view.spec.name, corrected, partitions=lake.partitions(view.spec.name))
    view.put_online(corrected)
    result = unserved.serve()
    proof, found = finding(result, catalogue.EQUAL_BITS.name), certificate(unserved)
    assert (found.passed, proof.passed, proof.warn, shares(unserved)) == (True, False, True, {"1": 1.0})
    assert found.learnt.corrected > 9_000
    said = f"{found.learnt.corrected:,} of {found.learnt.rows:,} training rows have other features in the lake today"
    assert said in proof.sentence


def test_a_view_of_which_no_row_found_a_feature_row_is_named_as_not_compared(unserved):
    view, lake = View.of(unserved, "aircraft_attributes"), unserved.step().lake
    lake.write(view.spec.name, view.rows().slice(0, 0))
    view.put_online(view.rows())
    result = unserved.serve()
    proof, found = finding(result, catalogue.EQUAL_BITS.name), certificate(unserved)
    assert (found.passed, proof.passed, proof.warn, shares(unserved)) == (True, False, True, {"1": 1.0})
    assert "; not compared: aircraft_attributes, of which no row that was asked about found" in proof.sentence
    assert proof.numbers["rows by what they found of a view"]["aircraft_attributes"] == {
        "row": 0,
        "default": 0,
        "null": 10_000,
    }


def test_history_with_enough_rows_of_which_too_few_can_be_asked_about_proves_nothing(unserved):
    """Each aircraft was repainted on the tenth, long before the newest: what held before is not online any more."""
    view, lake = View.of(unserved, "aircraft_attributes"), unserved.step().lake
    rows = view.rows()

    def known(moment: datetime) -> pa.Table:
        times = pa.array([moment] * len(rows), pa.timestamp("us", "UTC"))
        return rows.set_column(rows.column_names.index("feature_timestamp"), "feature_timestamp", times)

    held = pa.concat_tables([known(datetime(2013, 1, 10, tzinfo=UTC)), known(datetime(2013, 3, 1, tzinfo=UTC))])
    lake.write(view.spec.name, pa.concat_tables([rows, held]))
    view.put_online(held)
    result = unserved.serve()
    proof, found = finding(result, catalogue.EQUAL_BITS.name), certificate(unserved)
    assert (result.produced, proof.passed, proof.warn, shares(unserved)) == ({}, False, False, {})
    assert 10_000 > found.asked.rows > 5_000
    assert found.asked.history == found.asked.rows + sum(found.asked.left_out.values())
    assert (
        f"only {found.asked.rows:,} of {found.asked.history:,} rows of tables/flight_schedules from" in proof.sentence
    )
    assert "rows of history were left out: " in proof.sentence


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
