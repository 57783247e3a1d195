"""What is fitted is fitted on the training split alone, is the same whatever the order, and travels with the model."""

from dataclasses import replace

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml_assets.errors import ArtefactError
from ml_assets.features import meaning
from ml_assets.serving import bundle
from ml_assets.serving.predictor import Predictor
from ml_assets.steps import evaluation, model, pins
from ml_assets.steps.model import Frame
from ml_assets_tests.flights import NAME, World

_KEPT = ("split", "at", "flight_id", "label_known_at", "scheduled_departure_at", "scheduled_arrival_at")
_BOUNDED = ("origin", "distance_miles", "flight_number")  # by the contract of the schedules


@pytest.fixture(scope="module")
def rows(grown: World) -> pa.Table:
    return grown.rows(grown.spec.training_set)


def garbage(rows: pa.Table, *parts: str) -> pa.Table:
    """Other values in all columns of these splits, as wrong as their types allow, and labels turned around.

    What a contract bounds is given to the wrong rows instead: none with other values is ever in a training set.
    """
    hit = pc.is_in(rows["split"], pa.array(parts))
    for place, field in enumerate(rows.schema):
        column = rows[field.name]
        if field.name in _BOUNDED:
            rows = rows.set_column(place, field, pc.if_else(hit, column.take(pa.array(range(len(rows))[::-1])), column))
        elif field.name not in _KEPT:
            rows = rows.set_column(place, field, pc.if_else(hit, _wrong(column), column))
    return rows


def _wrong(column: pa.ChunkedArray):
    if pa.types.is_string(column.type):
        return pc.binary_join_element_wise("garbage", pc.fill_null(column, "null"), "-")
    if column.type == pa.float64():
        return pc.subtract(1.0, pc.fill_null(column, 1e9))
    return column


def fitted(spec, frame: Frame, tmp_path, name: str, threads: int = 1):
    """Everything that is stored with a model, and its hash."""
    budget = replace(spec.budget, threads=threads)
    settings = World(tmp_path / name, replace(spec, budget=budget))
    _, made = model._train(settings.spec, settings.step(), frame)
    profile = model.reference_profile(frame, model.predict(made.model_text, frame.encoded))
    folder = tmp_path / name / "bundle"
    model.write_bundle(folder, spec, frame, made)
    return made.model_hash, (folder / "schema.json").read_bytes(), profile.to_json()


@pytest.fixture(scope="module")
def original(grown, rows, tmp_path_factory):
    return fitted(grown.spec, Frame.of(grown.spec, rows), tmp_path_factory.mktemp("original"), "model")


def test_garbage_in_the_test_rows_changes_no_byte_of_what_is_fitted(grown, rows, original, tmp_path):
    spoilt = garbage(rows, "test", "gap")
    assert not spoilt.filter(pc.equal(spoilt["split"], "test")).equals(rows.filter(pc.equal(rows["split"], "test")))
    assert fitted(grown.spec, Frame.of(grown.spec, spoilt), tmp_path, "spoilt") == original


def test_garbage_in_the_validation_rows_changes_no_category_and_no_reference_of_an_input(grown, rows):
    frame, spoilt = Frame.of(grown.spec, rows), Frame.of(grown.spec, garbage(rows, "validation", "test", "gap"))
    assert spoilt.inputs == frame.inputs
    scores = np.zeros(rows.num_rows)
    inputs = [model.reference_profile(each, scores).columns[:-1] for each in (frame, spoilt)]
    assert inputs[0] == inputs[1]


def test_garbage_in_the_training_rows_does_change_the_model(grown, rows, original, tmp_path):
    spoilt = fitted(grown.spec, Frame.of(grown.spec, garbage(rows, "train")), tmp_path, "spoilt")
    assert all(now != before for now, before in zip(spoilt, original, strict=True))


def test_neither_the_order_of_rows_nor_threads_change_a_byte(grown, rows, original, tmp_path):
    order = np.random.default_rng(3).permutation(rows.num_rows)
    assert fitted(grown.spec, Frame.of(grown.spec, rows.take(order)), tmp_path, "shuffled", threads=2) == original


def test_a_column_without_a_value_in_training_keeps_its_kind(grown, rows):
    name = "aircraft_attributes__manufacturer"
    assert rows.schema.field(name).type == pa.string()
    train = pc.equal(rows["split"], "train")
    empty = pc.if_else(train, pa.scalar(None, pa.string()), rows[name])
    rows = rows.set_column(rows.schema.get_field_index(name), name, empty)
    (found,) = [each for each in Frame.of(grown.spec, rows).inputs if each.name == name]
    assert (found.kind, found.categories) == ("categorical", ())


def test_the_version_names_the_code_of_its_transforms(grown):
    tags = dict(grown.mlflow("SELECT key, value FROM model_version_tags"))
    assert tags["code.request_features"] == meaning.of_function(grown.spec.request_features)
    assert tags["code.features"]
    kept = bundle.read(evaluation.bundle_folder(grown.spec, grown.step(), "1")).schema
    assert kept.request_features_code == tags["code.request_features"]


CODE = """\
from ml_assets.defs.flights.features import request_features as theirs


def request_features(flights):
    return theirs(flights)
"""


class NoStore:
    def lookup_many(self, view, keys, at, /):
        del view, at
        return [None] * len(keys)

    def schema(self, view, /):
        del view

    def newest(self, view, /):
        del view


def test_a_version_is_not_loaded_with_other_code_than_it_was_trained_with(grown, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    place = tmp_path / "own_code.py"
    place.write_text(CODE)
    reference = "own_code.request_features"
    kept = bundle.read(evaluation.bundle_folder(grown.spec, grown.step(), "1"))
    named = {"request_features": reference, "request_features_code": meaning.of_function(reference)}
    own = replace(kept, schema=msgspec.structs.replace(kept.schema, **named))
    place.write_text(CODE.replace("    return", "    # a comment\n    return"))
    Predictor(own, NoStore()).check_golden()
    place.write_text(CODE.replace("theirs(flights)", "dict(theirs(flights))"))
    with pytest.raises(
        ArtefactError, match=rf"code of `{reference}` is not that which model '{NAME}' was trained with"
    ):
        Predictor(own, NoStore())


def test_what_a_model_was_trained_on_is_pinned_with_its_versions(grown):
    spec, lake = grown.spec, grown.step().lake
    pinned = pins.pinned(lake)
    assert set(pinned) == {spec.labels, spec.spine.table, spec.training_set, *(view.name for view in spec.views)}
    ((place,),) = grown.mlflow("SELECT value FROM model_version_tags WHERE key = 'training_set.manifest'")
    manifest = msgspec.json.decode(lake.get_object(place))
    assert {name: {version} for name, version in manifest["versions"].items()} == pinned
    for name, versions in pinned.items():
        for version in versions:
            lake.dataset(name, version=version).head(1)


def test_a_lake_without_models_pins_nothing(tmp_path):
    assert pins.pinned(World(tmp_path, None).step().lake) == {}  # pyright: ignore[reportArgumentType]
