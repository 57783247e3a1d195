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


PROJECT = "[tool.dg.project]\n"


@pytest.mark.parametrize(
    ("pyproject", "line", "problem"),
    [
        ("[tool.dg]\n\nproject = 'x'\n", 3, "[tool.dg.project] is no table. Write [tool.dg.project], and"),
        ("[tool]\ndg = 5\n", 2, "[tool.dg] is no table"),
        (
            f"[project]\nname = 'x'\n{PROJECT}root_module = 5\n",
            4,
            'root_module is 5, no name. Write root_module = "shop"',
        ),
        (f"{PROJECT}root_module = ''\n", 2, "root_module is '', no name. Write root_module = \"shop\""),
        (f"# {PROJECT}{PROJECT}name = 'x'\n# {PROJECT}", 2, "[tool.dg.project] has no root_module"),
        (
            f"{PROJECT}root_module = 'shop'\ncode_location_target_module = ['shop']\n",
            3,
            "code_location_target_module is ['shop'], no name. Write one in quotes",
        ),
        (f"{PROJECT}root_module = 'shop'\ncode_location_name = 1\n", 3, "code_location_name is 1, no name."),
    ],
)
def test_what_is_no_name_of_a_package_is_told_with_its_line(shop, pyproject, line, problem):
    told = said(shop, pyproject, "check")
    assert told.startswith(f"{shop}/pyproject.toml:{line}: {problem}"), told


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("root_module = 'work'", 'root_module = "shop" or root_module = "zoo"'),
        (
            "code_location_target_module = 'work.place'\nroot_module = 'shop'",
            'code_location_target_module = "shop.definitions" or code_location_target_module = "zoo.definitions"',
        ),
    ],
)
def test_of_several_packages_each_is_offered_and_the_line_is_that_of_the_name(shop, named, meant):
    (shop / "zoo" / "defs").mkdir(parents=True)
    other = "[tool.{}]\nroot_module = 'work'  # and workshop\n"
    told = said(shop, f"{other.format('before')}{PROJECT}{named}\n{other.format('after')}", "check")
    assert told.startswith(f"{shop}/pyproject.toml:4: [tool.dg.project] asks for the module work."), told
    assert told.endswith(f"if one is meant that is there, write {meant}.\n")


def test_a_project_of_several_packages_without_a_name_is_offered_each(shop):
    (shop / "zoo" / "defs").mkdir(parents=True)
    told = said(shop, f"{PROJECT}name = 'x'\n", "check")
    assert told.endswith('Write root_module = "shop" or root_module = "zoo": the package that has defs/\n'), told
