"""The flights example with a leak in it: as a declaration, as rows in the lake, or as a training set of one's own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ml_assets.engine import connect
from ml_assets.records import Finding
from ml_assets.steps import features, leaks
from ml_assets.steps.specs import ViewSpec
from ml_assets_tests.flights import World, ml_assets_root
from ml_assets_tests.project import Project

SHIPPED = Path(ml_assets_root()) / "defs" / "flights"
FUTURE = """
SELECT f.* REPLACE (coalesce((SELECT avg(o.arrival_delay_minutes) FROM outcomes o
    WHERE o.carrier = f.carrier AND o.known_at > f.feature_timestamp
        AND o.known_at <= f.feature_timestamp + INTERVAL 12 HOUR), f.late_rate_6h) AS late_rate_6h)
FROM rows f"""


def declared(project: Project, *changes: tuple[str, str, str]) -> Path:
    """The shipped declarations as a project of their own, with texts replaced in some files; the folder."""
    texts = {path.name: path.read_text() for path in (*SHIPPED.glob("*.sql"), SHIPPED / "defs.yaml")}
    for name, old, new in changes:
        assert old in texts[name], f"{name} has changed: {old}"
        texts[name] = texts[name].replace(old, new)
    for name, text in texts.items():
        project.write(name, text)
    return project.defs_folder


def rewritten(project: Project, name: str, text: str, *changes: tuple[str, str, str]) -> Path:
    """The same with another text for one file."""
    folder = declared(project, *changes)
    project.write(name, text)
    return folder


def view(world: World, name: str, sql: str, **changes: object) -> ViewSpec:
    """A view of the example by other SQL."""
    spec = next(each for each in world.spec.views if each.view.name == name)
    outcomes = world.tables["flight_outcomes"]
    own = replace(spec.view, sql=sql, aggregations=None, lookup=None, tables=("flight_outcomes",), **changes)
    return replace(spec, view=own, tables=(outcomes,))


def computed(world: World, spec: ViewSpec, day: str) -> tuple[Finding, ...]:
    """What the checks of a view say of one day."""
    run = world.step(day) if spec.daily else world.step()
    return features.materialize(spec, run)[spec.name].findings


def training_rows(world: World) -> pa.Table:
    """The rows of the training set, in the order of their time."""
    return world.rows(world.spec.training_set).sort_by([("at", "ascending"), ("flight_id", "ascending")])


def user_made(world: World, rows: pa.Table) -> dict[str, Finding]:
    """What the proofs say of a training set that somebody made by other means, by check."""
    run = world.step()
    run.lake.write(world.spec.training_set, rows)
    return {finding.check: finding for finding in leaks.findings(world.spec, run)}


def failed(findings: Sequence[Finding] | dict[str, Finding]) -> dict[str, str]:
    """The sentences of the checks that stop what is downstream, by name."""
    listed = findings.values() if isinstance(findings, dict) else findings
    return {found.check: found.sentence for found in listed if not found.passed and not found.warn}


def with_column(rows: pa.Table, name: str, values: object) -> pa.Table:
    """Rows with other values in a column, of the same type."""
    place = rows.column_names.index(name)
    return rows.set_column(place, name, pa.array(values, rows.schema.field(name).type, from_pandas=True))


def shuffled_split(rows: pa.Table) -> pa.Table:
    """Rows that were split by chance, as in the published recipes."""
    drawn = np.random.default_rng(0).choice(["train", "validation", "test"], rows.num_rows, p=[0.7, 0.1, 0.2])
    return with_column(rows, "split", drawn.tolist())


def asked(sql: str, **tables: pa.Table) -> pa.Table:
    """What SQL makes of tables."""
    with connect() as con:
        for name, rows in tables.items():
            con.register(name, rows)
        return con.sql(sql).to_arrow_table()
