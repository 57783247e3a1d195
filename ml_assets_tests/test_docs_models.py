"""The README's own project and docs/models.md: what they declare is run, what they print is asked for again."""

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest

from ml_assets.evaluation import policy
from ml_assets.orchestration.loading import problems
from ml_assets.serving.routing import Router
from ml_assets.steps import catalogue
from ml_assets_tests import command
from ml_assets_tests.serving.test_http import Client
from ml_assets_tests.test_docs import README, ROOT, SCHEMAS, fenced, fields, spoken_of

PAGE = ROOT / "docs" / "models.md"
SHARED = [
    *("description", "owners", "group", "freshness", "warn", "fail"),  # told on the page on tables
]
PYPROJECT = '[tool.dg.project]\nroot_module = "my_project"\n'
DEFINITIONS = """\
from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
AT = "2026-10-31T18:30:00Z"
REFUSED = {
    "no json": ("/predict", "no json"),
    "version": ("/versions/9/predict", '{"carrier": "snail"}'),
    "model": ("/v2/models/other/infer", '{"inputs": []}'),
    "address": ("/nowhere", "{}"),
    "length": ("/predict", " " * (4 * 1024 * 1024 + 1)),
    "missing": ("/predict", '{"weight_kg": 1}'),
    "type": ("/predict", '{"carrier": "snail", "weight_kg": "heavy"}'),
    "bound": ("/predict", '{"carrier": "snail", "weight_kg": 31}'),
    "unknown": ("/predict", '{"carrier": "snail", "weight_kg": 1, "colour": "red"}'),
    "offset": ("/predict", '{"carrier": "snail", "weight_kg": 1, "at": "2026-10-31T18:30:00"}'),
    "rows": ("/predict", '{"instances": []}'),
    "tensor": (
        "/v2/models/late_order/infer",
        '{"inputs": [{"name": "carrier", "shape": [1], "datatype": "FP64", "data": [1]}]}',
    ),
}


def files() -> dict[str, str]:
    """The files that the README shows whole, by their path in the project."""
    blocks = [*fenced(README, "yaml"), *fenced(README, "python")]
    named = [re.match(r"# (src/\S+)\n", block) for block in blocks]
    return {match[1]: block for match, block in zip(named, blocks, strict=True) if match}


def on_the_page(kind: str) -> str:
    (block,) = [each for each in fenced(PAGE, "yaml") if each.startswith(f"type: ml_assets.components.{kind}\n")]
    return block


def declared() -> list[str]:
    return files()["src/my_project/defs/shop/defs.yaml"].split("---\n")


class Shop:
    """The README's project in an empty folder, and the real command in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        defs = folder / "src" / "my_project" / "defs"
        (defs / "shop").mkdir(parents=True)
        for place in (defs.parent, defs):
            (place / "__init__.py").touch()
        (folder / "pyproject.toml").write_text(PYPROJECT)
        (defs.parent / "definitions.py").write_text(DEFINITIONS)
        for path, content in files().items():
            (folder / path).write_text(content)

    def __call__(self, *arguments: str) -> str:
        here = {"PYTHONPATH": str(self.folder / "src"), "COLUMNS": "200"}  # as `uv pip install -e .` does
        ran = command.run(self.folder, *arguments, without=("ML_ASSETS_", "DAGSTER"), timeout=800, **here)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def address(self) -> str:
        return re.search(r"http://127\.0\.0\.1:\d+", self("endpoint", "status"))[0]  # pyright: ignore[reportOptionalSubscript]


def asked(page: Path) -> list[tuple[list[str], dict]]:
    """The arguments of each `$ curl` of a page, and the answer beneath it."""
    lines = "\n".join(fenced(page, "text")).splitlines()
    return [
        (shlex.split(line)[2:], json.loads(lines[n + 1])) for n, line in enumerate(lines) if line.startswith("$ curl ")
    ]


def answer(address: str, arguments: list[str]) -> dict:
    path = "/" + arguments[0].split("/", 3)[3]
    given = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    name, _, value = given.get("-H", "").partition(": ")
    headers = {name: value} if name else {}
    body = given.get("-d")
    return (httpx.post(address + path, content=body, headers=headers) if body else httpx.get(address + path)).json()


def comparable(said):
    """An answer without what differs by its nature: names of answers, hashes, how long ago the page was written."""
    if isinstance(said, dict):
        return {k: comparable(v) for k, v in said.items() if k not in ("prediction_id", "digests", "model_hash")}
    if isinstance(said, list):
        return [
            comparable(each) for each in said if not (isinstance(each, dict) and each.get("name") == "prediction_id")
        ]
    if isinstance(said, str):
        return re.sub(r"^too old: .* > ", "too old: … > ", said)
    return round(said, 9) if isinstance(said, float) else said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shop_of_the_readme_answers_as_the_pages_say(tmp_path):
    shop = Shop(tmp_path)
    said = shop("materialize", "+endpoints/late_order")
    try:
        for line in (each.split("  ")[0] for each in fenced(README, "text")[-1].splitlines() if "/late_order" in each):
            assert line in said or line.startswith("$")
        address = shop.address()
        for arguments, printed in asked(README):
            assert comparable(answer(address, arguments)) == comparable(printed)
        goes_on(shop)
        for arguments, printed in asked(PAGE):
            assert comparable(answer(address, arguments)) == comparable(printed), arguments
        refused(address)
    finally:
        shop("endpoint", "stop")


def goes_on(shop: Shop) -> None:
    """To the model and the endpoint of the page."""
    defs = shop.folder / "src/my_project/defs/shop"
    (defs / "features.py").write_text(next(b for b in fenced(PAGE, "python") if "def request_features" in b))
    (defs / "defs.yaml").write_text("---\n".join([*declared()[:3], on_the_page("Model"), on_the_page("Endpoint")]))
    assert "serves version 2 (100%)" in shop("materialize", "+endpoints/late_order") + shop("endpoint", "status")


def refused(address: str) -> None:
    said = [cell for cell in re.findall(r"^\| 4\d\d[^|]*\|[^|]*\| `(.*)` \|$", PAGE.read_text(), re.MULTILINE)]
    seen = [httpx.post(address + path, content=body).text for path, body in REFUSED.values()]
    assert sorted(said) == sorted(seen)


def said_of(status: int) -> str:
    """The body that the page gives for a status that comes once."""
    (said,) = re.findall(rf"^\| {status} .* \| `(.*)` \|$", PAGE.read_text(), re.MULTILINE)
    return said


def test_before_a_version_takes_traffic_the_answer_is_what_the_page_says():
    found = Client(Router(lambda version: pytest.fail(version))).predict({})
    assert (found.status_code, found.text, found.headers["retry-after"]) == (503, said_of(503), "1")


def test_what_the_page_says_of_our_own_fault_is_said():
    client = Client()
    client.service.router.table = 1  # pyright: ignore[reportAttributeAccessIssue]
    found = client.predict({})
    assert (found.status_code, found.text) == (500, said_of(500))


@pytest.fixture
def shop(project):
    """The README's declarations in this process, under the name of a package of their own."""
    own = f"{project.package}.defs.airline"
    project.write("shop.py", files()["src/my_project/defs/shop/shop.py"])
    project.write("features.py", next(b for b in fenced(PAGE, "python") if "def request_features" in b))

    def load(*changed: tuple[str, str]):
        documents = [*declared()[:3], on_the_page("Model"), on_the_page("Endpoint")]
        text = "---\n".join(documents).replace("my_project.defs.shop", own)
        for before, after in changed:
            assert before in text
            text = text.replace(before, after)
        project.declare(*text.split("---\n"))
        return project.load().get_repository_def()

    return load


def test_the_declarations_of_the_page_load(shop):
    names = {key.to_user_string() for key in shop().asset_graph.get_all_asset_keys()}
    assert names >= {f"{layer}/late_order" for layer in ("labels", "releases", "endpoints", "performance")}


WRONG = {
    "features: [carrier_speed]": ("features: [carrier_sped]", "there is no 'carrier_sped'"),
    "entity: [carrier]": ("entity: [hours]", "the spine lacks"),
    "spine: {table: orders": ("spine: {table: order", "there is no 'order' among the tables"),
    '"hours > 36"': ('"hour > 36"', "Referenced column"),
    'expression: "hours > 36", kind': ('expression: "hours", kind', "BOOLEAN"),
    ".request_features": (".request_feature", "package.module.function"),
    "warn: 0.15, fail: 0.2": ("warn: 0.5, fail: 0.2", "must not be above fail"),
    "cooldown: 6d": ("cooldown: 6 days", "is no duration"),
    'schedule: "0 4 * * 1"': ("schedule: every monday", "The schedule"),
    "estimator: lightgbm": ("estimator: xgboost", "'lightgbm'"),
    "strategy: all_at_once": ("strategy: canary", "'all_at_once'"),
    "allow: []": ("allow: [carrier_speed__hours]", "there is no feature"),
}


@pytest.mark.parametrize("before", WRONG)
def test_what_the_page_says_of_a_fault_is_what_is_seen(shop, before):
    after, words = WRONG[before]
    with pytest.raises(Exception) as caught:  # noqa: PT011  Dagster wraps it
        shop((before, after))
    (seen,) = problems(caught.value)
    assert re.search(r"defs\.yaml:\d+: ", seen)
    faults = re.findall(r"^\| [^|]+ \| (`+)(.+?)\1 \|$", PAGE.read_text(), re.MULTILINE)
    (said,) = [text for _, text in faults if words in text]
    assert said in seen


@pytest.mark.parametrize("kind", ["Model", "Endpoint"])
def test_the_page_speaks_of_every_field(kind):
    missing = [field for field in fields(SCHEMAS[kind]) if field not in SHARED and not spoken_of(field, PAGE)]
    assert not missing


CHECKS = (
    *(catalogue.LATER, catalogue.LABELLED, catalogue.IN_TIME, catalogue.BOTH, *catalogue.TRAINED, catalogue.IN_FORCE),
    *(catalogue.EQUAL_BITS, catalogue.ANSWERED, catalogue.COVERED, catalogue.CONSISTENT, catalogue.STEADY),
    *(catalogue.HOLDS, *catalogue.gates(policy.Gates(roc_auc_at_least=0.7))),
)


def test_the_page_speaks_of_every_check_of_a_model_and_an_endpoint():
    assert not [check.name for check in CHECKS if f"`{check.name}`" not in PAGE.read_text()]


def test_the_page_speaks_of_every_route():
    routes = {route.path for route in Client().app.routes}  # pyright: ignore[reportAttributeAccessIssue]
    text = PAGE.read_text().replace("/versions/2/", "/versions/{version}/").replace("s/late_order", "s/{model}")
    listed = {path.replace("/versions/{version}", "") if path.startswith("/v2") else path for path in routes}
    assert not [path for path in listed if path not in text]
