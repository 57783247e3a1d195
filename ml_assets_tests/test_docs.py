"""What the documentation says is loaded, run and held against the declarations, so that it cannot become untrue."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml_assets.features.view import FUNCTIONS
from ml_assets.orchestration.library import FILE
from ml_assets.steps import catalogue
from ml_assets_tests import command

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "tables.md", ROOT / "README.md"
FEATURES = ROOT / "docs" / "features.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

IMPORTS = """\
from collections.abc import Iterator
from datetime import date, datetime

import pandera.pandas as pa
"""
OTHER_CONTRACTS = """\
class Stock(pa.DataFrameModel):
    sku: str
    pieces: int = pa.Field(ge=0)
    updated_at: datetime


class Ratings(pa.DataFrameModel):
    rating_id: int
    stars: int = pa.Field(ge=1, le=5)
    rated_at: datetime


class Rates(pa.DataFrameModel):
    day: date
    currency: str
    rate: float = pa.Field(gt=0)


class Prices(pa.DataFrameModel):
    sku: str
    price: float = pa.Field(nullable=True)
"""
ORDERS = """\
order_id,customer_id,ordered_at,shipped_at,quantity,unit_price,discount
O-00900,c1,2026-11-10T00:00:00Z,2026-11-10T06:00:00Z,3,105.28,0
O-00917,c4,2026-11-10T06:48:00Z,2026-11-11T06:48:00Z,0,185.6,0.1
O-00940,c4,2026-11-10T16:00:00Z,2026-11-10T15:36:00Z,5,185.82,0.1
"""
ORDERS_OF_A_DAY = ORDERS + "".join(
    f"O-01{n:03},c1,2026-11-10T18:{n:02}:00Z,2026-11-11T06:00:00Z,1,2.5,0\n" for n in range(57)
)


def fenced(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def declared(page: Path) -> list[str]:
    return [block for block in fenced(page, "yaml") if block.startswith("type: ml_assets.components.Table")]


def name_of(block: str) -> str:
    return re.search(r"^  name: (\w+)$", block, re.MULTILINE)[1]  # pyright: ignore[reportOptionalSubscript]


def models() -> str:
    """The contracts that the pages show, and those that they only name."""
    blocks = [block for page in (PAGE, README) for block in fenced(page, "python")]
    shown = [
        block
        for block in blocks
        if "pa.DataFrameModel" in block and not block.startswith("# src/my_project/defs/shop/shop.py")
    ]
    return "\n\n".join([IMPORTS, *shown, OTHER_CONTRACTS])


@pytest.fixture
def shop(project, monkeypatch):
    """A project with the contracts, the function and the variables that the page speaks of."""
    for name in ("SHOP_DATABASE_URL", "RATINGS_URL", "RATINGS_TOKEN"):
        monkeypatch.setenv(name, "http://127.0.0.1:9" if name == "RATINGS_URL" else "sqlite://")
    project.write("../../contracts.py", models())
    project.write("../../rates.py", IMPORTS + "\n\n" + next(b for b in fenced(PAGE, "python") if "def rates" in b))
    data = project.folder / "data"
    data.mkdir()
    (data / "customers.csv").write_text("customer_id,age,country\nc1,34,DE\nc4,45,US\n")
    return project


def own(project, block: str) -> str:
    """A block with the names of this project's package."""
    return block.replace("my_project.defs.shop.contracts", "PACKAGE.contracts").replace("my_project", "PACKAGE")


def test_the_page_shows_every_kind_of_source():
    said = " ".join(declared(PAGE))
    assert all(re.search(rf"\b{kind}:", said) for kind in ("files", "sql", "http", "python", "format"))


@pytest.mark.parametrize("block", declared(PAGE) + declared(README), ids=lambda block: block.split()[4])
def test_a_declaration_of_the_pages_loads(shop, block):
    beside = [] if name_of(block) == "customers" else declared(README)
    shop.declare(*[own(shop, each) for each in (*beside, block)])
    repository = shop.load().get_repository_def()
    assert repository.get_all_jobs()
    names = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    assert {f"raw/{name_of(block)}", f"tables/{name_of(block)}"} <= names


def test_the_function_of_the_page_gives_the_rows_that_its_contract_wants(shop):
    shop.declare(own(shop, next(block for block in declared(PAGE) if name_of(block) == "rates")))
    assert shop.run("raw/rates", "tables/rates", first="2026-11-16").success
    assert [(row["currency"], row["rate"]) for row in shop.rows("tables/rates")] == [("USD", 1.08)]


def test_the_shop_of_the_page_quarantines_and_releases_as_it_says(shop, monkeypatch):
    shop.declare(*[own(shop, each) for each in (declared(README)[0], declared(PAGE)[0])])
    shop.land("2026-11-10.csv", ORDERS_OF_A_DAY.encode(), table="orders")
    assert shop.run("raw/customers", "tables/customers").success
    assert shop.run("raw/orders", "tables/orders", first="2026-11-10").success
    shop.name_package()
    monkeypatch.setenv("USER", "ada")
    console = "\n".join(fenced(PAGE, "text"))
    for words in ("quarantine show orders", "quarantine release orders --rule", "quarantine drop orders --file"):
        said = next(c for c in reversed(commands_of(console)) if words in " ".join(c))
        said = ["4" if part == "42" else part for part in said]  # the same order on another line
        done = command.run(shop.folder, *said, without=())
        assert done.returncode == 0, done.stderr
        first = done.stdout.splitlines()[0]
        assert first in console
    assert shop.run("raw/orders", "tables/orders", first="2026-11-10").success
    assert {row["order_id"] for row in shop.rows("tables/orders")} >= {"O-00917"}


def views_of(page: Path) -> list[str]:
    return [block for block in fenced(page, "yaml") if block.startswith("type: ml_assets.components.FeatureView")]


@pytest.fixture
def flights(project):
    """A project with the tables of the flights example."""
    documents = (ROOT / "ml_assets/defs/flights/defs.yaml").read_text().split("---\n")
    project.tables = [
        each for each in documents if each.partition("type: ")[2].startswith("ml_assets.components.Table")
    ]
    return project


def test_the_views_of_the_page_load_beside_the_tables_of_the_flights(flights):
    assert len(views_of(FEATURES)) >= 4
    flights.declare(*flights.tables, *views_of(FEATURES))
    repository = flights.load().get_repository_def()
    names = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    assert {f"features/{name_of(block)}" for block in views_of(FEATURES)} <= names


WRONG = {
    "SELECT carrier, known_at, FROM WHERE": "syntax error at or near",
    "SELECT carrier, known_at, dely AS d FROM flights": "Referenced column",
    "SELECT carrier, known_at, delay AS d FROM flihgts": "there is no 'flihgts'",
    "SELECT carrier, delay AS d FROM flights": "does not select 'known_at'",
    "SELECT carrier, known_at, random() AS d FROM flights": "uses random()",
    "SELECT carrier, known_at, d FROM v": "made from each other",
    "{delay: {functions: [mean], windows: [90d]}}": "longer than the history",
    "{delay: {functions: [mean], windows: [30m]}}": "shorter than its grid",
    "{delay: {functions: [avg], windows: [6h]}}": "Known functions",
    "{flight_id: {functions: [mean], windows: [6h]}}": "can take it",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_the_page_says_of_a_fault_is_what_is_seen(project, wrong):
    from ml_assets.orchestration.loading import problems
    from ml_assets_tests.project import FLIGHTS

    form = f"table: flights\n  aggregations: {wrong}" if wrong.startswith("{") else f"sql: {wrong}"
    view = (
        f"type: ml_assets.components.FeatureView\nattributes:\n  name: v\n  entity: [carrier]\n  every: 1h\n  {form}\n"
    )
    project.declare(FLIGHTS, view)
    with pytest.raises(Exception) as caught:  # noqa: PT011  Dagster wraps it
        project.load().get_repository_def()
    (seen,) = problems(caught.value)
    cells = re.findall(r"^\| [^|]+ \| `(.+?)` \|$", FEATURES.read_text(), re.MULTILINE)
    (said,) = [cell for cell in cells if WRONG[wrong] in cell]
    words = [part.strip() for part in re.split(r"v from w|from v\.|carriers, ", said.replace("'", "`"))]
    assert all(part in seen.replace("'", "`") for part in words if len(part) > 3)
    assert re.search(r"defs\.yaml:\d+: ", seen)


SCHEMAS = {
    each["name"].rpartition(".")[2]: json.loads(each["schema"])
    for each in json.loads(FILE.read_text())[0]["componentTypes"]
}


def fields(schema: dict) -> list[str]:
    """The fields of a component and of what is in it, and the words that they take."""
    parts = schema["$defs"].values()
    words = {word for each in parts for said in each["properties"].values() for word in said.get("enum", ())}
    return sorted({name for each in (schema, *parts) for name in each["properties"]} | words)


@pytest.mark.parametrize("field", fields(SCHEMAS["Table"]))
def test_the_page_speaks_of_every_field_of_a_table(field):
    assert spoken_of(field, PAGE)


@pytest.mark.parametrize("field", fields(SCHEMAS["FeatureView"]))
def test_the_page_speaks_of_every_field_of_a_view(field):
    shared = [each for name, each in SCHEMAS["FeatureView"]["$defs"].items() if name in SCHEMAS["Table"]["$defs"]]
    told_there = any(field in each["properties"] for each in shared) or field in fields(SCHEMAS["Table"])
    assert spoken_of(field, FEATURES) or (told_there and field not in SCHEMAS["FeatureView"]["properties"])


def spoken_of(field: str, page: Path) -> bool:
    code = re.findall(r"`[^`\n]+`", page.read_text()) + fenced(page, "yaml")
    return any(re.search(rf"\b{re.escape(field)}\b", each) for each in code)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_page_speaks_of_every_function_of_a_window(name):
    assert re.search(rf"^\|[^|]*`{name}`[^|]*\|", FEATURES.read_text(), re.MULTILINE)


CHECKS = (
    *(catalogue.HINDSIGHT, catalogue.UNIQUE, catalogue.GRID_FITS, catalogue.ARRIVES, catalogue.RETAINED),
    *(catalogue.ONLINE, catalogue.ALIVE, catalogue.KNOWN_CATEGORIES, catalogue.AS_EXPECTED, catalogue.USEFUL),
    *(catalogue.REPEATED, catalogue.NO_ECHO, catalogue.NO_TWINS, catalogue.EQUAL_BITS, catalogue.CONSISTENT),
)


@pytest.mark.parametrize("name", [check.name for check in CHECKS])
def test_the_page_speaks_of_every_check_on_features(name):
    assert f"`{name}`" in FEATURES.read_text()


def test_the_page_shows_the_picture_of_the_clocks_and_the_commands_on_features():
    assert "](clocks.svg)" in FEATURES.read_text()
    said = {tuple(words[:2]) for page, words in commands() if page == "features.md"}
    assert said >= {("features", name) for name in ("list", "show", "preview", "get", "trace", "catalogue")}


def commands_of(text: str) -> list[list[str]]:
    """The arguments of every `ml-assets ...` in code: lines of blocks, and words between backticks."""
    found = []
    lines = iter(text.splitlines())
    for line in lines:
        for start in re.finditer(r"(?:^\$ |^(?:\.venv/bin/)?(?=ml-assets )|`)(?:\.venv/bin/)?ml-assets ", line):
            said = line[start.end() :]
            if line[start.start()] == "`":
                said = said.partition("`")[0]
            while said.count('"') % 2:  # a query goes on in the next line
                said += " " + next(lines)
            found.append(shlex.split(said.replace('\\"', ""), comments=True))
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        for words in commands_of(page.read_text()):
            if words and not words[0].startswith("<"):
                yield page.name, words


@pytest.mark.parametrize(
    ("page", "asked"), list(commands()), ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_a_command_of_the_pages_exists_with_its_options(page, asked):
    import typer

    from ml_assets.cli import app

    found: Any = typer.main.get_command(app)
    words = list(asked)
    while hasattr(found, "commands") and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in found.commands, f"{page}: there is no ml-assets {' '.join(asked)}"
        found = found.commands[name]
    options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-") and not re.fullmatch(r"-\d+", word):
            assert word.partition("=")[0] in options | {"--help"}, f"{page}: {word} is no option of {asked}"


def test_the_pages_show_the_groups_of_commands_on_tables():
    said = {tuple(words[:2]) for _, words in commands()}
    assert said >= {
        *(("table", name) for name in ("read", "history", "diff", "sql", "list")),
        *(("quarantine", name) for name in ("show", "release", "drop", "log")),
        *(("contract", name) for name in ("infer", "diff", "check")),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
