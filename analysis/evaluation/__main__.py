"""Run an evaluation: `python -m analysis.evaluation asr --corpus runs/corpus --card model/nano/README.md`.

The test corpora are made by `python -m model.training.corpus --only test`, and in the same way by `task_corpus` and
`talk_corpus` for what is not recognition.
"""

import argparse
import datetime
import json
import platform
import shlex
import sys
from pathlib import Path

from analysis.attention import Head
from analysis.evaluation import asr
from analysis.evaluation.report import Metric, Report, write_into_card
from analysis.evaluation.tasks import EVALUATIONS
from model.checkpoint import NANO, LoadedModel, load_model
from model.training import guide
from model.training.corpus import Corpus

_SETS = (
    ("test_voices_en", "ASR en, WER: unseen sentences, unseen voices of the training engines", "error", "<= 3 %"),
    ("test_voices_zh", "ASR zh, CER: unseen sentences, unseen voices of the training engines", "error", "<= 3 %"),
    ("test_engine_en", "ASR en, WER: an engine never trained on (festival ked)", "error", "<= 15 % (aim)"),
    (
        "test_engine_zh",
        "ASR zh, CER: a human voice never trained on (Chen Wang), joined syllables",
        "error",
        "<= 15 % (aim)",
    ),
    ("test_people_commands", "Spoken commands by unseen people (Speech Commands), right", "right", ">= 95 %"),
    ("test_people_digits", "Spoken digits by an unseen person (FSDD), right", "right", ">= 95 %"),
    ("test_people_orders", "Coffee orders by unseen people, WER", "error", "<= 20 %"),
)


def evaluate_asr(loaded: LoadedModel, folder: Path, limit: int | None) -> list[Metric]:
    """All ASR rows of the model card that can be measured with the corpora in `folder`."""
    metrics = []
    for name, title, kind, bar in _SETS:
        corpus = Corpus(folder / name)
        if not len(corpus):
            continue
        rows = asr.transcribe(loaded, corpus, limit=limit)
        if kind == "right":
            metrics.append(asr.right_metric(title, rows, bar=bar, baseline=asr.most_frequent(rows)))
        else:
            metrics.append(asr.error_metric(title, rows, bar=bar, baseline="100 % (empty answer)"))
            metrics += unseen_metrics(title, rows) if name.startswith("test_voices") else []
        if any(row.clip.words for row in rows) and name.startswith("test_voices"):
            metrics += pointing_metrics(loaded, rows, "English" if name.endswith("en") else "Mandarin")
    return metrics


_UNSEEN = {"pattern": "sentence pattern never trained on", "pair": "known pattern, word pair never trained on"}


def unseen_metrics(title: str, rows: list[asr.Row]) -> list[Metric]:
    """The same errors split by what was unseen in the sentence, to tell an ear from a grammar."""
    metrics = []
    for label, meaning in _UNSEEN.items():
        if part := [row for row in rows if row.clip.clip.labels.get("unseen") == label]:
            metrics.append(asr.error_metric(f"{title.split(':')[0]}, of these: {meaning}", part))
    return metrics


def pointing_metrics(loaded: LoadedModel, rows: list[asr.Row], language: str) -> list[Metric]:
    """How well attention points at the words of a test set: all heads, and those that nobody told where to look."""
    taught = [Head(guide.LAYER, head) for head in range(guide.HEADS)] if loaded.info.name == NANO else []
    metrics = []
    for which, found in asr.pointing(loaded, rows, taught).items():
        title = f"Attention to {language} words: median distance to their true centre, {which}"
        heads = ", ".join(sorted({f"L{layer} H{head}" for layer, head in found.notes["heads"]}))
        note = f"{heads}; {100 * found.notes['within']['150 ms']:.0f} % of words within 150 ms"
        metrics.append(asr.pointing_metric(title, found, bar="< 150 ms", note=note))
    return metrics


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["asr", *EVALUATIONS])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--corpus", type=Path, help="folder of the test corpora; by default where they are made")
    parser.add_argument("--limit", type=int, help="at most this many clips of each set")
    parser.add_argument("--out", type=Path, help="report file; runs/reports/TASK.json by default")
    parser.add_argument("--card", type=Path, help="model card to write the table into")
    args = parser.parse_args()
    loaded = load_model(args.model, device=args.device)
    measure, usual = EVALUATIONS.get(args.task, (evaluate_asr, "runs/corpus"))
    folder = args.corpus or Path(usual)
    metrics = measure(loaded, folder, args.limit)
    if not metrics:
        maker = folder.name if folder.name in ("task_corpus", "talk_corpus") else "corpus"
        sys.exit(f"Found no test corpus under {folder}; make it with `python -m model.training.{maker} --only test`.")
    out = args.out or Path(f"runs/reports/{args.task}.json")
    provenance = {
        "command": "python -m analysis.evaluation " + shlex.join(sys.argv[1:]),
        "model": loaded.info.name,
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
    }
    report = Report(args.task, tuple(metrics), provenance)
    report.save(out)
    if args.card:
        write_into_card(args.card, report)
    print(report.markdown())
    print(json.dumps({"report": str(out)}))


if __name__ == "__main__":
    main()
