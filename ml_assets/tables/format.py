"""How delivered bytes are to be read, and what happens when their columns or types are not those of the contract."""

from dataclasses import dataclass
from typing import Literal

Evolution = Literal["evolve", "freeze", "discard_row", "discard_value"]
GIB = 2**30


@dataclass(frozen=True)
class Format:
    """How to read a file; the default tells kind and compression by the name.

    `items` leads to the list of rows in a JSON document (`data.rows`). `max_bytes` bounds a file after
    decompression. `time_zone` and `timestamp_format` (strptime) apply to times that are written without a zone.
    """

    kind: Literal["auto", "parquet", "csv", "jsonl", "json"] = "auto"
    compression: Literal["auto", "none", "gzip", "zstd"] = "auto"
    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None
    encoding: str = "utf-8"
    decimal: str = "."
    nulls: tuple[str, ...] = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
    timestamp_format: str | None = None
    time_zone: str | None = None
    items: str | None = None
    max_bytes: int = 2 * GIB


@dataclass(frozen=True)
class SchemaPolicy:
    """What happens to columns that the contract does not name, and to values of another type.

    The words and their meaning are dlt's (schema contracts): `freeze` refuses the file; `discard_row` sends the row to
    the quarantine; `discard_value` drops the value; `evolve` takes a new column into the table. A value of a wrong
    type cannot evolve a contract: `data_type` knows the other three.
    """

    columns: Evolution = "freeze"
    data_type: Evolution = "freeze"
