"""Rows of which none is the right one."""

from collections.abc import Mapping

import duckdb

from ml_assets.errors import DuplicateRowsError, shorten
from ml_assets.features.view import FeatureView

_NAMED = 6


def require_one_each(
    con: duckdb.DuckDBPyConnection, view: FeatureView, table: str, times: Mapping[str, str], advice: str
) -> None:
    """Raise DuplicateRowsError where rows share their entity and all `times`; it names them, and gives the advice.

    `table` holds the entity as e0, e1, ..., and the times in microseconds since 1970, by column with the words for it.
    """
    entity = ", ".join(f"e{i}" for i in range(len(view.entity)))
    moments = ", ".join(f"make_timestamptz({column})" for column in times)
    doubled = con.execute(f"""
        SELECT {entity}, {moments}, count(*) FROM {table}
        GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL""").fetchmany(_NAMED)
    if doubled:
        n = len(view.entity)
        rows = shorten(
            f"{', '.join(f'{name}={value}' for name, value in zip(view.entity, row, strict=False))}"
            f" {', '.join(f'{word} {at.isoformat()}' for word, at in zip(times.values(), row[n:-1], strict=True))}"
            f" ({row[-1]} rows)"
            for row in doubled
        )
        raise DuplicateRowsError(
            f"Feature view '{view.name}' has rows that differ and are equally new: {rows}. {advice}"
        )
