"""The request contract: what it takes, what it refuses, and that it never repeats a value."""

import json
import math
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.errors import RequestError
from ml_assets.serving.bundle import RequestField
from ml_assets.serving.request import MOST_ROWS, RequestContract, microseconds, request_columns, table_columns
from ml_assets_tests.serving import world

CONTRACT = RequestContract(world.SCHEMA)
NOW = 1_362_139_200_000_000


def decode(value: object) -> tuple[list, list]:
    return CONTRACT.decode(json.dumps(value).encode(), now_us=NOW)


def refusal(body: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        CONTRACT.decode(body if isinstance(body, bytes) else json.dumps(body).encode(), now_us=NOW)
    return caught.value


def test_one_object_and_a_list_of_one_are_the_same():
    assert decode(world.INSTANCE) == decode({"instances": [world.INSTANCE]})


def test_a_row_left_without_a_time_is_of_now():
    assert decode({"instances": [world.INSTANCE, world.INSTANCE | world.AT]})[1] == [NOW, world.NOON_US]


def test_times_with_an_offset_become_utc():
    local = world.INSTANCE | {"at": "2013-03-01T07:00:00-05:00"}
    assert decode(local)[1] == [world.NOON_US]


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        ({"carrier": 7}, "$.carrier", "Expected str, got int"),
        ({"carrier": None}, "$.carrier", "Expected str, got null"),
        ({"carrier": "x" * 257}, "$.carrier", "Expected str of length <= 256"),
        ({"distance_miles": -1}, "$.distance_miles", "Expected float >= 0.0"),
        ({"distance_miles": 10_001}, "$.distance_miles", "Expected float <= 10000.0"),
        ({"distance_miles": "719"}, "$.distance_miles", "Expected float, got str"),
        ({"distance_miles": True}, "$.distance_miles", "Expected float, got bool"),
        ({"seats": 0}, "$.seats", "Expected int >= 1"),
        ({"seats": 1.5}, "$.seats", "Expected int | null, got float"),
        ({"seats": 2**63}, "$.seats", "Expected int <= 9223372036854775807"),
        ({"departs_at": "2013-03-01T14:00:00"}, "$.departs_at", "Expected datetime with a timezone component"),
        ({"departs_at": "tomorrow"}, "$.departs_at", "Invalid RFC3339 encoded datetime"),
        ({"departs_at": "0001-01-01T00:00:00+14:00"}, "$.departs_at", "must lie between the years 1900 and 2200"),
        ({"at": "2200-01-01T00:00:00Z"}, "$.at", "must lie between the years 1900 and 2200"),
        ({"tailnum": "N1"}, "$.tailnum", "is not a field of this model: GET /docs lists them"),
    ],
)
def test_a_broken_rule_is_named_with_its_field(change: dict, path: str, rule: str):
    error = refusal(world.INSTANCE | change)
    assert (error.status, error.path, error.problem) == (422, path, rule)


def test_a_missing_field_is_named():
    error = refusal({name: value for name, value in world.INSTANCE.items() if name != "departs_at"})
    assert (error.path, error.problem) == ("$.departs_at", "is required")


def test_the_row_is_named_in_a_list():
    error = refusal({"instances": [world.INSTANCE, world.INSTANCE | {"carrier": []}]})
    assert error.path == "$.instances[1].carrier"
    late = refusal({"instances": [world.INSTANCE, world.INSTANCE | {"at": "1899-12-31T23:59:59Z"}]})
    assert late.path == "$.instances[1].at"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"carrier": NaN}',
        b'{"carrier": "\xff"}',
        b'{"carrier": "\\ud800"}',
        b'{"instances": nope}',
    ],
)
def test_what_is_no_json_is_400(body: bytes):
    assert refusal(body).status == 400


@pytest.mark.parametrize("token", ["1e999", "-1e999", "9" * 400])
def test_a_number_beyond_a_double_is_refused(token: str):
    body = json.dumps(world.INSTANCE).replace("719.0", token).encode()
    assert refusal(body).path == "$.distance_miles"


@pytest.mark.parametrize("n_rows", [0, MOST_ROWS + 1])
def test_the_number_of_rows_is_bounded(n_rows: int):
    assert refusal({"instances": [world.INSTANCE] * n_rows}).path == "$.instances"


def test_a_value_that_contains_the_word_instances_is_a_value():
    assert decode(world.INSTANCE | {"carrier": '"instances"'})[0][0][0] == '"instances"'


@given(st.text(max_size=200).map("§{}§".format))
def test_a_refusal_never_repeats_the_value(secret: str):
    assert secret not in str(refusal(world.INSTANCE | {"distance_miles": secret}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*world.INSTANCE, "seats", "at", "instances", "x"]), JSON))
def test_any_json_is_taken_or_refused_with_a_client_error(fields: dict):
    rows, at, status = [], [], 200
    try:
        rows, at = decode(world.INSTANCE | fields)
    except RequestError as error:
        status = error.status
    assert status in ({200} if rows else {400, 422})
    assert len(rows) == len(at)
    assert all(math.isfinite(row[2]) for row in rows)


def test_columns_follow_the_convention():
    rows, at = decode(world.INSTANCE | world.AT | {"origin": None})
    columns = request_columns(world.SCHEMA, rows, at)
    assert {name: column.dtype.str for name, column in columns.items()} == {
        "carrier": "|O",
        "origin": "|O",
        "distance_miles": "<f8",
        "departs_at": "<M8[us]",
        "seats": "<f8",
        "at": "<M8[us]",
    }
    assert columns["origin"].tolist() == [None]
    assert np.isnan(columns["seats"][0])
    assert columns["at"][0] == np.datetime64("2013-03-01T12:00:00")


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "carrier": st.text(max_size=5),
                "distance_miles": st.floats(0, 10_000),
                "departs_at": st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
                "origin": st.none() | st.text(max_size=5),
                "seats": st.none() | st.integers(1, 1000),
                "at": st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
            }
        ),
        min_size=1,
        max_size=5,
    )
)
def test_offline_columns_equal_online_columns(rows: list[dict]):
    import pyarrow as pa

    sent = [row | {"departs_at": row["departs_at"].isoformat(), "at": row["at"].isoformat()} for row in rows]
    online = request_columns(world.SCHEMA, *CONTRACT.convert(sent, now_us=NOW, path="$[{}]"))
    instants = {name: pa.array([row[name] for row in rows], pa.timestamp("us", "UTC")) for name in ("departs_at", "at")}
    table = pa.table(
        {name: [row[name] for row in rows] for name in ("carrier", "distance_miles", "origin", "seats")} | instants
    )
    offline = table_columns(world.SCHEMA, table)
    assert online.keys() == offline.keys()
    for name, column in online.items():
        assert column.dtype == offline[name].dtype
        assert all(a == b or (a != a and b != b) for a, b in zip(column.tolist(), offline[name].tolist(), strict=True))


def test_microseconds_are_exact_over_centuries():
    assert microseconds(datetime(2199, 12, 31, 23, 59, 59, 999_999, UTC)) == 7_258_118_399_999_999


BOUNDED = msgspec.structs.replace(
    world.SCHEMA,
    request_fields=(
        *world.SCHEMA.request_fields,
        RequestField("terminal", "VARCHAR", nullable=True, choices=("A", "B")),
        RequestField("engines", "BIGINT", nullable=True, choices=(1, 2, 4)),
        RequestField("gate", "VARCHAR", nullable=True, choices=tuple(f"G{number:02}" for number in range(85))),
        RequestField("wind", "DOUBLE", nullable=True, above=0, below=200),
    ),
)


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        ({"terminal": "C"}, "$.terminal", "must be one of A, B"),
        ({"engines": 3}, "$.engines", "must be one of 1, 2, 4"),
        ({"gate": "H1"}, "$.gate", "must be one of G00, G01, G02, G03, G04 and 80 more"),
        ({"wind": 0}, "$.wind", "Expected float > 0.0"),
        ({"wind": 200.0}, "$.wind", "Expected float < 200.0"),
    ],
)
def test_a_value_out_of_the_bounds_of_a_contract_is_refused_with_the_bound(change: dict, path: str, rule: str):
    contract = RequestContract(BOUNDED)
    with pytest.raises(RequestError) as caught:
        contract.decode(json.dumps({"instances": [world.INSTANCE, world.INSTANCE | change]}).encode(), now_us=NOW)
    assert (caught.value.status, caught.value.path, caught.value.problem) == (
        422,
        path.replace("$", "$.instances[1]"),
        rule,
    )
    good = {"terminal": "B", "engines": 4, "gate": "G84", "wind": 199.9}
    assert contract.decode(json.dumps(world.INSTANCE | good).encode(), now_us=NOW)[0][0][-4:] == tuple(good.values())
    assert contract.decode(json.dumps(world.INSTANCE).encode(), now_us=NOW)[0][0][-4:] == (None,) * 4
