"""`source:` of a table: where its rows come from, and how delivered files are to be read."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import dagster as dg
from pydantic import Field

from ml_assets.adapters.sources import base
from ml_assets.adapters.sources.pattern import DAY, Pattern
from ml_assets.components.declared import Declared, Schema
from ml_assets.errors import DeclarationError
from ml_assets.tables.format import Format

_KINDS = ("files", "sql", "http", "python")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(i?)B?|B?)")
_SECRET = re.compile(r"authorization|password|secret|token|api.?key", re.IGNORECASE)
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def _texts(context: dg.ResolutionContext, raw: Mapping[str, str | int]) -> dict[str, str]:
    """Texts as they are written: Dagster's templates make numbers of those that look like one, of 007 or 1e5 too."""
    found = {name: context.resolve_value(f"text:{value}", as_type=str) for name, value in raw.items()}
    return {name: text.removeprefix("text:") for name, text in found.items()}


class FileFormat(Schema):
    """How delivered files are to be read; the default tells kind and compression by the name."""

    kind: Literal["auto", "parquet", "csv", "jsonl", "json"] = Field(
        default="auto", description="What the files are; default: by their name.", examples=["csv"]
    )
    compression: Literal["auto", "none", "gzip", "zstd"] = Field(
        default="auto", description="How they are packed; default: by their name, as in .csv.gz.", examples=["gzip"]
    )
    delimiter: str = Field(default=",", description="CSV: what stands between the columns.", examples=[";"])
    quote: str = Field(default='"', description="CSV: what stands around a text.", examples=["'"])
    escape: str | None = Field(
        default=None,
        description="CSV: what stands before a quote in a text; default: a quote.",
        examples=["\\"],
    )
    encoding: str = Field(default="utf-8", description="How text is written.", examples=["latin-1"])
    decimal: Literal[".", ","] = Field(default=".", description="CSV: what stands before decimals.", examples=[","])
    nulls: Annotated[Sequence[str], dg.Resolver.passthrough()] = Field(
        default=Format().nulls,
        description="CSV: what means in columns other than text that a value is missing.",
        examples=[["", "-999"]],
    )
    text_nulls: Annotated[Sequence[str], dg.Resolver.passthrough()] = Field(
        default=("",), description="CSV: what means so in columns of text, where it is not quoted.", examples=[["-"]]
    )
    timestamp_format: str | None = Field(
        default=None, description="How times are written (strptime); default: ISO 8601.", examples=["%d.%m.%Y %H:%M"]
    )
    date_format: str | None = Field(
        default=None, description="How dates are written (strptime); default: ISO 8601.", examples=["%d.%m.%Y"]
    )
    time_zone: str | None = Field(
        default=None, description="The zone of times that are written without one.", examples=["Europe/Zurich"]
    )
    ambiguous_time: Literal["refuse", "earliest", "latest"] = Field(
        default="refuse",
        description="Which moment a local time means that comes twice, when clocks are set back.",
        examples=["earliest"],
    )
    items: str | None = Field(
        default=None, description="JSON: the path to the list of rows in a document.", examples=["data.rows"]
    )
    max_bytes: str | int = Field(
        default="2GiB", description="What a file may hold after decompression.", examples=["500MB"]
    )

    def spec(self, component: Declared) -> Format:
        """The format as the sources know it."""
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        values |= {name: tuple(values[name]) for name in ("nulls", "text_nulls")}
        values["max_bytes"] = _size(self.max_bytes, component)
        try:
            return Format(**values)
        except DeclarationError as error:
            raise component.error(error.problem, "source", "format") from error


class SqlQuery(Schema):
    """A table or a query of a database."""

    url: str = Field(
        description="SQLAlchemy URL of the database; from the environment where it holds a password.",
        examples=["{{ env.SHOP_DATABASE_URL }}"],
    )
    table: str | None = Field(default=None, description="The table, or `query`.", examples=["public.orders"])
    query: str | None = Field(
        default=None, description="A query, or `table`.", examples=["SELECT * FROM orders WHERE paid"]
    )
    cursor: str | None = Field(
        default=None,
        description="A column that grows with each new or changed row: only rows beyond the last fetch are read.",
        examples=["updated_at"],
    )
    every: str = Field(default="1m", description="How often it is asked for what is new.", examples=["10m"])

    def spec(self, component: Declared) -> base.Sql:
        """The declaration as the source knows it."""
        if "://" not in self.url:
            raise component.error("this is no SQLAlchemy URL, such as postgresql://host/name.", "source", "sql", "url")
        if (self.table is None) == (self.query is None):
            raise component.error("`sql` takes either `table` or `query`.", "source", "sql")
        every = component.duration(self.every, "source", "sql", "every")
        return base.Sql(self.url, table=self.table, query=self.query, cursor=self.cursor, every=every)


class HttpApi(Schema):
    """A paged JSON API."""

    url: str = Field(
        description="Address of the first page; `{partition}` is the day that is asked for.",
        examples=["https://api.example.com/orders?day={partition}"],
    )
    params: Annotated[Mapping[str, str], dg.Resolver(_texts, model_field_type=Mapping[str, str | int])] = Field(
        default={}, description="Parameters; `{partition}` is the day.", examples=[{"day": "{partition}"}]
    )
    headers: Annotated[Mapping[str, str], dg.Resolver(_texts, model_field_type=Mapping[str, str | int])] = Field(
        default={},
        description="Headers, such as a token from the environment.",
        examples=[{"Authorization": "Bearer {{ env.SHOP_TOKEN }}"}],
    )
    items: str = Field(default="", description="Path to the list of rows in an answer.", examples=["data.orders"])
    next_url: str | None = Field(
        default=None, description="Path to the address of the next page, or `header:link`.", examples=["links.next"]
    )
    next_cursor: str | None = Field(
        default=None, description="Path to a token that asks for the next page.", examples=["meta.next_cursor"]
    )
    cursor_param: str = Field(
        default="cursor", description="The parameter that takes that token.", examples=["page_token"]
    )
    page_param: str | None = Field(
        default=None, description="A parameter that counts pages 1, 2, ... until one is empty.", examples=["page"]
    )
    every: str = Field(default="1h", description="How often it is asked.", examples=["15m"])
    look_back: str = Field(
        default="2d", description="For how long a day is asked for again: what comes late.", examples=["7d"]
    )

    def spec(self, component: Declared, *, daily: bool) -> base.Http:
        """The declaration as the source knows it."""
        if not _is_web_address(self.url):
            raise component.error("this is no address that begins with https:// or http://.", "source", "http", "url")
        if daily != any(DAY in text for text in [self.url, *self.params.values()]):
            advice = f"write {DAY}, the day that is asked for, in" if daily else f"the table has no days: no {DAY} in"
            raise component.error(f"{advice} `url` or `params`.", "source", "http", "url")
        pages = [name for name in ("next_url", "next_cursor", "page_param") if getattr(self, name)]
        if len(pages) > 1:
            raise component.error(f"pages are found in one way, not by {' and '.join(pages)}.", "source", "http")
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        values |= {"params": dict(self.params), "headers": dict(self.headers)}
        for name in ("every", "look_back"):
            values[name] = component.duration(values[name], "source", "http", name)
        return base.Http(**values)


class Source(Schema):
    """Where the rows come from: exactly one of `files`, `sql`, `http`, `python`."""

    files: str | None = Field(
        default=None,
        description="Pattern of the delivered files, local or s3://; relative to ML_ASSETS_LANDING_URI (default"
        " var/landing). Files of the project itself: {{ context.project_root }}/data/customers.csv. Parquet, CSV, JSON"
        " lines or JSON, also packed. For daily partitions the file name holds the day: 2013-01-05.parquet,"
        " 2013-01-05T14.parquet; or the pattern says where it stands: events/{partition}/*.parquet.",
        examples=["flight_outcomes/*.parquet"],
    )
    sql: SqlQuery | None = Field(
        default=None,
        description="A table or a query of any database that SQLAlchemy speaks to.",
        examples=[{"url": "{{ env.SHOP_DATABASE_URL }}", "table": "orders", "cursor": "updated_at"}],
    )
    http: HttpApi | None = Field(
        default=None,
        description="A paged JSON API.",
        examples=[{"url": "https://api.example.com/orders?day={partition}", "items": "orders"}],
    )
    python: str | None = Field(
        default=None,
        description="A function that gives the rows of a partition: `package.module.function`.",
        examples=["my_project.sources.orders"],
    )
    format: FileFormat | None = Field(
        default=None,
        description="How files are to be read, where their name does not tell.",
        examples=[{"kind": "csv", "delimiter": ";"}],
    )

    def spec(self, component: Declared, *, daily: bool) -> base.SourceSpec:
        """The declaration as the sources know it; errors are at its line."""
        named = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            has = f"this has {' and '.join(named)}" if named else "this has none"
            raise component.error(f"`source` takes exactly one of files, sql, http, python; {has}.", "source")
        if self.format and not self.files:
            raise component.error("`format` tells how to read `files`.", "source", "format")
        if self.files is not None:
            return self._files(self.files, component, daily=daily)
        if self.python is not None and not _FUNCTION.fullmatch(self.python):
            raise component.error(f"'{self.python}' is no `package.module.function`.", "source", "python")
        if self.http:
            return self.http.spec(component, daily=daily)
        return self.sql.spec(component) if self.sql else base.Python(str(self.python))

    def _files(self, files: str, component: Declared, *, daily: bool) -> base.Files:
        try:
            Pattern(files, daily=daily)
        except DeclarationError as error:
            raise component.error(error.problem, "source", "files") from error
        if "://" in files and not files.startswith(("s3://", "file://")):
            raise component.error(f"'{files}': files are local or s3://.", "source", "files")
        return base.Files(files, self.format.spec(component) if self.format else Format())


def refuse_secrets(written: Any, component: Declared) -> None:
    """Refuse passwords and tokens that stand in the YAML itself; `written` is `source:` before `{{ }}` is resolved."""
    for kind in ("sql", "http"):
        if _has_password(getattr(getattr(written, kind, None), "url", "")):
            raise component.error(_advice("a password", "SHOP_URL"), "source", kind, "url")
    for field in ("params", "headers"):
        values = getattr(getattr(written, "http", None), field, None)
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if _SECRET.search(name) and "{{" not in str(value):
                raise component.error(_advice(f"the {name}", "SHOP_TOKEN"), "source", "http", field, name)


def _has_password(url: str) -> bool:
    # Its own rules, since a template in a URL is none that `urlsplit` knows, and a password may hold anything.
    user, _, _ = url.partition("://")[2].rpartition("@")
    return ":" in user and "{{" not in user.partition(":")[2]


def _is_web_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:  # of brackets in the host
        return False


def _advice(what: str, variable: str) -> str:
    return f"{what} does not belong into YAML. Put it into the environment and write {{{{ env.{variable} }}}}."


def _size(text: str | int, component: Declared) -> int:
    found = _SIZE.fullmatch(str(text).strip())
    if found is None or not float(found[1]):
        raise component.error(f"'{text}' is no size. Write it as 500MB or 2GiB.", "source", "format", "max_bytes")
    base_of = 1024 if found[3] else 1000
    return int(float(found[1]) * base_of ** ("KMGT".index(found[2]) + 1 if found[2] else 0))
