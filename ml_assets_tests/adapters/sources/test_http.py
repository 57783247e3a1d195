"""HTTP sources, against a real server."""

import gzip
import json
import threading
from datetime import UTC, date, datetime, timedelta

import pytest

from ml_assets import clock
from ml_assets.adapters.sources import answers, http
from ml_assets.adapters.sources.base import Http, Subject
from ml_assets.adapters.sources.http import HttpSource
from ml_assets.errors import DeclarationError, DeliveryError, SourceUnavailableError
from ml_assets_tests.adapters.processes import start, wait_until
from ml_assets_tests.adapters.sources.servers import Api, Folder, Request, Says, fetch
from ml_assets_tests.contracts.sources import FIRST, SourceContract

DAILY = Subject("weather", date(2013, 1, 1), date(2013, 1, 31), "at")
WHOLE = Subject("planes")
KEY = "s3cret-t0ken"
NOW = datetime(2013, 1, 8, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def at_noon(monkeypatch):
    monkeypatch.setattr(answers, "_BACK_OFF", timedelta(milliseconds=1))
    monkeypatch.setenv("ML_ASSETS_NOW", NOW.isoformat())  # not `frozen`: ticks set it too, and one of them restores it


@pytest.fixture
def scratch(tmp_path):
    return Folder(tmp_path / "scratch")


@pytest.fixture
def serve(scratch):
    """Start a server that answers by a function, and give a function that makes sources of it."""
    with_end = []

    def begin(answer):
        api = Api(answer).__enter__()
        with_end.append(api)

        def source(path="/rows", subject=WHOLE, **spec):
            return HttpSource(Http(f"{api.url}{path}", **spec), subject, scratch)

        return api, source

    yield begin
    for api in with_end:
        api.__exit__()


def content(source, partition=""):
    return b"".join(each.content for each in source.fetch([partition], {}))


def numbers(source, partition=""):
    return [json.loads(line) for line in content(source, partition).splitlines()]


class Origin:
    """Rows by day in pages of two, each with the address of the next."""

    secret = KEY

    def __init__(self, folder):
        self.days, self.now, self.scratch = {}, NOW, Folder(folder)
        self.api = Api(self.answer).__enter__()

    def answer(self, request: Request) -> Says:
        if request.headers.get("X-Key") != KEY:
            return Says(status=401)
        rows = list(self.days.get(request.params["day"], {}).items())
        begin = int(request.params.get("from", 0))
        more = f"/rows?day={request.params['day']}&from={begin + 2}" if len(rows) > begin + 2 else None
        return Says({"rows": [{"key": k, "n": n} for k, n in rows[begin : begin + 2]], "paging": {"next": more}})

    def source(self):
        spec = Http(
            f"{self.api.url}/rows",
            params={"day": "{partition}"},
            headers={"X-Key": KEY},
            items="rows",
            next_url="paging.next",
            every=timedelta(minutes=1),
            look_back=timedelta(days=30),
        )
        return HttpSource(spec, DAILY, self.scratch)

    def put(self, day, **rows):
        self.days.setdefault(day, {}).update(rows)

    def rows(self, delivery):
        return {row["key"]: row["n"] for row in map(json.loads, delivery.content.splitlines())}

    def tick(self):
        self.now += timedelta(minutes=1)
        self.monkeypatch.setenv("ML_ASSETS_NOW", self.now.isoformat())


class TestHttpSource(SourceContract):
    polls = True

    @pytest.fixture
    def origin(self, tmp_path, monkeypatch):
        origin = Origin(tmp_path / "origin")
        origin.monkeypatch = monkeypatch
        yield origin
        origin.api.__exit__()


def test_items_are_the_bytes_that_the_api_wrote(serve):
    first = b'{"x": 1.10,\n "big": 12345678901234567890, "e": "\\u00e9 \xc3\xa9" }'
    body = b'\xef\xbb\xbf{"data": {"list": [ ' + first + b', {"x":1e2} ]}}'
    _, source = serve(lambda _: Says(body))
    assert content(source(items="data.list")) == (
        b'{"x":1.10,"big":12345678901234567890,"e":"\\u00e9 \xc3\xa9"}\n{"x":1e2}\n'
    )


def test_an_answer_that_is_a_list_needs_no_path_to_its_items(serve):
    _, source = serve(lambda _: Says([{"n": 1}]))
    (delivery,) = source().fetch([""], {})
    assert (delivery.name, delivery.partition, delivery.content) == ("all.jsonl", "", b'{"n":1}\n')


def test_pages_are_followed_by_a_link_header(serve):
    def answer(request):
        n = int(request.params.get("page", 1))
        link = {"Link": f'</rows?page={n + 1}>; rel="next", </rows>; rel="first"'} if n < 3 else {}
        return Says([n], headers=link)

    api, source = serve(answer)
    assert numbers(source(next_url="header:link")) == [1, 2, 3]
    assert len(api.requests) == 3


def test_pages_are_followed_by_a_cursor(serve):
    def answer(request):
        n = int(request.params.get("after", 0))
        return Says({"items": [n], "meta": {"next.token": n + 1 if n < 2 else None}, "size": request.params["size"]})

    api, source = serve(answer)
    spec = {"items": "items", "next_cursor": "meta.next.token", "cursor_param": "after", "params": {"size": "1"}}
    assert numbers(source(**spec)) == [0, 1, 2]
    assert [request.params for request in api.requests] == [
        {"size": "1"},
        {"size": "1", "after": "1"},
        {"size": "1", "after": "2"},
    ]


def test_pages_are_counted_until_one_is_empty(serve):
    api, source = serve(lambda request: Says([request.params["p"]] if int(request.params["p"]) < 4 else []))
    assert numbers(source(page_param="p")) == ["1", "2", "3"]
    assert len(api.requests) == 4


def test_the_day_is_asked_for_and_an_unknown_day_has_nothing(serve):
    answers_by_day = {"2013-01-05": Says([5]), "2013-01-06": Says([]), "2013-01-07": Says(status=204)}
    api, source = serve(lambda request: answers_by_day.get(request.path.rpartition("/")[2], Says(status=404)))
    days = ["2013-01-05", "2013-01-06", "2013-01-07", "2013-01-08"]
    found = list(source("/rows/{partition}", DAILY).fetch(days, {}))
    assert [(each.partition, each.name, each.content) for each in found] == [("2013-01-05", "2013-01-05.jsonl", b"5\n")]
    assert [request.path for request in api.requests] == [f"/rows/{day}" for day in days]


@pytest.mark.parametrize("way", [{"page_param": "p"}, {"next_cursor": "next"}, {"params": {"size": "1"}}], ids=str)
def test_parameters_of_the_address_are_sent_with_all_others_on_every_page(serve, way):
    pages = iter([{"items": [1], "next": "x"}, {"items": []}])
    api, source = serve(lambda _: Says(next(pages)))
    content(source("/rows?day={partition}&of=UA", DAILY, items="items", **way), FIRST)
    assert {(request.params["day"], request.params["of"]) for request in api.requests} == {(FIRST, "UA")}
    assert len(api.requests[-1].params) == 3


def test_a_table_without_days_that_is_not_there_is_an_error(serve):
    _, source = serve(lambda _: Says(status=404))
    with pytest.raises(DeliveryError, match=r"/rows, page 1: status 404.*Correct `url`"):
        content(source())


def test_too_many_requests_are_waited_for(serve, monkeypatch):
    waited = []
    monkeypatch.setattr(answers.time, "sleep", waited.append)
    said = iter([Says(status=429, headers={"Retry-After": "7"}), Says([1])])
    _, source = serve(lambda _: next(said))
    assert numbers(source()) == [1]
    assert waited == [7]


def test_a_date_in_retry_after_is_waited_for(serve, monkeypatch):
    waited = []
    monkeypatch.setattr(answers.time, "sleep", waited.append)
    after = {"Retry-After": "Tue, 08 Jan 2013 12:00:09 GMT"}
    said = iter([Says(status=503, headers=after), Says([1])])
    _, source = serve(lambda _: next(said))
    assert numbers(source()) == [1]
    assert waited == [9]


def test_a_long_wait_is_left_to_the_retry_of_the_asset_and_says_until_when(serve):
    api, source = serve(lambda _: Says(status=429, headers={"Retry-After": "90"}))
    with pytest.raises(SourceUnavailableError, match=r"status 429.*until 2013-01-08T12:01:30\+00:00"):
        content(source())
    assert len(api.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_goes_on_failing_is_unavailable(serve, status):
    api, source = serve(lambda _: Says(status=status))
    with pytest.raises(SourceUnavailableError, match=rf"/rows of 2013-01-05, page 1: status {status}, 3 times"):
        content(source("/rows?day={partition}", DAILY), FIRST)
    assert len(api.requests) == 3


def test_a_server_that_fails_once_is_asked_again(serve):
    said = iter([Says(status=500), Says(status=502), Says([1])])
    _, source = serve(lambda _: next(said))
    assert numbers(source()) == [1]


def test_a_server_that_does_not_answer_in_time_or_at_all_is_unavailable(serve):
    end = threading.Event()
    api, source = serve(lambda _: end.wait(10) and Says())
    with pytest.raises(SourceUnavailableError, match=r"page 1: no answer.*Timeout.*3 times"):
        content(source(timeout=timedelta(milliseconds=20)))
    end.set()
    port = api.server.server_address[1]
    api.server.server_close()
    with pytest.raises(SourceUnavailableError, match=f"127.0.0.1:{port}/rows, page 1: no answer .ConnectError., 3"):
        content(source())


def test_a_connection_that_ends_within_an_answer_is_no_answer(serve):
    _, source = serve(lambda _: Says(b"[1", headers={"Content-Length": "100", "Connection": "close"}))
    with pytest.raises(SourceUnavailableError, match="no answer"):
        content(source())


@pytest.mark.parametrize(
    ("status", "says"), [(401, "key or token"), (403, "may read"), (400, "params"), (301, "moved|points")]
)
def test_what_will_not_pass_is_said_at_once(serve, status, says):
    api, source = serve(lambda _: Says(b"no", status=status, headers={"Location": "/elsewhere"}))
    with pytest.raises(DeliveryError, match=rf"/rows, page 1: status {status}.*({says})"):
        content(source())
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("body", "items", "says"),
    [
        (b"<html>Sorry</html>", "", "is no JSON.*<html>"),
        (b'{"rows": [1, 2', "rows", "is no JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "", "is no JSON"),
        (b"", "", "is no JSON"),
        (b'{"caf\xe9": 1, "rows": []}', "rows", "is no JSON.*0xe9"),
        (b'{"error": "quota", "code": 7}', "data.rows", "no data of `items: data.rows`, but an object of error, code"),
        (b'{"data": {"row": []}}', "data.rows", "no rows of `items: data.rows`, but an object of row"),
        (b'{"data": [1], "total": 1}', "", "no list as the answer but an object of data, total"),
        (b'{"data": {"a": 1}}', "data", "no list at `items: data` but an object of a"),
        (b'{"data": null}', "data", "no list at `items: data` but b'null'"),
    ],
)
def test_an_answer_of_another_shape_says_what_is_there(serve, body, items, says):
    _, source = serve(lambda _: Says(body))
    with pytest.raises(DeliveryError, match=says):
        content(source(items=items))


@pytest.mark.parametrize("there", ["http://example.com/rows", "https://127.0.0.1/rows", "//example.com/rows"])
def test_the_next_page_is_on_the_same_server(serve, there):
    api, source = serve(lambda _: Says({"items": [1], "next": there}))
    with pytest.raises(DeliveryError, match=r"page 1: the next page is at .*/rows, and its headers are for no other"):
        content(source(items="items", next_url="next"))
    assert len(api.requests) == 1


@pytest.mark.parametrize("there", ["http://127.0.0.1:http/rows", "http://[::1/rows"])
def test_a_next_page_without_address_is_told(serve, there):
    _, source = serve(lambda _: Says({"items": [1], "next": there}))
    with pytest.raises(DeliveryError, match=r"page 1: the next page has no address: .*owner"):
        content(source(items="items", next_url="next"))


def test_a_token_may_be_any_number(serve):
    pages = iter(
        [b'{"items": [1], "next": 1e999}', b'{"items": [2], "next": 12345678901234567890123}', b'{"items": []}']
    )
    api, source = serve(lambda _: Says(next(pages)))
    assert content(source(items="items", next_cursor="next")) == b"1\n2\n"
    assert [request.params.get("cursor") for request in api.requests] == [None, "1e999", "12345678901234567890123"]


@pytest.mark.parametrize("status", [204, 404])
def test_pages_are_counted_until_one_is_not_there(serve, status):
    _, source = serve(lambda request: Says([1]) if request.params["p"] == "1" else Says(status=status))
    assert content(source(page_param="p")) == b"1\n"


@pytest.mark.parametrize("value", ["\xb2", "5" * 5000, "soon"])
def test_a_wait_that_cannot_be_read_is_a_short_one(serve, value):
    answers = iter([Says(status=429, headers={"Retry-After": value}), Says([1])])
    _, source = serve(lambda _: next(answers))
    assert content(source()) == b"1\n"


def test_pages_that_lead_in_a_circle_are_noticed(serve):
    def link(request):
        n = int(request.params.get("p", 0))
        return Says({"items": [n], "next": f"/rows?p={1 if n == 3 else n + 1}"})

    api, source = serve(link)
    with pytest.raises(DeliveryError, match="page 4 leads back"):
        content(source(items="items", next_url="next"))
    assert len(api.requests) == 4
    _, source = serve(lambda _: Says({"items": [1], "next": "same"}))
    with pytest.raises(DeliveryError, match="page 2 leads back"):
        content(source(items="items", next_cursor="next"))


def test_an_api_that_does_not_know_the_page_parameter_is_noticed(serve):
    _, source = serve(lambda _: Says([1, 2]))
    with pytest.raises(DeliveryError, match=r"page 2 is the same as the page before.*parameter p"):
        content(source(page_param="p"))


def test_pages_without_end_are_bounded(serve, monkeypatch):
    monkeypatch.setattr(http, "MOST_PAGES", 5)
    api, source = serve(lambda request: Says([request.params["p"]]))
    with pytest.raises(DeliveryError, match="more than 5 pages"):
        content(source(page_param="p"))
    assert len(api.requests) == 5


def test_a_small_answer_that_unpacks_to_a_large_one_is_bounded(serve, monkeypatch):
    monkeypatch.setattr(http, "MOST_BYTES", 10_000)
    bomb = gzip.compress(b"[" + b" " * 10_000_000 + b"1]")
    _, source = serve(lambda _: Says(bomb, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(DeliveryError, match="larger than they may be"):
        content(source())


def test_all_pages_together_are_bounded(serve, monkeypatch):
    monkeypatch.setattr(http, "MOST_BYTES", 10_000)
    api, source = serve(lambda request: Says(["x" * 4_000, request.params["p"]]))
    with pytest.raises(DeliveryError, match="page 3: the pages are larger than they may be"):
        content(source(page_param="p"))
    assert len(api.requests) == 3


def test_a_process_that_is_killed_at_a_page_goes_on_there(tmp_path):
    held, asked = threading.Event(), threading.Event()

    def answer(request):
        n = int(request.params.get("p", 1))
        if n == 4 and not held.is_set():
            asked.set()
            held.wait(60)
        return Says({"items": [{"n": n}], "next": f"/rows?p={n + 1}" if n < 6 else None})

    with Api(answer) as api:
        spec = Http(f"{api.url}/rows?day={{partition}}", items="items", next_url="next")
        process = start(fetch, spec, DAILY, tmp_path / "scratch", FIRST)
        wait_until(asked.is_set)
        process.kill()
        process.join()
        held.set()
        before = len(api.requests)
        source = HttpSource(spec, DAILY, Folder(tmp_path / "scratch"))
        assert numbers(source, FIRST) == [{"n": n} for n in range(1, 7)]
        assert before == 4
        assert [request.params["p"] for request in api.requests[before:]] == ["4", "5", "6"]


def failing_at(page, until):
    """An API of five pages, one of which fails until something happened."""

    def answer(request):
        n = int(request.params.get("p", 1))
        return Says(status=500) if n == page and not until else Says([n] if n <= 5 else [])

    return answer


def test_a_failed_attempt_goes_on_at_its_page(serve):
    works = []
    api, source = serve(failing_at(3, works))
    with pytest.raises(SourceUnavailableError, match="page 3: status 500"):
        content(source(page_param="p"))
    works.append(True)
    api.requests.clear()
    assert numbers(source(page_param="p")) == [1, 2, 3, 4, 5]
    assert [request.params["p"] for request in api.requests] == ["3", "4", "5", "6"]


def test_pages_of_more_than_an_hour_ago_are_asked_for_again(serve):
    works = []
    api, source = serve(failing_at(3, works))
    with pytest.raises(SourceUnavailableError):
        content(source(page_param="p"))
    works.append(True)
    api.requests.clear()
    with clock.frozen(NOW + timedelta(hours=1, seconds=1)):
        assert numbers(source(page_param="p")) == [1, 2, 3, 4, 5]
    assert len(api.requests) == 6


def test_pages_are_forgotten_when_the_delivery_was_taken_and_not_before(serve, scratch):
    api, source = serve(failing_at(9, [True]))
    taken = source(page_param="p").fetch([""], {})
    next(taken)
    assert len(scratch.names()) == 6
    taken.close()  # whoever took it was killed before it was kept
    api.requests.clear()
    assert numbers(source(page_param="p")) == [1, 2, 3, 4, 5]
    assert (api.requests, scratch.names()) == ([], [])


def test_pages_that_a_killed_clearing_left_are_not_mixed_with_new_ones(serve, scratch):
    works = []
    api, source = serve(failing_at(3, works))
    with pytest.raises(SourceUnavailableError):
        content(source(page_param="p"))
    _, second = scratch.names()
    old = scratch.get(second)
    scratch.clear("")
    with clock.frozen(NOW + timedelta(minutes=1)), pytest.raises(SourceUnavailableError):
        content(source(page_param="p"))
    scratch.put(second, old)
    works.append(True)
    api.requests.clear()
    assert numbers(source(page_param="p")) == [1, 2, 3, 4, 5]
    assert [request.params["p"] for request in api.requests] == ["2", "3", "4", "5", "6"]


def test_pages_of_another_question_are_not_taken(serve, scratch):
    _, source = serve(lambda request: Says([request.params["v"]]))
    next(source(params={"v": "1"}).fetch([""], {}))
    assert numbers(source(params={"v": "2"})) == ["2"]


def test_headers_and_parameters_are_never_told(serve, caplog):
    caplog.set_level("INFO", logger="ml_assets")
    statuses = [401, 404, 500, 429]
    _, source = serve(lambda _: Says(status=statuses[0]))
    while statuses:
        with pytest.raises((DeliveryError, SourceUnavailableError)) as caught:
            content(source(f"/rows?key={KEY}", headers={"X-Key": KEY}))
        assert KEY not in f"{caught.value}{caught.value.__cause__}{caplog.text}"
        statuses.pop(0)
        _, source = serve(lambda _: Says(status=statuses[0]))


@pytest.mark.parametrize("value", [f"{KEY}\n", f"{KEY}é"])
def test_a_header_that_cannot_be_sent_is_not_told_either(serve, value):
    _, source = serve(lambda _: Says([]))
    with pytest.raises(DeclarationError, match="headers") as caught:
        content(source(headers={"X-Key": value}))
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "subject", "spec", "says"),
    [
        ("http://h/rows", DAILY, {}, r"write `\{partition\}`"),
        ("http://h/{partition}", WHOLE, {}, r"leave out `\{partition\}`"),
        ("h/rows", WHOLE, {}, "no http:// or https:// address"),
        ("http://[::1/rows", WHOLE, {}, "`url` is no address: Invalid IPv6"),
        ("http://h:http/rows", WHOLE, {}, "`url` is no address: Port"),
        ("http://h/rows", WHOLE, {"next_url": "a", "page_param": "b"}, "only one of"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(scratch, url, subject, spec, says):
    with pytest.raises(DeclarationError, match=f"source of {subject.name}: .*{says}"):
        HttpSource(Http(url, **spec), subject, scratch)
