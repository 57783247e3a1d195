"""What the documentation says is loaded, run and held against the declarations, so that it cannot become untrue."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml_assets.orchestration.library import FILE

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "tables.md", ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
ML_ASSETS = str(Path(sys.executable).with_name("ml-assets"))

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
    shown = [block for page in (PAGE, README) for block in fenced(page, "python") if "pa.DataFrameModel" in block]
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
    (shop.folder / "pyproject.toml").write_text(f'[tool.dg.project]\nroot_module = "{shop.package}"\n')
    monkeypatch.setenv("USER", "ada")
    console = "\n".join(fenced(PAGE, "text"))
    for words in ("quarantine show orders", "quarantine release orders --rule", "quarantine drop orders --file"):
        command = next(c for c in reversed(commands_of(console)) if words in " ".join(c))
        command = ["4" if part == "42" else part for part in command]  # the same order on another line
        done = subprocess.run([ML_ASSETS, *command], cwd=shop.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        first = done.stdout.splitlines()[0]
        assert first in console
    assert shop.run("raw/orders", "tables/orders", first="2026-11-10").success
    assert {row["order_id"] for row in shop.rows("tables/orders")} >= {"O-00917"}


SCHEMA = next(
    json.loads(each["schema"])
    for each in json.loads(FILE.read_text())[0]["componentTypes"]
    if each["name"].endswith("Table")
)
FIELDS = sorted(
    {name for each in (SCHEMA, *SCHEMA["$defs"].values()) for name in each["properties"]}
    | {
        word
        for each in SCHEMA["$defs"].values()
        for said in each["properties"].values()
        for word in said.get("enum", ())
    }
)


@pytest.mark.parametrize("field", FIELDS)
def test_the_page_speaks_of_every_field_of_a_table(field):
    code = re.findall(r"`[^`\n]+`", PAGE.read_text()) + fenced(PAGE, "yaml")
    assert any(re.search(rf"\b{re.escape(field)}\b", each) for each in code)


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
        for command in commands_of(page.read_text()):
            if command and not command[0].startswith("<"):
                yield page.name, command


@pytest.mark.parametrize(
    ("page", "command"), list(commands()), ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_a_command_of_the_pages_exists_with_its_options(page, command):
    import typer

    from ml_assets.cli import app

    found: Any = typer.main.get_command(app)
    words = list(command)
    while hasattr(found, "commands") and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in found.commands, f"{page}: there is no ml-assets {' '.join(command)}"
        found = found.commands[name]
    options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-") and not re.fullmatch(r"-\d+", word):
            assert word.partition("=")[0] in options | {"--help"}, f"{page}: {word} is no option of {command}"


def test_the_pages_show_the_groups_of_commands_on_tables():
    said = {tuple(command[:2]) for _, command in commands()}
    assert said >= {
        *(("table", name) for name in ("read", "history", "diff", "sql", "list")),
        *(("quarantine", name) for name in ("show", "release", "drop", "log")),
        *(("contract", name) for name in ("infer", "diff", "check")),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
