"""The documentation of the components as the UI shows it: the schema that Dagster derives from our classes."""

import json

import pytest

from ml_assets.orchestration.library import FILE

COMPONENTS = {each["name"]: each for each in json.loads(FILE.read_text())[0]["componentTypes"]}


def fields(component: dict) -> list[tuple[str, dict]]:
    """Every field of a component and of the objects inside of it, as the UI lists them."""
    schema = json.loads(component["schema"])
    objects = {"": schema, **schema["$defs"]}
    return [(f"{name}.{field}", said) for name, each in objects.items() for field, said in each["properties"].items()]


FIELDS = [pytest.param(said, id=f"{name}{field}") for name, each in COMPONENTS.items() for field, said in fields(each)]


def test_the_library_holds_the_four_components():
    nouns = ("Table", "FeatureView", "Model", "Endpoint")
    assert sorted(COMPONENTS) == sorted(f"ml_assets.components.{noun}" for noun in nouns)


@pytest.mark.parametrize("field", FIELDS)
def test_the_ui_shows_a_description_and_an_example_of_every_field(field):
    assert field.get("description")
    assert field.get("examples")


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=lambda each: each["name"])
def test_the_example_that_the_ui_offers_has_no_holes(component):
    assert "..." not in component["example"]
    assert "(number)" not in component["example"]
