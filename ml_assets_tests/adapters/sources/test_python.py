"""Python sources, by functions in modules on disk; and when a source that is polled is due."""

import io
import textwrap
from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets import clock
from ml_assets.adapters.sources import columns, polling
from ml_assets.adapters.sources.base import Python, Subject
from ml_assets.adapters.sources.python import PythonSource
from ml_assets.errors import DeclarationError, DeliveryError, SourceUnavailableError
from ml_assets_tests.contracts.sources import FIRST, SourceContract

DAILY = Subject("weather", date(2013, 1, 1), date(2013, 1, 31))
WHOLE = Subject("planes")
NOW = datetime(2013, 1, 8, 12, tzinfo=UTC)


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """Write a module, and give a function that makes sources of its functions."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"rows_{abs(hash(request.node.nodeid))}"

    def write(code, function="rows", subject=WHOLE):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        return PythonSource(Python(f"{name}.{function}"), subject)

    write.file = tmp_path / f"{name}.py"
    yield write
    for loaded in [name]:
        __import__("sys").modules.pop(loaded, None)


def table(source, partition=""):
    (delivery,) = source.fetch([partition], {})
    return pq.read_table(io.BytesIO(delivery.content))


class Origin:
    """A function that reads a folder of CSV lines."""

    secret = "no such thing"

    def __init__(self, folder, module, monkeypatch):
        self.folder, self.now, self.monkeypatch = folder, NOW, monkeypatch
        self.days = {}
        code = f"""
            from pathlib import Path

            def rows(day):
                path = Path({str(folder)!r}) / f"{{day}}.csv"
                lines = path.read_text().split() if path.exists() else []
                return [{{"key": key, "n": int(n)}} for key, n in (line.split(",") for line in lines)]
        """
        self.spec = module(code, subject=DAILY).spec

    def source(self):
        return PythonSource(Python(self.spec.function, every=timedelta(minutes=1), look_back=timedelta(days=30)), DAILY)

    def put(self, day, **rows):
        self.days.setdefault(day, {}).update(rows)
        lines = [f"{key},{n}" for key, n in self.days[day].items()]
        (self.folder / f"{day}.csv").write_text("\n".join(lines))

    def rows(self, delivery):
        return {row["key"]: row["n"] for row in pq.read_table(io.BytesIO(delivery.content)).to_pylist()}

    def tick(self):
        self.now += timedelta(minutes=1)
        self.monkeypatch.setenv("ML_ASSETS_NOW", self.now.isoformat())


class TestPythonSource(SourceContract):
    polls = True

    @pytest.fixture
    def origin(self, tmp_path, module, monkeypatch):
        monkeypatch.setenv("ML_ASSETS_NOW", NOW.isoformat())
        return Origin(tmp_path, module, monkeypatch)


@pytest.mark.parametrize(
    "rows",
    [
        "pa.table({'n': [1, 2], 's': ['a', None]})",
        "pd.DataFrame({'n': [1, 2], 's': ['a', None]}, index=[5, 9])",
        "pd.DataFrame({'s': ['a', None]}, index=pd.Index([1, 2], name='n'))",
        "[{'n': 1, 's': 'a'}, {'n': 2}]",
        "({'n': n, 's': s} for n, s in [(1, 'a'), (2, None)])",
    ],
)
def test_a_function_gives_arrow_pandas_or_mappings(module, rows):
    source = module(f"import pandas as pd\nimport pyarrow as pa\ndef rows(day):\n    return {rows}")
    assert table(source).to_pylist() == [{"n": 1, "s": "a"}, {"n": 2, "s": None}]
    assert table(source).schema.metadata is None


def test_it_is_told_the_day_or_none(module):
    code = "def rows(day): return [{'day': day, 'kind': type(day).__name__}]"
    assert table(module(code, subject=DAILY), FIRST).to_pylist() == [{"day": date(2013, 1, 5), "kind": "date"}]
    assert table(module(code)).to_pylist() == [{"day": None, "kind": "NoneType"}]


def test_the_same_rows_are_the_same_bytes(module):
    source = module("def rows(day): return ({'n': n, 's': str(n)} for n in range(1000))")
    (first,) = source.fetch([""], {})
    (second,) = source.fetch([""], {})
    assert first == second
    assert (first.name, first.position) == ("all.parquet", None)


@pytest.mark.parametrize("rows", ["None", "[]", "pa.table({'n': pa.array([], pa.int64())})"])
def test_no_rows_of_a_day_are_nothing_and_of_a_whole_table_an_error(module, rows):
    code = f"import pyarrow as pa\n\ndef rows(day):\n    return {rows}"
    assert list(module(code, subject=DAILY).fetch([FIRST], {})) == []
    with pytest.raises(DeliveryError, match=rf"{module.file}:3: .*rows gave no rows; give an Arrow table"):
        list(module(code).fetch([""], {}))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("7", "gave a int; give an Arrow table, a pandas frame, or mappings"),
        ("'abc'", "gave a str; give"),
        ("{'n': 1}", "gave a dict; give"),
        ("[{'n': 1}, (2,)]", "gave a tuple as row 2; give"),
        ("[{'n': 1}, {'n': 'two'}]", "column n holds values of several types: int, str"),
        ("[{'n': b'1'}]", "column n holds bytes"),
    ],
)
def test_rows_of_another_shape_are_refused(module, rows, says):
    with pytest.raises(DeliveryError, match=rf"{module.file}:2: .*rows\(2013-01-05\).*{says}"):
        list(module(f"\ndef rows(day): return {rows}", subject=DAILY).fetch([FIRST], {}))


RAISES = """
    def rows(day):
        yield {'n': 1}
        deeper()

    def deeper():
        import json
        %s
"""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("json.loads('{')", r":8: .*rows\(2013-01-05\) raised JSONDecodeError: Expecting"),
        ("return 1 / 0", ":8: .*raised ZeroDivisionError: division by zero"),
    ],
)
def test_an_exception_names_the_line_of_the_function(module, line, says):
    with pytest.raises(DeliveryError, match=f"{module.file}{says}"):
        list(module(RAISES % line, subject=DAILY).fetch([FIRST], {}))


@pytest.mark.parametrize("error", ["ConnectionResetError('gone')", "TimeoutError('slow')", "OSError('disk')"])
def test_what_may_pass_by_itself_is_unavailable(module, error):
    with pytest.raises(SourceUnavailableError, match=rf"{module.file}:8: .*raised {error.split('(')[0]}"):
        list(module(RAISES % f"raise {error}", subject=DAILY).fetch([FIRST], {}))


def test_errors_of_ml_assets_pass_as_they_are(module):
    line = "from ml_assets.errors import SourceUnavailableError; raise SourceUnavailableError('later')"
    with pytest.raises(SourceUnavailableError, match=r"^later$"):
        list(module(RAISES % line).fetch([""], {}))


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("no.such.module.rows", "cannot be imported|No module named 'no'"),
        ("json.no_such", "no_such"),
        ("rows", "Write package.module.function"),
        ("json.__name__", "is no function but a str"),
    ],
)
def test_a_reference_that_leads_nowhere_is_an_error_of_the_declaration(reference, says):
    with pytest.raises(DeclarationError, match=f"{reference} is no function.*({says})|{says}"):
        list(PythonSource(Python(reference), WHOLE).fetch([""], {}))


def states(now, subject=DAILY, **spec):
    with clock.frozen(now):
        found = polling.look(subject, every=timedelta(hours=1), look_back=timedelta(days=2), **spec)
    return {day: state.digest for day, state in found.states.items()}


def test_the_newest_days_are_due_each_time_and_older_ones_once():
    before, after = states(NOW), states(NOW + timedelta(hours=1))
    assert list(before) == [f"2013-01-0{day}" for day in range(1, 9)]
    assert [day for day in before if before[day] != after[day]] == ["2013-01-06", "2013-01-07", "2013-01-08"]
    assert states(NOW + timedelta(minutes=59)) == before


def test_a_day_is_asked_for_a_last_time_when_it_is_too_old_to_change():
    before, after = states(NOW), states(NOW + timedelta(days=9))
    assert {day for day in before if before[day] != after[day]} == {"2013-01-06", "2013-01-07", "2013-01-08"}
    assert len({after[day] for day in before}) == 1


def test_days_of_a_table_of_the_past_are_asked_for_once_each():
    long_ago = Subject("t", date(2012, 1, 1), date(2012, 12, 31))
    assert len(states(NOW, long_ago)) == 366
    assert states(NOW, long_ago) == states(NOW + timedelta(days=99), long_ago)


def test_a_table_without_days_is_due_each_time():
    assert list(states(NOW, WHOLE)) == [""]
    assert states(NOW, WHOLE) == states(NOW + timedelta(minutes=59), WHOLE) != states(NOW + timedelta(hours=1), WHOLE)


def test_a_table_that_has_not_begun_has_no_days():
    assert states(NOW, Subject("t", date(2013, 2, 1))) == {}


OFFSETS = st.integers(-720, 720).map(lambda minutes: timezone(timedelta(minutes=minutes)))
VALUES = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.none() | st.floats(allow_nan=False)),
    st.lists(st.none() | st.booleans()),
    st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))),
    st.lists(st.none() | st.dates()),
    st.lists(st.none() | st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=OFFSETS)),  # noqa: DTZ001
)


@given(values=VALUES, cut=st.integers(0, 20))
def test_values_come_back_as_they_were_whole_or_in_pages(values, cut):
    pages = [columns.table_of({"x": part}, "t") for part in (values[:cut], values[cut:])]
    joined = columns.concatenated(pages, "t")
    assert joined["x"].to_pylist() == values
    assert columns.parquet(joined) == columns.parquet(columns.table_of({"x": values}, "t"))


def test_whole_numbers_beyond_a_double_are_not_rounded_into_one():
    pages = [columns.table_of({"x": [2**53 + 1]}, "t"), columns.table_of({"x": [0.5]}, "t")]
    with pytest.raises(DeliveryError, match="column x holds whole numbers that no double can"):
        columns.concatenated(pages, "t")
    with pytest.raises(DeliveryError, match="column x"):
        columns.table_of({"x": [2**53 + 1, 0.5]}, "t")
    with pytest.raises(DeliveryError, match="column x does not fit"):
        columns.table_of({"x": [2**63]}, "t")


def test_a_time_among_days_is_no_day():
    with pytest.raises(DeliveryError, match="several types: date, datetime"):
        columns.table_of({"x": [date(2013, 1, 1), NOW]}, "t")
    with pytest.raises(DeliveryError, match="2013-01-01 00:00:00, a time without a zone"):
        columns.table_of({"x": [NOW, datetime(2013, 1, 1)]}, "t")  # noqa: DTZ001
    assert columns.table_of({"x": [NOW]}, "t").schema.field("x").type == pa.timestamp("us", "UTC")
