"""What changed between two versions of a contract, and whether deliveries or readers of the earlier one may break.

A delivery that was good before must be good after, or the change is breaking; so is what takes a column or its type
from those who read it. Rules that cannot be compared (another pattern, another expression) count as breaking.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ml_assets.errors import shorten
from ml_assets.tables.outline import Declared, Outline
from ml_assets.tables.stated import Stated

Effect = Literal["breaking", "compatible", "neutral"]
_Found = Iterator["Change"]
_BOUNDS = {"ge": (0, True), "gt": (0, False), "le": (1, True), "lt": (1, False)}
_ANY_BOUND = (None, True)


@dataclass(frozen=True)
class Change:
    """One difference: what it is about (a column, a rule, the keys), its effect, and why, in a sentence.

    `line` is where the later contract says it, or where the earlier one did if it is gone.
    """

    subject: str
    effect: Effect
    sentence: str
    line: int


def diff(
    before: Outline, after: Outline, *, keys: tuple[Sequence[str], Sequence[str]] | None = None
) -> tuple[Change, ...]:
    """All changes from one contract to another, columns first; none when they promise the same.

    `keys` are those of the two tables, which a contract itself does not say.
    """
    old, new = ({item.column.name: item for item in outline.declared} for outline in (before, after))
    changes: list[Change] = []
    for name, item in old.items():
        if name in new:
            changes += _column(item, new[name])
        else:
            changes.append(Change(name, "breaking", "the column is gone: its readers break", item.line))
    changes += [_added(item) for name, item in new.items() if name not in old]
    changes += _row_rules(before, after)
    changes += _unique(before, after)
    if keys and list(keys[0]) != list(keys[1]):
        said = f"were {shorten(keys[0], 20)}, are {shorten(keys[1], 20)}: other rows count as the same one"
        changes.append(Change("keys", "breaking", f"the keys {said}", after.line))
    return tuple(changes)


def is_breaking(changes: Sequence[Change]) -> bool:
    """Whether any of the changes is."""
    return any(change.effect == "breaking" for change in changes)


def _added(item: Declared) -> Change:
    if item.column.nullable:
        said = "a new column that may be null; deliveries without it need `schema_drift: {columns: evolve}`"
        return Change(item.column.name, "compatible", said, item.line)
    said = "a new column that may not be null: deliveries without it break"
    return Change(item.column.name, "breaking", said, item.line)


def _column(old: Declared, new: Declared) -> _Found:
    was, now, line = old.column, new.column, new.line
    if was.type != now.type:
        yield Change(now.name, "breaking", f"the type was {was.type}, is {now.type}", line)
        return
    if was.nullable != now.nullable:
        if now.nullable:
            yield Change(now.name, "compatible", "may be null now: readers may meet nulls", line)
        else:
            yield Change(now.name, "breaking", "may no longer be null", line)
    yield from _values(old, new)
    if was.description != now.description:
        yield Change(now.name, "neutral", "the description is another one", line)


def _values(old: Declared, new: Declared) -> _Found:
    """What the fields say of the values."""
    yield from _intervals(old, new, _bounds, "values")
    yield from _intervals(old, new, _lengths, "lengths")
    yield from _sets(old, new, ("isin", "eq"), "allowed")
    yield from _sets(old, new, ("notin", "ne"), "forbidden")
    for keyword in ("str_matches", "str_contains", "str_startswith", "str_endswith"):
        yield from _texts(old, new, keyword)


_Bound = tuple[Any, bool]  # the value, None for none; whether it is itself allowed
_Interval = tuple[_Bound, _Bound]


def _intervals(old: Declared, new: Declared, read: Callable[[Declared], tuple[_Interval, str]], what: str) -> _Found:
    (was, was_said), (now, now_said) = read(old), read(new)
    if was_said == now_said or was == now != (_ANY_BOUND, _ANY_BOUND):
        return
    said = f"{what} were {was_said or 'not bounded'}, are {now_said or 'not bounded'}"
    try:
        narrower = _tighter(now[0], was[0], 1) or _tighter(now[1], was[1], -1)
    except TypeError:
        yield Change(new.column.name, "breaking", f"{said}: they cannot be compared", new.line)
        return
    effect: Effect = "breaking" if narrower else "compatible"
    yield Change(new.column.name, effect, f"{said}: {'narrower' if narrower else 'wider'}", new.line)


def _tighter(now: _Bound, was: _Bound, sign: int) -> bool:
    """Whether a bound leaves out what the earlier one allowed; `sign` is 1 for a lower bound, -1 for an upper."""
    if now[0] is None:
        return False
    if was[0] is None:
        return True
    if now[0] == was[0]:
        return was[1] and not now[1]
    return (now[0] > was[0]) == (sign > 0)


class _Unknown:
    """A bound that is no literal; comparing it is a TypeError."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]


def _bounds(item: Declared) -> tuple[_Interval, str]:
    found: list[_Bound] = [_ANY_BOUND, _ANY_BOUND]
    said = []
    for stated in item.checks:
        if stated.keyword in _BOUNDS:
            side, closed = _BOUNDS[stated.keyword]
            value = _Unknown() if stated.value is None else stated.value
            found[side] = _narrowest(found[side], (value, closed), 1 - 2 * side)
            said.append(f"{stated.keyword}={stated.text}")
        if stated.keyword == "in_range":
            given = stated.statistics or {"min_value": _Unknown(), "max_value": _Unknown()}
            low = (given.get("min_value"), given.get("include_min", True))
            high = (given.get("max_value"), given.get("include_max", True))
            found = [_narrowest(found[0], low, 1), _narrowest(found[1], high, -1)]
            said.append(f"in_range={stated.text}")
    return (found[0], found[1]), ", ".join(said)


def _narrowest(one: _Bound, other: _Bound, sign: int) -> _Bound:
    if isinstance(one[0], _Unknown):
        return one
    return other if isinstance(other[0], _Unknown) or _tighter(other, one, sign) else one


def _lengths(item: Declared) -> tuple[_Interval, str]:
    stated = _stated(item, "str_length")
    if stated is None:
        return (_ANY_BOUND, _ANY_BOUND), ""
    given = stated.statistics or {"exact_value": _Unknown()}
    low, high = (given.get(key, given.get("exact_value")) for key in ("min_value", "max_value"))
    return ((low, True), (high, True)), f"str_length={stated.text}"


def _stated(item: Declared, keyword: str) -> Stated | None:
    return next((stated for stated in item.checks if stated.keyword == keyword), None)


def _sets(old: Declared, new: Declared, keywords: tuple[str, str], what: str) -> _Found:
    (was, was_said), (now, now_said) = (_listed(item, keywords) for item in (old, new))
    if was_said == now_said or (was is not None and was == now):
        return
    name, line, allowed = new.column.name, new.line, what == "allowed"
    if (was is None and was_said) or (now is None and now_said):
        said = f"the {what} values were {was_said or 'any'}, are {now_said or 'any'}: they cannot be compared"
        yield Change(name, "breaking", said, line)
    elif was is None or now is None:
        narrower = was is None
        said = f"the {what} values are {'now listed' if narrower else 'no longer listed'} ({was_said or now_said})"
        yield Change(name, "breaking" if narrower else "compatible", said, line)
    else:
        gone, come = sorted(was - now, key=repr), sorted(now - was, key=repr)
        breaking = bool(gone if allowed else come)
        said = [f"no longer {what}: {shorten(gone, 10)}"] if gone else []
        said += [f"now {what}: {shorten(come, 10)}"] if come else []
        yield Change(name, "breaking" if breaking else "compatible", "; ".join(said), line)


def _listed(item: Declared, keywords: tuple[str, str]) -> tuple[frozenset[Any] | None, str]:
    """The values of a list, or of the one value that is asked; None without one, or where it is no literal."""
    many, one = (_stated(item, keyword) for keyword in keywords)
    said = ", ".join(f"{stated.keyword}={stated.text}" for stated in (many, one) if stated)
    try:
        values = frozenset(many.value) if many and many.value is not None else None
    except TypeError:
        values = None
    if one and one.value is not None and not many:
        values = frozenset([one.value])
    return (None if many and one else values), said


def _texts(old: Declared, new: Declared, keyword: str) -> _Found:
    was, now = _stated(old, keyword), _stated(new, keyword)
    if (was and was.text) == (now and now.text):
        return
    if now is None:
        yield Change(new.column.name, "compatible", f"{keyword} is gone: wider", new.line)
        return
    said = f"{keyword} was {was.text}, is {now.text}" if was else f"{keyword}={now.text} is new"
    yield Change(new.column.name, "breaking", f"{said}: values may break it that did not before", new.line)


def _row_rules(before: Outline, after: Outline) -> _Found:
    old, new = ({name: " ".join(sql.split()) for name, sql in outline.rules} for outline in (before, after))
    for name, sql in old.items():
        if name not in new:
            yield Change(name, "compatible", f"the rule `{sql}` is gone: wider", before.line)
        elif new[name] != sql:
            said = f"the rule was `{sql}`, is `{new[name]}`: rows may break it that did not before"
            yield Change(name, "breaking", said, after.line)
    for name, sql in new.items():
        if name not in old:
            yield Change(name, "breaking", f"the rule `{sql}` is new: rows may break it", after.line)


def _unique(before: Outline, after: Outline) -> _Found:
    old, new = ({frozenset(columns): columns for columns in outline.unique_sets()} for outline in (before, after))
    for some, columns in old.items():
        if some not in new:
            yield Change(
                ", ".join(columns), "compatible", "need no longer be unique: wider", before.line_of(columns[0])
            )
    for some, columns in new.items():
        if some not in old:
            yield Change(", ".join(columns), "breaking", "must be unique now", after.line_of(columns[0]))
