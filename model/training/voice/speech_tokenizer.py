"""Stage 1 of the voice: teach the speech tokenizer which 729 sounds to tell apart.

    mel -> SpeechTokenizer -> 6 numbers, each -1, 0 or 1 -> 2 blocks -> symbols (CTC)         recognition
                                          └-> convolutions -> how the spectrum moves          sound

What follows the quantiser is thrown away. Recognition decides what the codes keep, as in S3. CTC alone would let a code
sit anywhere inside its syllable and say nothing between two of them; so the codes must also tell the coarse spectrum
relative to the clip's mean, which leaves the voice and the microphone out and keeps every code where its sound is.

Against a collapse of the quantiser: the numbers are normalised over the batch before tanh and rounding, so that every
level stays in use (without it they saturated in the first ten steps, in which CTC only wants blanks: perplexity fell
from 280 to 8); what they say alike is penalised; and rounding comes in clip by clip over the first part of the run. At
the end the normalisation is folded into the projection, so what ships is the plain official network.

    python -m model.training.voice.speech_tokenizer --corpus runs/voice --heard runs/corpus/train \\
        --run runs/voice_tokenizer --minutes 40 --out model/nano/token2wav

Source: CosyVoice 2 (Du et al., 2024), supervised semantic codes with FSQ; CTC after Graves et al. 2006; the
correlation term after VICReg (Bardes et al., 2022).
"""

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.errors import OptionsError
from model.token2wav.config import Token2WavConfig, TokenizerConfig
from model.token2wav.fsq import SHRINK
from model.token2wav.s3_tokenizer import FRAMES_PER_CODE, Block, SpeechTokenizer, rotary
from model.training import batches, loop
from model.training.corpus import Corpus
from model.training.encoder import IGNORED, ctc_loss, edit_distance, frame_targets
from model.training.units import BLANK, symbols, units
from model.training.voice import hearing, sizes
from model.training.voice.corpus import VoiceCorpus
from model.training.voice.hearing import Heard

logger = logging.getLogger(__name__)
LISTENING_BLOCKS = 2
SPREAD = 1.27
"""Standard deviation before tanh at which normal values fall on each of three levels equally often."""
FIXED_FROM = 0.6
"""From this share of the run on the running statistics are used, as after training."""
ROUNDED_FROM, ROUNDED_AT = 0.05, 0.25
"""Until the first share of the run no clip is rounded, from the second on every clip is."""
TIMED_SHARE, CLEAN_SHARE = 0.2, 0.1
"""See `model.training.encoder`: known word times help first; the first mels are not augmented."""
SOUND_WEIGHT, ALIKE_WEIGHT = 0.3, 0.3
SOUND_SCALE = 3.0
"""Brings the differences of a log-mel to a standard deviation of about 1."""


class Spelled(NamedTuple):
    """What a batch becomes."""

    log_probs: Tensor
    """Of every symbol, [clip, code, symbol]."""
    sound: Tensor
    """Guessed movement of the spectrum, [clip, code, mel]; see `spectrum_movement`."""
    numbers: Tensor
    """What was rounded, float32 [clip, code, digit] in -1..1."""
    codes: Tensor
    """int64 [clip, code]."""
    valid: Tensor
    """Which of them lie inside their clip, bool [clip, code]."""


class Speller(nn.Module):
    """The tokenizer with the heads it is trained by."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        if config.fsq_levels != 3:
            expected, todo = "3 levels: the spread is chosen for them", "Change `fsq_digits` for another codebook size."
            raise OptionsError("train a tokenizer", found=f"{config.fsq_levels} levels", expected=expected, todo=todo)
        width = config.n_audio_state
        self.tokenizer = SpeechTokenizer(config)
        for conv in (self.tokenizer.encoder.conv1, self.tokenizer.encoder.conv2):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        self.level = nn.BatchNorm1d(config.fsq_digits, affine=False, momentum=0.02)
        self.folded = False
        self.lift = nn.Linear(config.fsq_digits, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(LISTENING_BLOCKS))
        self.norm = nn.LayerNorm(width)
        self.spell = nn.Linear(width, len(symbols()))
        self.draw = nn.Sequential(
            nn.Conv1d(config.fsq_digits, width, 5, padding=2), nn.GELU(), nn.Conv1d(width, config.n_mels, 1)
        )

    def forward(self, mels: Tensor, lens: Tensor, rounded: Tensor | None = None) -> Spelled:
        """Quantise and spell.

        Args:
            mels: [clip, 128, T] at 100 Hz.
            lens: Valid frames, [clip].
            rounded: Which clips are rounded, bool [clip]; None is all of them.
        """
        hidden, counts = self.tokenizer.encoder(mels, lens)
        valid = torch.arange(hidden.shape[1], device=counts.device) < counts[:, None]
        free = self._numbers(hidden, valid)
        values = free + (free.round() - free).detach()
        codes = self.tokenizer.quantizer.codes_of(values)
        if rounded is not None:
            values = torch.where(rounded[:, None, None], values, free)
        x, turn = self.lift(values), rotary(values.shape[1], self.tokenizer.encoder.head_width, values.device)
        for block in self.blocks:
            x = block(x, valid, turn)
        x = F.dropout(self.norm(x), 0.05, self.training)
        sound = self.draw((values * valid[..., None]).transpose(1, 2)).transpose(1, 2)
        return Spelled(self.spell(x).float().log_softmax(-1), sound.float(), free, codes, valid)

    def _numbers(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """Return what is about to be rounded, float32 [clip, code, digit] in -1..1, normalised unless folded."""
        quantizer = self.tokenizer.quantizer
        if self.folded:
            return quantizer.bound(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            numbers = quantizer._codebook.project_down(hidden.float())
            levelled = torch.zeros_like(numbers)
            levelled[valid] = SPREAD * self.level(numbers[valid])
            return levelled.tanh() * SHRINK

    @torch.no_grad()
    def fold(self) -> None:
        """Put the normalisation into the projection: from here on the tokenizer alone makes the same codes."""
        project = self.tokenizer.quantizer._codebook.project_down
        scale = SPREAD / (self.level.running_var + self.level.eps).sqrt()
        project.weight.mul_(scale[:, None])
        project.bias.copy_((project.bias - self.level.running_mean) * scale)
        self.folded = True

    @torch.no_grad()
    def balance(self, mels: Tensor, lens: Tensor) -> None:
        """Start the quantiser on the whitened main axes of what the encoder says about a batch."""
        hidden, counts = self.tokenizer.encoder(mels, lens)
        kept = hidden[torch.arange(hidden.shape[1], device=counts.device) < counts[:, None]].double()
        mean = kept.mean(0)
        variances, axes = torch.linalg.eigh((kept - mean).T @ (kept - mean) / len(kept))
        project = self.tokenizer.quantizer._codebook.project_down
        n_digits = project.out_features
        # Turned at random within the chosen axes: each number is then near normal, none is loudness alone.
        turn, _ = torch.linalg.qr(torch.randn(n_digits, n_digits, dtype=torch.float64).to(kept.device))
        weight = turn @ (axes[:, -n_digits:].T / variances[-n_digits:, None].clamp(min=1e-8).sqrt())
        project.weight.copy_(weight)
        project.bias.copy_(-weight @ mean)


def spectrum_movement(mels: Tensor, lens: Tensor) -> Tensor:
    """Return the log-mel of every code relative to the clip's mean, [clip, code, mel], about unit variance.

    Args:
        mels: [clip, mel, T] at 100 Hz, T at least the longest.
        lens: Valid frames, [clip].
    """
    whole = F.pad(mels, (0, -mels.shape[2] % FRAMES_PER_CODE))
    coarse = whole.unflatten(2, (-1, FRAMES_PER_CODE)).mean(3).transpose(1, 2)
    inside = torch.arange(coarse.shape[1], device=lens.device) < (lens // FRAMES_PER_CODE)[:, None]
    mean = (coarse * inside[..., None]).sum(1) / inside.sum(1, keepdim=True).clamp(min=1)
    return (coarse - mean[:, None]) * SOUND_SCALE


def alike_loss(numbers: Tensor) -> Tensor:
    """Mean squared correlation between the numbers that make a code, [code, digit] -> scalar in 0..1."""
    centred = numbers - numbers.mean(0)
    unit = centred / (centred.square().sum(0) + 1e-6).sqrt()
    correlation = unit.T @ unit
    n_digits = len(correlation)
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / (n_digits * (n_digits - 1))


def timed_loss(log_probs: Tensor, clips: Sequence[Heard]) -> Tensor:
    """Frame-wise loss on clips with known word times; 0 if there is none."""
    if not any(clip.words for clip in clips):
        return log_probs.new_zeros(())
    labels = torch.stack([frame_targets(clip, log_probs.shape[1]) for clip in clips]).to(log_probs.device)
    return F.nll_loss(log_probs.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def codebook_use(codes: Tensor, n_codes: int) -> tuple[float, float]:
    """Return the perplexity of the codes (how many equally frequent ones would be as varied) and the share in use."""
    counts = torch.bincount(codes.flatten(), minlength=n_codes).double()
    p = counts[counts > 0] / counts.sum()
    return float(torch.exp(-(p * p.log()).sum())), len(p) / n_codes


# --- report -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def measure(speller: Speller, clips: Sequence[Heard], device: torch.device) -> dict[str, float]:
    """Symbol errors per reference symbol (CTC, greedy), perplexity and share of the codes, error of the sound."""
    speller.eval()
    errors = total = 0
    codes, sound = [], []
    for batch in batches.epoch(clips, frame_budget=12_000, rng=np.random.default_rng(0)):
        mels, lens = (x.to(device) for x in hearing.collate(batch))
        with torch.autocast(device.type, torch.bfloat16):
            spelled = speller(mels, lens)
        codes.append(spelled.codes[spelled.valid].cpu())
        sound.append((spelled.sound - spectrum_movement(mels, lens))[spelled.valid].abs().mean(-1).cpu())
        for clip, best, count in zip(batch, spelled.log_probs.argmax(-1).cpu(), spelled.valid.sum(1).tolist()):
            wrong, n = _errors(best[:count].tolist(), clip)
            errors, total = errors + wrong, total + n
    speller.train()
    perplexity, used = codebook_use(torch.cat(codes), speller.tokenizer.config.n_codes)
    return {
        "symbol_error": errors / max(total, 1), "perplexity": perplexity, "used": used,
        "sound": float(torch.cat(sound).mean()),
    }  # fmt: skip


def _errors(path: Sequence[int], clip: Heard) -> tuple[int, int]:
    """Count the errors of a best path, and the symbols that it should have."""
    guess = [s for k, s in enumerate(path) if s != BLANK and (k == 0 or path[k - 1] != s)]
    truth = units(clip.clip.text, clip.clip.language)
    return edit_distance(guess, truth), len(truth)


# --- the stage ----------------------------------------------------------------------------------------------------


class TokenizerStage:
    """Spelling through codes; see `loop.Stage`."""

    weight_decay = 0.02
    lr_shares: ClassVar[dict[str, float]] = {}

    def __init__(
        self,
        corpora: Sequence[Corpus | VoiceCorpus],
        *,
        config: TokenizerConfig,
        frames: int,
        device: torch.device,
        rng: np.random.Generator,
        sound_weight: float = SOUND_WEIGHT,
    ):
        self.frames, self.device, self.rng, self.sound_weight = frames, device, rng, sound_weight
        self.clips, self.watched = hearing.with_words(corpora)
        self.noises = [n for c in corpora if isinstance(c, Corpus) for n in batches.noise_mels(c)]
        self.module = Speller(config).to(device)
        first = [self.clips[i] for i in rng.permutation(len(self.clips))[:24]]
        self.module.balance(*(x.to(device) for x in hearing.collate(first)))

    def batches(self, progress: float) -> Iterator[list[Heard]]:
        """All clips once."""
        return batches.epoch(self.clips, frame_budget=self.frames, rng=self.rng)

    def loss(self, batch: list[Heard], progress: float) -> tuple[Tensor, dict[str, float]]:
        """CTC, known word times at first, the sound, and the spread of the codes."""
        clean, lens = hearing.collate(batch)
        heard = clean
        if progress >= CLEAN_SHARE:
            heard, _ = hearing.collate(batch, rng=self.rng, noises=self.noises)
        clean, heard, lens = (x.to(self.device) for x in (clean, heard, lens))
        self.module.level.train(progress < FIXED_FROM)
        share = (progress - ROUNDED_FROM) / (ROUNDED_AT - ROUNDED_FROM)
        rounded = torch.from_numpy(self.rng.random(len(batch)) < share).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            spelled = self.module(heard, lens, rounded)
        ctc = ctc_loss(spelled.log_probs, spelled.valid.sum(1), batch)
        # The clean sound is the target: the codes learn to leave noise and the vocal tract out.
        sound = (spelled.sound - spectrum_movement(clean, lens))[spelled.valid].abs().mean()
        alike = alike_loss(spelled.numbers[spelled.valid])
        loss = ctc + self.sound_weight * sound + ALIKE_WEIGHT * alike
        if progress < TIMED_SHARE:
            loss = loss + 2 * (1 - progress / TIMED_SHARE) * timed_loss(spelled.log_probs, batch)
        perplexity, _ = codebook_use(spelled.codes[spelled.valid].cpu(), self.module.tokenizer.config.n_codes)
        numbers = {"ctc": ctc.item(), "sound": sound.item(), "alike": alike.item(), "batch_perplexity": perplexity}
        return loss, numbers

    def report(self) -> dict[str, float]:
        """Numbers on the watched clips, voice and recognition corpora apart."""
        rows: dict[str, float] = {}
        for name, kind in (("voice", VoiceCorpus), ("heard", Corpus)):
            clips = [clip for clip in self.watched if isinstance(clip.corpus, kind)]
            if clips:
                rows |= {f"{name}_{k}": v for k, v in measure(self.module, clips, self.device).items()}
        return rows


def save(tokenizer: SpeechTokenizer, folder: Path) -> Path:
    """Write the weights in half precision, and the sizes of the voice; returns the file."""
    return sizes.save_weights(tokenizer, folder / sizes.TOKENIZER_FILE)


def load(folder: Path) -> SpeechTokenizer:
    """Read what `save` wrote, ready to use."""
    from safetensors.torch import load_file

    tokenizer = SpeechTokenizer(Token2WavConfig.from_folder(folder).tokenizer)
    tokenizer.load_state_dict(load_file(folder / sizes.TOKENIZER_FILE))
    return tokenizer.float().eval()


@torch.inference_mode()
def corpus_codes(tokenizer: SpeechTokenizer, corpus: VoiceCorpus) -> list[np.ndarray]:
    """Encode every clip of a corpus, in the order of its rows; each int16 [code]."""
    made: dict[str, np.ndarray] = {}
    tokenizer.eval()
    device = tokenizer.encoder.conv1.weight.device
    clips = [Heard(corpus, row) for row in corpus.rows]
    for batch in batches.epoch(clips, frame_budget=12_000, rng=np.random.default_rng(0)):
        mels, lens = (x.to(device) for x in hearing.collate(batch))
        codes, counts = tokenizer(mels, lens)
        for clip, own, count in zip(batch, codes.cpu().numpy(), counts.tolist()):
            made[clip.clip.id] = own[:count].astype(np.int16)
    return [made[row.clip.id] for row in corpus.rows]


def final_report(speller: Speller, folder: Path, device: torch.device) -> dict[str, dict[str, float]]:
    """Measure on the corpora that lie below a voice corpus and were never trained on."""
    found = {}
    for name in ("test", "people_test"):
        if not any((folder / name).glob("shard_*.jsonl")):
            continue
        clips = hearing.everything(VoiceCorpus(folder / name))
        for language in sorted({clip.clip.language for clip in clips}):
            own = [clip for clip in clips if clip.clip.language == language]
            found[f"{name}_{language}"] = measure(speller, own, device)
    return found


def train(args: argparse.Namespace) -> Path:
    """Run the stage; returns the file of the averaged weights."""
    device = loop.pick_device(args.device)
    torch.manual_seed(args.seed)
    run, clock = loop.Run(args.run, vars(args)), loop.Clock(args.steps, args.minutes)
    rng = np.random.default_rng([args.seed, run.resumed_step()])
    corpora = [VoiceCorpus(args.corpus), *(Corpus(folder) for folder in args.heard)]
    stage = TokenizerStage(
        corpora, config=sizes.TOKENIZER, frames=args.frames, device=device, rng=rng, sound_weight=args.sound
    )
    average = loop.train_stage(stage, run, clock, peak_lr=args.lr, report_every=args.report_every)
    stage.module.load_state_dict(average.values)
    stage.module.fold()
    # Measured as shipped: in half precision.
    stage.module.load_state_dict({k: v.half().float() for k, v in stage.module.state_dict().items()})
    found = {"watched": stage.report(), **final_report(stage.module, args.corpus, device)}
    (run.folder / "report.json").write_text(json.dumps(found, indent=1))
    for name, numbers in found.items():
        logger.info("%s: %s", name, ", ".join(f"{k} {v:.4g}" for k, v in numbers.items()))
    return save(stage.module.tokenizer, args.out)


def build_parser() -> argparse.ArgumentParser:
    """Flags of the stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    loop.add_flags(parser, run=Path("runs/voice_tokenizer"), peak_lr=1.5e-3)
    parser.add_argument("--heard", type=Path, nargs="*", default=[], help="corpora of model.training.corpus, as well")
    parser.add_argument("--sound", type=float, default=SOUND_WEIGHT, help="weight of the spectrum beside recognition")
    parser.add_argument("--out", type=Path, default=sizes.FOLDER)
    parser.set_defaults(corpus=Path("runs/voice"))
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(build_parser().parse_args())
