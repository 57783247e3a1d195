"""From request rows to scores: look-ups, request features, encoding, and equal bits everywhere."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.errors import ArtefactError, EndpointError, StoreUnavailableError
from ml_assets.features.encode import Input, encode
from ml_assets.serving.bundle import Bundle, Golden
from ml_assets.serving.predictor import Predictor, duration
from ml_assets_tests.serving import world

ROW = ("UA", "EWR", 719.0, world.NOON_US + 2 * world.HOUR_US, None)
QUARTER_US = 15 * 60_000_000


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return world.predictor()


def test_the_inputs_are_looked_up_computed_and_taken_from_the_request(predictor: Predictor):
    scored = predictor.predict([ROW], [world.NOON_US])
    assert scored.features == [
        {
            "carrier_delays__mean_6h": -7.25,
            "carrier_delays__count_6h": 2.0,
            "origin_congestion__departures_1h": 41.5,
            "origin_congestion__mood": "busy",
            "carrier": "UA",
            "distance_miles": 719.0,
            "seats": None,
            "hour": 14.0,
            "hours_ahead": 2.0,
        }
    ]
    assert scored.ages_us == [{"carrier_delays": world.HOUR_US, "origin_congestion": 0}]


def test_the_score_is_the_offline_score_of_these_inputs(predictor: Predictor):
    scored = predictor.predict([ROW], [world.NOON_US])
    matrix = encode({name: [value] for name, value in scored.features[0].items()}, world.SCHEMA.inputs)
    assert scored.scores == world.offline_scores(world.train(), matrix).tolist()


rows = st.tuples(
    st.sampled_from([*world.CARRIERS, "ZZ", ""]),
    st.sampled_from(["EWR", "JFK", None]),
    st.floats(0, 10_000),
    st.integers(world.NOON_US - world.HOUR_US, world.NOON_US + 9 * world.HOUR_US),
    st.none() | st.integers(1, 400),
)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(rows, st.integers(world.NOON_US - world.HOUR_US, world.NOON_US + world.HOUR_US)),
        min_size=1,
        max_size=30,
    )
)
def test_rows_one_by_one_get_the_bits_of_all_at_once(sent: list[tuple]):
    predictor = PREDICTOR
    together = predictor.predict([row for row, _ in sent], [at for _, at in sent])
    singly = [predictor.predict([row], [at]) for row, at in sent]
    assert together.scores == [one.scores[0] for one in singly]
    assert together.features == [one.features[0] for one in singly]
    assert together.ages_us == [one.ages_us[0] for one in singly]


PREDICTOR = world.predictor()


@pytest.mark.parametrize(("late_us", "counts"), [(QUARTER_US, True), (QUARTER_US - 1, False)])
def test_a_row_counts_from_its_grid_time_plus_delay(predictor: Predictor, late_us: int, counts: bool):
    at = world.NOON_US - world.HOUR_US + late_us
    assert (predictor.predict([ROW], [at]).ages_us[0]["carrier_delays"] is not None) == counts


@pytest.mark.parametrize(("late_us", "counts"), [(0, True), (1, False)])
def test_a_row_counts_up_to_its_greatest_age(predictor: Predictor, late_us: int, counts: bool):
    at = world.NOON_US - world.HOUR_US + 48 * world.HOUR_US + late_us
    scored = predictor.predict([ROW], [at])
    assert (scored.ages_us[0]["carrier_delays"] is not None) == counts
    assert (scored.features[0]["carrier_delays__mean_6h"] is not None) == counts


def test_an_unknown_or_null_entity_has_null_features(predictor: Predictor):
    for row in [("ZZ", *ROW[1:]), ("UA", None, *ROW[2:])]:
        ages = predictor.predict([row], [world.NOON_US]).ages_us[0]
        assert None in ages.values()


def test_a_view_that_nobody_wrote_yet_is_null_and_counts_once_it_is_there():
    store = world.Store()
    schema = store.schemas.pop("origin_congestion@1")
    predictor = world.predictor(store)
    assert predictor.predict([ROW], [world.NOON_US]).ages_us[0]["origin_congestion"] is None
    store.schemas["origin_congestion@1"] = schema
    predictor.rebind()
    assert predictor.predict([ROW], [world.NOON_US]).ages_us[0]["origin_congestion"] == 0


def test_a_stored_view_without_a_feature_is_refused():
    store = world.Store()
    store.schemas["carrier_delays@1"] = (("carrier",), ("count_6h",))
    with pytest.raises(EndpointError, match="has no mean_6h: materialize features/carrier_delays"):
        world.predictor(store)


def test_a_view_stored_by_other_keys_is_refused():
    store = world.Store()
    store.schemas["carrier_delays@1"] = (("tailnum",), ("count_6h", "mean_6h"))
    with pytest.raises(EndpointError, match="stored by tailnum"):
        world.predictor(store)


def made(golden: Golden | None = None, **change: object) -> Predictor:
    schema = msgspec.structs.replace(world.SCHEMA, **change)
    return Predictor(Bundle(world.train(), schema, golden or world.golden(world.train()), "d"), world.Store())


def test_golden_scores_pass_to_the_bit():
    made().check_golden()


def test_a_golden_score_that_is_one_bit_off_fails():
    golden = world.golden(world.train())
    off = msgspec.structs.replace(golden, scores=(np.nextafter(golden.scores[0], 1), *golden.scores[1:]))
    with pytest.raises(ArtefactError, match="golden scores"):
        made(off).check_golden()


def test_a_request_function_that_changed_since_training_fails():
    changed = made(request_features="ml_assets_tests.serving.test_predictor.changed_features")
    with pytest.raises(ArtefactError, match="computes hours_ahead otherwise"):
        changed.check_golden()


def changed_features(columns):
    return world.request_features(columns) | {"hours_ahead": columns["distance_miles"]}


def test_a_version_keeps_the_function_it_was_loaded_with(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    source = tmp_path / "features_of_a_project.py"
    source.write_text(
        "FACTOR = 1\ndef f(columns):\n    return {'hour': columns['distance_miles'] * FACTOR, 'hours_ahead': [0.0]}"
    )
    before = made(request_features="features_of_a_project.f")
    source.write_text(source.read_text().replace("FACTOR = 1", "FACTOR = 2"))
    after = made(request_features="features_of_a_project.f")
    hours = [one.predict([ROW], [world.NOON_US]).features[0]["hour"] for one in (before, after)]
    assert hours == [719.0, 1438.0]


def test_a_request_function_that_is_not_installed_is_named():
    with pytest.raises(ArtefactError, match=r"`no\.such\.function` cannot be imported"):
        made(request_features="no.such.function")


def test_a_schema_of_another_width_than_the_model_is_refused():
    with pytest.raises(ArtefactError, match="reads 9 inputs, its schema lists 10"):
        made(inputs=(*world.SCHEMA.inputs, Input("more", "numeric")))


def missing(predictor: Predictor, row: tuple = ROW, at: int = world.NOON_US) -> dict[str, str]:
    return predictor.predict([row], [at]).missing[0]


def test_each_view_without_a_row_says_why(predictor: Predictor):
    assert missing(predictor) == {}
    assert missing(predictor, ("ZZ", None, *ROW[2:])) == {
        "carrier_delays": "unknown entity",
        "origin_congestion": "null key: origin is null in the request",
    }
    late = world.NOON_US + 2 * 24 * world.HOUR_US
    assert missing(predictor, at=late) == {"carrier_delays": "too old: 2d 1h > 2d"}


def test_a_view_that_is_not_there_or_is_empty_says_that_nothing_is_stored():
    store = world.Store()
    del store.schemas["origin_congestion@1"], store.rows["carrier_delays@1", ("UA",)]
    assert missing(world.predictor(store)) == dict.fromkeys(("carrier_delays", "origin_congestion"), "nothing stored")


def test_a_batch_says_of_each_row_what_the_row_alone_would_say(predictor: Predictor):
    rows = [ROW, ("ZZ", "EWR", *ROW[2:]), ("UA", None, *ROW[2:])]
    together = predictor.predict(rows, [world.NOON_US] * 3)
    assert together.missing == [missing(predictor, row) for row in rows]
    assert [set(why) for why in together.missing] == [set(), {"carrier_delays"}, {"origin_congestion"}]


@pytest.mark.parametrize(
    ("span", "text"),
    [(0, "0s"), (90_000_000, "1min 30s"), (2 * 86_400_000_000, "2d"), (86_400_000_001, "1d 1us"), (7, "7us")],
)
def test_a_span_is_written_in_units(span: int, text: str):
    assert duration(span) == text


def with_defaults(store: world.Store | None = None, **defaults: float | str) -> Predictor:
    views = (
        msgspec.structs.replace(world.SCHEMA.views[0], defaults={"mean_6h": 0.25}),
        msgspec.structs.replace(world.SCHEMA.views[1], defaults=defaults or {"mood": "calm"}),
    )
    schema = msgspec.structs.replace(world.SCHEMA, views=views)
    return Predictor(Bundle(world.train(), schema, world.golden(world.train()), "d"), store or world.Store())


def test_defaults_stand_where_no_row_counts_and_the_reason_is_said():
    scored = with_defaults().predict([("ZZ", None, *ROW[2:])], [world.NOON_US])
    features = scored.features[0]
    assert (features["carrier_delays__mean_6h"], features["carrier_delays__count_6h"]) == (0.25, None)
    assert (features["origin_congestion__mood"], features["origin_congestion__departures_1h"]) == ("calm", None)
    assert scored.missing == [
        {"carrier_delays": "unknown entity", "origin_congestion": "null key: origin is null in the request"}
    ]
    assert scored.ages_us == [{"carrier_delays": None, "origin_congestion": None}]


def test_defaults_stand_for_rows_that_are_too_old_and_for_views_without_any():
    late = world.NOON_US + 9 * 24 * world.HOUR_US
    assert with_defaults().predict([ROW], [late]).features[0]["carrier_delays__mean_6h"] == 0.25
    store = world.Store()
    store.schemas.clear()
    assert with_defaults(store).predict([ROW], [world.NOON_US]).features[0]["origin_congestion__mood"] == "calm"


def test_a_null_of_a_row_that_counts_is_no_default():
    store = world.Store()
    store.rows["carrier_delays@1", ("UA",)] = (world.NOON_US - world.HOUR_US, (2.0, None, None))
    scored = with_defaults(store).predict([ROW], [world.NOON_US])
    assert (scored.features[0]["carrier_delays__mean_6h"], scored.missing) == (None, [{}])


def test_the_version_of_a_view_names_what_is_looked_up():
    store = world.Store()
    store.schemas["carrier_delays@2"] = (("carrier",), ("mean_6h", "count_6h", "unused"))
    store.rows["carrier_delays@2", ("UA",)] = (world.NOON_US - world.HOUR_US, (1.5, 2.5, None))
    views = (msgspec.structs.replace(world.SCHEMA.views[0], version=2), world.SCHEMA.views[1])
    schema = msgspec.structs.replace(world.SCHEMA, views=views)
    predictor = Predictor(Bundle(world.train(), schema, world.golden(world.train()), "d"), store)
    assert predictor.predict([ROW], [world.NOON_US]).features[0]["carrier_delays__mean_6h"] == 1.5


class Lost(world.Store):
    """A store that cannot be reached while `lost`."""

    lost = True

    def reach(self):
        if self.lost:
            raise StoreUnavailableError("The online store redis://x cannot be used: Connection refused.")

    def lookup_many(self, view, keys, at):
        self.reach()
        return super().lookup_many(view, keys, at)

    def schema(self, view):
        self.reach()
        return super().schema(view)

    def newest(self, view):
        self.reach()
        return super().newest(view)


def test_a_store_that_cannot_be_reached_is_never_a_null():
    store = Lost()
    predictor = world.predictor(store)
    with pytest.raises(StoreUnavailableError, match="Connection refused"):
        predictor.predict([ROW], [world.NOON_US])
    store.lost = False
    predictor.rebind()
    assert missing(predictor) == {}
    store.lost = True
    predictor.rebind()
    states = predictor.stores()
    assert states["carrier_delays"].newest == world.NOON_US - world.HOUR_US
    assert "Connection refused" in states["carrier_delays"].unreachable
    with pytest.raises(StoreUnavailableError, match="Connection refused"):
        predictor.predict([ROW], [world.NOON_US])
