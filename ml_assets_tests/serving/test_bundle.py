"""A bundle is either exactly what was written, or refused."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.errors import ArtefactError
from ml_assets.serving import bundle
from ml_assets_tests.serving import world


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return world.write_bundle(tmp_path / "bundle", world.train())


def test_what_was_written_is_read(folder: Path):
    found = bundle.read(folder)
    assert (found.model_text, found.schema, found.golden) == (world.train(), world.SCHEMA, world.golden(world.train()))
    assert found.digest == bundle.verify(folder)


def test_the_same_content_gives_the_same_digest(folder: Path, tmp_path: Path):
    assert bundle.verify(world.write_bundle(tmp_path / "again", world.train())) == bundle.verify(folder)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["manifest.json", "model.txt", "schema.json", "golden.json"]), data=st.data())
def test_any_changed_byte_is_found(folder: Path, name: str, data: st.DataObject):
    before, content = bundle.verify(folder), bytearray((folder / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    original = (folder / name).read_bytes()
    (folder / name).write_bytes(content)
    try:
        assert bundle.verify(folder) != before
    except ArtefactError:
        pass
    finally:
        (folder / name).write_bytes(original)


@pytest.mark.parametrize("name", ["MLmodel", "model.pkl", ".hidden"])
def test_an_unknown_file_is_refused(folder: Path, name: str):
    (folder / name).write_text("x")
    with pytest.raises(ArtefactError, match=name):
        bundle.read(folder)


def test_a_folder_inside_is_refused(folder: Path):
    (folder / "code").mkdir()
    with pytest.raises(ArtefactError, match="code"):
        bundle.read(folder)


def test_a_symlink_is_refused_even_to_the_right_content(folder: Path, tmp_path: Path):
    (folder / "model.txt").rename(tmp_path / "elsewhere")
    (folder / "model.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtefactError, match=r"model\.txt"):
        bundle.read(folder)


def test_a_missing_file_is_named(folder: Path):
    (folder / "golden.json").unlink()
    with pytest.raises(ArtefactError, match=r"no golden\.json"):
        bundle.read(folder)


def test_a_manifest_that_leaves_a_file_out_is_refused(folder: Path):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["model.txt"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="other files"):
        bundle.read(folder)


def test_a_bundle_is_not_written_over_another(folder: Path):
    with pytest.raises(ArtefactError, match="not empty"):
        world.write_bundle(folder, world.train())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"inputs": (*world.SCHEMA.inputs, world.SCHEMA.inputs[0])}, "names given twice: carrier_delays__mean_6h"),
        ({"inputs": ()}, "inputs missing"),
        ({"request_features": None}, "inputs without a source: hour, hours_ahead"),
        ({"request_fields": world.SCHEMA.request_fields[1:]}, "entities that are not request fields: carrier"),
        ({"time_field": "departs_at"}, "names given twice: departs_at"),
        (
            {"request_fields": (*world.SCHEMA.request_fields, bundle.RequestField("a b", "VARCHAR"))},
            "not plain names: a b",
        ),
    ],
)
def test_a_schema_that_cannot_be_served_is_refused(change: dict, problem: str):
    with pytest.raises(ArtefactError, match=problem):
        bundle.check_schema(msgspec.structs.replace(world.SCHEMA, **change))


@given(st.lists(st.lists(st.floats(allow_infinity=False), min_size=2, max_size=2), min_size=1, max_size=5))
def test_golden_rows_come_back_to_the_bit(rows: list[list[float]]):
    matrix = np.array(rows)
    stored = bundle.Golden.of(matrix, np.arange(len(rows), dtype=float) / 3)
    back = msgspec.json.decode(msgspec.json.encode(stored), type=bundle.Golden)
    assert np.array_equal(back.matrix(), matrix, equal_nan=True)
    assert np.array_equal(np.signbit(back.matrix()), np.signbit(np.where(np.isnan(matrix), np.nan, matrix)))
    assert back.scores == stored.scores


def test_a_view_is_stored_by_its_version():
    [carriers, _] = world.SCHEMA.views
    assert (carriers.stored, msgspec.structs.replace(carriers, version=3).stored) == (
        "carrier_delays@1",
        "carrier_delays@3",
    )


def test_a_bundle_from_before_views_had_versions_is_read_and_keeps_its_bytes():
    old = b'{"name":"v","entity":["a"],"features":["x"],"delay_us":0,"max_age_us":null}'
    found = msgspec.json.decode(old, type=bundle.ViewRef)
    assert (found.version, found.defaults, msgspec.json.encode(found)) == (1, {}, old)


def test_defaults_and_version_come_back():
    view = bundle.ViewRef("v", ("a",), ("x", "y"), 0, None, version=2, defaults={"x": 0.5, "y": "none"})
    assert msgspec.json.decode(msgspec.json.encode(view), type=bundle.ViewRef) == view


def test_a_default_of_no_feature_is_refused():
    view = msgspec.structs.replace(world.SCHEMA.views[0], defaults={"mean_7h": 0.0})
    with pytest.raises(ArtefactError, match="defaults of no feature: carrier_delays__mean_7h"):
        bundle.check_schema(msgspec.structs.replace(world.SCHEMA, views=(view, world.SCHEMA.views[1])))
