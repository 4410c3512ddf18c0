"""Where a place is: city and country names in English and Chinese, IANA zones, offsets."""

import functools
import re
import unicodedata
import zoneinfo
from dataclasses import dataclass
from datetime import timedelta, timezone, tzinfo

from model.tools.knowledge import City, cities

_OFFSET = re.compile(r"(?:utc|gmt)? ?([+-])(\d{1,2})(?::?([0-5]\d))?", re.IGNORECASE)
_SUFFIXES = ("city", "市", "time", "时间", "当地", "地区", "country")
_HERE = frozenset({"here", "my place", "这里", "这儿", "本地", "当地", "我这里"})


@dataclass(frozen=True)
class Zone:
    """A time zone with the name to say for it."""

    name: str
    """Of the place, in the language asked for; or the zone's own."""
    key: str
    """IANA name or `UTC+08:00`."""
    info: tzinfo


def is_here(place: str) -> bool:
    """Whether the words mean where the person is."""
    return _plain(place) in _HERE


def find_city(place: str) -> City | None:
    """Find a city by its name, or by its country's when one city stands for it; None when it is not in the table.

    "Washington, America" and "中国北京" are fine: what stands beside the city may name its country.
    """
    plain = _plain(place)
    found = _by_name().get(plain)
    if found or not plain:
        return found
    head, comma, tail = (part.strip() for part in plain.partition(","))
    city = _by_name().get(head) if comma else None
    if city and tail in map(_plain, (*city.countries, *city.countries_zh)):
        return city
    for country, members in _by_country_zh().items():
        if plain.startswith(country) and plain != country:
            rest = plain.removeprefix(country).removeprefix("的")
            return next((city for city in members if rest in map(_plain, city.names_zh)), None)
    return None


def find_zone(place: str, language: str = "en") -> Zone | None:
    """Find the time zone of a city, a country, an IANA name or an offset such as `UTC+8`; None when nobody knows it."""
    city = find_city(place)
    if city:
        return Zone(city.name(language), city.zone, zoneinfo.ZoneInfo(city.zone))
    plain = _plain(place)
    offset = _OFFSET.fullmatch(plain)
    if offset:
        return _fixed(offset)
    key = _zone_names().get(plain)
    return Zone(key.split("/")[-1].replace("_", " "), key, zoneinfo.ZoneInfo(key)) if key else None


def _fixed(offset: re.Match[str]) -> Zone | None:
    sign, hours, minutes = offset[1], int(offset[2]), int(offset[3] or 0)
    if hours > 14:
        return None
    name = f"UTC{sign}{hours:02d}:{minutes:02d}"
    delta = timedelta(hours=hours, minutes=minutes)
    return Zone(name, name, timezone(delta if sign == "+" else -delta, name))


@functools.lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    """Small letters without accents, "the" and "city"; a minus stays a minus."""
    folded = unicodedata.normalize("NFKD", name[:200].casefold().replace("−", "-"))
    text = "".join(letter for letter in folded if not unicodedata.combining(letter))
    text = " ".join(text.replace("，", ",").replace("’", "'").replace(".", "").split())
    for suffix in _SUFFIXES:
        if text.endswith(suffix) and len(text) > len(suffix) + 1:
            text = text.removesuffix(suffix).rstrip()
    return text.removeprefix("the ").strip(" ,。.!?？！")


@functools.cache
def _by_name() -> dict[str, City]:
    """Cities by every name; where a city and a country share one, the city wins, as in Singapore."""
    names: dict[str, City] = {}
    for city in cities():
        if city.stands_for_country:
            names.update({_plain(name): city for name in (*city.countries, *city.countries_zh)})
    for city in cities():
        names.update({_plain(name): city for name in (*city.names, *city.names_zh)})
    return names


@functools.cache
def _by_country_zh() -> dict[str, list[City]]:
    countries: dict[str, list[City]] = {}
    for city in cities():
        for name in city.countries_zh:
            countries.setdefault(name, []).append(city)
    return countries


@functools.cache
def _zone_names() -> dict[str, str]:
    """IANA names by themselves and by their last part: "europe/lisbon" and "lisbon"."""
    # Etc/GMT-3 is three hours *before* what its name says: nobody who asks for it means that.
    odd = ("Etc/", "localtime", "posix", "right/", "Factory")
    keys = sorted(key for key in zoneinfo.available_timezones() if not key.startswith(odd))
    names = {_plain(key.split("/")[-1].replace("_", " ")): key for key in reversed(keys) if "/" in key}
    return {**names, **{_plain(key): key for key in keys}, **{_plain(key.replace("_", " ")): key for key in keys}}
