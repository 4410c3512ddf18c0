"""What the assistant is told before anybody speaks, with today's date put in at one place.

    "今天是{today}。"  ──a moment──>  今天是2026年11月3日 星期二。

The date is put in anew for every turn, so that a conversation over midnight knows it; the words stay as they are.
"""

from datetime import datetime

from model.messages import Message, Text
from model.tasks import prompts
from model.tasks.normalize import is_chinese
from model.tools.clock import date_words

TODAY = "{today}"
"""What stands for the date in a system prompt."""
TOOLS = prompts.TOOLS + f"今天是{TODAY}。"
"""What the model was trained with where tools are on offer."""


def default_system(*, tools: bool = False, think: bool = False) -> str:
    """Return the prompt that the model was trained with for a turn of this kind; empty prompts mean this one."""
    if tools:
        return TOOLS
    return prompts.THINK if think else prompts.CHAT


def with_today(text: str, moment: datetime) -> str:
    """Put the date in, in the language of the text.

    >>> with_today("Today is {today}.", datetime(2026, 11, 3))
    'Today is Tuesday, 3 November 2026.'
    """
    return text.replace(TODAY, date_words(moment, "zh" if is_chinese(text) else "en"))


def system_message(text: str, moment: datetime) -> Message:
    """Write the system turn."""
    return Message("system", (Text(with_today(text, moment)),))
