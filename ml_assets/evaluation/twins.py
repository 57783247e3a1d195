"""Rows that stand on both sides of a split: what was learnt from them is asked of them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_assets.engine import connect, quote
from ml_assets.errors import shorten

if TYPE_CHECKING:
    import pyarrow as pa

_FEWEST, _AGREEING = 5, 0.9


@dataclass(frozen=True)
class Twins:
    """Validation and test rows, how many of them stand in the training rows as well, and some of them in words."""

    n_rows: int
    n_twins: int
    examples: tuple[str, ...]


def by_key(rows: "pa.Table", keys: Sequence[str]) -> Twins:
    """Rows of the same keys and `at` in `split` train and in validation or test; a key may recur at another time."""
    identity = [*keys, "at"]
    named = ", ".join(map(quote, identity))
    with connect() as con:
        con.register("rows", rows)
        con.execute(f"CREATE TEMP TABLE learnt AS SELECT DISTINCT {named} FROM rows WHERE split = 'train'")
        asked = "(FROM rows WHERE split IN ('validation', 'test'))"
        ((n_rows, n_twins),) = con.execute(f"""
            SELECT (SELECT count(*) FROM {asked}), count(*)
            FROM {asked} a SEMI JOIN learnt USING ({named})""").fetchall()
        found = con.execute(
            f"SELECT DISTINCT {named} FROM {asked} a SEMI JOIN learnt USING ({named}) ORDER BY ALL LIMIT 3"
        ).fetchall()
    return Twins(n_rows, n_twins, tuple(shorten(map(str, row)) for row in found))


def by_content(inputs: "pa.Table", label: str, learnt: str) -> Twins:
    """Rows of the rarer label whose inputs are those of learnt rows, when these have the same label nearly always.

    `label` and `learnt` name columns beside the inputs. Where inputs are few and coarse, rows are equal by chance, but
    then their labels differ as often as chance has it: such rows are no twins.
    """
    names = ", ".join(quote(name) for name in inputs.column_names if name not in (label, learnt))
    with connect() as con:
        con.register("inputs", inputs)
        con.execute(f"""
            CREATE TEMP TABLE told AS
            SELECT hash({names}) AS content, {quote(label)} AS label, {quote(learnt)} AS learnt FROM inputs""")
        con.execute("""
            CREATE TEMP TABLE rarer AS FROM told SEMI JOIN (
                SELECT label FROM told GROUP BY label ORDER BY count(*), label LIMIT 1) USING (label)""")
        ((n_rows, n_met, n_twins),) = con.execute("""
            SELECT count(*), count(same), count(*) FILTER (same)
            FROM (FROM rarer WHERE NOT learnt) LEFT JOIN (
                SELECT content, bool_and(label IN (SELECT label FROM rarer)) AS same
                FROM told WHERE learnt GROUP BY content) USING (content)""").fetchall()
    certain = n_twins >= _FEWEST and n_twins >= _AGREEING * n_met
    return Twins(n_rows, n_twins if certain else 0, ())
