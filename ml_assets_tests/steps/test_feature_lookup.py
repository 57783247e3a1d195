"""What the lake gives for a moment, when the declaration was edited since."""

import re
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from ml_assets import reading
from ml_assets.errors import FeatureError, TableNotFoundError
from ml_assets.features.view import FeatureView
from ml_assets.steps import feature_lookup, view_versions
from ml_assets.steps.specs import ViewSpec
from ml_assets.steps.view_versions import KEPT
from ml_assets_tests.steps.edits import LAST, Small

VIEW = "carrier_delays"
AT = datetime(2013, 1, 4, 12, 30, tzinfo=UTC)


@pytest.fixture
def small(project):
    return Small(project)


def joined(name: str = VIEW, at: datetime = AT) -> dict:
    (row,) = reading.features(pa.table({"carrier": ["UA"], "at": [at]}), [name]).to_pylist()
    return row


@pytest.mark.parametrize("state", ["draft", KEPT])
def test_features_for_own_rows_are_joined_by_the_settings_that_the_last_run_had(small, state):
    if state == KEPT:
        lake = small.project.lake
        view_versions.claim(view_versions.pinned([small.views[VIEW]], lake), lake)
    before = joined()
    small.view(VIEW, delay=timedelta(hours=3))
    small.run()
    later = joined()
    assert later != before
    small.view(VIEW, delay=timedelta(0))
    small.run()
    assert joined() == before
    assert later == {**joined(at=AT - timedelta(hours=3)), "at": AT}
    small.view(VIEW, max_age=timedelta(hours=1), defaults={"delay_count_6h": -1.0})
    small.run()
    late = datetime(2013, 1, 5, 2, tzinfo=UTC)
    assert joined(at=late)["carrier_delays__delay_count_6h"] == -1.0
    assert joined(f"{VIEW}@1", at=late) == joined(at=late)
    (held,) = view_versions.versions(VIEW, small.project.lake)
    assert held.state == state
    small.view(VIEW, max_age=None)
    small.run()
    assert joined(at=late + timedelta(days=9))["carrier_delays__delay_count_6h"] is not None


def test_an_older_version_keeps_the_settings_that_it_had_last(small):
    lake, first = small.project.lake, small.views[VIEW]
    view_versions.claim(view_versions.pinned([first], lake), lake)
    small.view(VIEW, max_age=timedelta(hours=1))
    small.run()
    small.shorter_window()
    small.view(VIEW, max_age=timedelta(days=9))
    small.run()
    late = datetime.fromisoformat(LAST).replace(tzinfo=UTC) + timedelta(days=3)
    assert joined(f"{VIEW}@1", at=late)["carrier_delays__delay_count_6h"] is None
    assert joined(at=late)["carrier_delays__delay_count_6h"] == 2.0
    older = feature_lookup.of_version(small.views[VIEW], 1, lake)
    assert (older.name, older.view.max_age) == (f"features/{VIEW}@1", timedelta(hours=1))
    seen = feature_lookup.offline(older, lake, {"carrier": "UA"}, AT)
    assert seen.values == {
        name.removeprefix(f"{VIEW}__"): joined(f"{VIEW}@1")[name] for name in first.view.qualified_features()
    }
    assert "delay_count_1d" in seen.values
    assert feature_lookup.of_version(small.views[VIEW], 2, lake) == small.views[VIEW]
    with pytest.raises(TableNotFoundError, match=f"no feature view '{VIEW}@7'"):
        feature_lookup.of_version(small.views[VIEW], 7, lake)


@pytest.mark.parametrize(
    ("kind", "values", "exact", "wrong"),
    [
        (pa.int64(), [4, -7], {"4": 4, "+4": 4, " 4 ": 4, "4.0": 4, "-7": -7}, ["3.5", "abc", "0x4", "", "9" * 30]),
        (pa.date32(), [date(2013, 1, 4)], {"2013-01-04": date(2013, 1, 4)}, ["2013-01-04 12:00", "4"]),
        (pa.float64(), [0.5, 4.0], {"0.5": 0.5, "4": 4.0, "5e-1": 0.5}, ["half", "1e999"]),
        (pa.string(), ["3.5"], {"3.5": "3.5"}, []),
        (pa.bool_(), [True, False], {"true": True, "false": False}, ["2", "maybe"]),
    ],
)  # fmt: skip
def test_a_text_that_is_not_exactly_a_value_of_the_type_names_no_entity(project, kind, values, exact, wrong):
    view = FeatureView("v", ("key",), timedelta(0), ("t",), sql="SELECT key, known_at, x FROM t")
    spec = ViewSpec(view, (project.table("flights"),), timedelta(0))
    times = pa.array([AT] * len(values), pa.timestamp("us", "UTC"))
    rows = {"key": pa.array(values, kind), "feature_timestamp": times, "x": pa.array([1.0] * len(values))}
    project.lake.write(spec.name, pa.table(rows))
    for text, value in exact.items():
        seen = feature_lookup.offline(spec, project.lake, {"key": text}, AT)
        assert (seen.entity, seen.values) == ({"key": value}, {"x": 1.0})
    for text in wrong:
        with pytest.raises(FeatureError, match=re.escape(f"'{text}' is no ") + r"\w+, the type of 'key'\."):
            feature_lookup.offline(spec, project.lake, {"key": text}, AT)
