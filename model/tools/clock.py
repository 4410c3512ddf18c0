"""The date and the time, here and anywhere."""

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from model.errors import ToolError
from model.tools.base import ToolContext, ToolOutput, object_schema
from model.tools.places import Zone, find_zone, is_here

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WEEKDAYS_ZH = ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def date_words(moment: datetime, language: str = "en") -> str:
    """Say a date: `Tuesday, 3 November 2026` or `2026年11月3日 星期二`; system prompts say today's with it."""
    if language == "zh":
        return f"{moment.year}年{moment.month}月{moment.day}日 {WEEKDAYS_ZH[moment.weekday()]}"
    return f"{WEEKDAYS[moment.weekday()]}, {moment.day} {MONTHS[moment.month - 1]} {moment.year}"


@dataclass(frozen=True)
class Clock:
    """Tells date, weekday and time; needs no network."""

    name: str = "get_date_time"
    description: str = "Get the current date, weekday and time, here or in another place."
    timeout_s: float = 2.0
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: object_schema(
            location={
                "type": "string",
                "description": "City, country or IANA time zone; leave it out for the user's own time.",
                "maxLength": 100,
            }
        )
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutput:
        """Tell the time.

        Args:
            arguments: `location`, if not here.
            context: Its `now`, `time_zone` and language.

        Raises:
            ToolError: If nobody knows the place.
        """
        place = arguments.get("location", "")
        language = context.language_of(place)
        elsewhere = bool(place) and not is_here(place)
        zone = find_zone(place, language) if elsewhere else _own_zone(context)
        if zone is None:
            raise ToolError(
                f"tell the time in {place!r}",
                found="no such place in the table of cities and time zones",
                expected="a large city, a country, or a zone such as Asia/Tokyo or UTC+8",
                todo="Name the largest city nearby",
            )
        moment = context.now().astimezone(zone.info)
        return ToolOutput(_words(moment, zone, language, elsewhere), _data(moment, zone), "clock")


def _own_zone(context: ToolContext) -> Zone:
    """The person's zone; a name from a browser that this machine does not know becomes UTC, and the answer says so."""
    return find_zone(context.time_zone) or Zone("UTC", "UTC", zoneinfo.ZoneInfo("UTC"))


def _offset(moment: datetime) -> str:
    text = moment.strftime("%z")
    return f"UTC{text[:3]}:{text[3:5]}"


def _words(moment: datetime, zone: Zone, language: str, elsewhere: bool) -> str:
    """One sentence; with the zone, so that nobody takes it for another place's time."""
    offset = _offset(moment)
    more = offset if zone.key.startswith("UTC") else f"{zone.key}, {offset}"
    named = elsewhere and zone.name != more
    if language == "zh":
        where = f"{zone.name}现在是" if named else "现在是"
        return f"{where}{date_words(moment, 'zh')} {moment:%H:%M}（{more}）。"
    where = f" in {zone.name}" if named else ""
    return f"It is {moment:%H:%M} on {date_words(moment)}{where} ({more})."


def _data(moment: datetime, zone: Zone) -> dict[str, Any]:
    return {
        "place": zone.name,
        "zone": zone.key,
        "iso": moment.isoformat(timespec="seconds"),
        "date": moment.date().isoformat(),
        "time": f"{moment:%H:%M}",
        "weekday": WEEKDAYS[moment.weekday()],
        "utc_offset_minutes": int(moment.utcoffset().total_seconds() // 60),
    }
