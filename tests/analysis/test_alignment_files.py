"""Files of word times say what the alignment says, in the form that other programs read."""

import csv
import io
import re

import numpy as np
import pytest

from analysis.alignment import align
from analysis.alignment_files import read_words, save_alignment, to_csv, to_srt, to_textgrid
from analysis.attention import WordTime
from model.audio import load_waveform
from model.checkpoint import NANO_DIR
from model.errors import TraceError
from tests.analysis.planted import planted_trace

WORDS = (WordTime("good", 0.2, 0.5), WordTime("day", 0.5, 0.9), WordTime('say "hi"', 1.25, 1.5))


def read_textgrid(text: str) -> dict[str, list[tuple[float, float, str]]]:
    """Read the long format the way Praat does: keys and values, tier by tier."""
    tiers: dict[str, list] = {}
    for part in re.split(r"item \[\d+\]:", text)[1:]:
        name = re.search(r'name = "(.*)"', part)[1]
        size = int(re.search(r"intervals: size = (\d+)", part)[1])
        found = re.findall(r'intervals \[\d+\]:\s+xmin = (\S+)\s+xmax = (\S+)\s+text = "(.*)"', part)
        assert len(found) == size
        tiers[name] = [(float(start), float(end), text.replace('""', '"')) for start, end, text in found]
    return tiers


def test_a_textgrid_covers_the_clip_without_gaps():
    text = to_textgrid({"words": WORDS, "none": ()}, 2.0)
    tiers = read_textgrid(text)
    assert [part for *_, part in tiers["words"]] == ["", "good", "day", "", 'say "hi"', ""]
    edges = np.array([interval[:2] for interval in tiers["words"]])
    assert edges[0, 0] == 0 and edges[-1, 1] == 2 and (edges[1:, 0] == edges[:-1, 1]).all()
    assert tiers["none"] == [(0, 2, "")]
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n') and "size = 2\n" in text


def test_words_out_of_order_are_refused():
    with pytest.raises(TraceError, match="'good' from 0.200 to 0.500 s after 0.900 s"):
        to_textgrid({"words": WORDS[1::-1]}, 2.0)
    with pytest.raises(TraceError, match="inside the clip"):
        to_textgrid({"words": WORDS}, 1.2)


def test_captions_break_at_pauses_length_and_letters():
    words = [
        *WORDS[:2],
        WordTime("then", 2.0, 2.2),
        *(WordTime(f"number{k}", 3 + k / 2, 3.4 + k / 2) for k in range(9)),
    ]
    blocks = to_srt(words).split("\n\n")
    assert blocks[0] == "1\n00:00:00,200 --> 00:00:00,900\ngood day"
    assert blocks[1].endswith("then") and all(len(block.split("\n")[2]) <= 42 for block in blocks)
    assert [int(block.split("\n")[0]) for block in blocks] == list(range(1, len(blocks) + 1))
    assert to_srt([WordTime("late", 3661.0015, 3662)]).splitlines()[1] == "01:01:01,002 --> 01:01:02,000"
    assert to_srt(()) == ""


def test_chinese_captions_have_no_spaces():
    words = [WordTime(text, k / 4, k / 4 + 0.2) for k, text in enumerate(("今天", "说", "hello", "吧"))]
    assert to_srt(words).splitlines()[2] == "今天说 hello 吧"


def test_a_table_has_one_line_for_each_word():
    rows = list(csv.reader(io.StringIO(to_csv(WORDS, [0.5, 0.25, 1.0]))))
    assert rows[0] == ["word", "start_s", "end_s", "clip", "confidence"]
    assert rows[3] == ['say "hi"', "1.250", "1.500", "0", "1.000"]
    assert list(csv.reader(io.StringIO(to_csv(WORDS))))[1][-1] == ""


def test_files_are_named_by_their_ending(tmp_path):
    found = align(planted_trace()[0])
    for name, begin in (("a.TextGrid", "File type"), ("a.srt", "1\n00:00"), ("a.csv", "word,start_s")):
        save_alignment(tmp_path / name, found)
        assert (tmp_path / name).read_bytes().decode().startswith(begin)
    tiers = read_textgrid((tmp_path / "a.TextGrid").read_text(encoding="utf-8"))
    assert [text for *_, text in tiers["words"] if text] == [word.text for word in found.words]
    assert len([text for *_, text in tiers["tokens"] if text]) == len(found.tokens)
    with pytest.raises(TraceError, match="the ending '.doc'"):
        save_alignment(tmp_path / "a.doc", found)


def test_words_come_back_from_a_table(tmp_path):
    words = (*WORDS, WordTime("北", 2.0, 2.125, clip=1))
    path = tmp_path / "words.csv"
    path.write_text(to_csv(words), encoding="utf-8")
    assert read_words(path) == words
    path.write_text("word,start_s,end_s\nyes,0.1,0.2\n")
    assert read_words(path) == (WordTime("yes", 0.1, 0.2),)


@pytest.mark.parametrize(
    "text", ["word,start_s\nyes,0.1\n", "word,start_s,end_s\nyes,0.1\n", "word,start_s,end_s\na,b,c\n"]
)
def test_tables_without_times_are_refused(tmp_path, text):
    path = tmp_path / "words.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match="columns word, start_s and end_s"):
        read_words(path)


@pytest.mark.parametrize("path", sorted((NANO_DIR / "examples").glob("*.csv")), ids=lambda path: path.stem)
def test_the_true_words_of_the_example_sounds_lie_in_the_sound_one_after_the_other(path):
    words, sound = read_words(path), load_waveform(path.with_suffix(".flac"))
    edges = [edge for word in words for edge in (word.start_s, word.end_s)]
    assert len(words) >= 7 and edges == sorted(edges) and 0 <= edges[0] and edges[-1] <= sound.duration_s + 1e-3
