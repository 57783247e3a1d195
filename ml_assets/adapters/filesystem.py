"""Where bytes are: a local folder or `s3://`, as one pyarrow filesystem and a path in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from pyarrow import fs

# The names that `deltalake` takes, so that one set of options serves tables and objects.
_S3_OPTIONS = {
    "AWS_ACCESS_KEY_ID": "access_key",
    "AWS_SECRET_ACCESS_KEY": "secret_key",
    "AWS_SESSION_TOKEN": "session_token",
    "AWS_REGION": "region",
}


def is_local(uri: str) -> bool:
    """Tell whether a URI names something on this machine."""
    return "://" not in uri or uri.startswith("file://")


def absolute(uri: str) -> str:
    """Make a local path absolute, so that it means the same in a child process with another working folder."""
    return str(Path(uri.removeprefix("file://")).absolute()) if is_local(uri) else uri.rstrip("/")


def open_location(uri: str, options: Mapping[str, str] | None = None) -> tuple["fs.FileSystem", str]:
    """Give the filesystem of a URI and the path in it; without options S3 takes the usual `AWS_*` variables."""
    from pyarrow import fs

    if is_local(uri):
        return fs.LocalFileSystem(), absolute(uri)
    if not uri.startswith("s3://") or not options:
        filesystem, path = fs.FileSystem.from_uri(uri)
        return filesystem, path
    return fs.S3FileSystem(**_s3_arguments(options)), uri.removeprefix("s3://")


def _s3_arguments(options: Mapping[str, str]) -> dict[str, str]:
    arguments = {theirs: options[ours] for ours, theirs in _S3_OPTIONS.items() if ours in options}
    if endpoint := options.get("AWS_ENDPOINT_URL"):
        address = urlsplit(endpoint)
        arguments |= {"scheme": address.scheme, "endpoint_override": address.netloc}
    return arguments
