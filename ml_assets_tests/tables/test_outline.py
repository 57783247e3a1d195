"""The outline of a contract: read from source, imports nothing, refuses what it cannot read."""

import subprocess
import sys
from pathlib import Path

import pytest

from ml_assets.errors import DeclarationError
from ml_assets.tables import contract
from ml_assets.tables.contract import Column
from ml_assets_tests.tables.conftest import FLIGHTS

EVERY_TYPE = '''
class Base(pa.DataFrameModel):
    a: str = pa.Field(nullable=True, description="Text", ge="a")
    b: int

class Other(pa.DataFrameModel):
    o: "float"

class Table(Base, Other):
    """A docstring."""
    c: Series[float] = pa.Field(alias="sea level")
    d: datetime
    e: date
    f: bool
    g: Annotated[pd.DatetimeTZDtype, "us", "UTC"]
    h: pd.Int64Dtype = pa.Field(nullable=True)
    b: float
    _hidden: int = 3

    class Config:
        strict = True
'''


def test_every_supported_type_is_read_with_nullability_description_and_alias(declare):
    columns = contract.outline(declare(EVERY_TYPE, "Table"))
    assert columns == (
        Column("o", "DOUBLE", nullable=False),
        Column("a", "VARCHAR", nullable=True, description="Text"),
        Column("b", "DOUBLE", nullable=False),
        Column("sea level", "DOUBLE", nullable=False),
        Column("d", "TIMESTAMPTZ", nullable=False),
        Column("e", "DATE", nullable=False),
        Column("f", "BOOLEAN", nullable=False),
        Column("g", "TIMESTAMPTZ", nullable=False),
        Column("h", "BIGINT", nullable=True),
    )


def test_a_column_that_exists_only_after_the_event_says_so(declare):
    body = """
class Table(pa.DataFrameModel):
    planned: str
    told: str = pa.Field(metadata={"unit": "min", "available": "request"})
    arrived: datetime = pa.Field(metadata={"available": "after_event"})
"""
    reference = declare(body, "Table")
    assert [column.available for column in contract.outline(reference)] == ["request", "request", "after_event"]
    assert contract.load(reference).columns == contract.outline(reference)


def test_the_outline_equals_what_pandera_finds_after_import(declare):
    reference = declare(EVERY_TYPE.replace("    _hidden: int = 3\n", ""), "Table")
    assert contract.load(reference, keys=["d"]).columns == contract.outline(reference)


def test_a_base_class_may_live_in_another_module(declare):
    declare("class Base(pa.DataFrameModel):\n    a: str\n", "Base", module="bases_of_tests")
    reference = declare("from bases_of_tests import Base\nclass Table(Base):\n    b: int\n", "Table")
    assert [column.name for column in contract.outline(reference)] == ["a", "b"]


def test_a_base_class_may_be_imported_relatively(declare, tmp_path):
    package = tmp_path / "shop_of_tests"
    package.mkdir()
    (package / "__init__.py").touch()
    declare("class Base(pa.DataFrameModel):\n    a: str\n", "Base", module="shop_of_tests/base")
    declare("from .base import Base\nclass Table(Base):\n    b: int\n", "Table", module="shop_of_tests/contracts")
    assert [column.name for column in contract.outline("shop_of_tests.contracts.Table")] == ["a", "b"]


def test_folders_without_init_are_packages_too(declare, tmp_path):
    (tmp_path / "shop_of_folders" / "defs").mkdir(parents=True)
    (tmp_path / "shop_of_folders" / "__init__.py").touch()
    declare("class Table(pa.DataFrameModel):\n    b: int\n", "Table", module="shop_of_folders/defs/contracts")
    assert [column.name for column in contract.outline("shop_of_folders.defs.contracts.Table")] == ["b"]


def test_the_outline_imports_neither_the_module_nor_its_package_nor_heavy_libraries(tmp_path):
    package = tmp_path / "project"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "contracts.py").write_text(
        "import pandera.pandas as pa\nclass T(pa.DataFrameModel):\n    a: int\n1 / 0\n"
    )
    script = (
        "import sys\nfrom ml_assets.tables import contract\n"
        "assert contract.outline('project.contracts.T')[0].name == 'a'\n"
        "heavy = {'pandera', 'pandas', 'pyarrow', 'numpy', 'project', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a: complex", "column a: unknown type complex; use one of str, int"),
        ("a: 'float('", "column a: unknown type 'float('"),
        ("a: Optional[int]", "write the plain type and pa.Field(nullable=True)"),
        ("a: int | None", "write the plain type and pa.Field(nullable=True)"),
        ("a: Annotated[pd.DatetimeTZDtype, 'us', 'Europe/Paris']", "instants are stored in UTC"),
        ("a: int = make_field()", "give it pa.Field(...) or nothing"),
        ("a: int = pa.Field(nullable=NULLABLE)", "write nullable as a literal"),
        ("a: int = pa.Field(**options)", "write **arguments as a literal"),
    ],
)
def test_a_column_that_cannot_be_read_from_text_is_refused_with_file_and_line(declare, tmp_path, line, words):
    reference = declare(f"class Table(pa.DataFrameModel):\n    ok: int\n    {line}\n", "Table")
    with pytest.raises(DeclarationError) as caught:
        contract.outline(reference)
    file = tmp_path / f"{reference.split('.')[0]}.py"
    assert words in str(caught.value)
    assert (Path(str(caught.value.file)), caught.value.line) == (file, 10)
    assert file.read_text().splitlines()[9].strip() == line


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("no_such_package.contracts.Flights", "no module no_such_package.contracts"),
        ("ml_assets.no_such_module.Flights", "no module ml_assets.no_such_module"),
        ("Flights", "write package.module.Class"),
        ("ml_assets.errors.Flights", "there is no class Flights; the classes here: ArtefactError"),
        ("ml_assets.errors.LakeError", "is no pandera model"),
    ],
)
def test_a_reference_that_leads_nowhere_says_so(reference, words):
    with pytest.raises(DeclarationError, match=words.replace("(", r"\(")):
        contract.outline(reference)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    pass", "declares no columns"),
        ("    a: int\n    A: int", "declares one name twice: a, A"),
        ("    partition_key: str", "ml_assets itself adds"),
    ],
)
def test_names_that_sql_cannot_tell_apart_or_that_are_taken_are_refused(declare, body, words):
    with pytest.raises(DeclarationError, match=words):
        contract.outline(declare(f"class Table(pa.DataFrameModel):\n{body}\n", "Table"))


def test_a_file_that_is_not_python_is_refused_with_its_line(declare):
    with pytest.raises(DeclarationError, match=r"\.py:8: not Python"):
        contract.outline(declare("class Table(:\n", "Table"))


def test_reading_an_outline_takes_milliseconds(declare):
    import time

    reference = declare(FLIGHTS, "Flights")
    started = time.process_time()
    for _ in range(10):
        contract.outline(reference)
    assert (time.process_time() - started) / 10 < 0.02
