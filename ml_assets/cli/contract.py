"""`ml-assets contract`: what changed between two versions of a contract, and a first contract from data."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml_assets.cli import project
from ml_assets.cli.output import note, writing
from ml_assets.errors import MlAssetsError

if TYPE_CHECKING:
    from ml_assets.tables.compare import Change
    from ml_assets.tables.outline import Outline

contract = typer.Typer(
    no_args_is_help=True,
    help="""Contracts of tables: compare two versions, hold a project to an earlier commit,
    or write a first one from data.""",
)

_FORMS = "package.module.Class, file.py:Class, or commit:file.py:Class"


class Said(StrEnum):
    """How differences are written."""

    TEXT = "text"
    JSON = "json"


_COLOURS = {"breaking": "red", "compatible": "green"}
_Form = Annotated[Said, typer.Option("--format", help="How to write it.")]


@contract.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help=_FORMS)],
    after: Annotated[str, typer.Argument(metavar="AFTER", help=_FORMS)],
    form: _Form = Said.TEXT,
) -> None:
    """Say what changed between two contracts; exit 1 if a delivery or a reader of before may break.

    [dim]ml-assets contract diff HEAD~1:shop/contracts.py:Orders shop/contracts.py:Orders
    ml-assets contract diff shop.contracts.Orders shop.contracts.OrdersV2 --format json[/dim]
    """
    project.importable()
    _tell({after.rpartition(":")[2].rpartition(".")[2]: _compared(_outline(before), _outline(after))}, form)


@contract.command()
def check(
    against: Annotated[str, typer.Option(metavar="COMMIT", help="A commit, branch or tag: origin/main, HEAD~1.")],
    form: _Form = Said.TEXT,
) -> None:
    """Compare the contracts of all declared tables with those of a commit; exit 1 if one changed in a breaking way.

    Base classes in other files are read as they are now.

    [dim]ml-assets contract check --against origin/main[/dim]
    """
    found, new = {}, []
    for spec in sorted(project.specs().values(), key=lambda spec: spec.name):
        after = _outline(spec.contract)
        text = _at_commit(against, after.file)
        class_name = spec.contract.rpartition(".")[2]
        if text is None or not re.search(rf"^class {re.escape(class_name)}\b", text, re.MULTILINE):
            new.append(spec.name)
            continue
        found[spec.name] = _compared(_read_text(text, class_name, Path(f"{against}:{after.file}")), after)
    if new:
        note(f"New since {against}: {', '.join(new)}.")
    _tell(found, form)


@contract.command()
def infer(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Parquet, CSV or JSON lines; .gz, .zst.")],
    *,
    name: Annotated[str | None, typer.Option(help="Name of the class. [dim]default: from the file[/dim]")] = None,
    keys: Annotated[
        str | None, typer.Option(metavar="A,B", help="The columns that identify a row. [dim]default: looked for[/dim]")
    ] = None,
    delimiter: Annotated[str, typer.Option(help="Between the fields of a CSV.")] = ",",
    decimal: Annotated[str, typer.Option(help="In the numbers of a CSV.")] = ".",
    encoding: Annotated[str, typer.Option(help="Of the text, such as latin-1.")] = "utf-8",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Write a first contract from the rows of a data file, with the evidence for each rule.

    [dim]ml-assets contract infer orders.csv --keys order_id --output shop/contracts.py[/dim]
    [dim]ml-assets contract infer kunden.csv --delimiter ';' --decimal , --encoding latin-1[/dim]
    """
    from ml_assets.tables.format import Format
    from ml_assets.tables.infer import infer as inferred

    class_name = name or _class_name(file)
    if not class_name.isidentifier() or iskeyword(class_name):
        raise MlAssetsError(f"--name {class_name} is no name of a class. Write it as FlightOutcomes.")
    if output and output.exists():
        raise MlAssetsError(f"{output} is there already. Choose another --output, or remove it.")
    by = [key.strip() for key in keys.split(",")] if keys else []
    form = Format(delimiter=delimiter, decimal=decimal, encoding=encoding)  # pyright: ignore[reportArgumentType]  it checks itself
    source = inferred(file.read_bytes(), file.name, class_name=class_name, keys=by, format=form)
    if output is None:
        typer.echo(source, nl=False)
        return
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(source, encoding="utf-8")
    note(f"Wrote {class_name} to {output}. Fill in the descriptions, and correct what these rows cannot know.")


@dataclass(frozen=True)
class _Compared:
    """The changes to a contract, and the file that holds it now."""

    file: Path
    changes: tuple["Change", ...]


def _compared(before: "Outline", after: "Outline") -> _Compared:
    from ml_assets.tables.compare import diff as compare

    return _Compared(after.file, compare(before, after))


def _tell(found: Mapping[str, _Compared], form: Said) -> None:
    """One line for each change; leave with 1 if one is breaking."""
    breaking = sum(change.effect == "breaking" for each in found.values() for change in each.changes)
    if form is Said.JSON:
        listed = [{"contract": name, **asdict(change)} for name, each in found.items() for change in each.changes]
        typer.echo(json.dumps({"compatible": not breaking, "changes": listed}, indent=1))
    else:
        for name, each in found.items():
            for change in each.changes:
                place = typer.style(f"{_short(each.file)}:{change.line}:", dim=True)
                effect = typer.style(change.effect, fg=_COLOURS.get(change.effect))
                typer.echo(f"{place} {effect}: {name}.{change.subject}: {change.sentence}")
        n_changes = sum(len(each.changes) for each in found.values())
        n_breaking = f"{breaking} breaking" if breaking else "none breaking"
        changes = f"{n_changes} change{'s' if n_changes > 1 else ''}, {n_breaking}" if n_changes else "no change"
        note(f"{len(found)} contract{'s' if len(found) != 1 else ''} compared: {changes}.")
    if breaking:
        raise typer.Exit(1)


def _short(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def _class_name(file: Path) -> str:
    words = re.findall(r"[A-Za-z][A-Za-z0-9]*", file.name.partition(".")[0])
    return "".join(word[0].upper() + word[1:] for word in words) or "Rows"


def _outline(reference: str) -> "Outline":
    from ml_assets.tables.outline import read

    place, _, class_name = reference.rpartition(":")
    if not place:
        return read(reference)
    commit, _, path = place.rpartition(":")
    if not commit:
        return _read_text(_text_of(Path(path)), class_name, Path(path))
    text = _at_commit(commit, Path(path))
    if text is None:
        raise MlAssetsError(f"{path} is not in {commit}.")
    return _read_text(text, class_name, Path(f"{commit}:{path}"))


def _read_text(text: str, class_name: str, file: Path) -> "Outline":
    from ml_assets.tables.outline import read_text

    return read_text(text, class_name, file=file)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise MlAssetsError(f"{file} cannot be read: {error.strerror}. Write {_FORMS}.") from error
    except UnicodeDecodeError as error:
        raise MlAssetsError(f"{file} is no Python in UTF-8. Write {_FORMS}.") from error


def _at_commit(commit: str, file: Path) -> str | None:
    """The text of a file in a commit; None if it was not there."""
    _git(file.parent, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", wrong=f"There is no commit {commit}.")
    listed = _git(file.parent, "ls-tree", "--name-only", commit, "--", f"./{file.name}", wrong="git refused")
    if not listed.strip():
        return None
    return _git(file.parent, "show", f"{commit}:./{file.name}", wrong=f"git cannot show {file} in {commit}")


def _git(folder: Path, *arguments: str, wrong: str) -> str:
    try:
        ran = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MlAssetsError("git is not installed here, and an earlier contract is in a commit.") from error
    if ran.returncode:
        raise MlAssetsError(f"{wrong} {ran.stderr.strip()}".strip())
    return ran.stdout
