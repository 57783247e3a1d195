"""What a contract promises, from its source text alone: a name and a sentence for each rule that `load` compiles."""

from collections.abc import Iterator, Sequence

from ml_assets.tables import event
from ml_assets.tables.checks import WORDS, express
from ml_assets.tables.outline import Declared, Outline
from ml_assets.tables.schema import Promise, check_names, slug
from ml_assets.tables.stated import Stated

KEYS_CHECK = "keys_are_unique"
KNOWN_AT_CHECK = "known_at__is_not_null"
_Named = tuple[str, tuple[str, ...]]


def of_rules(source: Outline, keys: Sequence[str]) -> tuple[Promise, ...]:
    """A promise for each rule of the model itself, named as `rules.compile_rules` names them."""
    stated = {named: sentence for item in source.declared for named, sentence in _of_column(item)}
    columns = {named: item.column.name for item in source.declared for named, _ in _of_column(item)}
    stated |= {row_rule(name): f"In every row: {name} ({' '.join(sql.split())})." for name, sql in source.rules}
    for unique in source.unique_sets():
        if set(unique) != set(keys):
            stated[unique_rule(unique)] = f"No two rows of a partition have the same {' and '.join(unique)}."
    named = zip(check_names(list(stated)), stated.items(), strict=True)
    return tuple(Promise(check, said, columns.get(rule)) for check, (rule, said) in named)


def of_table(
    source: Outline,
    *,
    keys: Sequence[str],
    partition_column: str | None,
    has_known_at: bool,
    passed: Sequence[str] = (),
) -> tuple[Promise, ...]:
    """Those of the rules, then those that `validate` adds for the table."""
    promises = {promise.check: promise for promise in of_rules(source, keys)}
    if passed:
        promises.setdefault(event.promise(passed).check, event.promise(passed))
    for promise in _added(keys, partition_column, has_known_at=has_known_at):
        promises.setdefault(promise.check, promise)
    return tuple(promises.values())


def _added(keys: Sequence[str], partition_column: str | None, *, has_known_at: bool) -> Iterator[Promise]:
    if has_known_at:
        yield Promise(KNOWN_AT_CHECK, "For every row it is known when it could first be used.")
    if partition_column:
        said = f"In every row {partition_column} lies in the UTC day of the partition."
        yield Promise(in_partition_check(partition_column), said)
    if keys:
        said = f"A row is identified by {' and '.join(keys)}: of several in a partition the newest counts."
        yield Promise(KEYS_CHECK, said)


def in_partition_check(column: str) -> str:
    """The name of the check that rows lie in the day of their partition."""
    return f"{slug(column)}__in_partition"


def column_rule(column: str, word: str) -> _Named:
    """What names the check of a rule on one column."""
    return column, (column, word)


def row_rule(name: str) -> _Named:
    """What names the check of a rule over a row."""
    return name, (name,)


def unique_rule(columns: Sequence[str]) -> _Named:
    """What names the check that columns are unique together."""
    return "_".join(columns), (*columns, "is_unique")


def _of_column(item: Declared) -> Iterator[tuple[_Named, str]]:
    name = item.column.name
    if not item.column.nullable:
        yield column_rule(name, "is_not_null"), f"In every row {name} is not null."
    if item.column.type == "DOUBLE":
        yield column_rule(name, "is_finite"), f"In every row {name} is finite."
    for stated in item.checks:
        yield column_rule(name, WORDS[stated.check]), f"In every row {name} {_said(stated, item)}."


def _said(stated: Stated, item: Declared) -> str:
    try:
        return express(stated.check, item.column.name, item.column.type, stated.statistics or {})[0]
    except (KeyError, ValueError, TypeError):  # not a literal; `load` knows more, and refuses what is wrong
        return f"{WORDS[stated.check].replace('_', ' ')} {stated.text}"
