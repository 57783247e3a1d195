"""Objects of S3 by pattern, or of anything that speaks it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ml_assets.adapters.sources.base import Files, Subject
from ml_assets.adapters.sources.listed import Entry, Listed
from ml_assets.errors import SourceUnavailableError

_ATTEMPTS = 3
_ADVICE = {
    "NoSuchBucket": "Create the bucket, or correct `source.files`.",
    "AccessDenied": "Grant s3:ListBucket and s3:GetObject, or correct the AWS_* variables.",
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID.",
    "SignatureDoesNotMatch": "Correct AWS_SECRET_ACCESS_KEY.",
    "PermanentRedirect": "Correct AWS_REGION.",
}


def client_from_environment() -> Any:
    """A client from the usual `AWS_*` variables, as the lake takes them; one that gives up within a minute."""
    return _client(tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))))


@cache
def _client(variables: tuple[tuple[str, str], ...]) -> Any:
    # Each in a session of its own, since several threads may not share one. It costs 50 ms, which no tick need pay.
    from boto3.session import Session
    from botocore.config import Config

    patience = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 2, "mode": "standard"})
    return Session(region_name=dict(variables).get("AWS_REGION")).client("s3", config=patience)


class S3Source(Listed):
    """Objects of a bucket, by a pattern `s3://bucket/key`.

    What is new is told by ETag and size, never by a time: of two objects of one second none is missed. Only the keys
    of a day are listed where the pattern says with `{partition}` where the day stands.
    """

    def __init__(self, spec: Files, subject: Subject, client: Callable[[], Any] = client_from_environment) -> None:
        super().__init__(spec, subject)
        self._bucket = spec.pattern.removeprefix("s3://").partition("/")[0]
        self._client_factory, self._opened = client, None

    @property
    def _client(self) -> Any:
        self._opened = self._opened or self._client_factory()
        return self._opened

    def entries(self, prefix: str) -> Iterator[Entry]:
        """The objects whose key begins so, however many pages they take."""
        with self._answering():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._key(prefix)):
                for found in page.get("Contents", []):
                    yield self._entry(found["Key"], found["ETag"], found["Size"], found["LastModified"])

    def read(self, entry: Entry) -> tuple[bytes, Entry]:
        """Read the object as it was listed; one that was replaced meanwhile is listed again."""
        key = self._key(entry.path)
        for _ in range(_ATTEMPTS):
            with self._answering():
                if (content := self._content_if_unchanged(key, entry)) is not None:
                    return content, entry
                found = self._client.head_object(Bucket=self._bucket, Key=key)
                entry = self._entry(key, found["ETag"], found["ContentLength"], found["LastModified"])
        raise SourceUnavailableError(f"{entry.path} is replaced again and again while it is read.")

    def _content_if_unchanged(self, key: str, entry: Entry) -> bytes | None:
        from botocore.exceptions import ClientError

        etag = (entry.content or "").rpartition("-")[0]
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key, IfMatch=etag)["Body"].read()
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                return None
            raise

    def _entry(self, key: str, etag: str, size: int, modified: Any) -> Entry:
        # The time is no part of what an object is, but tells former content that came back from what never went.
        path, content = f"s3://{self._bucket}/{key}", f"{etag}-{size}"
        return Entry(path, size, f"{content}-{modified.isoformat()}", content, written=modified.timestamp())

    def _key(self, path: str) -> str:
        return path.removeprefix(f"s3://{self._bucket}/")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Whatever S3 refuses, and silence, as one error with what to do."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            raise SourceUnavailableError(f"{self.label}: {error}. {_ADVICE.get(code, '')}".rstrip()) from error
        except BotoCoreError as error:
            advice = "Is the address right (AWS_ENDPOINT_URL), and are there credentials?"
            raise SourceUnavailableError(f"{self.label} does not answer: {error} {advice}") from error
