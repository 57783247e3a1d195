"""Reading SQL without running it: one statement, what it selects, and DuckDB's complaints with their line."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from ml_assets.engine import scratch as scratch
from ml_assets.errors import DeclarationError

if TYPE_CHECKING:
    import duckdb

_CLOCKS = ("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")
_PLACE = re.compile(r"\n+LINE (\d+): ")


def complaint(error: "duckdb.Error") -> tuple[str, int | None]:
    """Split a message of DuckDB into what is wrong, in one line, and the line of the SQL, if it names one."""
    text = str(error)
    place = _PLACE.search(text)
    what = text[: place.start()] if place else text
    return " ".join(what.split()), int(place.group(1)) if place else None


def require_one_select(sql: str) -> str:
    """Give the statement without its semicolon; raises DeclarationError unless it is one SELECT that parses."""
    import duckdb

    try:
        statements = scratch().extract_statements(sql)
    except duckdb.Error as error:
        what, line = complaint(error)
        place = f" (line {line} of the SQL)" if line else ""
        raise DeclarationError(f"The SQL does not parse{place}: {what}", line=line) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise DeclarationError("The SQL must be one SELECT statement; WITH is allowed, other statements are not.")
    return sql.rstrip().rstrip(";")


def tables_read(sql: str) -> list[str]:
    """The tables that a SELECT reads, sorted, its own WITH clauses left out.

    From the syntax tree: DuckDB's `get_table_names` binds, and fails on `JOIN ... USING` without the tables.
    """
    tree = _tree(sql)
    named = {entry["key"] for node in _nodes(tree) for entry in (node.get("cte_map") or {}).get("map", [])}
    read = {node["table_name"] for node in _nodes(tree) if node.get("type") == "BASE_TABLE"}
    return sorted(read - named)


def _tree(sql: str) -> dict[str, Any]:
    statement = require_one_select(sql)
    ((text,),) = scratch().execute("SELECT json_serialize_sql(?)", [statement]).fetchall()
    return json.loads(text)["statements"][0]["node"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(child)


def unstable(sql: str) -> tuple[str, int] | None:
    """What of a SELECT gives another result when it runs again, with its line: `random()`, `current_date`, a sample."""
    statement, named = require_one_select(sql), _unstable_names()
    for node in _nodes(_tree(sql)):
        name, place = None, node if "query_location" in node else node.get("from_table") or {}
        if node.get("class") == "FUNCTION" and node["function_name"].lower() in named:
            name = f"{node['function_name']}()"
        elif node.get("class") == "COLUMN_REF" and node["column_names"][0].lower() in _CLOCKS:
            name = node["column_names"][0]
        elif node.get("sample") and node["sample"]["seed"] < 0:
            name = "a sample without REPEATABLE"
        if name:
            return name, statement.encode()[: place.get("query_location", 0)].count(b"\n") + 1
    return None


@cache
def _unstable_names() -> frozenset[str]:
    """Functions that DuckDB does not call consistent, and its macros of such."""
    found = scratch().execute("""
        SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_name <> 'error' AND (
            stability <> 'CONSISTENT' OR regexp_matches(macro_definition, 'current_|\\b(random|now|today|uuid)\\('))""")
    return frozenset(name for (name,) in found.fetchall())


def selected_names(sql: str) -> tuple[str, ...]:
    """The names of the columns that a SELECT gives, without binding it.

    Raises DeclarationError for `*` and for an expression without a name, which only the data could name.
    """
    statement, node = require_one_select(sql), _tree(sql)
    while "select_list" not in node:
        node = node.get("left") or node["children"][0]
    return tuple(_name_of(column, statement) for column in node["select_list"])


def _name_of(column: dict, statement: str) -> str:
    if column["alias"]:
        return column["alias"]
    if column["class"] == "COLUMN_REF":
        return column["column_names"][-1]
    line = statement.encode()[: column["query_location"]].count(b"\n") + 1
    wrong = "`*` hides which columns" if column["class"] == "STAR" else "a selected expression has no name"
    raise DeclarationError(f"Line {line} of the SQL: {wrong}. Name every column, with AS where needed.", line=line)
