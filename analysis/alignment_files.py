"""Word times as files that other programs open: TextGrid for Praat, SRT for players, CSV for tables.

    words, tokens --to_textgrid--> two tiers of intervals that cover the whole clip, gaps as empty ones
                  --to_srt-------> captions of a few words, broken at pauses
                  --to_csv-------> one line for each word       --read_words--> words again

    save_alignment("clip.TextGrid", align(trace))
    truth = read_words("model/nano/examples/2_coffee.csv")

Text in, text out: the functions know no trace and no model. Times are in seconds from the start of the clip.

Source: the long text format of Praat (Boersma and Weenink); SubRip.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from analysis.alignment import Alignment
from analysis.attention import WordTime
from model.errors import TraceError

CAPTION_LETTERS = 42
CAPTION_S = 6.0
CAPTION_PAUSE_S = 0.6
"""A caption ends before it would have more letters, last longer, or span a longer pause."""
COLUMNS = ("word", "start_s", "end_s", "clip", "confidence")


def save_alignment(path: str | Path, found: Alignment) -> None:
    """Write an alignment as .TextGrid, .srt or .csv, by the ending of the name (UTF-8).

    Raises:
        TraceError: If the ending is none of these.
    """
    path = Path(path)
    if path.suffix.lower() == ".textgrid":
        text = to_textgrid({"words": found.words, "tokens": found.tokens}, found.duration_s)
    elif path.suffix.lower() == ".srt":
        text = to_srt(found.words)
    elif path.suffix.lower() == ".csv":
        text = to_csv(found.words, found.confidence.tolist())
    else:
        raise _refusal(f"the ending {path.suffix!r}", ".TextGrid, .srt or .csv", "Name the file by what it shall be.")
    path.write_text(text, encoding="utf-8", newline="")


def read_words(path: str | Path) -> tuple[WordTime, ...]:
    """Read the words of a CSV file: what `to_csv` wrote, or any table with the columns word, start_s and end_s.

    Raises:
        TraceError: If a column is missing, or a time is no number.
    """
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    try:
        return tuple(
            WordTime(line["word"], float(line["start_s"]), float(line["end_s"]), int(line.get("clip") or 0))
            for line in lines
        )
    except (KeyError, TypeError, ValueError) as error:
        found, expected = f"{error!r} in {Path(path).name}", "the columns word, start_s and end_s (seconds)"
        raise TraceError("read word times", found=found, expected=expected, todo="Correct the table.") from error


def to_textgrid(tiers: Mapping[str, Sequence[WordTime]], duration_s: float) -> str:
    """Return a TextGrid in Praat's long text format.

    Args:
        tiers: Name of a tier -> what is in it, in order of time.
        duration_s: Length of the clip; every tier is made to cover it.

    Raises:
        TraceError: If words of a tier overlap or reach beyond the clip.
    """
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {duration_s:.6f}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, words) in enumerate(tiers.items(), start=1):
        intervals = list(_covering(words, duration_s))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {duration_s:.6f}", f"        intervals: size = {len(intervals)}"]
        for place, (start, end, text) in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {start:.6f}",
                f"            xmax = {end:.6f}",
            ]
            lines += [f"            text = {_quoted(text)}"]
    return "\n".join(lines) + "\n"


def to_srt(words: Sequence[WordTime], *, letters: int = CAPTION_LETTERS, seconds: float = CAPTION_S) -> str:
    """Return SubRip captions: as many words as fit, broken at long pauses.

    Args:
        words: In order of time.
        letters: Most characters of a caption; a longer word stands alone.
        seconds: Longest caption.
    """
    blocks = []
    for number, caption in enumerate(_captions(words, letters, seconds), start=1):
        times = f"{_clock(caption[0].start_s)} --> {_clock(caption[-1].end_s)}"
        blocks.append(f"{number}\n{times}\n{_joined([word.text for word in caption])}\n")
    return "\n".join(blocks)


def to_csv(words: Sequence[WordTime], confidence: Sequence[float] | None = None) -> str:
    """Return a table with a header line: word, start_s, end_s, clip, confidence (empty where unknown)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for place, word in enumerate(words):
        sure = "" if confidence is None else f"{confidence[place]:.3f}"
        writer.writerow([word.text, f"{word.start_s:.3f}", f"{word.end_s:.3f}", word.clip, sure])
    return out.getvalue()


def _covering(words: Sequence[WordTime], duration_s: float) -> Iterator[tuple[float, float, str]]:
    """Yield the words and, between them, empty intervals; together they cover 0 to the duration."""
    at = 0.0
    for word in words:
        start, end = round(word.start_s, 6), round(min(word.end_s, duration_s), 6)
        if start < at - 1e-6 or end <= start:
            found = f"{word.text!r} from {word.start_s:.3f} to {word.end_s:.3f} s after {at:.3f} s"
            raise _refusal(found, "words one after the other, inside the clip", "Sort them, and correct their times.")
        if start > at:
            yield at, start, ""
        yield max(start, at), end, word.text
        at = end
    if round(duration_s, 6) > at:
        yield at, duration_s, ""


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace('"', '""') + '"'


def _captions(words: Sequence[WordTime], letters: int, seconds: float) -> Iterator[list[WordTime]]:
    caption: list[WordTime] = []
    for word in words:
        full = caption and (
            len(_joined([w.text for w in (*caption, word)])) > letters
            or word.end_s - caption[0].start_s > seconds
            or word.start_s - caption[-1].end_s > CAPTION_PAUSE_S
        )
        if full:
            yield caption
            caption = []
        caption.append(word)
    if caption:
        yield caption


def _joined(texts: Sequence[str]) -> str:
    """Join words with spaces, Chinese and Japanese without."""
    out = ""
    for text in texts:
        out += (" " if out and not (_is_wide(out[-1]) and _is_wide(text[:1])) else "") + text
    return out


def _is_wide(letter: str) -> bool:
    return "\u3040" <= letter <= "\u9fff" or "\uf900" <= letter <= "\ufaff" or letter >= "\U00020000"


def _clock(time_s: float) -> str:
    """Write a time the way SubRip does: 00:01:02,345."""
    seconds, milliseconds = divmod(round(1000 * time_s), 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d},{milliseconds:03d}"


def _refusal(found: str, expected: str, todo: str) -> TraceError:
    return TraceError("write word times", found=found, expected=expected, todo=todo)
