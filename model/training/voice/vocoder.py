"""Stage 4 of the voice: teach the vocoder to turn a mel into sound.

    mel --f0 predictor--> pitch <-- L1 -- tracked pitch (pitch.py)
    mel, pitch, noise --HiFT--> wave <-- distance of spectra (spectra.py) -- recording
                         two waves with different noise, later in the run

It needs no codes, so it can be trained first. Three things differ from the usual recipe, all for two CPU cores:

- No discriminator: the energy distance keeps the noise of speech noisy at the price of a second draw, and of that only
  once the network knows what is not noise.
- The excitation follows the tracked pitch at first, so that the network hears the right harmonics from the first step,
  and clip by clip its own pitch, which it has to live with later.
- Above the band of a recording nothing is asked: a third of the teachers sounds up to 12 kHz, and the rest of the
  voices learn from them what belongs there.

    python -m model.training.voice.vocoder --corpus runs/voice --run runs/voice_vocoder --minutes 35

Source: HiFTNet (Li et al., 2023); Gritsenko et al. (2020), see `spectra.py`.
"""

import argparse
import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model.token2wav.config import HiftConfig
from model.token2wav.features import MEL_HOP, prompt_mel
from model.token2wav.hift import HiFT
from model.training import loop
from model.training.voice import sizes
from model.training.voice.corpus import PROMPT_FRAMES, VoiceCorpus, VoiceRow, test_corpora, training_corpora
from model.training.voice.pitch import Pitches
from model.training.voice.spectra import energy_distance

logger = logging.getLogger(__name__)
CROP_CODES, BATCH = 20, 16
"""0.8 s of sixteen clips a step; or half of them, each drawn twice."""
TWICE_FROM = 0.9
"""Until this share of the run clips are drawn once, and the plain distance teaches what can be known. Drawn twice from
the start, the network took all that it did not know yet for noise, and was slow to find out; from 0.6 on, its mels went
from 0.47 to 0.63 off within five hundred steps."""
OWN_PITCH_FROM, OWN_PITCH_AT = 0.15, 0.6
"""Until the first share of the run no clip follows the predicted pitch, from the second on every clip does."""
PITCH_WEIGHT, PITCH_UNIT_HZ = 0.5, 50.0
PITCH_START_HZ = 100.0
"""Spread of the first guesses: from the usual start of 0 the predictor would need thousands of steps to reach a
voice."""
GAIN = math.log(2.0)
"""Clips are played louder or quieter by up to this natural logarithm."""
MEL_NOISE = 0.1
"""Largest spread of the noise on the mels of a crop: those of the flow will not be perfect either."""
LOG_FLOOR = math.log(1e-5)
WATCHED, WATCHED_SECONDS = 24, 4.0
VOICED_HZ, GROSS_ERROR = 10.0, 0.2


class Source(NamedTuple):
    """A corpus and its pitches."""

    corpus: VoiceCorpus
    pitches: Pitches


class Crops(NamedTuple):
    """A batch of pieces cut out of clips."""

    mel: Tensor
    """float32 [clip, 80, frame]."""
    samples: Tensor
    """float32 [clip, 480 * frame]."""
    f0: Tensor
    """Tracked pitch in Hz, 0 where unvoiced, float32 [clip, frame]."""
    band_hz: Tensor
    """Where the sound of each ends, float32 [clip]."""

    def to(self, device: torch.device) -> "Crops":
        """Return the same on a device."""
        return Crops(*(x.to(device) for x in self))


def fresh_vocoder(config: HiftConfig) -> HiFT:
    """Return an untrained vocoder whose pitch predictor starts at the height of voices."""
    hift = HiFT(config)
    predictor = hift.f0_predictor.classifier
    nn.init.normal_(predictor.weight, std=PITCH_START_HZ / math.sqrt(predictor.in_features))
    nn.init.constant_(predictor.bias, PITCH_START_HZ)
    return hift


def cut(source: Source, row: VoiceRow, n_codes: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Cut a random piece out of a clip: mel [80, frame], samples [time], pitch [frame]; all float32."""
    start = int(rng.integers(row.codes - n_codes + 1))
    frames = slice(PROMPT_FRAMES * start, PROMPT_FRAMES * (start + n_codes))
    samples = source.corpus.samples(row)[frames.start * MEL_HOP : frames.stop * MEL_HOP].astype(np.float32) / 32767
    mel = source.corpus.prompt_mel(row)[frames].astype(np.float32).T
    gain = min(rng.uniform(-GAIN, GAIN), -math.log(max(float(np.abs(samples).max()), 1e-3)))
    mel = mel + gain + rng.uniform(0, MEL_NOISE) * rng.standard_normal(mel.shape, dtype=np.float32)
    return np.maximum(mel, LOG_FLOOR).astype(np.float32), samples * math.exp(gain), source.pitches(row)[frames]


def pitch_loss(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error of the pitch in units of 50 Hz."""
    return (guess - truth).abs().mean() / PITCH_UNIT_HZ


@torch.no_grad()
def measure(hift: HiFT, clips: Sequence[tuple[Source, VoiceRow]], device: torch.device) -> dict[str, float]:
    """Compare whole clips with what the vocoder makes of their mels, its own pitch and seeded noise included.

    Returns:
        Mean distance of the 80-band mels (natural log) and of the spectra, share of voiced frames whose pitch is more
        than a fifth off, and share of frames whose voicing is wrong.
    """
    hift.eval()
    mels, far, gross, voicing = [], [], [], []
    for source, row in clips:
        n_frames = min(PROMPT_FRAMES * row.codes, int(WATCHED_SECONDS * 50))
        real = torch.from_numpy(source.corpus.waveform(row).samples[: n_frames * MEL_HOP].copy())[None].to(device)
        mel = torch.from_numpy(source.corpus.prompt_mel(row)[:n_frames].astype(np.float32).T.copy())[None].to(device)
        made = hift(mel)
        mels.append(float((prompt_mel(made) - mel).abs().mean()))
        band = torch.tensor([row.band_hz], device=device)
        far.append(float(energy_distance(real, made, None, band)[0]))
        guess, truth = hift.predict_f0(mel)[0].cpu(), torch.from_numpy(source.pitches(row)[:n_frames].copy())
        both = (guess > VOICED_HZ) & (truth > 0)
        gross.append(((guess / truth - 1).abs() > GROSS_ERROR)[both])
        voicing.append((guess > VOICED_HZ) != (truth > 0))
    hift.train()
    return {
        "mel_l1": float(np.mean(mels)),
        "spectra": float(np.mean(far)),
        "pitch_wrong": float(torch.cat(gross).float().mean()) if any(map(len, gross)) else 1.0,
        "voicing_wrong": float(torch.cat(voicing).float().mean()),
    }


class VocoderStage:
    """Random pieces of all clips; see `loop.Stage`."""

    weight_decay = 0.0
    lr_shares: ClassVar[dict[str, float]] = {}

    def __init__(
        self,
        corpora: Sequence[VoiceCorpus],
        *,
        config: HiftConfig,
        device: torch.device,
        rng: np.random.Generator,
        batch: int = BATCH,
        crop_codes: int = CROP_CODES,
    ):
        self.device, self.rng, self.batch, self.crop_codes = device, rng, batch, crop_codes
        self.clips: list[tuple[Source, VoiceRow]] = []
        self.watched: list[tuple[Source, VoiceRow]] = []
        for corpus in corpora:
            source, (train, watched) = Source(corpus, Pitches(corpus)), corpus.split()
            self.clips += [(source, row) for row in train if row.codes >= crop_codes]
            self.watched += [(source, row) for row in watched[: WATCHED // len(corpora)]]
        self.module = fresh_vocoder(config).to(device)
        self.noise = torch.Generator(device).manual_seed(int(rng.integers(2**31)))

    def batches(self, progress: float) -> Iterator[Crops]:
        """A piece of every clip."""
        order = self.rng.permutation(len(self.clips))
        for start in range(0, len(order) - self.batch + 1, self.batch):
            chosen = [self.clips[i] for i in order[start : start + self.batch]]
            pieces = zip(*(cut(source, row, self.crop_codes, self.rng) for source, row in chosen))
            bands = torch.tensor([row.band_hz for _, row in chosen])
            yield Crops(*(torch.from_numpy(np.stack(x)) for x in pieces), bands)

    def loss(self, batch: Crops, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Distance of the spectra, corrected for chance later in the run, and the pitch."""
        twice = progress >= TWICE_FROM and len(batch.mel) > 1
        batch = Crops(*(x[: len(x) // 2] for x in batch)) if twice else batch
        mel, samples, f0, band_hz = batch.to(self.device)
        guess = self.module.predict_f0(mel)
        pitch = pitch_loss(guess, f0)
        share = (progress - OWN_PITCH_FROM) / (OWN_PITCH_AT - OWN_PITCH_FROM)
        own = torch.from_numpy(self.rng.random(len(mel)) < share).to(self.device)
        # The phase is a sum of the pitch: a gradient through it would be noise, so the predictor learns from its
        # own loss alone.
        followed = torch.where(own[:, None], guess.detach(), f0)
        n = 2 if twice else 1
        source = self.module.excite(followed.repeat(n, 1), generator=self.noise)
        one, *other = self.module.decode(mel.repeat(n, 1, 1), source).chunk(n)
        loss, near = energy_distance(samples, one, other[0] if other else None, band_hz)
        return loss + PITCH_WEIGHT * pitch, {"distance": loss.item(), "near": near.item(), "pitch": pitch.item()}

    def report(self) -> dict[str, float]:
        """Numbers on the watched clips."""
        return measure(self.module, self.watched, self.device)


def final_report(hift: HiFT, folder: Path, device: torch.device) -> dict[str, dict[str, float]]:
    """Measure on the corpora that lie below a voice corpus and were never trained on."""
    found = {}
    for name, corpus in test_corpora(folder).items():
        source = Source(corpus, Pitches(corpus))
        found[name] = measure(hift, [(source, row) for row in corpus.rows[: 4 * WATCHED]], device)
    return found


def train(args: argparse.Namespace) -> Path:
    """Run the stage; returns the file of the averaged weights."""
    device = loop.pick_device(args.device)
    torch.manual_seed(args.seed)
    run, clock = loop.Run(args.run, vars(args)), loop.Clock(args.steps, args.minutes)
    rng = np.random.default_rng([args.seed, run.resumed_step()])
    stage = VocoderStage(
        training_corpora(args.corpus), config=sizes.HIFT, device=device, rng=rng, batch=args.batch, crop_codes=args.crop
    )
    average = loop.train_stage(stage, run, clock, peak_lr=args.lr, report_every=args.report_every)
    # Measured as shipped: in half precision.
    stage.module.load_state_dict({name: value.half().float() for name, value in average.values.items()})
    found = {"watched": stage.report(), **final_report(stage.module, args.corpus, device)}
    (run.folder / "report.json").write_text(json.dumps(found, indent=1))
    for name, numbers in found.items():
        logger.info("%s: %s", name, ", ".join(f"{k} {v:.4g}" for k, v in numbers.items()))
    return sizes.save_weights(stage.module, args.out / sizes.HIFT_FILE)


def build_parser() -> argparse.ArgumentParser:
    """Flags of the stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    loop.add_flags(parser, run=Path("runs/voice_vocoder"), peak_lr=2e-3)
    parser.add_argument("--batch", type=int, default=BATCH, help="clips in a batch; later half as many, drawn twice")
    parser.add_argument("--crop", type=int, default=CROP_CODES, help="length of a piece in codes (25 are one second)")
    parser.add_argument("--out", type=Path, default=sizes.FOLDER)
    parser.set_defaults(corpus=Path("runs/voice"), report_every=500)
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(build_parser().parse_args())
