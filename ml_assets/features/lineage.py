"""Which columns of which tables each column of a view is made from, read from its SQL without running it."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ml_assets.engine import quote
from ml_assets.errors import DeclarationError
from ml_assets.features.check import ColumnLike
from ml_assets.features.view import FeatureView

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.lineage import Node

Pairs = tuple[tuple[str, str], ...]
Tables = Mapping[str, Iterable[ColumnLike]]

_KNOWN_AT = "known_at"
_log = logging.getLogger(__name__)


def column_lineage(view: FeatureView, tables: Tables) -> dict[str, Pairs]:
    """The (table, column) pairs that each feature, each entity column and `known_at` is made from, sorted.

    `tables` gives the columns of each table, or view, by its name in `view.tables`; `known_at` is implied. A column
    counts where it is part of the value: in the expression, in the `where` of an aggregation, anywhere in a subquery
    of the expression; not where it only picks rows (WHERE, ON and QUALIFY of a statement). A constant has no pairs.
    A column that cannot be followed is left out, and why is logged: absent means not known.
    """
    if view.sql:
        found = _of_statement(view.sql, tables, f"Feature view '{view.name}'")
        names = (*view.entity, _KNOWN_AT, *view.features())
        return {name: found[name.lower()] for name in names if name.lower() in found}
    source, made = view.tables[0], {name: (quote(name), (name,)) for name in (*view.entity, _KNOWN_AT)}
    values = {name: (part.condition, part.features(name)) for name, part in (view.aggregations or {}).items()}
    values |= {name: (sql, (name,)) for name, sql in (view.lookup.columns if view.lookup else {}).items()}
    found = [
        (expression_lineage(source, {name: sql for name, (sql, _) in each.items()}, tables), each)
        for each in (made, values)  # apart, since a value may have the name of a column
    ]
    return {column: pairs for pairs_of, each in found for name, pairs in pairs_of.items() for column in each[name][1]}


def expression_lineage(table: str, expressions: Mapping[str, str], tables: Tables) -> dict[str, Pairs]:
    """The same for named expressions over a row of `table`; one that cannot be followed is left out."""
    selected = ", ".join(f"({sql}\n) AS _{number}" for number, sql in enumerate(expressions.values()))
    found = _of_statement(f"SELECT {selected} FROM {quote(table)}", tables, f"An expression over '{table}'")
    return {name: found[f"_{n}"] for n, name in enumerate(expressions) if f"_{n}" in found}


def _of_statement(sql: str, tables: Tables, what: str) -> dict[str, Pairs]:
    """The pairs of each selected column, by its name in lower case."""
    from sqlglot.errors import SqlglotError

    written = {
        table.lower(): (table, {name.lower(): name for name in (_KNOWN_AT, *(column.name for column in columns))})
        for table, columns in tables.items()
    }
    try:
        nodes = _nodes(sql, {table: columns for table, (_, columns) in written.items()})
    except (SqlglotError, ValueError, DeclarationError) as error:
        _log.warning("%s: its columns cannot be followed to their tables: %s", what, str(error).partition("\n")[0])
        return {}
    found = {}
    for name, node in nodes.items():
        pairs = set(_leaves(node))
        if any(table not in written or column not in written[table][1] for table, column in pairs):
            _log.warning("%s: the column '%s' cannot be followed to its tables.", what, name)
            continue
        found[name] = tuple(sorted((written[table][0], written[table][1][column]) for table, column in pairs))
    return found


def _nodes(sql: str, columns: Mapping[str, Mapping[str, str]]) -> "dict[str, Node]":
    import sqlglot
    from sqlglot import exp
    from sqlglot.lineage import lineage

    tree = sqlglot.parse_one(sql, dialect="duckdb")
    # Both are read, and then followed wrongly: by the place of a column instead of its name, or not at all.
    if tree.find(exp.Columns) or any(each.args.get("by_name") for each in tree.find_all(exp.SetOperation)):
        raise DeclarationError("COLUMNS(...) and UNION BY NAME are not followed")
    # Types are not needed: what a star stands for is, and what a name without a table belongs to.
    schema = {quote(table): dict.fromkeys(map(quote, names), "TEXT") for table, names in columns.items()}
    return lineage(None, tree, schema, dialect="duckdb")


def _leaves(node: "Node") -> "Iterator[tuple[str, str]]":
    """Table and column, in lower case, at the ends of a column's ways; an empty name where a way cannot be followed."""
    from sqlglot import exp

    for each in node.walk():
        if isinstance(each.expression, exp.Placeholder):
            yield "", each.name
        elif isinstance(each.expression, exp.Table):
            if each.expression.name:  # a table function has none
                yield each.expression.name, exp.to_column(each.name, dialect="duckdb").name
        else:
            yield from _in_subqueries(each.expression)


def _in_subqueries(expression: "exp.Expr") -> Iterator[tuple[str, str]]:
    """What a subquery in an expression reads anywhere, also to pick its rows: EXISTS gives nothing else."""
    from sqlglot import exp

    for query in expression.find_all(exp.Query):
        named = {table.alias_or_name: table.name for table in (expression.root() or query).find_all(exp.Table)}
        yield from ((named.get(column.table, ""), column.name) for column in query.find_all(exp.Column))
