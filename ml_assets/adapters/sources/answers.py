"""One answer of a JSON API: asked for with patience, bounded, and read without changing a byte of its items."""

import time
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Self

from ml_assets import clock
from ml_assets.adapters.sources.base import Http
from ml_assets.errors import DeclarationError, DeliveryError, SourceUnavailableError, shorten

if TYPE_CHECKING:
    import httpx
    import msgspec

TRIES = 3
_BACK_OFF = timedelta(seconds=0.2)
_LONGEST_WAIT = timedelta(seconds=30)
NOTHING = (204, 404)
_PASSING = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """What an API said, read to its end; `link` is the header's address of the next page."""

    status: int
    content: bytes
    url: str
    link: str | None
    retry_after: str | None


class Client:
    """Asks one API. Messages name the place and the status, never a header or a parameter."""

    def __init__(self, spec: Http) -> None:
        import httpx

        try:
            self.http = httpx.Client(headers=dict(spec.headers), timeout=spec.timeout.total_seconds())
        except (UnicodeEncodeError, TypeError):
            raise DeclarationError("`headers` of an HTTP source are plain ASCII text.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, url: str, params: dict[str, str], *, place: str, most_bytes: int) -> Answer:
        """The answer, of status 200 or one of NOTHING, after three tries at most.

        Raises SourceUnavailableError for what may pass by itself, DeliveryError for what will not.
        """
        problem = ""
        for n in range(TRIES):
            answer, problem = self._try(url, params, place, most_bytes)
            if answer is not None and answer.status not in _PASSING:
                return _judged(answer, place)
            wait = _wait(answer, n)
            if wait > _LONGEST_WAIT:
                until = (clock.now() + wait).isoformat(timespec="seconds")
                raise SourceUnavailableError(f"{place}: {problem}; it wants to be left alone until {until}.")
            if n + 1 < TRIES:
                time.sleep(wait.total_seconds())
        raise SourceUnavailableError(f"{place}: {problem}, {TRIES} times.")

    def _try(self, url: str, params: dict[str, str], place: str, most_bytes: int) -> tuple[Answer | None, str]:
        import httpx

        try:
            # as `params` of a request they would take the place of those in the address, such as the day
            with self.http.stream("GET", httpx.URL(url).copy_merge_params(params)) as response:
                return _read(response, place, most_bytes), f"status {response.status_code}"
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL):
            raise DeclarationError(f"{place}: such a request cannot be sent. Look at `url` and `headers`.") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            return None, f"no answer ({type(error).__name__})"


def items_of(content: bytes, path: str, place: str) -> list[bytes]:
    """The items of the list at a path, each on one line and otherwise as it was written."""
    import msgspec

    raw = _at(content, path, place)
    try:
        items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.ValidationError as error:
        found = f"an object of {_names(raw)}" if raw[:1] == b"{" else f"{raw[:40]!r}"
        where = f"at `items: {path}`" if path else "as the answer"
        raise DeliveryError(f"{place}: no list {where} but {found}. Say in `items` where the list is.") from error
    return [bytes(msgspec.json.format(bytes(item), indent=-1)) for item in items]


def text_at(content: bytes, path: str, place: str) -> str | None:
    """The text or number at a path; None where it is null or missing, as on a last page."""
    import msgspec

    raw = _at(content, path, place, missing=b"null")
    if raw in (b"null", b"false", b'""'):
        return None
    if raw[:1] in b"{[":
        raise DeliveryError(f"{place}: a text is expected at {path}, and there is {raw[:40]!r}.")
    return msgspec.json.decode(raw, type=str) if raw[:1] == b'"' else raw.decode()


def _at(content: bytes, path: str, place: str, missing: bytes | None = None) -> bytes:
    """The JSON text at a path of names with dots; a name that has dots itself is found too."""
    import msgspec

    raw, rest = content.removeprefix(b"\xef\xbb\xbf").strip(), path
    try:
        raw.decode()  # msgspec looks at the texts that it is asked for only
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise DeliveryError(f"{place}: the answer is no JSON ({error}); it begins with {raw[:40]!r}.") from error
    while rest:
        names = _members(raw)
        name = rest if rest in names else rest.partition(".")[0]
        if name not in names and missing is not None:
            return missing
        if name not in names:
            there = f"an object of {_names(raw)}" if names else f"{raw[:40]!r}"
            raise DeliveryError(f"{place}: there is no {name} of `items: {path}`, but {there}.")
        raw, rest = bytes(names[name]), rest.removeprefix(name).removeprefix(".")
    return raw


def _members(raw: bytes) -> "dict[str, msgspec.Raw]":
    import msgspec

    return msgspec.json.decode(raw, type=dict[str, msgspec.Raw]) if raw[:1] == b"{" else {}


def _names(raw: bytes) -> str:
    return shorten(_members(raw), 10) or "nothing"


def _read(response: "httpx.Response", place: str, most_bytes: int) -> Answer:
    parts: list[bytes] = []
    n_bytes = 0
    for part in response.iter_bytes():
        n_bytes += len(part)
        if n_bytes > most_bytes:
            raise DeliveryError(f"{place}: the pages are larger than they may be. Ask for less at a time.")
        parts.append(part)
    link = response.links.get("next", {}).get("url")
    after = response.headers.get("retry-after")
    return Answer(response.status_code, b"".join(parts), str(response.url), link, after)


def _judged(answer: Answer, place: str) -> Answer:
    if answer.status in (200, *NOTHING):
        return answer
    advice = {
        401: "Look at the key or token in `headers`.",
        403: "Look at the key or token in `headers`, and at what it may read.",
    }
    moved = "It points elsewhere: write the address that it has now."
    rest = moved if 300 <= answer.status < 400 else "Correct `url` and `params`, or ask the API's owner."
    raise DeliveryError(f"{place}: status {answer.status}. {advice.get(answer.status, rest)}")


def _wait(answer: Answer | None, n: int) -> timedelta:
    """How long to wait after a try: as the API says, in seconds or until a date, or else a little and then longer."""
    after = answer.retry_after if answer else None
    if after is None:
        return _BACK_OFF * 2**n
    try:
        if after.strip().isdigit():
            return timedelta(seconds=min(int(after), 10**9))
        until = parsedate_to_datetime(after)
    except ValueError:
        return _BACK_OFF * 2**n
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(until - clock.now(), timedelta(0))
