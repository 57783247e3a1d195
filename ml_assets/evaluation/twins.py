"""Rows that stand on both sides of a split: what was learnt from them is asked of them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml_assets.engine import connect, quote
from ml_assets.errors import shorten

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from ml_assets.training.statistics import Floats

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


def contents(inputs: "pa.Table") -> "np.ndarray":
    """A number for each row that is the same where all columns are, in this call and in others of the same columns."""
    names = ", ".join(map(quote, inputs.column_names))
    with connect() as con:
        con.register("inputs", inputs)
        return np.asarray(con.execute(f"SELECT hash({names}) AS content FROM inputs").fetchnumpy()["content"])


def by_content(content: "np.ndarray", keys: "np.ndarray", labels: "Floats", learnt: "NDArray[np.bool_]") -> Twins:
    """Rows of the rarer label with the inputs of learnt rows of other keys, if their label is nearly always the same.

    `content` tells rows with other inputs apart, `keys` those of other keys. A row of the same keys is no copy: it is
    the same customer again, of whom nothing has changed. Where inputs are few and coarse, rows are equal by chance,
    but then their labels differ as often as chance has it: such rows are no twins.
    """
    values, counts = np.unique(labels, return_counts=True)
    rarer = labels == (values[np.argmin(counts)] if len(values) else 0)
    with connect() as con:
        con.register("rows", {"content": content, "key": keys, "rarer": rarer, "learnt": learnt})
        ((n_rows, n_met, n_twins),) = con.execute("""
            WITH known AS (
                SELECT content, min(key) AS least, max(key) AS most, bool_or(NOT rarer) AS differ
                FROM rows WHERE learnt GROUP BY content),
            asked AS (
                SELECT a.key <> least OR a.key <> most AS is_met, differ
                FROM rows a LEFT JOIN known USING (content) WHERE a.rarer AND NOT a.learnt)
            SELECT count(*), count(*) FILTER (is_met), count(*) FILTER (is_met AND NOT differ) FROM asked""").fetchall()
    certain = n_twins >= _FEWEST and n_twins >= _AGREEING * n_met
    return Twins(n_rows, n_twins if certain else 0, ())
