"""Early cut-off: what runs after an edit is exactly what an oracle that computes everything anew says must run.

The oracle knows nothing of hashes, records or the lake: it computes each step of a random graph in plain Python, and a
step must run where its code, its settings or the rows of its inputs are other than at its last run.
"""

import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.features import meaning
from ml_assets.steps import labels, training_set
from ml_assets.steps.memo import Memo, by_day
from ml_assets_tests import flights
from ml_assets_tests.steps import edits
from ml_assets_tests.steps.edits import Small

DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")
SQL = "SELECT partition_key, id, CAST(sum(value) AS BIGINT) // {divisor} AS value FROM inputs GROUP BY ALL"
LAYOUTS = (
    SQL,
    "-- the sum\n" + SQL,
    SQL.replace("SELECT", "select /* by id */").replace(" FROM", "\n  from"),
    SQL.lower().replace("// {divisor}", "//{divisor}"),
)
Rows = dict[str, list[tuple[int, int]]]  # id and value, by day


@dataclass(frozen=True)
class Step:
    """Sums the values of its inputs by id, over `reach` more days; the division loses small changes."""

    name: str
    inputs: tuple[str, ...]
    reach: int = 0
    divisor: int = 1
    version: int = 1
    layout: int = 0

    def days(self, day: str) -> list[str]:
        return list(DAYS[max(0, DAYS.index(day) - self.reach) : DAYS.index(day) + 1])

    @property
    def sql(self) -> str:
        return LAYOUTS[self.layout].format(divisor=self.divisor)


@dataclass
class World:
    """Sources with their rows, and steps in an order in which they can run."""

    sources: dict[str, Rows]
    steps: list[Step]
    outputs: dict[str, dict[str, Counter]] = field(default_factory=dict)
    seen: dict[tuple[str, str], object] = field(default_factory=dict)

    def must_run(self) -> set[tuple[str, str]]:
        """Compute everything; give the partitions whose code, settings or input rows are not those of the last run."""
        self.outputs = {
            name: {day: Counter(found) for day, found in rows.items()} for name, rows in self.sources.items()
        }
        due = set()
        for step in self.steps:
            self.outputs[step.name] = {day: self._output(step, day) for day in DAYS}
            for day in DAYS:
                rows = {name: [self.outputs[name][each] for each in step.days(day)] for name in step.inputs}
                state = (step.version, step.divisor, step.reach, rows)
                if self.seen.get((step.name, day)) != state:
                    due.add((step.name, day))
                self.seen[step.name, day] = state
        return due

    def _output(self, step: Step, day: str) -> Counter:
        totals: dict[int, int] = {}
        for name in step.inputs:
            for each in step.days(day):
                for (number, value), times in self.outputs[name][each].items():
                    totals[number] = totals.get(number, 0) + value * times
        return Counter((number, total // step.divisor) for number, total in totals.items())


class Executor:
    """Runs what the records say, over a real lake."""

    def __init__(self, folder: str) -> None:
        self.lake = Lake(folder)

    def deliver(self, name: str, rows: Rows) -> None:
        self.lake.write(name, _table(rows), partitions=DAYS)

    def run(self, steps: list[Step]) -> set[tuple[str, str]]:
        return {(step.name, day) for step in steps for day in self._run(step)}

    def _run(self, step: Step) -> list[str]:
        memo = Memo(
            self.lake,
            step.name,
            version=step.version,
            config={"sql": meaning.of_sql(step.sql), "divisor": step.divisor, "reach": step.reach},
        )
        hashes = {name: self._hashes(name) for name in step.inputs}
        inputs = {day: self._inputs(step, day, hashes) for day in DAYS}
        _, due = memo.survey(inputs)
        if due:
            commit = self.lake.write(step.name, self._compute(step, due), partitions=due)
            for day in due:
                memo.write(day, inputs[day], commit.content[day].hash, {})
        return due

    def _hashes(self, name: str) -> dict[str, str]:
        return {day: content.hash for day, content in self.lake.content(name, partitions=DAYS).items()}

    def _inputs(self, step: Step, day: str, hashes: dict[str, dict[str, str]]) -> dict[str, str]:
        return {k: v for name in step.inputs for k, v in by_day(name, hashes[name], step.days(day)).items()}

    def _compute(self, step: Step, due: list[str]) -> pa.Table:
        with connect() as con:
            for number, name in enumerate(step.inputs):
                self.lake.register(con, f"input{number}", name)
            wanted = [(day, each) for day in due for each in step.days(day)]
            spans = ", ".join(f"('{day}', '{each}')" for day, each in wanted)
            parts = " UNION ALL ".join(
                f"SELECT partition_key, id, value FROM input{n}" for n in range(len(step.inputs))
            )
            con.execute(
                "CREATE TEMP VIEW inputs AS SELECT wanted.day AS partition_key, id, value"
                f" FROM ({parts}) rows JOIN (VALUES {spans}) wanted (day, each) ON rows.partition_key = wanted.each"
            )
            return con.sql(step.sql).to_arrow_table()

    def rows(self, name: str) -> dict[str, Counter]:
        found: dict[str, Counter] = {day: Counter() for day in DAYS}
        for row in self.lake.dataset(name).to_table().to_pylist():
            found[row["partition_key"]][row["id"], row["value"]] += 1
        return found


def _table(rows: Rows) -> pa.Table:
    flat = [
        {"partition_key": day, "id": number, "value": value} for day, found in rows.items() for number, value in found
    ]
    kinds = [("partition_key", pa.string()), ("id", pa.int64()), ("value", pa.int64())]
    return pa.Table.from_pylist(flat, pa.schema(kinds))


_ROWS = st.fixed_dictionaries(
    {day: st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=4) for day in DAYS}
)


@st.composite
def worlds(draw):
    sources = {f"tables/source{n}": draw(_ROWS) for n in range(draw(st.integers(1, 2)))}
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 4))):
        known = [*sources, *(step.name for step in steps)]
        inputs = draw(st.lists(st.sampled_from(known), min_size=1, max_size=2, unique=True))
        reach, divisor = draw(st.integers(0, 2)), draw(st.sampled_from([1, 5, 50]))
        steps.append(Step(f"features/step{number}", tuple(inputs), reach, divisor))
    return World(sources, steps)


def _edit(data, world: World) -> str:
    """Change something, or nothing that matters; gives what was done."""
    what = data.draw(st.sampled_from(["touch", "reorder", "restate", "layout", "version", "setting"]), label="edit")
    name = data.draw(st.sampled_from(sorted(world.sources)), label="source")
    place = data.draw(st.integers(0, len(world.steps) - 1), label="step")
    step, day = world.steps[place], data.draw(st.sampled_from(DAYS), label="day")
    rows = world.sources[name]
    if what == "reorder":
        rows[day] = data.draw(st.permutations(rows[day]), label="order")
    if what == "restate":
        rows[day] = data.draw(_ROWS, label="rows")[day]
    if what == "layout":
        world.steps[place] = replace(step, layout=data.draw(st.integers(0, len(LAYOUTS) - 1), label="layout"))
    if what == "version":
        world.steps[place] = replace(step, version=step.version + 1)
    if what == "setting":
        world.steps[place] = replace(step, divisor=data.draw(st.sampled_from([1, 5, 50]), label="divisor"))
    return what


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds(), st.data())
def test_after_any_edit_exactly_what_must_run_runs(world, data):
    with tempfile.TemporaryDirectory() as folder:
        executor = Executor(folder)
        for _ in range(data.draw(st.integers(2, 6), label="edits")):
            for name, rows in world.sources.items():
                executor.deliver(name, rows)
            assert executor.run(world.steps) == world.must_run()
            assert {step.name: executor.rows(step.name) for step in world.steps} == {
                step.name: world.outputs[step.name] for step in world.steps
            }
            _edit(data, world)


@pytest.fixture
def small(project):
    small = Small(project)
    assert small.run() == {}
    return small


NEXT, REACHED = {"2013-01-02", "2013-01-03"}, {"2013-01-02", "2013-01-03", "2013-01-04"}
TABLE, ALL = "tables/flights", set(edits.DAYS)


@pytest.mark.parametrize(
    ("edit", "computed"),
    [
        (Small.touch, {}),
        (Small.recompress, {TABLE: {"2013-01-02"}}),
        (Small.reorder, {TABLE: {"2013-01-02"}}),
        (Small.deliver_again_under_another_name, {}),
        (Small.comment_in_sql, {}),
        (Small.comment_in_contract, {}),
        (Small.serve_later, {}),
        (Small.keep_features_longer, {}),
        (Small.allow_more, {TABLE: ALL}),
        (Small.refuse_a_carrier, {TABLE: ALL}),
        (Small.fail_sooner, {TABLE: ALL}),
        (Small.change_sql, {"features/last_flight": ALL}),
        (Small.shorter_window, {"features/carrier_delays": ALL}),
        (Small.larger_fleet, {"tables/carriers": {""}, "features/carrier_attributes": {""}}),
        (
            Small.restate,
            {TABLE: {"2013-01-02"}, "features/carrier_delays": REACHED, "features/last_flight": NEXT},
        ),
    ],
)
def test_each_kind_of_edit_computes_exactly_what_it_affects(small, edit, computed):
    before = small.project.versions()
    edit(small)
    assert small.run() == computed
    rows_changed = edit in (Small.change_sql, Small.shorter_window, Small.larger_fleet, Small.restate)
    versions = {n: v for n, v in small.project.versions().items() if n.startswith(("tables/", "features/"))}
    assert {n for n, v in versions.items() if v != before[n]} == (set(computed) if rows_changed else set())
    assert small.run() == {}


def test_the_documentation_of_a_contract_computes_nothing_downstream(small):
    small.document_contract()
    assert set(small.run()) <= {TABLE}


def test_settings_that_change_no_row_train_nothing_again(world):
    """Layout of the SQL of labels and views, threads: everything down to the release is what it was."""
    spec = world.spec
    views = tuple(
        replace(view, view=replace(view.view, sql=f"-- edited\n{view.view.sql}")) if view.view.sql else view
        for view in spec.views
    )
    assert views != spec.views
    own = world.having(
        label=f"/* late */ {spec.label}",
        at=spec.at.lower().replace(" - ", "  -  "),
        views=views,
        budget=replace(spec.budget, threads=2),
    )
    assert own.spec.at != spec.at
    assert flights.reused(own.compute(*flights.DAYS) | own.learn(*flights.DAYS, flights.AHEAD))


def test_another_label_computes_labels_and_a_training_set_and_no_feature(world):
    own = world.having(label=f"NOT ({world.spec.label})")
    assert flights.reused(own.compute(*flights.DAYS))
    labelled = labels.materialize(own.spec, own.step(*flights.DAYS, flights.AHEAD))[own.spec.labels].produced
    assert not any(made.reused for made in labelled.values())
    assert labelled[flights.DAYS[0]].metadata["why"].startswith("configuration changed: label ")
    learnt = training_set.materialize(own.spec, own.step())[own.spec.training_set].produced[""]
    assert (learnt.reused, learnt.metadata["why"].split(" changed")[0]) == (False, own.spec.labels)
