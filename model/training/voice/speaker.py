"""Stage 2 of the voice: teach the speaker network who speaks, whatever is said and wherever.

    clip --kaldi_fbank, crop, room, noise, centre--> SpeakerNet --> 192 numbers --> which of the speakers (AAM-softmax)

The speakers are the teachers, each of their guises, and people who read. The classifier is thrown away. What counts is
tested on voices and people that were never trained on: is the nearest other clip by the same speaker (retrieval), and
how well does one threshold tell same from different (equal error rate).

    python -m model.training.voice.speaker --corpus runs/voice --run runs/voice_speaker --minutes 20 \\
        --recordings DIR --out model/nano/token2wav

Source: x-vectors (Snyder et al., 2018); additive angular margin (Deng et al., "ArcFace", 2019).
"""

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.audio import INPUT_SAMPLE_RATE_HZ
from model.token2wav.features import N_BINS, kaldi_fbank
from model.token2wav.speaker import N_SPEAKER, SpeakerEncoder, SpeakerNet, export_onnx
from model.training import loop
from model.training.augment import coloured_noise
from model.training.recordings import Recordings
from model.training.voice import sizes
from model.training.voice.corpus import VoiceCorpus, VoiceRow

logger = logging.getLogger(__name__)
CROP_FRAMES = 160
"""1.6 s: a voice prompt may be short."""
SCALE, MARGIN, MARGIN_SHARE = 30.0, 0.2, 0.3
"""AAM-softmax; the margin grows over the first share of the run."""
NOISE_SHARE, ROOM_SHARE, PHONE_SHARE, MASK_SHARE = 0.5, 0.3, 0.1, 0.5
"""How often a crop is changed, each way for itself."""
SNR_DB = (5.0, 30.0)
PHONE_BINS = (9, 58)
"""First and last bin of the telephone's 300-3400 Hz."""
N_NOISES = 150


@dataclass(frozen=True)
class Spoken:
    """A clip of one of the corpora."""

    corpus: VoiceCorpus
    row: VoiceRow


class Fbanks:
    """Filter banks of clips, made once and kept in memory as float16 (16 kB for each second)."""

    def __init__(self) -> None:
        self._kept: dict[str, np.ndarray] = {}

    def __call__(self, clip: Spoken) -> np.ndarray:
        """Return the log filter bank of a clip, not centred, float16 [frame, 80]."""
        name = clip.row.clip.id
        if name not in self._kept:
            narrow = clip.corpus.waveform(clip.row).resample(INPUT_SAMPLE_RATE_HZ)
            self._kept[name] = kaldi_fbank(narrow).numpy().astype(np.float16)
        return self._kept[name]


def crop(fbank: np.ndarray, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return `n_frames` frames from a random place, float32; a shorter clip is repeated."""
    if len(fbank) < n_frames:
        fbank = np.tile(fbank, (-(-n_frames // len(fbank)), 1))
    start = int(rng.integers(len(fbank) - n_frames + 1))
    return fbank[start : start + n_frames].astype(np.float32)


def changed(fbank: np.ndarray, noises: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Put a crop, [frame, 80] in natural logarithms of power, into a random place: room, noise, telephone, masks."""
    if rng.random() < ROOM_SHARE:
        fbank = in_room(fbank, decay=float(rng.uniform(0.6, 0.93)), level=float(rng.uniform(0.02, 0.3)))
    if noises and rng.random() < NOISE_SHARE:
        noise = crop(noises[int(rng.integers(len(noises)))], len(fbank), rng)
        fbank = with_noise(fbank, noise, float(rng.uniform(*SNR_DB)))
    if rng.random() < PHONE_SHARE:
        outside = np.ones(N_BINS, bool)
        outside[slice(*PHONE_BINS)] = False
        fbank = np.where(outside, fbank.min(), fbank)
    if rng.random() < MASK_SHARE:
        width = int(rng.integers(1, 12))
        low = int(rng.integers(N_BINS - width))
        fbank = fbank.copy()
        fbank[:, low : low + width] = fbank[:, low : low + width].mean(0)
    return fbank


def in_room(fbank: np.ndarray, *, decay: float, level: float) -> np.ndarray:
    """Add a tail that falls by `decay` each frame, starting at `level` of the power before it."""
    from scipy.signal import lfilter

    power = np.exp(fbank)
    tail = lfilter([0.0, level], [1.0, -decay], power, axis=0)
    return np.log(power + tail).astype(np.float32)


def with_noise(fbank: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise in the power domain, exact up to phase."""
    speech, other = np.exp(fbank), np.exp(noise)
    gain = speech.mean() / max(float(other.mean()), 1e-12) * 10 ** (-snr_db / 10)
    return np.log(speech + gain * other).astype(np.float32)


def noise_fbanks(recordings: Recordings, rng: np.random.Generator) -> list[np.ndarray]:
    """Filter banks of recorded backgrounds, and of coloured noise, float16 [frame, 80] each."""
    recorded = [n for n in recordings.noises("train", limit=N_NOISES) if len(n) > 2000]
    made = [0.1 * coloured_noise(2 * INPUT_SAMPLE_RATE_HZ, rng) for _ in range(max(10, N_NOISES // 5))]
    return [kaldi_fbank(np.ascontiguousarray(n, np.float32)).numpy().astype(np.float16) for n in (*recorded, *made)]


class Classifier(nn.Module):
    """The speaker network and, for training only, one direction for each speaker."""

    def __init__(self, n_speakers: int, width: int = sizes.SPEAKER_WIDTH):
        super().__init__()
        self.net = SpeakerNet(width)
        self.directions = nn.Parameter(torch.randn(n_speakers, N_SPEAKER) / N_SPEAKER**0.5)

    def forward(self, fbank: Tensor) -> Tensor:
        """Cosines between each crop, [crop, frame, 80] centred, and each speaker, float32 [crop, speaker]."""
        voice = self.net(fbank).float()
        return F.normalize(voice, dim=1) @ F.normalize(self.directions.float(), dim=1).T


def margin_loss(cosines: Tensor, speakers: Tensor, margin: float) -> Tensor:
    """Cross entropy after the angle to the right speaker has been widened by `margin`, in radians."""
    own = cosines.gather(1, speakers[:, None]).clamp(-0.999, 0.999)
    narrowed = torch.cos((own.acos() + margin).clamp(max=torch.pi))
    return F.cross_entropy(SCALE * cosines.scatter(1, speakers[:, None], narrowed), speakers)


# --- report -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def voices_of(net: SpeakerNet, fbanks: Fbanks, clips: Sequence[Spoken]) -> Tensor:
    """Voice of each whole clip, unit length, float32 [clip, 192]."""
    net.eval()
    device = net.project.weight.device
    found = []
    for clip in clips:
        fbank = torch.from_numpy(fbanks(clip).astype(np.float32)).to(device)
        found.append(net((fbank - fbank.mean(0))[None])[0].float().cpu())
    net.train()
    return F.normalize(torch.stack(found), dim=1)


def verification(voices: Tensor, speakers: Sequence[str]) -> dict[str, float]:
    """Retrieval and equal error rate of voices, unit length [clip, 192], whose speakers are known.

    Returns:
        `retrieval`: share of clips whose nearest other clip is by the same speaker, among those that have one;
        `equal_error`: where as many same pairs are refused as different pairs are accepted; `speakers`: how many.
    """
    names = np.asarray(list(speakers))
    likeness = (voices @ voices.T).numpy()
    same = names[:, None] == names
    pairs = np.triu_indices(len(names), 1)
    np.fill_diagonal(likeness, -2.0)
    has_mate = same.sum(1) > 1
    nearest = likeness.argmax(1)
    retrieval = float((names[nearest] == names)[has_mate].mean()) if has_mate.any() else float("nan")
    error = equal_error(likeness[pairs][same[pairs]], likeness[pairs][~same[pairs]])
    return {"retrieval": retrieval, "equal_error": error, "speakers": len(set(speakers))}


def equal_error(same: np.ndarray, different: np.ndarray) -> float:
    """Equal error rate of two sets of scores; NaN where one of them is empty."""
    if not len(same) or not len(different):
        return float("nan")
    scores = np.concatenate([same, different])
    order = np.argsort(scores, kind="stable")
    is_same = np.concatenate([np.ones(len(same)), np.zeros(len(different))])[order]
    refused = np.concatenate([[0.0], np.cumsum(is_same) / len(same)])
    accepted = np.concatenate([[1.0], 1 - np.cumsum(1 - is_same) / len(different)])
    at = int(np.argmin(np.abs(refused - accepted)))
    return float((refused[at] + accepted[at]) / 2)


# --- the stage ----------------------------------------------------------------------------------------------------


class SpeakerStage:
    """Telling the speakers apart; see `loop.Stage`."""

    weight_decay = 0.05
    lr_shares: ClassVar[dict[str, float]] = {}

    def __init__(
        self,
        corpora: Sequence[VoiceCorpus],
        *,
        frames: int,
        device: torch.device,
        rng: np.random.Generator,
        noises: Sequence[np.ndarray] = (),
        tests: dict[str, VoiceCorpus] | None = None,
        width: int = sizes.SPEAKER_WIDTH,
    ):
        self.device, self.rng, self.noises, self.tests = device, rng, noises, tests or {}
        self.n_crops = max(2, frames // CROP_FRAMES)
        self.fbanks = Fbanks()
        self.clips = [Spoken(corpus, row) for corpus in corpora for row in corpus.rows]
        names = sorted({clip.row.speaker for clip in self.clips})
        self.speakers = np.asarray([names.index(clip.row.speaker) for clip in self.clips])
        counts = np.bincount(self.speakers)
        self.shares = counts[self.speakers] ** -0.5  # a rare speaker is drawn more often, though not as often as others
        self.module = Classifier(len(names), width).to(device)

    def batches(self, progress: float) -> Iterator[np.ndarray]:
        """As many crops as there are clips, drawn so that no teacher drowns the others."""
        shares = self.shares / self.shares.sum()
        for _ in range(max(1, len(self.clips) // self.n_crops)):
            yield self.rng.choice(len(self.clips), self.n_crops, p=shares)

    def loss(self, batch: np.ndarray, progress: float) -> tuple[Tensor, dict[str, float]]:
        """AAM-softmax over changed crops."""
        crops = [crop(self.fbanks(self.clips[i]), CROP_FRAMES, self.rng) for i in batch]
        fbank = torch.from_numpy(np.stack([changed(c, self.noises, self.rng) for c in crops]))
        speakers = torch.from_numpy(self.speakers[batch]).to(self.device)
        fbank = (fbank - fbank.mean(1, keepdim=True)).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            cosines = self.module(fbank)
        loss = margin_loss(cosines, speakers, MARGIN * min(1.0, progress / MARGIN_SHARE))
        right = (cosines.argmax(1) == speakers).float().mean().item()
        return loss, {"loss": loss.item(), "train_accuracy": right}

    def report(self) -> dict[str, float]:
        """Retrieval and equal error rate on the corpora that were never trained on."""
        found: dict[str, float] = {}
        for name, corpus in self.tests.items():
            clips = [Spoken(corpus, row) for row in corpus.rows]
            numbers = verification(voices_of(self.module.net, self.fbanks, clips), [c.row.speaker for c in clips])
            found |= {f"{name}_{key}": value for key, value in numbers.items()}
        return found


def corpus_voices(encoder: SpeakerEncoder, corpus: VoiceCorpus) -> np.ndarray:
    """Voice of every clip of a corpus, in the order of its rows, float32 [clip, 192], not normalised."""
    return np.concatenate([encoder.embed(corpus.waveform(row)).numpy() for row in corpus.rows])


def _below(folder: Path, names: Sequence[str]) -> dict[str, VoiceCorpus]:
    """Those of the corpora below a voice corpus that have been made."""
    return {name: VoiceCorpus(folder / name) for name in names if any((folder / name).glob("shard_*.jsonl"))}


def train(args: argparse.Namespace) -> Path:
    """Run the stage; returns the ONNX file of the averaged weights."""
    device = loop.pick_device(args.device)
    torch.manual_seed(args.seed)
    run, clock = loop.Run(args.run, vars(args)), loop.Clock(args.steps, args.minutes)
    rng = np.random.default_rng([args.seed, run.resumed_step()])
    noises = noise_fbanks(Recordings(args.recordings), np.random.default_rng(args.seed))
    corpora = [VoiceCorpus(args.corpus), *_below(args.corpus, ("people",)).values()]
    tests = _below(args.corpus, ("test", "people_test"))
    stage = SpeakerStage(corpora, frames=args.frames, device=device, rng=rng, noises=noises, tests=tests)
    average = loop.train_stage(stage, run, clock, peak_lr=args.lr, report_every=args.report_every)
    stage.module.load_state_dict(average.values)
    found = stage.report()
    (run.folder / "report.json").write_text(json.dumps(found, indent=1))
    logger.info("averaged weights: %s", ", ".join(f"{k} {v:.4g}" for k, v in found.items()))
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / sizes.SPEAKER_FILE
    export_onnx(stage.module.net.cpu().eval(), path)
    return path


def build_parser() -> argparse.ArgumentParser:
    """Flags of the stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    loop.add_flags(parser, run=Path("runs/voice_speaker"), peak_lr=2e-3)
    parser.add_argument("--recordings", help="folder of recordings whose noises are mixed in")
    parser.add_argument("--out", type=Path, default=sizes.FOLDER)
    parser.set_defaults(corpus=Path("runs/voice"), frames=80 * CROP_FRAMES)
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(build_parser().parse_args())
