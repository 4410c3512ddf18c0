"""The time, here and anywhere, by names in two languages."""

import re
import zoneinfo
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

import model.training.world
from model.errors import ToolError
from model.tools.base import ToolContext
from model.tools.clock import Clock, date_words
from model.tools.days import parse_days
from model.tools.knowledge import cities, read_table
from model.tools.places import find_city, find_zone, is_here

WORLD = Path(model.training.world.__file__).parent


def tell(context, **arguments):
    return Clock().run(arguments, context)


def test_here(context):
    output = tell(replace(context, time_zone="Europe/Berlin"))
    assert output.text == "It is 12:30 on Wednesday, 4 November 2026 (Europe/Berlin, UTC+01:00)."
    assert output.source == "clock"


def test_here_in_chinese(context):
    output = tell(replace(context, time_zone="Asia/Shanghai", language="zh"))
    assert output.text == "现在是2026年11月4日 星期三 19:30（Asia/Shanghai, UTC+08:00）。"


def test_elsewhere(context):
    output = tell(context, location="Tokyo")
    assert output.text == "It is 20:30 on Wednesday, 4 November 2026 in Tokyo (Asia/Tokyo, UTC+09:00)."
    assert output.data == {
        "place": "Tokyo",
        "zone": "Asia/Tokyo",
        "iso": "2026-11-04T20:30:00+09:00",
        "date": "2026-11-04",
        "time": "20:30",
        "weekday": "Wednesday",
        "utc_offset_minutes": 540,
    }


def test_elsewhere_in_chinese(context):
    assert tell(context, location="东京").text.startswith("东京现在是2026年11月4日 星期三 20:30")
    assert tell(replace(context, language="zh"), location="Tokyo").text.startswith("东京现在是")


def test_another_date_there(context):
    assert "Thursday, 5 November" in tell(context, location="Auckland").text
    assert "Wednesday, 4 November" in tell(context, location="Honolulu").text


def test_an_offset(context):
    assert tell(context, location="UTC+5:30").text == "It is 17:00 on Wednesday, 4 November 2026 (UTC+05:30)."
    assert tell(context, location="GMT-3").data["utc_offset_minutes"] == -180


def test_here_by_name_is_not_elsewhere(context):
    assert tell(replace(context, time_zone="Asia/Tokyo"), location="here").data["time"] == "20:30"
    assert is_here("这里") and not is_here("Paris")


def test_summer_time():
    summer = datetime(2026, 7, 1, 12, tzinfo=UTC)
    winter = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for moment, offset in ((summer, 60), (winter, 0)):
        context = ToolContext(now=lambda moment=moment: moment)
        assert tell(context, location="London").data["utc_offset_minutes"] == offset


def test_an_unknown_place(context):
    with pytest.raises(ToolError, match="tell the time in 'Atlantis'"):
        tell(context, location="Atlantis")


def test_an_unknown_own_zone_is_told_as_utc(context):
    assert "(UTC+00:00)" in tell(replace(context, time_zone="Mars/Base")).text


def test_date_words():
    day = datetime(2026, 11, 8)
    assert date_words(day) == "Sunday, 8 November 2026" and date_words(day, "zh") == "2026年11月8日 星期日"


# --- places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "key"),
    [
        *[(name, "Asia/Shanghai") for name in ("Beijing", "北京", "北京市", "中国", "China", "中国北京", " beijing ")],
        *[(name, "America/New_York") for name in ("New York", "New York City", "纽约", "NYC", "Washington, America")],
        *[(name, "Europe/London") for name in ("UK", "England", "英国", "London time", "london")],
        *[("Zürich", "Europe/Zurich"), ("São Paulo", "America/Sao_Paulo"), ("St. Petersburg", "Europe/Moscow")],
        *[("Xi’an", "Asia/Shanghai"), ("the Netherlands", "Europe/Amsterdam"), ("日本的东京", "Asia/Tokyo")],
        *[("Mexico City", "America/Mexico_City"), ("Singapore", "Asia/Singapore"), ("新加坡", "Asia/Singapore")],
        *[
            ("Europe/Lisbon", "Europe/Lisbon"),
            ("asia/ho_chi_minh", "Asia/Ho_Chi_Minh"),
            ("Timbuktu", "Africa/Timbuktu"),
        ],
        *[("UTC", "UTC"), ("UTC+8", "UTC+08:00"), ("+5:30", "UTC+05:30"), ("gmt −3", "UTC-03:00")],
    ],
)
def test_zones_by_name(place, key):
    assert find_zone(place).key == key


@pytest.mark.parametrize(
    "place", ["", "  ", "Atlantis", "../../etc/passwd", "UTC+99", "localtime", "中国火星", "x" * 5000, "/", "+"]
)
def test_places_that_nobody_knows(place):
    zone = find_zone(place)
    assert zone is None and find_city(place) is None


def test_the_table_of_cities_is_whole():
    names: dict[str, str] = {}
    capitals: dict[str, str] = {}
    for city in cities():
        zoneinfo.ZoneInfo(city.zone)
        assert abs(city.latitude) <= 90 and abs(city.longitude) <= 180
        assert all(re.fullmatch(r"[A-Za-z' ]+", name) for name in (*city.names, *city.countries)), city
        assert all(re.fullmatch(r"[\u3400-\u9fff]+", name) for name in (*city.names_zh, *city.countries_zh)), city
        for name in (*city.names, *city.names_zh):
            assert names.setdefault(name, city.names[0]) == city.names[0], name
            assert find_city(name) == city
        if city.stands_for_country:
            assert capitals.setdefault(city.countries[0], city.names[0]) == city.names[0]
    assert len(names) > 300


def test_longitudes_fit_the_time_zones():
    """A wrong sign or a swapped pair would show here: the sun and the clock are never five hours apart."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for city in cities():
        offset_hours = noon.astimezone(zoneinfo.ZoneInfo(city.zone)).utcoffset().total_seconds() / 3600
        assert abs(city.longitude / 15 - offset_hours) < 3.5, city


def test_every_city_and_country_of_the_nano_world_is_known():
    rows = read_table(WORLD / "slots.tsv", 3, 4)
    places = [name for row in rows if row[0] in ("city", "country") for name in row[1:3]]
    assert len(places) > 40 and [place for place in places if find_city(place) is None] == []


# --- days ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [
        *[
            (words, 4, 4)
            for words in ("", "now", "Today", "tonight", "今天", "现在", "Wednesday", "星期三", "this morning")
        ],
        *[(words, 5, 5) for words in ("tomorrow", "tomorrow morning", "明天", "明天早上", "in a day", "Thursday.")],
        *[(words, 6, 6) for words in ("the day after tomorrow", "后天", "in two days", "两天后", "on Friday", "周五")],
        *[(words, 9, 9) for words in ("Monday", "next Monday", "on monday", "下周一", "下个星期一", "周一")],
        *[(words, 8, 8) for words in ("Sunday", "星期天", "周日", "礼拜天")],
        *[(words, 7, 8) for words in ("this weekend", "weekend", "周末", "这个周末", "on the weekend")],
        *[("next weekend", 14, 15), ("下个周末", 14, 15), ("next week", 9, 15), ("下个星期", 9, 15), ("下周", 9, 15)],
        *[("this week", 4, 8), ("本周", 4, 8), ("这个星期", 4, 8), ("next Friday", 13, 13), ("下周五", 13, 13)],
        *[("2026-11-20", 20, 20), ("yesterday", 3, 3), ("3天以后", 7, 7), ("in 10 days", 14, 14)],
    ],
)
def test_days(words, first, last):
    assert parse_days(words, date(2026, 11, 4)) == (date(2026, 11, first), date(2026, 11, last))


def test_what_is_left_of_a_weekend():
    sunday = date(2026, 11, 8)
    assert parse_days("this weekend", sunday) == (sunday, sunday)
    assert parse_days("next week", sunday) == (date(2026, 11, 9), date(2026, 11, 15))


@pytest.mark.parametrize(
    "words", ["someday", "next", "下", "week", "in many days", "2026-13-01", "the", "32", "x" * 1000]
)
def test_words_that_are_no_day(words):
    assert parse_days(words, date(2026, 11, 4)) is None
