"""Stage 2: let the decoder read the encoder's sound (adaptor alignment), then write what was said (ASR).

Short clips first, then all; the loss is next-token cross-entropy on the transcript and the end-of-turn token, in the
official ASR prompt. The encoder goes on learning at a lower rate, held to its spelling by the CTC loss of stage 1: two
hours of training are too few to freeze it as early as the paper does. Later stages keep it frozen.

    python -m model.training.asr --corpus runs/corpus/train --encoder runs/encoder/encoder.pt --minutes 45

Source: Step-Audio 2 (arXiv 2507.16632) section 4.1: adaptor trained on ASR data (there with a frozen encoder).
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.processing_step_audio_2 import StepAudio2Processor
from model.tasks.asr import ASR
from model.training import batches, guide, loop
from model.training.carry import carry_over
from model.training.corpus import Corpus, Row, sentence_case
from model.training.encoder import Listener, ctc_loss
from model.training.nano import HIDDEN_SIZE, nano_config, save_nano
from model.training.tokenizer import save_tokenizer

logger = logging.getLogger(__name__)
IGNORED = -100
SHORT_FRAMES = 170
SHORT_SHARE = 0.12
"""The first part of the run sees short clips only: attention finds the sound sooner where there is little of it."""
ENCODER_ONLY = ("librispeech", "ljspeech", "cmn_hsk_words", "pinyin_sounds")
"""Sets that teach the encoder to hear but have words that the decoder could only guess at."""
HISTORY_NOISE = 0.25
"""Share of transcript inputs replaced by a random token, so that the decoder listens instead of guessing on."""
LABEL_SMOOTHING = 0.05
ENCODER_LR_SHARE, CTC_WEIGHT = 0.4, 0.3
GUIDE_WEIGHT, GUIDED_SHARE = 0.5, 0.7


class Prompt:
    """The ids around a clip in the official ASR conversation; the same as the processor makes, without its sound."""

    def __init__(self, processor: StepAudio2Processor):
        self.processor, ids = processor, processor.ids
        silence = Waveform(np.zeros(INPUT_SAMPLE_RATE_HZ, np.float32), INPUT_SAMPLE_RATE_HZ)
        around = processor.encode(ASR().conversation(silence)).ids
        first = around.index(ids.audio_start) + 1
        self.before, self.after = around[:first], around[around.index(ids.audio_end) :]
        self.patch, self.eot, self.pad = ids.audio_patch, ids.eot, ids.pad

    def ids(self, n_patches: int) -> list[int]:
        """Prompt ids of a clip that takes `n_patches` positions, up to the open assistant turn."""
        return [*self.before, *[self.patch] * n_patches, *self.after]


def transcript(row: Row) -> str:
    """What the model should write for a clip."""
    return row.clip.text if row.clip.source == "world" else sentence_case(row.clip.text)


def speaks(row: Row) -> bool:
    """Whether the clip belongs to the ASR stage: words of the world, no open vocabulary, no syllables or homophones."""
    return bool(row.clip.text) and row.clip.language in ("en", "zh") and row.clip.source not in ENCODER_ONLY


class Packed(NamedTuple):
    """A right-padded batch of prompts with their transcripts."""

    ids: Tensor
    """[clip, position]."""
    labels: Tensor
    """[clip, position]; `IGNORED` but for transcript and end of turn."""
    mask: Tensor
    """[clip, position]; 1 is real."""
    looks: list[tuple[int, int, int, int]]
    """(clip, query, first key, last key): where known words were spoken, see `guide`."""

    def to(self, device: torch.device) -> "Packed":
        """The same on another device."""
        return Packed(self.ids.to(device), self.labels.to(device), self.mask.to(device), self.looks)


def pack(
    prompt: Prompt, rows: Sequence[Row], counts: Sequence[int], rng: np.random.Generator | None, vocabulary: int
) -> Packed:
    """Lay out prompts and transcripts of clips that take `counts` audio positions; `rng` adds noise to the history."""
    sequences, wanted = [], []
    for clip, (row, count) in enumerate(zip(rows, counts, strict=True)):
        start, text = prompt.ids(count), transcript(row)
        encoded = prompt.processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        target = [*encoded["input_ids"], prompt.eot]
        seen = np.asarray(target)
        if rng is not None:
            noisy = rng.random(len(seen)) < HISTORY_NOISE
            seen = np.where(noisy, rng.integers(0, vocabulary, len(seen)), seen)
        sequences.append((start + seen.tolist(), [IGNORED] * len(start) + target))
        first = len(prompt.before)
        for look in guide.looks(row, text, encoded["offset_mapping"], count):
            wanted.append((clip, len(start) + look.token - 1, first + look.first, first + look.last))
    longest = max(len(ids) for ids, _ in sequences)
    ids = torch.tensor([i + [prompt.pad] * (longest - len(i)) for i, _ in sequences])
    labels = torch.tensor([t + [IGNORED] * (longest - len(t)) for _, t in sequences])
    mask = torch.tensor([[1] * len(i) + [0] * (longest - len(i)) for i, _ in sequences])
    return Packed(ids, labels, mask, wanted)


def loss_of(model: StepAudio2ForCausalLM, features: list[Tensor], packed: Packed) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy over the labelled positions (only those go through the output layer), and the guide loss.

    The guide loss is 0 unless the decoder runs eager attention, which alone returns its weights.
    """
    embeds = model.get_input_embeddings()(packed.ids).clone()
    start = model.config.audio_start_token_id
    for k, feature in enumerate(features):
        at = int((packed.ids[k] == start).nonzero()[0]) + 1
        embeds[k, at : at + len(feature)] = feature.to(embeds.dtype)
    eager = model.model.config._attn_implementation == "eager"
    out = model.model(
        inputs_embeds=embeds,
        attention_mask=packed.mask,
        use_cache=False,
        output_attentions=eager and bool(packed.looks),
    )
    wanted = packed.labels[:, 1:] != IGNORED
    logits = model.lm_head(out.last_hidden_state[:, :-1][wanted]).float()
    loss = F.cross_entropy(logits, packed.labels[:, 1:][wanted], label_smoothing=LABEL_SMOOTHING)
    guided = guide.guide_loss(out.attentions[guide.LAYER], packed.looks) if out.attentions else loss.new_zeros(())
    return loss, guided


@torch.no_grad()
def transcribe_rows(model, prompt: Prompt, corpus: Corpus, rows: Sequence[Row], device, max_new: int = 48) -> list[str]:
    """Greedy transcripts of corpus rows, in their order (batched, cached)."""
    model.eval()
    texts: dict[str, str] = {}
    for batch in batches.epoch(rows, frame_budget=16_000, rng=np.random.default_rng(0)):
        mels, lens = batches.collate(corpus, batch)
        features = model.get_audio_features(mels.to(device), lens.to(device))
        ids, mask = _left_padded([prompt.ids(len(f)) for f in features], prompt.pad)
        out = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            audio_features=features,
            max_new_tokens=max_new,
            do_sample=False,
            eos_token_id=prompt.eot,
            pad_token_id=prompt.pad,
        )
        for row, new in zip(batch, out[:, ids.shape[1] :].tolist(), strict=True):
            texts[row.clip.id] = prompt.processor.tokenizer.decode(new, skip_special_tokens=True)
    model.train()
    return [texts[row.clip.id] for row in rows]


def _left_padded(sequences: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    longest = max(map(len, sequences))
    ids = torch.tensor([[pad] * (longest - len(s)) + s for s in sequences])
    mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences])
    return ids, mask


def error_rates(truths: Sequence[Row], guesses: Sequence[str]) -> dict[str, float]:
    """WER of the English and CER of the Mandarin rows."""
    from model.tasks.metrics import cer, wer

    rates = {}
    for language, metric in (("en", wer), ("zh", cer)):
        pairs = [(transcript(r), g) for r, g in zip(truths, guesses, strict=True) if r.clip.language == language]
        if pairs:
            rates[language] = metric([t for t, _ in pairs], [g for _, g in pairs])
    return rates


def load_listener(path: Path) -> Listener:
    """The encoder of stage 1 with its training heads."""
    saved = torch.load(path, weights_only=True)
    listener = Listener(saved["classes"], saved["llm_dim"])
    listener.load_state_dict(saved["listener"])
    return listener


class ASRStage:
    """Transcripts of the training corpus; see `loop.Stage`."""

    weight_decay = 0.03

    def __init__(
        self,
        corpus: Corpus,
        processor: StepAudio2Processor,
        *,
        encoder: Path | None,
        frames: int,
        device: torch.device,
        rng: np.random.Generator,
        augment: bool = True,
        short_share: float = SHORT_SHARE,
    ):
        self.augment, self.short_share = augment, short_share
        self.corpus, self.frames, self.device, self.rng = corpus, frames, device, rng
        self.prompt, self.vocabulary = Prompt(processor), processor.ids.pad
        self.rows, self.watched = ([row for row in part if speaks(row)] for part in corpus.split())
        self.noises = batches.noise_mels(corpus)
        self.listener = listener = load_listener(encoder) if encoder else Listener({}, HIDDEN_SIZE)
        self.model = StepAudio2ForCausalLM(nano_config(processor.ids, len(processor.tokenizer)))
        self.model.encoder = listener.encoder
        self.model.encoder.positional_embedding.requires_grad_(False)
        self.model.model.set_attn_implementation("eager")  # its backward is several times faster than sdpa's on a CPU
        self.module = nn.ModuleDict({"model": self.model, "spell": listener.spell}).to(device)
        self.lr_shares = {"model.encoder": ENCODER_LR_SHARE, "spell": ENCODER_LR_SHARE}

    def batches(self, progress: float) -> Iterator[list[Row]]:
        """All clips once; short ones only at the beginning of the run."""
        short = progress < self.short_share
        rows = [row for row in self.rows if row.frames < SHORT_FRAMES] if short else self.rows
        return batches.epoch(rows, frame_budget=self.frames, rng=self.rng)

    def loss(self, batch: list[Row], progress: float) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the transcripts, and CTC on the encoder."""
        rng = self.rng if self.augment else None
        mels, lens = batches.collate(self.corpus, batch, rng=rng, noises=self.noises)
        with torch.autocast(self.device.type, torch.bfloat16):
            hidden, counts = self.model.encoder(mels.to(self.device), lens.to(self.device), attentions=[])
            mapped, n_valid = self.model.adapter(hidden, counts)
            features = [clip[:n] for clip, n in zip(mapped, n_valid.tolist(), strict=True)]
            packed = pack(self.prompt, batch, n_valid.tolist(), self.rng, self.vocabulary).to(self.device)
            loss, guided = loss_of(self.model, features, packed)
            log_probs = self.module["spell"](hidden).float().log_softmax(-1)
        ctc = ctc_loss(log_probs, counts, batch)
        guidance = GUIDE_WEIGHT * max(0.0, 1 - progress / GUIDED_SHARE)
        numbers = {"loss": loss.item(), "ctc": ctc.item(), "guide": guided.item()}
        return loss + CTC_WEIGHT * ctc + guidance * guided, numbers

    def save_encoder(self, path: Path) -> None:
        """Write the encoder with its heads as stage 1 does, so that a later run can go on from it."""
        listener = self.listener.cpu()
        torch.save({"listener": listener.state_dict(), "classes": listener.classes, "llm_dim": HIDDEN_SIZE}, path)

    def report(self) -> dict[str, float]:
        """WER and CER on the watched clips."""
        texts = transcribe_rows(self.model, self.prompt, self.corpus, self.watched, self.device)
        rates = error_rates(self.watched, texts)
        return {"dev_wer_en": rates.get("en", np.nan), "dev_cer_zh": rates.get("zh", np.nan)}


def _go_on(stage: ASRStage, processor: StepAudio2Processor, folder: Path, *, keep_encoder: bool) -> None:
    heard = {name: value.clone() for name, value in stage.model.encoder.state_dict().items()}
    known = carry_over(stage.model, processor.tokenizer, folder)
    logger.info("went on from %s: %d of %d tokens known", folder, known, len(processor.tokenizer))
    if keep_encoder:
        stage.model.encoder.load_state_dict(heard)


def train(args: argparse.Namespace) -> Path:
    """Run the stage and write the checkpoint folder."""
    torch.manual_seed(args.seed)
    if not (args.out / "tokenizer.json").exists():
        save_tokenizer(args.out)
    processor = StepAudio2Processor.from_pretrained(args.out)
    run, clock = loop.Run(args.run, vars(args)), loop.Clock(args.steps, args.minutes)
    rng = np.random.default_rng([args.seed, run.resumed_step()])
    fresh_heads = args.init and not args.encoder.exists()
    stage = ASRStage(
        Corpus(args.corpus),
        processor,
        encoder=None if fresh_heads else args.encoder,
        frames=args.frames,
        device=loop.pick_device(args.device),
        rng=rng,
        augment=args.augment,
        short_share=0.0 if args.init else SHORT_SHARE,
    )
    if args.init:
        _go_on(stage, processor, args.init, keep_encoder=not fresh_heads)
    average = loop.train_stage(stage, run, clock, peak_lr=args.lr, report_every=args.report_every)
    stage.module.load_state_dict(average.values)
    logger.info("averaged weights: %s", stage.report())
    save_nano(stage.model, args.out)
    stage.save_encoder(run.folder / "encoder.pt")
    return args.out


def build_parser() -> argparse.ArgumentParser:
    """Flags of the stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, default=Path("runs/encoder/encoder.pt"))
    parser.add_argument(
        "--init",
        type=Path,
        help="checkpoint folder to take adaptor and decoder from, and the encoder too if --encoder is not there",
    )
    parser.add_argument(
        "--augment", action=argparse.BooleanOptionalAction, default=True,
        help="blank and blur mels on the fly; short runs that still underfit do better without",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("model/nano"), help="checkpoint folder to write")
    loop.add_flags(parser, run=Path("runs/asr"), peak_lr=1.2e-3)
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(build_parser().parse_args())
