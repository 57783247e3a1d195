"""The tables of the lake for people and notebooks: as SQL, as of any moment, and what changed in between.

    from ml_assets.reading import connect

    con = connect(as_of="2013-03-01T00:00")
    con.sql("SELECT carrier, avg(arrival_delay_minutes) FROM flight_outcomes GROUP BY ALL").df()

    from ml_assets.reading import features

    features(my_rows, ["carrier_delays", "inbound_aircraft"])  # as of each row's `at`

The lake is the one of the environment (`ML_ASSETS_HOME`, `ML_ASSETS_LAKE_URI`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ml_assets import engine
from ml_assets.adapters import versions
from ml_assets.adapters.difference import Change, Difference, difference
from ml_assets.adapters.lake import Lake, Version
from ml_assets.adapters.settings import Settings
from ml_assets.engine import literal, quote
from ml_assets.errors import TableNotFoundError, shorten

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

__all__ = ["Change", "Difference", "Version", "connect", "diff", "features", "history", "lake", "tables"]

_PLAIN = "tables"


def lake() -> Lake:
    """The lake of the environment."""
    return Lake(Settings.from_environment().lake_uri)


def tables() -> list[str]:
    """The names `layer/table` of what the lake holds."""
    return versions.tables(lake())


def history(name: str) -> list[Version]:
    """The versions of a table, the newest first: when, by which operation, which partitions were replaced."""
    return lake().history(lake_name(name))


def lake_name(name: str) -> str:
    """The full name of a table: `flight_outcomes` is `tables/flight_outcomes`."""
    return name if "/" in name else f"{_PLAIN}/{name}"


def connect(
    *, as_of: str | datetime | None = None, version: Mapping[str, int] | None = None
) -> "duckdb.DuckDBPyConnection":
    """A DuckDB in memory in which every table of the lake is a view; rows are read when a query asks for them.

    A table is `layer.name` (`tables.flight_outcomes`, `quarantine.flight_outcomes`, `features.carrier_delays`), and a
    declared one also goes by its plain name. The views hold what the tables held when this was called: they do not
    move with later writes. They belong to this connection, not to cursors made from it.

    Args:
        as_of: Give all tables as they were at this moment of the wall clock (a text without zone is UTC). A table
            that did not exist then is an error when it is asked, which names its first version.
        version: Give single tables in this version, by plain or full name; before `as_of`.

    Raises:
        TableNotFoundError: a table of `version` does not exist, or not in this version.
    """
    place, found, known = lake(), engine.connect(), tables()
    pinned = {lake_name(name): n for name, n in (version or {}).items()}
    if unknown := sorted(set(pinned) - set(known)):
        raise TableNotFoundError(f"There is no {shorten(unknown)} in {place.uri}, but: {shorten(known, 20) or 'none'}.")
    for name in known:
        _view(found, place, name, pinned.get(name, as_of))
    return found


def diff(
    name: str, before: str | int | datetime, after: str | int | datetime | None = None, *, keys: Sequence[str] = ()
) -> Difference:
    """What changed in a table between two versions or moments; `after` defaults to now, `keys` make rows meet."""
    place, full = lake(), lake_name(name)
    return difference(
        place,
        full,
        versions.version_at(place, full, before),
        versions.version_at(place, full, after),
        keys=keys,
    )


def features(rows: "pd.DataFrame | pa.Table", views: Sequence[str]) -> "pa.Table":
    """Your rows with the features that a model would have seen for each of them, row for row, in their order.

    Args:
        rows: With the entity columns of all views, and `at`: the moment of each row (one without zone is UTC).
        views: `carrier_delays`, or an older version of it that is kept: `carrier_delays@1`.

    Returns:
        The columns of `rows`, then `<view>__<feature>`; where no feature row counts, the view's default or null.

    Raises:
        TableNotFoundError: the lake has no such view.
        FeatureError: `rows` lacks an entity column or `at`, or has one of another type.
    """
    from ml_assets.steps.feature_lookup import frame

    return frame(views, lake(), rows)


def _view(con: "duckdb.DuckDBPyConnection", place: Lake, name: str, at: str | int | datetime | None) -> None:
    layer, _, table = name.partition("/")
    where = ""
    try:
        number = versions.version_at(place, name, at).version if at is not None else None
    except TableNotFoundError as error:
        if isinstance(at, int):
            raise
        number, where = None, f" WHERE error({literal(str(error))})"  # said when it is asked
    con.register(name, place.dataset(name, version=number))
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(layer)}")
    con.execute(f"CREATE VIEW {quote(layer)}.{quote(table)} AS FROM {quote(name)}{where}")
    if layer == _PLAIN:
        con.execute(f"CREATE VIEW {quote(table)} AS FROM {quote(layer)}.{quote(table)}")
