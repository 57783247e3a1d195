"""A small world of flights for the tests of serving: trained models, request features, a stored view."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from ml_assets.adapters.online import OnlineStore, open_store
from ml_assets.features.encode import Input, encode
from ml_assets.serving import bundle
from ml_assets.serving.bundle import Bundle, Golden, RequestField, ServingSchema, ViewRef
from ml_assets.serving.predictor import Predictor
from ml_assets.serving.predictor import request_features as computed
from ml_assets.serving.request import RequestContract
from ml_assets.serving.routing import Router

CARRIERS = ("AA", "B6", "DL", "UA")
NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
HOUR_US = 3_600_000_000
NOON_US = int(NOON.timestamp()) * 1_000_000
INSTANCE = {"carrier": "UA", "origin": "EWR", "distance_miles": 719.0, "departs_at": "2013-03-01T14:00:00Z"}
AT = {"at": "2013-03-01T12:00:00Z"}
ROOT = Path(__file__).parents[2]


def request_features(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hour of departure, and hours ahead; pure numpy, so that one row and many get the same bits."""
    departs = columns["departs_at"]
    hour = (departs - departs.astype("datetime64[D]")) / np.timedelta64(1, "h")
    return {"hour": hour, "hours_ahead": (departs - columns["at"]) / np.timedelta64(1, "h")}


SCHEMA = ServingSchema(
    model="arrival_delay",
    version="",
    label="arrival_delay_minutes > 15",
    model_hash="0" * 64,
    request_fields=(
        RequestField("carrier", "VARCHAR", description="IATA code"),
        RequestField("origin", "VARCHAR", nullable=True),
        RequestField("distance_miles", "DOUBLE", minimum=0, maximum=10_000),
        RequestField("departs_at", "TIMESTAMPTZ"),
        RequestField("seats", "BIGINT", nullable=True, minimum=1),
    ),
    views=(
        ViewRef("carrier_delays", ("carrier",), ("mean_6h", "count_6h", "unused"), 15 * 60_000_000, 48 * HOUR_US),
        ViewRef("origin_congestion", ("origin",), ("departures_1h", "mood"), 0, None),
    ),
    inputs=(
        Input("carrier_delays__mean_6h", "numeric"),
        Input("carrier_delays__count_6h", "numeric"),
        Input("origin_congestion__departures_1h", "numeric"),
        Input("origin_congestion__mood", "categorical", ("busy", "calm")),
        Input("carrier", "categorical", CARRIERS),
        Input("distance_miles", "numeric"),
        Input("seats", "numeric"),
        Input("hour", "numeric"),
        Input("hours_ahead", "numeric"),
    ),
    request_features="ml_assets_tests.serving.world.request_features",
)


def training_matrix(rows: int = 600, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(rows, len(SCHEMA.inputs))) * 10
    matrix[:, 3], matrix[:, 4] = random.integers(0, 2, rows), random.integers(0, 4, rows)
    label = matrix[:, 0] + 3 * matrix[:, 4] + random.normal(size=rows) > 4
    matrix[random.random(matrix.shape) < 0.05] = np.nan
    return matrix, label.astype(float)


@cache
def train(seed: int = 7, rounds: int = 20) -> str:
    import lightgbm

    matrix, label = training_matrix(seed=seed)
    data = lightgbm.Dataset(matrix, label, categorical_feature=[3, 4], params={"verbosity": -1})
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "seed": seed, "min_data_in_leaf": 5}
    return lightgbm.train(parameters, data, num_boost_round=rounds).model_to_string()


def offline_scores(model_text: str, matrix: np.ndarray) -> np.ndarray:
    import lightgbm

    return np.asarray(lightgbm.Booster(model_str=model_text).predict(matrix, num_threads=1))


def golden(model_text: str) -> Golden:
    """Two requests without features of the views: what the model says then is as good a proof as any."""
    requests = [INSTANCE | AT, INSTANCE | AT | {"carrier": "DL", "seats": 150}]
    rows, at = RequestContract(SCHEMA).convert(requests, now_us=0, path="$[{}]")
    columns = {wanted.name: [None] * len(requests) for wanted in SCHEMA.inputs}
    matrix = encode(columns | computed(SCHEMA, request_features, rows, at), SCHEMA.inputs)
    return Golden.of(matrix, offline_scores(model_text, matrix), requests)


def write_bundle(folder: Path, model_text: str) -> Path:
    bundle.write(folder, model_text=model_text, schema=SCHEMA, golden=golden(model_text))
    return folder


class Store:
    """An online store in memory: the two views, for any time from noon on."""

    def __init__(self) -> None:
        self.rows = {
            ("carrier_delays@1", ("UA",)): (NOON_US - HOUR_US, (2.0, None, -7.25)),
            ("origin_congestion@1", ("EWR",)): (NOON_US, ("busy", 41.5)),
        }
        self.schemas = {
            "carrier_delays@1": (("carrier",), ("count_6h", "unused", "mean_6h")),
            "origin_congestion@1": (("origin",), ("mood", "departures_1h")),
        }

    def lookup(self, view, key, at):
        found = self.rows.get((view, key))
        return found if found and found[0] <= at else None

    def lookup_many(self, view, keys, at):
        return [self.lookup(view, *asked) for asked in zip(keys, at, strict=True)]

    def schema(self, view):
        return self.schemas.get(view)

    def newest(self, view):
        return max((at for (stored, _), (at, _) in self.rows.items() if stored == view), default=None)


class Log:
    """A prediction log in memory."""

    def __init__(self) -> None:
        self.records, self.dropped = [], 0

    def append(self, records):
        self.records += records
        return len(records)


def predictor(store=None, seed: int = 7) -> Predictor:
    text = train(seed)
    return Predictor(Bundle(text, SCHEMA, golden(text), "d" * 64), store or Store())


def routed(weights: Mapping[str, float] | None = None, generation: int = 1) -> Router:
    """Version "1" is the model of seed 1, and so on."""
    router = Router(lambda version: predictor(seed=int(version)))
    content = msgspec.json.encode({"generation": generation, "weights": weights or {"1": 1.0}})
    assert router.offer(content), router.refusal
    return router


def fill_store(place: Path | str) -> OnlineStore:
    """Two hours of two views; stored with the features in another order than the schema lists them."""
    import pyarrow as pa

    store = open_store(str(place))
    hours = [NOON - timedelta(hours=1), NOON]
    grid = pa.array([hour for hour in hours for _ in CARRIERS], pa.timestamp("us", "UTC"))
    numbers = [float(n) / 3 for n in range(len(grid))]
    carriers = {"carrier": list(CARRIERS) * 2, "feature_timestamp": grid, "count_6h": numbers, "mean_6h": numbers[::-1]}
    carriers["unused"] = [None] * len(grid)
    store.write("carrier_delays@1", ["carrier"], ["count_6h", "unused", "mean_6h"], pa.table(carriers))
    origins = {"origin": ["EWR", "JFK"], "feature_timestamp": pa.array([NOON] * 2, pa.timestamp("us", "UTC"))}
    origins |= {"mood": ["busy", "hostile"], "departures_1h": [41.5, None]}
    store.write("origin_congestion@1", ["origin"], ["mood", "departures_1h"], pa.table(origins))
    return store
