"""Contracts without rules, and files read under them."""

from collections.abc import Iterable

import pytest

from ml_assets.errors import DeliveryError
from ml_assets.tables.delivery import DeliveredFile, Gathered, gather, read_delivery
from ml_assets.tables.format import Format, SchemaPolicy
from ml_assets.tables.schema import Column, Contract
from ml_assets_tests.tables.conftest import NOON

KINDS = {"text": "VARCHAR", "n": "BIGINT", "x": "DOUBLE", "ok": "BOOLEAN", "at": "TIMESTAMPTZ", "day": "DATE"}


def contract(*names: str, nullable: bool = True) -> Contract:
    """Columns named by their type, as in KINDS; `n2` is a second BIGINT."""
    columns = tuple(Column(name, KINDS[name.rstrip("0123456789")], nullable=nullable) for name in names)
    return Contract("contracts.Table", columns, (), ())


def rows(content: bytes | str, name: str, *columns: str, **format) -> list[dict]:
    """The rows of a file, with `_row`."""
    content = content.encode() if isinstance(content, str) else content
    return read_delivery(content, name, contract(*columns), Format(**format)).to_pylist()


def values(content: bytes | str, name: str, column: str, **format) -> list:
    """The values of a file of one column."""
    return [row[column] for row in rows(content, name, column, **format)]


def refusal(content: bytes | str, name: str, *columns: str, **format) -> str:
    """What the user reads about a file."""
    with pytest.raises(DeliveryError) as caught:
        rows(content, name, *columns, **format)
    said = str(caught.value)
    assert said.startswith(f"{name}: ")
    return said.removeprefix(f"{name}: ")


def gathered(files: Iterable[tuple[str, bytes | str]], of: Contract, **policy) -> Gathered:
    """Files of one partition under a schema policy."""
    delivered = [
        DeliveredFile(name, content.encode() if isinstance(content, str) else content, "2013-01-05", NOON)
        for name, content in files
    ]
    return gather(delivered, of, Format(), SchemaPolicy(**policy))
