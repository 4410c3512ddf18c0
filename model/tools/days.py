"""Days as people name them, in English and Chinese: `tomorrow`, `on Friday`, `next week`, `后天`, `下周一`."""

import re
from datetime import date, timedelta

_NEAR = {
    **dict.fromkeys(
        ("now", "today", "tonight", "currently", "right now", "现在", "今天", "今晚", "今早", "今日", "目前", "this"), 0
    ),
    **dict.fromkeys(("tomorrow", "明天", "明晚", "明日"), 1),
    **dict.fromkeys(("day after tomorrow", "后天"), 2),
    **dict.fromkeys(("three days from now", "大后天"), 3),
    **dict.fromkeys(("yesterday", "昨天"), -1),
}
_WEEKDAYS = {
    **{name: k for k, name in enumerate("monday tuesday wednesday thursday friday saturday sunday".split())},
    **{name: k for k, name in enumerate("mon tue wed thu fri sat sun".split())},
    **{f"{prefix}{digit}": k for prefix in ("星期", "周", "礼拜") for k, digit in enumerate("一二三四五六日")},
    **{f"{prefix}天": 6 for prefix in ("星期", "周", "礼拜")},
}
_WEEKENDS = frozenset({"weekend", "周末", "星期末"})
_WEEKS = frozenset({"week", "周", "星期", "礼拜"})
_PARTS = re.compile(r"\b(?:in the )?(?:morning|afternoon|evening|night)$|(?:早上|上午|中午|下午|晚上|夜里|凌晨)$")
_THIS_OR_NEXT = re.compile(r"(this|next|coming|on|the|这个|这|本|下个|下)\s*")
_IN_DAYS = re.compile(r"in (\d{1,3}|[a-z]+) days?|(\d{1,3}|[一二两三四五六七八九十])天(?:以?后|之后)")
_NUMBERS = {
    **{word: k for k, word in enumerate("one two three four five six seven eight nine ten".split(), 1)},
    **{word: k for k, word in enumerate("一二三四五六七八九十", 1)},
    "a": 1,
    "两": 2,
}


def parse_days(words: str, today: date) -> tuple[date, date] | None:
    """Read a day or a span of days.

    A weekday is the next one, today included; `next` puts it into the next week, which starts on a Monday. What is left
    of a span is meant: `this week` starts today.

    Args:
        words: As people say it, parts of the day ignored; nothing means today.
        today: The date where it is asked about.

    Returns:
        First and last day, or None when the words are no day that is known here.
    """
    text = " ".join(words.casefold().strip(" .,?!。，？！").split())
    text = _PARTS.sub("", text).strip() or "today"
    text = text.removeprefix("the ")
    if text in _NEAR:
        return _one(today, _NEAR[text])
    counted = _IN_DAYS.fullmatch(text)
    if counted:
        number = counted[1] or counted[2]
        count = int(number) if number.isdecimal() else _NUMBERS.get(number)
        return None if count is None else _one(today, count)
    return _in_week(text, today) or _written(text)


def _one(today: date, days: int) -> tuple[date, date]:
    day = today + timedelta(days=days)
    return day, day


def _in_week(text: str, today: date) -> tuple[date, date] | None:
    """Read weekdays, weekends and weeks, of this week or the next."""
    # "周三" is a weekday as it stands, and "下周三" one of the next week: what comes before it is cut off first.
    which, rest = "", text
    while rest not in _WEEKDAYS and (found := _THIS_OR_NEXT.match(rest)):
        which, rest = which + found[1], rest[found.end() :]
    monday = today - timedelta(days=today.weekday())
    later = "next" in which or "下" in which
    if rest in _WEEKDAYS:
        if later:
            return _one(monday, 7 + _WEEKDAYS[rest])
        return _one(today, (_WEEKDAYS[rest] - today.weekday()) % 7)
    if rest in _WEEKENDS:
        first, last = monday + timedelta(days=5 + 7 * later), monday + timedelta(days=6 + 7 * later)
        return max(first, today), last
    if rest in _WEEKS and which:
        first, last = monday + timedelta(days=7 * later), monday + timedelta(days=6 + 7 * later)
        return max(first, today), last
    return None


def _written(text: str) -> tuple[date, date] | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day, day
