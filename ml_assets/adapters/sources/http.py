"""Items of a paged JSON API, kept page by page, so that a fetch that was killed goes on where it was."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from urllib.parse import urljoin, urlsplit

from ml_assets import clock
from ml_assets.adapters.sources import polling
from ml_assets.adapters.sources.answers import NOTHING, Answer, Client, items_of, text_at
from ml_assets.adapters.sources.base import Fetched, Http, Look, PartitionState, Scratch, Subject
from ml_assets.errors import DeclarationError, DeliveryError

MOST_PAGES = 10_000
MOST_BYTES = 2**30
_GOES_ON = timedelta(hours=1)


@dataclass(frozen=True)
class _Page:
    """One page as it is kept: its items as JSON lines, how to ask for the next page, when the first was asked for."""

    lines: bytes
    following: tuple[str, dict[str, str]] | None
    began_at: datetime

    def packed(self) -> bytes:
        return json.dumps([self.following, self.began_at.isoformat()]).encode() + b"\n" + self.lines

    @classmethod
    def unpacked(cls, content: bytes) -> "_Page":
        head, _, lines = content.partition(b"\n")
        following, began_at = json.loads(head)
        return cls(lines, following and (following[0], following[1]), datetime.fromisoformat(began_at))


class HttpSource:
    """Asks for the pages of each partition, and gives the items as JSON lines, byte for byte as the API wrote them.

    Pages are kept in `scratch` as they arrive, for an hour from the first: after that the API may answer otherwise,
    and all are asked for again. They are forgotten when the delivery has been taken.
    """

    def __init__(self, spec: Http, subject: Subject, scratch: Scratch) -> None:
        self.spec, self.subject, self.scratch = spec, subject, scratch
        if problem := _problem(spec, subject):
            raise DeclarationError(f"The source of {subject.name}: {problem}")

    @property
    def label(self) -> str:
        """The address without its query, which may hold a key."""
        return _plain(self.spec.url)

    def look(self, known: Mapping[str, PartitionState]) -> Look:  # noqa: ARG002  time tells, not what was known
        """The newest days are due each `every`, older ones once."""
        return polling.look(self.subject, every=self.spec.every, look_back=self.spec.look_back)

    def fetch(self, partitions: Sequence[str], positions: Mapping[str, str]) -> Iterator[Fetched]:  # noqa: ARG002
        """One delivery for each partition that has items."""
        with Client(self.spec) as client:
            for partition in partitions:
                pages = _Pages(self, client, partition)
                content = pages.read()
                if content:
                    yield Fetched(partition, f"{partition or 'all'}.jsonl", content)
                self.scratch.clear(pages.prefix)


class _Pages:
    """The pages of one partition: those that are kept, and then those that are asked for."""

    def __init__(self, source: HttpSource, client: Client, partition: str) -> None:
        self.spec, self.scratch, self.client, self.partition = source.spec, source.scratch, client, partition
        self.place = f"{source.label}{partition and f' of {partition}'}"
        url, params = self._first()
        request = [url, params, self.spec.items, self.spec.next_url, self.spec.next_cursor, self.spec.page_param]
        self.prefix = f"{partition or 'all'}.{sha256(json.dumps(request).encode()).hexdigest()[:16]}."

    def read(self) -> bytes:
        """The items of all pages; nothing for a day that the API does not know."""
        pages = self._kept()
        following = pages[-1].following if pages else self._first()
        began_at = pages[0].began_at if pages else clock.now()
        while following is not None:
            page = self._ask(*following, pages, began_at)
            self.scratch.put(self._name(len(pages) + 1), page.packed())
            pages.append(page)
            following = page.following
        return b"".join(page.lines for page in pages)

    def _kept(self) -> list[_Page]:
        pages: list[_Page] = []
        while (content := self.scratch.get(self._name(len(pages) + 1))) is not None:
            page = _Page.unpacked(content)
            if pages and page.began_at != pages[0].began_at:
                break  # of an older attempt, whose clearing was killed
            pages.append(page)
        if pages and clock.now() - pages[0].began_at > _GOES_ON:
            self.scratch.clear(self.prefix)
            return []
        return pages

    def _ask(self, url: str, params: dict[str, str], pages: Sequence[_Page], began_at: datetime) -> _Page:
        number = len(pages) + 1
        place = f"{_plain(url)}{self.partition and f' of {self.partition}'}, page {number}"
        left = MOST_BYTES - sum(len(page.lines) for page in pages)
        answer = self.client.get(url, params, place=place, most_bytes=left)
        if answer.status in NOTHING:
            if self.spec.page_param if pages else self.partition:
                return _Page(b"", None, began_at)
            raise DeliveryError(f"{place}: status {answer.status}, there is nothing. Correct `url`.")
        items = items_of(answer.content, self.spec.items, place)
        lines = b"".join(item + b"\n" for item in items)
        following = self._following(answer, items, number, place)
        self._check_progress(following, lines, pages, place)
        return _Page(lines, following, began_at)

    def _following(
        self, answer: Answer, items: Sequence[bytes], number: int, place: str
    ) -> tuple[str, dict[str, str]] | None:
        url, params = self._first()
        if self.spec.page_param:
            return (url, {**params, self.spec.page_param: str(number + 1)}) if items else None
        if self.spec.next_cursor:
            cursor = text_at(answer.content, self.spec.next_cursor, place)
            return (url, {**params, self.spec.cursor_param: cursor}) if cursor else None
        if self.spec.next_url:
            link = self._link(answer, place)
            return (link, {}) if link else None
        return None

    def _link(self, answer: Answer, place: str) -> str | None:
        if self.spec.next_url == "header:link":
            link = answer.link
        else:
            link = text_at(answer.content, self.spec.next_url or "", place)
        if not link:
            return None
        try:
            absolute = urljoin(answer.url, link)
            elsewhere = _origin(absolute) != _origin(self.spec.url)
        except ValueError as error:
            raise DeliveryError(f"{place}: the next page has no address: {error}. Ask the API's owner.") from error
        if elsewhere:
            problem = f"the next page is at {_plain(absolute)}, and its headers are for no other server"
            raise DeliveryError(f"{place}: {problem}. Correct `url`, or ask the API's owner.")
        return absolute

    def _check_progress(
        self, following: tuple[str, dict[str, str]] | None, lines: bytes, pages: Sequence[_Page], place: str
    ) -> None:
        if following is None:
            return
        if following in [self._first(), *(page.following for page in pages)]:
            raise DeliveryError(f"{place} leads back to a page that was read. Ask the API's owner.")
        if pages and lines and pages[-1].lines == lines and self.spec.page_param:
            name = self.spec.page_param
            raise DeliveryError(f"{place} is the same as the page before. Does the API know the parameter {name}?")
        if len(pages) + 1 >= MOST_PAGES:
            raise DeliveryError(f"{place}: there are more than {MOST_PAGES} pages. Ask for less, or for larger ones.")

    def _first(self) -> tuple[str, dict[str, str]]:
        params = {name: value.replace("{partition}", self.partition) for name, value in self.spec.params.items()}
        if self.spec.page_param:
            params[self.spec.page_param] = "1"
        return self.spec.url.replace("{partition}", self.partition), params

    def _name(self, number: int) -> str:
        return f"{self.prefix}{number:05}"


def _problem(spec: Http, subject: Subject) -> str | None:
    ways = [spec.next_url, spec.next_cursor, spec.page_param]
    if sum(way is not None for way in ways) > 1:
        return "write only one of `next_url`, `next_cursor` and `page_param`."
    try:
        scheme, host, _ = _origin(spec.url)
    except ValueError as error:
        return f"`url` is no address: {error}."
    if scheme not in ("http", "https") or not host:
        return f"`url` is no http:// or https:// address: {_plain(spec.url)}"
    asks = any("{partition}" in text for text in [spec.url, *spec.params.values()])
    if subject.daily != asks:
        place = "`{partition}`, the day that is asked for, in `url` or `params`"
        return f"write {place}." if subject.daily else f"it has no days, so leave out {place}."
    return None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _plain(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
