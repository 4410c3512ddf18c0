"""The weather of any place, now and in the next two weeks, from Open-Meteo; needs the network and no key.

    place ──table of cities, else their geocoder──> latitude, longitude, time zone ──> forecast ──> one sentence per day

Without a network the result says so: no weather is made up, and none is remembered.

Source: the forecast and geocoding interfaces of open-meteo.com (data under CC BY 4.0); weather codes of WMO table 4677.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from math import isfinite
from typing import Any

from model.errors import ToolError
from model.tools.base import ToolContext, ToolOutput, object_schema, one_line, quote
from model.tools.clock import MONTHS, WEEKDAYS, WEEKDAYS_ZH
from model.tools.days import parse_days
from model.tools.net import Door
from model.tools.places import find_city, find_zone, is_here

FORECAST_HOST, GEOCODING_HOST = "api.open-meteo.com", "geocoding-api.open-meteo.com"
SOURCE = "Open-Meteo (CC BY 4.0)"
DAYS_AHEAD, DAYS_BACK = 15, 7
"""How far the forecast goes, and how far back one may ask."""
_NOW = ("temperature_2m", "apparent_temperature", "relative_humidity_2m", "weather_code", "wind_speed_10m")
_DAILY = ("weather_code", "temperature_2m_max", "temperature_2m_min", "precipitation_probability_max")
SKY_WORDS = {
    0: ("clear", "晴"),
    1: ("mostly clear", "晴间多云"),
    2: ("partly cloudy", "多云"),
    3: ("cloudy", "阴"),
    45: ("foggy", "有雾"),
    48: ("foggy with frost", "有冻雾"),
    51: ("light drizzle", "小毛毛雨"),
    53: ("drizzle", "毛毛雨"),
    55: ("heavy drizzle", "大毛毛雨"),
    56: ("light freezing drizzle", "小冻毛毛雨"),
    57: ("freezing drizzle", "冻毛毛雨"),
    61: ("light rain", "小雨"),
    63: ("rain", "中雨"),
    65: ("heavy rain", "大雨"),
    66: ("light freezing rain", "小冻雨"),
    67: ("freezing rain", "冻雨"),
    71: ("light snow", "小雪"),
    73: ("snow", "中雪"),
    75: ("heavy snow", "大雪"),
    77: ("snow grains", "米雪"),
    80: ("light showers", "小阵雨"),
    81: ("showers", "阵雨"),
    82: ("heavy showers", "大阵雨"),
    85: ("light snow showers", "小阵雪"),
    86: ("heavy snow showers", "大阵雪"),
    95: ("thunderstorms", "雷阵雨"),
    96: ("thunderstorms with hail", "雷阵雨伴有冰雹"),
    99: ("thunderstorms with heavy hail", "雷阵雨伴有大冰雹"),
}
"""Weather code -> English, Chinese."""


@dataclass(frozen=True)
class Spot:
    """A point on the map with a name."""

    name: str
    latitude: float
    longitude: float
    zone: str
    """IANA time zone; "auto" where only the server knows."""
    ours: bool = True
    """Whether the name is from our own table, and not a server's word."""


@dataclass(frozen=True)
class Weather:
    """Tells the weather."""

    door: Door = field(default_factory=Door)
    name: str = "get_weather"
    description: str = "Get the current weather or the forecast for a place."
    timeout_s: float = 12.0
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: object_schema(
            ("location",),
            location={"type": "string", "description": "City, such as Beijing.", "minLength": 1, "maxLength": 100},
            day={
                "type": "string",
                "description": "today, tomorrow, a weekday, this weekend, next week or YYYY-MM-DD; now if left out.",
                "maxLength": 40,
            },
        )
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutput:
        """Tell the weather.

        Args:
            arguments: `location`, and a `day` if it is not about now.
            context: Its `place` is what "here" means; its `now` and language.

        Raises:
            NetworkDown: If Open-Meteo cannot be reached.
            ToolError: If nobody knows the place or the day, or the answer makes no sense.
        """
        place, day = arguments["location"], arguments.get("day", "")
        language = context.language_of(place, day)
        spot = self._spot(_meant(place, context), language)
        zone = find_zone(spot.zone)
        today = context.now().astimezone(zone.info if zone else UTC).date()
        first, last = _days(day, today)
        answer = self.door.get_json(
            f"https://{FORECAST_HOST}/v1/forecast",
            {
                "latitude": f"{spot.latitude:.4f}",
                "longitude": f"{spot.longitude:.4f}",
                "timezone": spot.zone,
                "current": ",".join(_NOW),
                "daily": ",".join(_DAILY),
                "start_date": first.isoformat(),
                "end_date": last.isoformat(),
            },
            hosts=(FORECAST_HOST,),
        )
        data = _read(answer, spot, with_now=first == last == today)
        return ToolOutput(_words(data, spot.name if spot.ours else quote(spot.name), language), data, SOURCE)

    def _spot(self, place: str, language: str) -> Spot:
        """Find a place in the table of cities, else ask the geocoder."""
        city = find_city(place)
        if city:
            return Spot(city.name(language), city.latitude, city.longitude, city.zone)
        answer = self.door.get_json(
            f"https://{GEOCODING_HOST}/v1/search",
            {"name": place, "count": 1, "language": language, "format": "json"},
            hosts=(GEOCODING_HOST,),
        )
        found = answer.get("results") if isinstance(answer, dict) else None
        if not found:
            raise ToolError(
                f"find {place!r} on the map",
                found="no such place",
                expected="the name of a city or town",
                todo="Name a larger city nearby",
            )
        return _checked(_spot_of, found)


def _meant(place: str, context: ToolContext) -> str:
    if not is_here(place):
        return place
    if not context.place:
        raise ToolError(
            "find out where here is",
            found="that nobody told",
            expected="the name of a city",
            todo="Ask for the city and call again",
        )
    return context.place


def _days(words: str, today: date) -> tuple[date, date]:
    span = parse_days(words, today)
    if span is None or not -DAYS_BACK <= (span[0] - today).days <= (span[1] - today).days <= DAYS_AHEAD:
        raise ToolError(
            f"tell the weather of {words!r}",
            found="no such day" if span is None else "a day that the forecast does not reach",
            expected=f"today, tomorrow, a weekday, next week or a date up to {today + timedelta(days=DAYS_AHEAD)}",
            todo="Name such a day",
        )
    return span


# --- what the server says is checked before it is believed ----------------------------------------------


def _checked(read: Callable[[Any], Any], answer: Any) -> Any:
    try:
        return read(answer)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ToolError(
            "read the weather",
            found="an answer of another form than Open-Meteo's",
            expected="places, temperatures and weather codes",
            todo="Try again later",
        ) from error


def _spot_of(results: Any) -> Spot:
    best = results[0]
    country = best.get("country") or ""
    name = ", ".join(part for part in (str(best["name"]), str(country)) if part)
    latitude, longitude = _number(best["latitude"], 90), _number(best["longitude"], 180)
    zone = find_zone(str(best.get("timezone") or ""))
    return Spot(one_line(name, 80), latitude, longitude, zone.key if zone else "auto", ours=False)


def _read(answer: Any, spot: Spot, *, with_now: bool) -> dict[str, Any]:
    days = _checked(_read_days, answer)
    place = {"place": spot.name, "latitude": spot.latitude, "longitude": spot.longitude}
    return {**place, "days": days, **({"now": _checked(_read_now, answer)} if with_now else {})}


def _read_now(answer: Any) -> dict[str, Any]:
    now = answer["current"]
    return {
        "code": _code(now["weather_code"]),
        "temperature_c": _number(now["temperature_2m"], 100),
        "feels_like_c": _number(now["apparent_temperature"], 150),
        "humidity_percent": _number(now["relative_humidity_2m"], 100),
        "wind_km_h": _number(now["wind_speed_10m"], 500),
    }


def _read_days(answer: Any) -> list[dict[str, Any]]:
    daily = answer["daily"]
    columns = [daily[name] for name in ("time", *_DAILY)]
    rows = [
        {
            "date": date.fromisoformat(day).isoformat(),
            "code": _code(code),
            "max_c": _number(high, 100),
            "min_c": _number(low, 100),
            "rain_percent": None if rain is None else _number(rain, 100),
        }
        for day, code, high, low, rain in zip(*columns, strict=True)
    ]
    if not 0 < len(rows) <= DAYS_AHEAD + DAYS_BACK + 1:
        raise ValueError("no day, or too many")
    return rows


def _number(value: Any, limit: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or abs(value) > limit:
        raise ValueError("a measure that cannot be")
    return float(value)


def _code(value: Any) -> int:
    return int(_number(value, 99))


# --- words ----------------------------------------------------------------------------------------------


def _words(data: Mapping[str, Any], place: str, language: str) -> str:
    days = [_day_words(day, language) for day in data["days"]]
    now = [_now_words(data["now"], language)] if "now" in data else []
    if language == "zh":
        return f"{place}天气：" + "；".join(now + days) + "。"
    return f"Weather in {place}: " + "; ".join(now + days) + "."


def _now_words(now: Mapping[str, Any], language: str) -> str:
    temperature, feels, wind = (round(now[key]) for key in ("temperature_c", "feels_like_c", "wind_km_h"))
    if language == "zh":
        return f"现在{_sky(now['code'], 'zh')}，{temperature}度，体感{feels}度，风速每小时{wind}公里"
    return f"now {_sky(now['code'])}, {temperature} degrees, feels like {feels}, wind {wind} km/h"


def _day_words(day: Mapping[str, Any], language: str) -> str:
    when, low, high = date.fromisoformat(day["date"]), round(day["min_c"]), round(day["max_c"])
    rain = day["rain_percent"]
    if language == "zh":
        words = f"{when.month}月{when.day}日{WEEKDAYS_ZH[when.weekday()]}{_sky(day['code'], 'zh')}，{low}到{high}度"
        return words + ("" if rain is None else f"，下雨可能{rain:.0f}%")
    words = f"{WEEKDAYS[when.weekday()]}, {when.day} {MONTHS[when.month - 1]}"
    words += f", {_sky(day['code'])}, {low} to {high} degrees"
    return words + ("" if rain is None else f", {rain:.0f}% chance of rain")


def _sky(code: int, language: str = "en") -> str:
    words = SKY_WORDS.get(code, ("of unknown kind", "不明"))
    return words[language == "zh"]
