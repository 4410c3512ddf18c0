"""Does occlusion find evidence that was planted, and does attention? On tones, and on words that nano hears.

    tones    a trained toy model; each word of its answer comes from one burst of a clip
    words    nano's own answers to clips of unseen voices with known word times (needs runs/corpus); of its right
             words one at a time is muted, and should be the one that loses most

Run by `make bench`, or `python -m tests.bench.bench_evidence [MODEL] [CLIPS]`.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from analysis.alignment import align, alignment_error, pick_heads
from analysis.attention import Head, Word, WordTime, match_words
from analysis.capture import capture_trace
from analysis.counterfactual import answer_of, by_word, counterfactuals
from analysis.edits import Edit
from analysis.occlusion import deletion_curves, occlusion_map
from analysis.statistic import Statistic
from analysis.trust import attention_in_windows, attention_over_time, hits, trust
from model.audio import load_waveform
from model.checkpoint import load_model
from model.tasks.asr import ASR
from model.tasks.metrics import bootstrap_interval
from model.training.corpus import Corpus
from tests.analysis.tones import ask, clips, load_tones, reply_ids

CORPUS = Path("runs/corpus")
TAUGHT = (Head(3, 0), Head(3, 1))
"""Heads that nano's training told where to look."""


def tones(n: int = 100, seed: int = 7) -> dict[str, list[bool]]:
    """Hits by occlusion and by attention, one for each word of n clips."""
    loaded, found = load_tones(), defaultdict(list)
    for sound, truth in clips(n, seed):
        spans = {query: (word.start_s, word.end_s) for query, word in enumerate(truth)}
        lost = occlusion_map(loaded, ask(sound), reply_ids(truth))
        trace = capture_trace(loaded, ask(sound), lost.reply_ids)
        found["occlusion"] += hits(lost.by_token(), spans).notes["hit"].values()
        found["attention"] += hits(attention_in_windows(lost, trace), spans).notes["hit"].values()
    return dict(found)


def words(loaded, language: str, n: int) -> tuple[dict[str, list[float]], dict[str, Statistic]]:
    """What muting, occlusion, attention and alignment say about the words of n clips."""
    corpus, found, aligned, truths = (
        Corpus(CORPUS / f"test_voices_{language}"),
        defaultdict(list),
        defaultdict(list),
        [],
    )
    timed = [row for row in sorted(corpus.rows, key=lambda row: row.clip.id) if row.words]
    for row in timed[:n]:
        truth = [WordTime(*word) for word in row.words]
        conversation = ASR.conversation(load_waveform(corpus.sound_path(row)), name=row.clip.id)
        ids = answer_of(loaded, conversation)
        trace = capture_trace(loaded, conversation, ids)
        said = {index: Word(truth[index].text, queries) for index, queries in match_words(trace, truth).items()}
        truths.append(truth)
        aligned["align"].append(align(trace))
        aligned["align, untaught heads"].append(align(trace, pick_heads([trace], exclude=TAUGHT)))
        right = [*loaded.processor.encode_text(row.clip.text), loaded.processor.ids.eot]
        aligned["align the right text"].append(align(capture_trace(loaded, conversation, right)))
        if len(said) > 1:
            _words_of(loaded, conversation, trace, [(truth[index], word) for index, word in said.items()], found)
    return dict(found), {name: alignment_error(some, truths) for name, some in aligned.items()}


def _words_of(loaded, conversation, trace, said: list[tuple[WordTime, Word]], found: dict[str, list[float]]) -> None:
    """Add what one clip says to `found`."""
    ids, groups = trace.tokens.ids[list(trace.reply)], [word for _, word in said]
    edits = [Edit("mute", time.start_s, time.end_s) for time, _ in said]
    for k, one in enumerate(counterfactuals(loaded, conversation, edits, reply_ids=ids, regenerate=False)):
        lost = int(by_word(one.change, groups).values.argmin())
        found["muted word loses most"].append(lost == k)
        found["it or its neighbour"].append(abs(lost - k) <= 1)
        found["by chance"].append(1 / len(said))
    spans = {k: (time.start_s, time.end_s) for k, (time, _) in enumerate(said)}
    lost = occlusion_map(loaded, conversation, ids)
    for name, rows in (("occlusion", lost.by_token()), ("attention", attention_in_windows(lost, trace))):
        found[f"top window on the word: {name}"] += hits(by_word(rows, groups), spans).notes["hit"].values()
    meter = trust(lost, trace)
    found["trust (rank agreement)"].append(float(meter))
    found["trust by chance (95 %)"].append(meter.notes["chance 95 %"])
    orders = {"occlusion": lost.drop(), "attention": attention_over_time(trace)}
    areas = deletion_curves(loaded, conversation, orders, ids, n_random=3).notes["area"]
    for name, area in areas.items():
        found[f"deletion area: {name}"].append(area)


def show(title: str, found: dict[str, list[float]], errors: dict[str, Statistic] | None = None) -> None:
    """Print means with 95 % bootstrap intervals, and alignment errors."""
    print(f"\n{title}")
    for name, values in found.items():
        low, high = bootstrap_interval([float(value) for value in values])
        print(f"  {name:<32} {np.mean(values):7.3f}  [{low:.3f}, {high:.3f}]  n {len(values)}")
    for name, error in (errors or {}).items():
        near = ", ".join(f"{share:.0%} within {limit}" for limit, share in error.notes["within"].items())
        ends = f"[{1e3 * float(error.low):.0f}, {1e3 * float(error.high):.0f}]"
        print(f"  {name:<32} {1e3 * float(error):4.0f} ms {ends}  {near}; n {error.n} of {error.notes['words']} words")


@pytest.mark.bench
def test_planted_evidence_is_found():
    found = tones()
    show("tones: share of words whose top window lies on their burst", found)
    assert np.mean(found["occlusion"]) >= 0.95


@pytest.mark.bench
@pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the test corpora (python -m model.training.corpus)")
@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_of_nano_are_found(language):
    found, errors = words(load_model(), language, 20)
    show(f"nano, {language}", found, errors)
    assert np.mean(found["muted word loses most"]) > 2 * np.mean(found["by chance"])


def main() -> None:
    """Command line: model, clips of each language."""
    model = sys.argv[1] if len(sys.argv) > 1 else "nano"
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    show("tones: share of words whose top window lies on their burst", tones())
    for language in ("en", "zh"):
        show(f"{model}, {language}", *words(load_model(model), language, n))


if __name__ == "__main__":
    main()
