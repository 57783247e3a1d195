"""The certificate of a version: what was compared before it took traffic, and what came out, in numbers and words."""

import hashlib
from collections.abc import Mapping

import msgspec

from ml_assets.errors import shorten


class Differing(msgspec.Struct, frozen=True):
    """An input that differs: in how many rows, the values of the first of them, and what is known of it."""

    rows: int
    offline: float | str | None
    online: float | str | None
    first: str


class Span(msgspec.Struct, frozen=True):
    """As-of times from `since` to before `until`, and how many rows were asked as of one of them."""

    since: str
    until: str
    rows: int


class Found(msgspec.Struct, frozen=True):
    """What rows found of a view: in how many a feature row counted; of the others, how many had defaults, or nulls."""

    row: int
    default: int
    null: int


class Asked(msgspec.Struct, frozen=True):
    """The evidence: `rows` were asked about, as of `times`; `wanted` ones of the `history` rows that `table` has.

    `left_out` says how many of these could not be asked about, by the reason; `views` what the others found.
    """

    table: str
    wanted: int
    rows: int
    times: int
    history: int
    spans: list[Span]
    left_out: dict[str, int]
    views: dict[str, Found]

    @property
    def enough(self) -> bool:
        """Whether these are as many as wanted; or some, where history as a whole has fewer.

        Where rows of such a history were left out, no wait brings more of them: that is a warning.
        """
        return self.rows >= self.wanted or 0 < self.rows <= self.history < self.wanted

    def sentence(self) -> str:
        """How many rows these are, of what, and of when."""
        short = f" of history: fewer than {self.wanted:,};" if self.rows < self.wanted else ""
        everything = "all " if self.rows == self.history < self.wanted else ""
        return f"{everything}{self.rows:,} rows{short} as of {self.times:,} times {self._when()}"

    def lacking(self) -> str:
        """Why nothing is proven by so few."""
        if self.enough:
            return ""
        if not self.rows:
            return f"{self.table} has no rows {self._when()} to prove anything with"
        of = f"{self.rows:,} of {self.history:,} rows of {self.table} {self._when()}"
        return f"only {of} could be asked about, and {self.wanted:,} are wanted"

    def warnings(self) -> list[str]:
        """How few rows prove it, where not all of a short history could be asked about."""
        said = f"proven by only {self.rows:,} of {self.history:,} rows of history, and {self.wanted:,} are wanted"
        return [said] * (0 < self.rows < self.history < self.wanted)

    def left(self) -> str:
        """Which rows were left out, and why."""
        return "; ".join(f"{n:,} rows of history were left out: {why}" for why, n in self.left_out.items() if n)

    def _when(self) -> str:
        since, until = (moment[:16].replace("T", " ") for moment in (self.spans[0].since, self.spans[-1].until))
        return f"from {since} to {until}"


class Learnt(msgspec.Struct, frozen=True):
    """What the bundle makes of the training set: `rows` of it were joined anew, `encoded` of these encoded anew.

    `settings`, `joined` and `encoding` name what is otherwise than it was. `corrected` rows come out otherwise today,
    and as they were from the lake as it was then.
    """

    rows: int
    encoded: int
    settings: dict[str, str]
    joined: dict[str, Differing]
    encoding: dict[str, Differing]
    corrected: int

    @property
    def equal(self) -> bool:
        """Whether the bundle gives what the model was trained with."""
        return not (self.settings or self.joined or self.encoding)

    def problems(self) -> list[str]:
        """What is otherwise, each as a sentence."""
        settings = shorten([f"`{name}` is {said}" for name, said in self.settings.items()])
        otherwise = "otherwise than the rows that the model was trained with"
        named = {"joins": self.joined, "encodes": self.encoding}
        return [f"the bundle joins {otherwise}: {settings}"] * bool(settings) + [
            f"the bundle {does} `{next(iter(found))}` {otherwise}, {_first(found)}"
            for does, found in named.items()
            if found
        ]

    def sentence(self) -> str:
        """What was compared."""
        encoded = f", {self.encoded:,} of them encoded as they were" if self.encoded else ""
        said = f"{self.rows:,} training rows are joined as they were then{encoded}"
        return said if self.rows and self.equal else ""

    def warnings(self) -> list[str]:
        """What is not wrong, and should be known."""
        if not self.rows:
            return ["not compared: the rows that the model was trained with"]
        found = f"{self.corrected:,} of {self.rows:,} training rows have other features in the lake today"
        corrected = f"{found}: it was corrected since, and a new training would learn from that"
        encoding = "not compared: how the training rows are encoded"
        return [encoding] * (not self.encoded) + [corrected] * bool(self.corrected)


class Certificate(msgspec.Struct, frozen=True):
    """What was compared, and what came out.

    `views` are the versions of the feature views. `differing` names the inputs, and `score`, that the server gives
    otherwise than the lake, in `different` rows. `answers` is the sha256 of the inputs and scores of the lake, `digest`
    that of the whole certificate without it.
    """

    endpoint: str
    model: str
    version: str
    model_hash: str
    bundle: str
    views: dict[str, int]
    inputs: int
    asked: Asked
    different: int
    differing: dict[str, Differing]
    learnt: Learnt
    answers: str
    created_at: str
    sentence: str = ""
    digest: str = ""

    @property
    def passed(self) -> bool:
        """Whether enough was asked, and nothing differed."""
        return self.asked.enough and not self.differing and self.learnt.equal

    def warnings(self) -> list[str]:
        """What was not compared, or is proven by little, or is of today alone."""
        unseen = [name for name, found in self.asked.views.items() if self.asked.rows and not found.row]
        said = f"not compared: {shorten(unseen)}, of which no row that was asked about found a feature row"
        return self.asked.warnings() + [said] * bool(unseen) + self.learnt.warnings()

    def sealed(self) -> "Certificate":
        """The same with its sentence and its digest."""
        said = msgspec.structs.replace(self, sentence=self._sentence(), digest="")
        return msgspec.structs.replace(said, digest=hashlib.sha256(msgspec.json.encode(said)).hexdigest())

    def document(self) -> bytes:
        """The certificate as it is kept, in JSON that a person can read."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    def _sentence(self) -> str:
        """What is wrong first."""
        parts = [*self.learnt.problems(), self._answers(), self.learnt.sentence(), self.asked.left(), *self.warnings()]
        return f"{'; '.join(part for part in parts if part)}."

    def _answers(self) -> str:
        if lacking := self.asked.lacking():
            return lacking
        if not self.differing:
            return f"{self.asked.sentence()}: all {self.inputs + 1} inputs and scores have equal bits"
        more = shorten([f"`{name}` in {each.rows:,}" for name, each in [*self.differing.items()][1:]])
        first = f"`{next(iter(self.differing))}` differs {_first(self.differing)}"
        return f"{self.different:,} of {self.asked.sentence()} differ: {first}{f'; also {more}' if more else ''}"


def _first(found: Mapping[str, Differing]) -> str:
    first = next(iter(found.values()))
    return f"in {first.rows:,}: {first.first}"
