"""What is true of every component: documented fields with examples, keys and groups from YAML."""

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

import ml_assets.components
from ml_assets.components.declared import Declared
from ml_assets_tests.project import DOCUMENTS, FLIGHTS

COMPONENTS = sorted(
    (kind for kind in vars(ml_assets.components).values() if isinstance(kind, type) and issubclass(kind, Declared)),
    key=lambda kind: kind.__name__,
)


def nested(annotation) -> list[type]:
    """The schemas inside of a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, dg.Model):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in nested(part)]


def schemas(kind: type) -> list[type]:
    """A component and every schema below it."""
    below = [found for field in kind.model_fields.values() for found in nested(field.annotation)]
    return [kind, *(schema for found in below for schema in schemas(found))]


FIELDS = [
    pytest.param(schema, name, id=f"{component.__name__}.{schema.__name__}.{name}")
    for component in COMPONENTS
    for schema in dict.fromkeys(schemas(component))
    for name in schema.model_fields
]


def test_the_components_are_the_nouns_that_a_user_declares():
    assert {kind.__name__ for kind in COMPONENTS} >= {"Table", "FeatureView"}


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_says_what_it_makes(component):
    assert component.__doc__ != Declared.__doc__
    assert "Makes `" in component.__doc__


@pytest.mark.parametrize(("schema", "name"), FIELDS)
def test_every_field_has_a_description_and_an_example(schema, name):
    field = schema.model_fields[name]
    assert field.description
    assert field.description[-1] in ".`"
    assert field.examples or nested(field.annotation)


@pytest.mark.parametrize("component", COMPONENTS)
def test_unknown_fields_are_refused(component):
    assert component.model_config["extra"] == "forbid"


def test_keys_groups_owners_and_descriptions_come_from_the_yaml(project):
    owned = "  owners: [team:ops]\n  group: travel\n  description: Landed flights.\n"
    project.declare(FLIGHTS + owned)
    graph = project.load().resolve_asset_graph()
    raw, table = (graph.get(dg.AssetKey([layer, "flights"])) for layer in ("raw", "tables"))
    assert {raw.group_name, table.group_name} == {"travel"}
    assert {*raw.owners, *table.owners} == {"team:ops"}
    assert table.description == "Landed flights."


def test_the_group_is_the_folder_where_none_is_declared(project):
    graph = project.defs.resolve_asset_graph()
    assert {graph.get(key).group_name for key in graph.get_all_asset_keys()} == {"airline"}


def test_the_columns_of_the_contract_are_documented_on_the_table(project):
    table = project.defs.resolve_asset_graph().get(dg.AssetKey(["tables", "flights"]))
    columns = {column.name: column for column in table.metadata["dagster/column_schema"].schema.columns}
    assert (columns["flight_id"].type, columns["flight_id"].description) == ("VARCHAR", "One flight")
    assert columns["delay"].constraints.nullable
    assert not columns["carrier"].constraints.nullable


def test_the_columns_of_a_view_are_those_that_it_computes(project):
    view = project.defs.resolve_asset_graph().get(dg.AssetKey(["features", "carrier_delays"]))
    names = [column.name for column in view.metadata["dagster/column_schema"].schema.columns]
    assert names[:3] == ["carrier", "feature_timestamp", "delay_mean_6h"]


def test_a_window_depends_on_the_days_that_it_reaches_into(project):
    specs = {spec.key.to_user_string(): spec for spec in project.defs.resolve_all_asset_specs()}
    mapping = next(iter(specs["features/carrier_delays"].deps)).partition_mapping
    assert (mapping.start_offset, mapping.end_offset) == (-2, 0)


def test_the_components_load_in_a_sandbox_of_dagster(project):
    documents = [yaml.safe_load(text.replace("PACKAGE", project.package)) for text in DOCUMENTS.values()]
    inline = [document for document in documents if document["attributes"].get("sql") != "last_flight.sql"]
    with create_defs_folder_sandbox() as sandbox:
        place = sandbox.defs_folder_path / "airline"
        place.mkdir()
        (place / "defs.yaml").write_text(yaml.safe_dump_all(inline))
        with sandbox.build_all_defs() as defs:
            keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {
        "raw/flights",
        "tables/flights",
        "raw/carriers",
        "tables/carriers",
        "features/carrier_delays",
        "features/carrier_attributes",
    }
