"""What the tools know without a network: cities with their time zones, and short facts; two tables to read and edit."""

import functools
from dataclasses import dataclass
from pathlib import Path

from model.errors import ToolError

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class City:
    """A city, as the clock and the weather need it."""

    names: tuple[str, ...]
    """English names, the usual one first."""
    names_zh: tuple[str, ...]
    countries: tuple[str, ...]
    """English names of its country, the usual one first."""
    countries_zh: tuple[str, ...]
    zone: str
    """IANA time zone."""
    latitude: float
    longitude: float
    stands_for_country: bool
    """Whether the country's name alone means this city."""

    def name(self, language: str) -> str:
        """Name it in English ("en") or Chinese ("zh")."""
        return (self.names_zh if language == "zh" else self.names)[0]

    def country(self, language: str) -> str:
        """Name its country."""
        return (self.countries_zh if language == "zh" else self.countries)[0]


@dataclass(frozen=True)
class Fact:
    """One thing that is so, in both languages."""

    topic: str
    en: str
    zh: str
    more: str = ""
    """Other words that people ask with."""

    def text(self, language: str) -> str:
        """Say it in English ("en") or Chinese ("zh")."""
        return self.zh if language == "zh" else self.en


@functools.cache
def cities() -> tuple[City, ...]:
    """Read `cities.tsv`."""
    return tuple(_city(row) for row in read_table(FOLDER / "cities.tsv", 7))


@functools.cache
def facts() -> tuple[Fact, ...]:
    """Read `facts.tsv`."""
    return tuple(Fact(*row) for row in read_table(FOLDER / "facts.tsv", 3, 4))


def _city(row: tuple[str, ...]) -> City:
    names, names_zh, countries, countries_zh, zone, latitude, longitude = row
    split = [tuple(name.strip() for name in cell.split("/")) for cell in (names, names_zh, countries.strip("*"))]
    chinese = tuple(name.strip() for name in countries_zh.split("/"))
    return City(*split, chinese, zone, float(latitude), float(longitude), countries.startswith("*"))


def read_table(path: Path, *widths: int) -> list[tuple[str, ...]]:
    """Read a table with tabs between cells; lines that start with `#` and empty ones are comments.

    Args:
        path: A UTF-8 file.
        widths: Numbers of cells a line may have.

    Raises:
        ToolError: Naming the first line of another width.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            cells = tuple(cell.strip() for cell in line.split("\t"))
            if len(cells) not in widths:
                raise ToolError(
                    f"read line {number} of {path.name}",
                    found=f"{len(cells)} cells",
                    expected=f"{' or '.join(map(str, widths))}, with tabs between them",
                    todo="Correct the line",
                )
            rows.append(cells)
    return rows
