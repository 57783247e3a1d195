"""From a declaration to the source that it names. Each kind is imported when it is opened."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml_assets.adapters.filesystem import absolute, is_local
from ml_assets.adapters.sources.base import Files, Http, Scratch, Source, SourceSpec, Sql, Subject
from ml_assets.errors import DeclarationError


def open_source(
    spec: SourceSpec,
    subject: Subject,
    *,
    landing: str,
    scratch: Scratch,
    s3: Callable[[], Any] | None = None,
) -> Source:
    """Open a source, without a word to it yet; relative patterns of files are below the landing place.

    `s3` makes the client of S3; default: from the `AWS_*` variables.
    """
    if isinstance(spec, Files):
        return _files(spec, subject, landing, s3)
    if isinstance(spec, Sql):
        from ml_assets.adapters.sources.sql import SqlSource

        return SqlSource(spec, subject)
    if isinstance(spec, Http):
        from ml_assets.adapters.sources.http import HttpSource

        return HttpSource(spec, subject, scratch)
    from ml_assets.adapters.sources.python import PythonSource

    return PythonSource(spec, subject)


def _files(spec: Files, subject: Subject, landing: str, s3: Callable[[], Any] | None) -> Source:
    place = spec.pattern
    if "://" not in place and not Path(place).is_absolute():
        place = f"{landing.rstrip('/')}/{place}"
    if is_local(place):
        from ml_assets.adapters.sources.files import LocalSource

        return LocalSource(replace(spec, pattern=absolute(place)), subject)
    if not place.startswith("s3://"):
        raise DeclarationError(f"'{place}': files are local or s3://.")
    from ml_assets.adapters.sources.s3 import S3Source, client_from_environment

    return S3Source(replace(spec, pattern=place), subject, s3 or client_from_environment)
