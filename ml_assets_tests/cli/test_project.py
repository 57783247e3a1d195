"""What commands say of a project that Python cannot find: file:line, what was looked for, where, and what to do."""

from pathlib import Path

import pytest

from ml_assets_tests import command

PYPROJECT = '[project]\nname = "shop"\n\n[tool.dg.project]\nroot_module = "shop"\n'


def said(folder: Path, pyproject: str, *arguments: str) -> str:
    """What a command prints that ends with a sentence for the user."""
    (folder / "pyproject.toml").write_text(pyproject)
    ran = command.run(folder, *arguments, ML_ASSETS_HOME=str(folder / "var"), NO_COLOR="1")
    assert (ran.returncode, ran.stdout) == (1, ""), ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stderr


@pytest.fixture
def shop(tmp_path):
    """A project with declarations and without definitions.py."""
    (tmp_path / "src" / "shop" / "defs").mkdir(parents=True)
    for place in ("shop", "shop/defs"):
        (tmp_path / "src" / place / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize("arguments", [("check",), ("materialize", "--dry-run")])
def test_a_project_without_definitions_is_told_which_file_to_write(shop, arguments):
    told = said(shop, PYPROJECT, *arguments)
    assert told.startswith(
        f"{shop}/pyproject.toml:5: [tool.dg.project] asks for the module shop.definitions, and there"
    )
    assert "Write src/shop/definitions.py" in told


@pytest.mark.parametrize("arguments", [("check",), ("materialize", "--dry-run"), ("explain", "tables/orders")])
def test_a_wrong_name_of_the_package_is_told_with_the_one_that_is_there(shop, arguments):
    told = said(shop, PYPROJECT.replace('_module = "shop"', '_module = "shpo"'), *arguments)
    assert told.startswith(f"{shop}/pyproject.toml:5: [tool.dg.project] asks for the module shpo.")
    assert "there is no 'shpo' that Python finds. Install the project" in told
    assert f"looked for in {shop} and {shop}/src as well" in told
    assert 'write root_module = "shop"' in told


@pytest.mark.parametrize("arguments", [("check",), ("explain", "tables/orders")])
def test_a_project_that_does_not_name_its_package_is_told_to(shop, arguments):
    told = said(shop, '[tool.dg.project]\nname = "shop"\n', *arguments)
    assert told.startswith(f"{shop}/pyproject.toml:1: [tool.dg.project] has no root_module")
    assert 'root_module = "shop"' in told


@pytest.mark.parametrize("arguments", [("check",), ("explain", "tables/orders")])
def test_a_pyproject_that_does_not_parse_is_told_with_its_line(shop, arguments):
    told = said(shop, "[tool.dg.project]\nroot_module = shop\n", *arguments)
    assert told.startswith(f"{shop}/pyproject.toml:2: no TOML: ")
