"""Small multiples as a PNG in a few milliseconds: what pictures of profiles are made of.

Drawn with Pillow: matplotlib spends 35 ms of CPU on a panel, most of it on ticks, which for a day of features was more
than computing them. Shapes are drawn at twice their size and reduced, which smooths them; words are put on afterwards.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

MOST_PANELS, _ACROSS = 20, 4
LARGEST = 1e100  # far from where sums of floats overflow
INK, SOFT, PALE, RED, GREY = "#1f5c7a", "#7fb0c8", "#d3e5ee", "#b3261e", "#666666"
_TWICE = 2
_CELL, _SIZE, _CORNER = (225, 125), (175, 80), (42, 22)  # pixels: of a panel with its words, without, and between both
_SMALL, _TITLE = 9.7, 11.0

Words = tuple[float, float, str, float, str, str]  # left, top, text, size, colour, anchor


@dataclass
class Panel:
    """A rectangle with an x and a y range; `left` and `top` are where it is in the picture, in pixels."""

    shapes: "ImageDraw.ImageDraw"
    left: int
    top: int
    across: tuple[float, float] = (0.0, 1.0)
    up: tuple[float, float] = (0.0, 1.0)
    words: list[Words] = field(default_factory=list)

    def _x(self, value: float) -> float:
        low, high = self.across
        part = min(max((value - low) / (high - low), 0.0), 1.0)
        return (self.left + part * _SIZE[0]) * _TWICE

    def _y(self, value: float, up: tuple[float, float] | None = None) -> float:
        low, high = up or self.up
        part = min(max((value - low) / (high - low), 0.0), 1.0)
        return (self.top + (1 - part) * _SIZE[1]) * _TWICE

    def line(
        self,
        places: Sequence[float],
        values: Sequence[float],
        *,
        colour: str = INK,
        dots: bool = True,
        share: bool = False,
    ) -> None:
        """Draw a line, broken where a value is NaN; with `share` the whole height is 1."""
        up = (0.0, 1.0) if share else None
        for run in _runs(values):
            points = [(self._x(places[n]), self._y(values[n], up)) for n in run]
            self.shapes.line(points, fill=colour, width=2 + dots, joint="curve")
            for x, y in points if dots else ():
                self.shapes.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), fill=colour)

    def band(
        self, places: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, *, share: bool = False
    ) -> None:
        """Fill what is between two lines, broken where the lower is NaN; with `share` the whole height is 1."""
        up = (0.0, 1.0) if share else None
        for run in _runs(low):
            edge = [(self._x(places[n]), self._y(high[n], up)) for n in run]
            edge += [(self._x(places[n]), self._y(low[n], up)) for n in reversed(run)]
            self.shapes.polygon(edge, fill=colour, outline=colour if len(run) == 1 else None)

    def box(self, x: tuple[float, float], y: tuple[float, float], colour: str) -> None:
        """Fill the rectangle between two x and two y, the smaller first."""
        self.shapes.rectangle((self._x(x[0]), self._y(y[1]), self._x(x[1]), self._y(y[0])), fill=colour)

    def mark(self, place: float) -> None:
        """Draw an upright red line with a head."""
        x, top = self._x(place), self.top * _TWICE
        self.shapes.line([(x, top), (x, top + _SIZE[1] * _TWICE)], fill=RED, width=2)
        self.shapes.polygon([(x - 6, top - 6), (x + 6, top - 6), (x, top + 6)], fill=RED)

    def say(
        self, x: float, y: float, text: str, colour: str = "black", anchor: str = "lm", size: float = _SMALL
    ) -> None:
        """Write at pixels from the upper left corner."""
        self.words.append((self.left + x, self.top + y, text, size, colour, anchor))

    def say_at(self, x: float, y: float, text: str, colour: str) -> None:
        """Write to the right of a point."""
        self.say(self._x(x) / _TWICE - self.left + 3, self._y(y) / _TWICE - self.top, text, colour)

    def title(self, text: str, remark: str) -> None:
        """Write over the panel, and a remark to the right of it."""
        self.say(-_CORNER[0] + 12, -7, _shortened(plain(text, 200), 34 - len(remark)), anchor="ls", size=_TITLE)
        self.say(_SIZE[0], -7, remark, GREY, "rs")

    def frame(self, *, left: bool = True) -> None:
        """Draw the lower edge and, unless told not to, the left one."""
        x, y = self.left * _TWICE, (self.top + _SIZE[1]) * _TWICE
        self.shapes.line([(x, y), (x + _SIZE[0] * _TWICE, y)], fill="black", width=2)
        if left:
            self.shapes.line([(x, y), (x, self.top * _TWICE)], fill="black", width=2)

    def scale(self, form: Callable[[float], str]) -> None:
        """Name some round values of y at the left edge."""
        for value in ticks(*self.up):
            y = self._y(value) / _TWICE - self.top
            self.shapes.line(
                [((self.left - 3) * _TWICE, self._y(value)), (self.left * _TWICE, self._y(value))], "black", 2
            )
            self.say(-4, y, form(value), anchor="rm")

    def ends(self, first: str, last: str) -> None:
        """Name the first and the last x below."""
        self.say(0, _SIZE[1] + 4, first, anchor="lt")
        self.say(_SIZE[0], _SIZE[1] + 4, last, anchor="rt")


@dataclass(frozen=True)
class Picture:
    """Panels side by side, as wide as the dialog that shows them."""

    panels: list[Panel]
    image: "Image.Image"  # twice as large

    @classmethod
    def of(cls, n: int) -> "Picture":
        """One with `n` panels, or the most that fit."""
        from PIL import Image, ImageDraw

        n = min(max(1, n), MOST_PANELS)
        across = min(_ACROSS, n)
        size = max(across, 2) * _CELL[0], math.ceil(n / across) * _CELL[1]
        image = Image.new("RGB", (size[0] * _TWICE, size[1] * _TWICE), "white")
        shapes = ImageDraw.Draw(image, "RGBA")
        places = [(i % across * _CELL[0] + _CORNER[0], i // across * _CELL[1] + _CORNER[1]) for i in range(n)]
        return cls([Panel(shapes, *place) for place in places], image)

    def png(self) -> bytes:
        """In 64 colours, a fifth of the bytes; the same picture gives the same ones."""
        from PIL import Image, ImageDraw

        small, file = self.image.reduce(_TWICE), io.BytesIO()
        writer = ImageDraw.Draw(small)
        for x, y, text, size, colour, anchor in (each for panel in self.panels for each in panel.words):
            writer.text((round(x), round(y)), text, fill=colour, font=_font(size), anchor=anchor)
        small.quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, "png")
        return file.getvalue()


@cache
def _font(size: float) -> "ImageFont.FreeTypeFont":
    """DejaVu Sans, which comes with matplotlib and knows more scripts than Pillow's own."""
    from PIL import ImageFont

    found = find_spec("matplotlib")
    folder = Path((found and found.origin) or "").parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(folder / "DejaVuSans.ttf", size, layout_engine=ImageFont.Layout.BASIC)


def _runs(values: Sequence[float]) -> Iterator[list[int]]:
    """The places of values that follow each other without a NaN."""
    run: list[int] = []
    for n, value in enumerate(values):
        if not math.isnan(value):
            run.append(n)
        elif run:
            yield run
            run = []
    if run:
        yield run


def span(values: Iterable[float]) -> tuple[float, float]:
    """From the least to the most with some air, and never nothing; NaN is passed over."""
    known = [value for value in values if not math.isnan(value)] or [0.0]
    low, high = min(known), max(known)
    largest = max(abs(low), abs(high))
    air = (high - low if high - low > 1e-9 * largest else largest) / 20
    air = air if air > 1e-200 else 1.0
    return low - air, high + air


def ticks(low: float, high: float) -> list[float]:
    """At most five round numbers in a range."""
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next((size * n for n in (1, 2, 2.5, 5) if size * n >= rough), size * 10)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def number(value: float) -> str:
    """A number at the edge of a panel, in few letters."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
    return f"{value:,.6g}"


def _shortened(text: str, most: int) -> str:
    """Without its middle, since names of features differ at their end."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - half]}…{text[-half:]}"


def plain(value: object, most: int) -> str:
    """Printable text of so many letters."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= most else text[: most - 1] + "…"
