"""A model of real flights says which of its inputs are of no use, and keeps what it was trained with."""

import json
from pathlib import Path

import pytest

from ml_assets.steps import catalogue, model
from ml_assets_tests.flights import finding

DICE = """\
import numpy as np
from ml_assets.defs.flights.features import request_features as theirs

def request_features(flights):
    found = theirs(flights)
    n = len(next(iter(found.values())))
    minutes = np.asarray(found["scheduled_minutes"], dtype=float)
    return {**found, "dice": np.sin(minutes * 12.9898 + np.arange(n)) * 43758.5453 % 1, "seven": np.full(n, 7.0)}
"""


@pytest.fixture
def trained(world, tmp_path, monkeypatch):
    """Trained with two more inputs: dice and a constant."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "with_dice.py").write_text(DICE)
    own = world.having(request_features="with_dice.request_features")
    return own, model.train(own.spec, own.step())[own.spec.model]


def test_dice_and_a_constant_are_named_and_could_be_dropped(trained):
    found = finding(trained[1], catalogue.USEFUL.name)
    assert (found.passed, found.warn) == (False, True)
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in found.numbers["benefits"].text.splitlines()}
    assert {"dice", "seven"} <= {*found.numbers["could be dropped"]}
    assert lines["seven"].endswith("| no | yes |")
    assert "that saves" in found.sentence
    assert "carrier" not in found.numbers["could be dropped"]


def test_a_model_that_stands_is_not_asked_again(trained):
    own, first = trained
    again = model.train(own.spec, own.step())[own.spec.model]
    assert {check.name for check in catalogue.TRAINED} == {each.check for each in again.findings}
    assert again.produced[""].data_version == first.produced[""].data_version
    for found in first.findings:
        said = finding(again, found.check)
        assert (said.passed, said.warn) == (found.passed, found.warn and not found.passed)
        assert said.sentence.startswith("Nothing was computed" if found.passed else found.sentence)
    assert not finding(again, catalogue.USEFUL.name).passed


def test_the_categories_of_a_view_are_kept_with_the_version_that_knows_them(trained):
    own, result = trained
    kept = Path(own.settings.lake_uri) / "objects/categories/aircraft_attributes/trained/arrival_delay.json"
    known = json.loads(kept.read_text())
    assert known["version"] == str(result.produced[""].metadata["version"])
    assert "BOEING" in known["features"]["manufacturer"]
