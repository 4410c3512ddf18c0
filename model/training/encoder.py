"""Stage 1: teach the audio encoder to hear.

The encoder spells what is said (CTC over `model.training.units`) and, from its mean over time, tells who speaks and
what sounds. The heads are thrown away afterwards; the encoder goes on, frozen, into `model.training.asr`.

    python -m model.training.encoder --corpus runs/corpus/train --run runs/encoder --minutes 60

Source: design after Step-Audio 2 (arXiv 2507.16632) section 3, where the encoder comes pre-trained on ASR, speaker
attributes and sound events; CTC after Graves et al. 2006.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.configuration_step_audio_2 import StepAudio2EncoderConfig
from model.modeling_step_audio_2 import AudioEncoder
from model.training import batches, loop
from model.training.corpus import Corpus, Row
from model.training.nano import ENCODER, HIDDEN_SIZE
from model.training.units import BLANK, symbols, units

logger = logging.getLogger(__name__)
ATTRIBUTES = ("gender", "emotion", "event")
ATTRIBUTE_WEIGHT = 0.15
FRAME_HZ, IGNORED = 25, -100
POSITION_HEIGHT = 0.4
TIMED_SHARE = 0.2
"""Over the first part of the run the known word times of synthetic clips help, fading out: CTC alone stays for long on
the plateau where every frame is blank."""
CLEAN_SHARE = 0.12
"""The first part of the run sees the mels as they are: spelling starts sooner; afterwards they are augmented."""


class Listener(nn.Module):
    """Encoder with its training heads: symbols per 25 Hz frame, and one classifier per attribute."""

    def __init__(self, classes: dict[str, list[str]], llm_dim: int):
        super().__init__()
        self.encoder = AudioEncoder(StepAudio2EncoderConfig(**ENCODER, llm_dim=llm_dim))
        self.classes = classes
        width = ENCODER["n_audio_state"]
        self._balance()
        self.spell = nn.Linear(width, len(symbols()))
        self.attributes = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in classes.items()})

    @torch.no_grad()
    def _balance(self) -> None:
        """Start with sound and positions equally loud; with the usual initial values the positions drown the sound."""
        for conv in (self.encoder.conv1, self.encoder.conv2):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        self.encoder.positional_embedding.weight.mul_(POSITION_HEIGHT)

    def forward(self, mels: Tensor, lens: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return CTC log-probabilities [clip, frame, symbol], frame counts [clip], logits per attribute."""
        # Asking for the weights takes the plain attention, whose backward is three times as fast on a CPU here.
        hidden, counts = self.encoder(mels, lens, attentions=[])
        hidden = F.dropout(hidden, 0.05, self.training)
        valid = torch.arange(hidden.shape[1])[None].to(counts.device) < counts[:, None]
        mean = (hidden * valid[..., None]).sum(1) / counts.clamp(min=1)[:, None]
        return (
            self.spell(hidden).float().log_softmax(-1),
            counts,
            {k: head(mean).float() for k, head in self.attributes.items()},
        )


def attribute_classes(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Every value that each attribute takes in the corpus, sorted."""
    return {name: sorted({r.clip.labels[name] for r in rows if name in r.clip.labels}) for name in ATTRIBUTES}


def targets(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Concatenated CTC targets and their lengths."""
    ids = [units(row.clip.text, row.clip.language) if row.clip.text else [] for row in rows]
    return torch.tensor([i for one in ids for i in one]), torch.tensor([len(one) for one in ids])


def frame_targets(row: Row, n_frames: int) -> Tensor:
    """Symbol of every 25 Hz frame of a clip with known word times: a word's symbols spread evenly over it, [n_frames].

    Frames outside the words are the blank; a clip without word times gets `IGNORED` everywhere.
    """
    labels = torch.full((n_frames,), BLANK if row.words else IGNORED)
    for text, start_s, end_s in row.words:
        ids = units(text, row.clip.language)
        first, last = round(start_s * FRAME_HZ), min(round(end_s * FRAME_HZ), n_frames)
        if ids and last > first:
            labels[first:last] = torch.tensor(ids)[torch.arange(last - first) * len(ids) // (last - first)]
    return labels


def _frame_loss(log_probs: Tensor, rows: Sequence[Row]) -> Tensor:
    labels = torch.stack([frame_targets(row, log_probs.shape[1]) for row in rows])
    return F.nll_loss(log_probs.flatten(0, 1), labels.flatten().to(log_probs.device), ignore_index=IGNORED)


def _attribute_loss(logits: dict[str, Tensor], rows: Sequence[Row], classes: dict[str, list[str]]) -> Tensor:
    total = torch.zeros(())
    for name, values in classes.items():
        known = [
            (i, values.index(r.clip.labels[name])) for i, r in enumerate(rows) if r.clip.labels.get(name) in values
        ]
        if known:
            index, label = map(torch.tensor, zip(*known, strict=True))
            total = total.to(logits[name].device) + F.cross_entropy(logits[name][index], label.to(logits[name].device))
    return total


def ctc_loss(log_probs: Tensor, counts: Tensor, rows: Sequence[Row]) -> Tensor:
    """CTC loss per symbol of the clips with words; `log_probs` [clip, frame, symbol], `counts` valid frames [clip]."""
    ids, id_counts = targets(rows)
    per_clip = F.ctc_loss(
        log_probs.transpose(0, 1), ids, counts.long(), id_counts, blank=BLANK, reduction="none", zero_infinity=True
    )
    return per_clip[id_counts > 0].sum() / id_counts.sum().clamp(min=1)


def losses(
    listener: Listener, mels: Tensor, lens: Tensor, rows: Sequence[Row], classes
) -> tuple[Tensor, Tensor, Tensor]:
    """CTC loss per symbol, summed attribute loss, and frame-wise loss (0 if no clip has word times) of one batch."""
    log_probs, counts, logits = listener(mels, lens)
    ctc = ctc_loss(log_probs, counts, rows)
    frames = _frame_loss(log_probs, rows) if any(row.words for row in rows) else torch.zeros(())
    return ctc, _attribute_loss(logits, rows, classes), frames


def edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """Levenshtein distance of two id sequences."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


@torch.no_grad()
def symbol_error_rate(listener: Listener, corpus: Corpus, rows: Sequence[Row], device) -> float:
    """Greedy CTC symbol errors per reference symbol."""
    listener.eval()
    errors = total = 0
    for batch in batches.epoch([r for r in rows if r.clip.text], frame_budget=12_000, rng=np.random.default_rng(0)):
        mels, lens = batches.collate(corpus, batch)
        with torch.autocast(device.type, torch.bfloat16):
            log_probs, counts, _ = listener(mels.to(device), lens.to(device))
        for row, best, count in zip(batch, log_probs.argmax(-1).cpu(), counts.tolist(), strict=True):
            path = best[:count].tolist()
            guess = [s for k, s in enumerate(path) if s != BLANK and (k == 0 or path[k - 1] != s)]
            truth = units(row.clip.text, row.clip.language)
            errors += edit_distance(guess, truth)
            total += len(truth)
    listener.train()
    return errors / max(total, 1)


class EncoderStage:
    """Spelling and attributes on the training corpus; see `loop.Stage`."""

    weight_decay = 0.02
    lr_shares: ClassVar[dict[str, float]] = {}

    def __init__(self, corpus: Corpus, *, llm_dim: int, frames: int, device: torch.device, rng: np.random.Generator):
        self.corpus, self.frames, self.device, self.rng = corpus, frames, device, rng
        self.rows, self.watched = corpus.split()
        self.noises = batches.noise_mels(corpus)
        self.classes = {name: values for name, values in attribute_classes(self.rows).items() if values}
        self.module = Listener(self.classes, llm_dim).to(device)

    def batches(self, progress: float) -> Iterator[list[Row]]:
        """All clips once."""
        return batches.epoch(self.rows, frame_budget=self.frames, rng=self.rng)

    def loss(self, batch: list[Row], progress: float) -> tuple[Tensor, dict[str, float]]:
        """CTC, attributes, and at first the known word times."""
        rng = None if progress < CLEAN_SHARE else self.rng
        mels, lens = batches.collate(self.corpus, batch, rng=rng, noises=self.noises)
        with torch.autocast(self.device.type, torch.bfloat16):
            ctc, other, timed = losses(self.module, mels.to(self.device), lens.to(self.device), batch, self.classes)
        weight = 2 * max(0.0, 1 - progress / TIMED_SHARE)
        return ctc + ATTRIBUTE_WEIGHT * other + weight * timed, {"ctc": ctc.item(), "attributes": other.item()}

    def report(self) -> dict[str, float]:
        """Symbol error rate on the watched clips."""
        return {"dev_symbol_error": symbol_error_rate(self.module, self.corpus, self.watched, self.device)}


def load_matching(listener: Listener, path: Path) -> list[str]:
    """Take over what an earlier run's file has in the same shape; returns the names of what starts anew."""
    saved, own = torch.load(path, weights_only=True)["listener"], listener.state_dict()
    fitting = {name: value for name, value in saved.items() if name in own and own[name].shape == value.shape}
    listener.load_state_dict({**own, **fitting})
    return sorted(own.keys() - fitting.keys())


def train(args: argparse.Namespace) -> Path:
    """Run the stage; returns the file of the averaged encoder weights."""
    device = loop.pick_device(args.device)
    torch.manual_seed(args.seed)
    run, clock = loop.Run(args.run, vars(args)), loop.Clock(args.steps, args.minutes)
    rng = np.random.default_rng([args.seed, run.resumed_step()])
    stage = EncoderStage(Corpus(args.corpus), llm_dim=args.llm_dim, frames=args.frames, device=device, rng=rng)
    if args.init:
        logger.info(
            "went on from %s; new: %s", args.init, ", ".join(load_matching(stage.module, args.init)) or "nothing"
        )
    average = loop.train_stage(stage, run, clock, peak_lr=args.lr, report_every=args.report_every)
    path = run.folder / "encoder.pt"
    torch.save({"listener": average.values, "classes": stage.classes, "llm_dim": args.llm_dim}, path)
    stage.module.load_state_dict(average.values)
    logger.info("averaged weights: dev symbol error %.4f", stage.report()["dev_symbol_error"])
    return path


def build_parser() -> argparse.ArgumentParser:
    """Flags of the stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm-dim", type=int, default=HIDDEN_SIZE, help="width of the decoder it will feed")
    parser.add_argument("--init", type=Path, help="encoder.pt of an earlier run to go on from")
    loop.add_flags(parser, run=Path("runs/encoder"), peak_lr=1e-3)
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(build_parser().parse_args())
