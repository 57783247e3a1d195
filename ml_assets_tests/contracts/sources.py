"""What every source promises. A subclass supplies the `origin` fixture: what a source reads from."""

import re
from collections.abc import Iterable
from typing import Protocol

from ml_assets.adapters.sources.base import Fetched, Look, Source

FIRST, SECOND, THIRD = DAYS = ("2013-01-05", "2013-01-06", "2013-01-07")


class Origin(Protocol):
    """A folder, bucket, database or API of a test, for a table of the days of January 2013 at least.

    Rows have a text key and a whole number. `secret` is a password or token that the declaration holds, if any.
    """

    secret: str = "no such thing"

    def source(self) -> Source:
        """A source as a new process opens it."""
        ...

    def put(self, day: str, **rows: int) -> None:
        """Add rows to a day; a row of a known key takes the place of the other."""
        ...

    def rows(self, delivery: Fetched) -> dict[str, int]:
        """The rows of one delivery."""
        ...

    def tick(self) -> None:
        """Let so much time pass that a source that is polled is due again; nothing for others."""
        ...


class Kept:
    """What a caller keeps of a source: the newest delivery of a name counts, and the newest row of a key."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.deliveries: dict[tuple[str, str], Fetched] = {}
        self.positions: dict[str, str] = {}

    def fetch(self, *partitions: str) -> list[Fetched]:
        """Fetch with a new source and keep what comes."""
        positions = {p: position for p, position in self.positions.items() if p in partitions}
        found = list(self.origin.source().fetch(partitions, positions))
        for delivery in found:
            self.deliveries.pop((delivery.partition, delivery.name), None)
            self.deliveries[delivery.partition, delivery.name] = delivery
            if delivery.position is not None:
                self.positions[delivery.partition] = delivery.position
        return found

    def rows(self, day: str) -> dict[str, int]:
        """The newest row of each key."""
        return merged(self.origin, [each for (partition, _), each in self.deliveries.items() if partition == day])


def merged(origin: Origin, deliveries: Iterable[Fetched]) -> dict[str, int]:
    return {key: value for delivery in deliveries for key, value in origin.rows(delivery).items()}


def digests(look: Look) -> dict[str, str]:
    return {partition: state.digest for partition, state in look.states.items()}


class SourceContract:
    """What every source promises.

    `polls` is for a source that cannot tell what is new without fetching it: all its partitions are due at once.
    """

    polls = False

    def test_an_unchanged_source_looks_the_same_to_everybody(self, origin):
        origin.put(FIRST, a=1)
        origin.put(SECOND, b=2)
        first = origin.source().look({})
        assert {FIRST, SECOND} <= set(first.states)
        assert first.problems == ()
        assert origin.source().look({}) == origin.source().look(first.states) == first

    def test_new_content_changes_the_digest_of_its_partition(self, origin):
        origin.put(FIRST, a=1)
        origin.put(SECOND, b=2)
        before = origin.source().look({})
        origin.put(SECOND, c=3)
        origin.tick()
        after = digests(origin.source().look(before.states))
        assert after[SECOND] != before.states[SECOND].digest
        assert self.polls or after[FIRST] == before.states[FIRST].digest
        assert after == digests(origin.source().look({}))

    def test_a_new_partition_is_seen_and_leaves_the_others_alone(self, origin):
        origin.put(FIRST, a=1)
        before = origin.source().look({})
        origin.put(THIRD, c=3)
        origin.tick()
        after = origin.source().look(before.states)
        assert THIRD in after.states
        assert self.polls or {**digests(after), THIRD: ""} == {**digests(before), THIRD: ""}

    def test_restated_content_changes_the_digest(self, origin):
        origin.put(FIRST, a=1)
        before = origin.source().look({})
        origin.put(FIRST, a=9)
        origin.tick()
        assert digests(origin.source().look(before.states))[FIRST] != before.states[FIRST].digest

    def test_the_rows_of_a_partition_are_fetched_and_no_others(self, origin):
        origin.put(FIRST, a=1, b=2)
        origin.put(SECOND, c=3)
        found = list(origin.source().fetch([FIRST], {}))
        assert {delivery.partition for delivery in found} == {FIRST}
        assert merged(origin, found) == {"a": 1, "b": 2}

    def test_each_of_several_partitions_has_its_rows(self, origin):
        kept = Kept(origin)
        origin.put(FIRST, a=1)
        origin.put(SECOND, b=2)
        kept.fetch(FIRST, SECOND)
        assert (kept.rows(FIRST), kept.rows(SECOND)) == ({"a": 1}, {"b": 2})

    def test_a_second_fetch_gives_the_same_bytes_or_nothing(self, origin):
        kept = Kept(origin)
        origin.put(FIRST, a=1, b=2)
        first = {(each.name, each.content) for each in kept.fetch(FIRST)}
        assert {(each.name, each.content) for each in kept.fetch(FIRST)} <= first
        assert kept.rows(FIRST) == {"a": 1, "b": 2}

    def test_what_comes_later_is_fetched_and_what_was_there_stays(self, origin):
        kept = Kept(origin)
        for n, key in enumerate("abc"):
            origin.put(FIRST, **{key: n})
            kept.fetch(FIRST)
        assert kept.rows(FIRST) == {"a": 0, "b": 1, "c": 2}

    def test_a_position_of_one_partition_hides_nothing_of_another(self, origin):
        kept = Kept(origin)
        origin.put(SECOND, b=2)
        kept.fetch(SECOND)
        origin.put(FIRST, a=1)
        kept.fetch(FIRST, SECOND)
        assert (kept.rows(FIRST), kept.rows(SECOND)) == ({"a": 1}, {"b": 2})

    def test_a_restated_row_is_delivered_anew(self, origin):
        kept = Kept(origin)
        origin.put(FIRST, a=1, b=2)
        kept.fetch(FIRST)
        origin.put(FIRST, a=9)
        assert kept.fetch(FIRST)
        assert kept.rows(FIRST) == {"a": 9, "b": 2}

    def test_a_partition_without_content_gives_no_rows(self, origin):
        origin.put(FIRST, a=1)
        assert merged(origin, origin.source().fetch([THIRD], {})) == {}

    def test_names_can_be_used_as_paths(self, origin):
        origin.put(FIRST, a=1)
        for delivery in origin.source().fetch([FIRST], {}):
            assert re.fullmatch(r"[^/\\\x00]+(/[^/\\\x00]+)*", delivery.name)
            assert not {".", ".."} & set(delivery.name.split("/"))

    def test_what_a_source_says_of_itself_holds_no_secret(self, origin):
        origin.put(FIRST, a=1)
        source = origin.source()
        assert source.label
        said = f"{source.label} {source!r} {source.look({})!r} {list(source.fetch([FIRST], {}))!r}"
        assert origin.secret not in said
