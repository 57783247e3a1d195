import json
import subprocess

import pytest

from ml_assets.tables import contract
from ml_assets_tests.project import CONTRACTS

NARROWER = CONTRACTS.replace("le=600", "le=500")
WIDER = CONTRACTS.replace("le=600", "le=700")


@pytest.fixture
def repository(own, tmp_path):
    """The project of its own in a git repository, its contracts in the first commit."""
    import shutil

    from ml_assets_tests.cli.airline import Airline

    code = tmp_path / "code"
    shutil.copytree(own.code, code, ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-c", "user.name=ada", "-c", "user.email=ada@example.org", "-C", str(code)]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    return Airline(code, own.home, own.spec)


def package(airline):
    return next(path for path in airline.code.iterdir() if path.name.startswith("project_"))


def test_the_same_contract_has_no_change(repository):
    place = f"{package(repository).name}/contracts.py:Flights"
    ran = repository.process("contract", "diff", f"HEAD:{place}", place)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "1 contract compared: no change.\n")


def test_a_breaking_change_is_a_line_with_its_place_and_exit_1(repository):
    file = package(repository) / "contracts.py"
    file.write_text(NARROWER)
    place = f"{package(repository).name}/contracts.py"
    ran = repository.process(
        "contract", "diff", f"HEAD:{place}:Flights", f"{package(repository).name}.contracts.Flights"
    )
    assert ran.returncode == 1
    assert ran.stdout.startswith(f"{place}:11: breaking: Flights.delay: values were ge=-60, le=600, are ge=-60, le=500")
    assert ran.stderr == "1 contract compared: 1 change, 1 breaking.\n"


def test_a_compatible_change_leaves_with_0(repository):
    place = f"{package(repository).name}/contracts.py:Flights"
    (package(repository) / "contracts.py").write_text(WIDER)
    found = json.loads(repository.said("contract", "diff", f"HEAD:{place}", place, "--format", "json"))
    assert found["compatible"]
    assert [(each["contract"], each["subject"], each["effect"]) for each in found["changes"]] == [
        ("Flights", "delay", "compatible")
    ]


def test_all_contracts_of_the_project_are_held_to_a_commit(repository):
    assert repository.process("contract", "check", "--against", "HEAD").stderr == "2 contracts compared: no change.\n"
    (package(repository) / "contracts.py").write_text(NARROWER.replace("fleet: int = pa.Field(gt=0)", "fleet: float"))
    ran = repository.process("contract", "check", "--against", "HEAD")
    assert ran.returncode == 1
    subjects = [line.split(": ")[2] for line in ran.stdout.splitlines()]
    assert subjects == ["carriers.fleet", "flights.delay"]


def test_a_contract_that_is_new_breaks_nobody(repository):
    (package(repository) / "contracts.py").write_text(CONTRACTS.replace("class Flights", "class Flown"))
    yaml = package(repository) / "defs" / "airline" / "defs.yaml"
    yaml.write_text(yaml.read_text().replace("contracts.Flights", "contracts.Flown"))
    ran = repository.process("contract", "check", "--against", "HEAD")
    assert (ran.returncode, ran.stderr) == (0, "New since HEAD: flights.\n1 contract compared: no change.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("diff", "nope:contracts.py:Flights", "contracts.py:Flights"), "There is no commit nope."),
        (("diff", "HEAD:nope.py:Flights", "nope.py:Flights"), "nope.py is not in HEAD."),
        (("diff", "nope.py:Flights", "nope.py:Flights"), "nope.py cannot be read: No such file or directory."),
        (("diff", "no.module.Flights", "no.module.Flights"), "no module no.module"),
        (("check", "--against", "nope"), "There is no commit nope."),
        (("infer", "pyproject.toml"), "unknown kind of file"),
        (("infer", "pyproject.toml", "--delimiter", ";;"), "write one ASCII character"),
        (("infer", "pyproject.toml", "--name", "two words"), "--name two words is no name of a class."),
        (("infer", "pyproject.toml", "--name", "None"), "--name None is no name of a class."),
        (("diff", "latin.py:Flights", "latin.py:Flights"), "latin.py is no Python in UTF-8."),
        (("infer", "pyproject.toml", "--output", "pyproject.toml"), "pyproject.toml is there already."),
    ],
)
def test_what_a_user_can_correct_is_one_sentence(repository, arguments, said):
    (repository.code / "latin.py").write_bytes("# é\n".encode("latin-1"))
    assert said in repository.refused("contract", *arguments)


def test_a_first_contract_is_written_and_loads(own, monkeypatch):
    landed = own.home / "landing" / "flights" / "2013-01-01.parquet"
    wanted = own.home / "first.py"
    ran = own.process("contract", "infer", str(landed), "--name", "Flights", "--keys", "flight_id", "-o", str(wanted))
    assert (ran.returncode, ran.stdout) == (0, "")
    assert ran.stderr.startswith(f"Wrote Flights to {wanted}.")
    monkeypatch.syspath_prepend(own.home)
    assert contract.load("first.Flights", keys=["flight_id"]).names() == (
        "flight_id",
        "carrier",
        "arrived_at",
        "delay",
        "known_at",
    )
    printed = own.said("contract", "infer", str(landed), "--name", "Flights", "--keys", "flight_id")
    assert printed == wanted.read_text()
