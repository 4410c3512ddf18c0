"""Stage 3: every task at once, from the checkpoint that can transcribe (vocabulary extension and main stage).

    items of `mixture`  -->  ids with placeholders, labels on the reply only  -->  batches of like length

The loss is next-token cross-entropy on the reply and its end, and CTC on the sound, which keeps the encoder's ear; the
encoder goes on learning at a low rate, for who speaks and how was no concern of the stage before.

    python -m model.training.multitask --init model/nano --minutes 90

Source: Step-Audio 2 (arXiv 2507.16632) section 4.1, main stage, at this project's size.
"""

import argparse
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.messages import PLAIN, Message
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.processing_step_audio_2 import StepAudio2Processor
from model.tasks.audio_questions import AudioQuestions
from model.tasks.tool_calls import ToolUse
from model.tasks.translation import Translation
from model.training import batches, loop
from model.training.asr import CTC_WEIGHT, IGNORED, LABEL_SMOOTHING, load_listener
from model.training.carry import carry_over
from model.training.corpus import Corpus
from model.training.encoder import Listener, ctc_loss
from model.training.mixture import WEIGHTS, Item, Mixture, Reading, Stored
from model.training.nano import HIDDEN_SIZE, nano_config, save_nano
from model.training.voice import sizes
from model.training.voice.corpus import VoiceCorpus
from model.training.voice.prepared import prepare_codes

logger = logging.getLogger(__name__)
POOL = 640
"""Items that are drawn at once and sorted by length."""
HISTORY_NOISE = {"asr": 0.25, "translation": 0.1}
"""Share of the reply's inputs replaced by a random token, by task; elsewhere the reply follows from itself."""
OTHER_NOISE = 0.05
ENCODER_LR_SHARE = 0.3
WATCHED_ITEMS = 240


@dataclass(frozen=True, eq=False)
class Laid:
    """An item as ids."""

    item: Item
    prompt: list[int]
    reply: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.reply)

    @property
    def frames(self) -> int:
        """Mel frames of its recordings."""
        return sum(sound.row.frames for sound in self.item.heard)


def _no_mel(_: object) -> Tensor:
    return torch.zeros(0, 0)


def lay(item: Item, processor: StepAudio2Processor) -> Laid:
    """Write an item as ids; the reply ends in the end of the turn."""
    prompt = processor.encode(item.conversation, front_end=_no_mel).ids
    reply = processor.encode((Message(PLAIN, item.reply, closed=False),)).ids
    if prompt[-1] == reply[0] == processor.ids.tts_start:  # the prompt of a spoken turn ends in what speech begins with
        reply = reply[1:]
    return Laid(item, prompt, [*reply, processor.ids.eot])


def cut(laid: Sequence[Laid], *, positions: int, frames: int, rng: np.random.Generator) -> list[list[Laid]]:
    """Batches of items of like length, each within a budget of padded positions and of mel frames, in random order."""
    made: list[list[Laid]] = [[]]
    heard = 0
    for one in sorted(laid, key=lambda each: len(each) + rng.uniform(0, 12)):
        too_long = max(len(one), *map(len, made[-1]), 0) * (len(made[-1]) + 1) > positions
        if made[-1] and (too_long or heard + one.frames > frames):
            made.append([])
            heard = 0
        made[-1].append(one)
        heard += one.frames
    return [made[k] for k in rng.permutation(len(made))]


@dataclass(frozen=True, eq=False)
class Batch:
    """Right-padded ids."""

    ids: Tensor
    """[item, position]."""
    labels: Tensor
    """[item, position]; `IGNORED` but for the reply."""
    mask: Tensor
    """[item, position]; 1 is real."""


def stack(laid: Sequence[Laid], pad: int, rng: np.random.Generator | None) -> Batch:
    """Pad items to one batch; `rng` replaces some of the reply's inputs by random tokens."""
    longest = max(map(len, laid))
    ids = torch.full((len(laid), longest), pad)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for k, one in enumerate(laid):
        start, end = len(one.prompt), len(one)
        seen = np.asarray(one.reply)
        if rng is not None:
            noisy = rng.random(len(seen)) < HISTORY_NOISE.get(one.item.task, OTHER_NOISE)
            seen = np.where(noisy, rng.integers(0, pad, len(seen)), seen)
        ids[k, :end] = torch.tensor(one.prompt + seen.tolist())
        labels[k, start:end] = torch.tensor(one.reply)
        mask[k, :end] = 1
    return Batch(ids, labels, mask)


class MultitaskStage:
    """Everything at once; see `loop.Stage`."""

    weight_decay = 0.03

    def __init__(
        self,
        train: Mixture,
        watched: Mixture,
        processor: StepAudio2Processor,
        *,
        encoder: Path | None,
        frames: int,
        positions: int,
        device: torch.device,
        rng: np.random.Generator,
        noises: Sequence[np.ndarray] = (),
    ):
        self.train_items, self.processor, self.noises = train, processor, noises
        self.frames, self.positions, self.device, self.rng = frames, positions, device, rng
        self.watched = [lay(item, processor) for item in watched.items(WATCHED_ITEMS)]
        self.listener = load_listener(encoder) if encoder else Listener({}, HIDDEN_SIZE)
        self.model = StepAudio2ForCausalLM(nano_config(processor.ids, len(processor.tokenizer)))
        self.model.encoder = self.listener.encoder
        self.model.encoder.positional_embedding.requires_grad_(False)
        self.model.model.set_attn_implementation("eager")  # its backward is several times faster than sdpa's on a CPU
        self.module = nn.ModuleDict({"model": self.model, "spell": self.listener.spell}).to(device)
        self.lr_shares = {"model.encoder": ENCODER_LR_SHARE, "spell": ENCODER_LR_SHARE}

    def batches(self, progress: float) -> Iterator[list[Laid]]:
        """A pool of fresh items."""
        laid = [lay(item, self.processor) for item in self.train_items.items(POOL)]
        return iter(cut(laid, positions=self.positions, frames=self.frames, rng=self.rng))

    def _hear(self, sounds: Sequence[Stored], rng: np.random.Generator | None) -> tuple[list[Tensor], Tensor]:
        """Adaptor outputs per recording, and the CTC loss of those with words."""
        stored = [sound.corpus.mel(sound.row) for sound in sounds]
        mels, lens = batches.stack_mels(stored, rng=rng, noises=self.noises)
        hidden, counts = self.model.encoder(mels.to(self.device), lens.to(self.device), attentions=[])
        mapped, n_valid = self.model.adapter(hidden, counts)
        log_probs = self.module["spell"](hidden).float().log_softmax(-1)
        features = [clip[:n] for clip, n in zip(mapped, n_valid.tolist(), strict=True)]
        return features, ctc_loss(log_probs, counts, [sound.row for sound in sounds])

    def _logits(self, laid: Sequence[Laid], rng: np.random.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and labels of the reply positions, [position, token] and [item, position], and the CTC loss."""
        batch = stack(laid, self.processor.ids.pad, rng)
        ids = batch.ids.to(self.device)
        embeds = self.model.get_input_embeddings()(ids).clone()
        sounds = [sound for one in laid for sound in one.item.heard]
        ctc = embeds.new_zeros(())
        if sounds:
            features, ctc = self._hear(sounds, rng)
            starts = (ids == self.model.config.audio_start_token_id).nonzero().tolist()
            for (k, at), feature in zip(starts, features, strict=True):
                embeds[k, at + 1 : at + 1 + len(feature)] = feature.to(embeds.dtype)
        out = self.model.model(inputs_embeds=embeds, attention_mask=batch.mask.to(self.device), use_cache=False)
        labels = batch.labels.to(self.device)
        wanted = labels[:, 1:] != IGNORED
        return self.model.lm_head(out.last_hidden_state[:, :-1][wanted]).float(), labels[:, 1:], ctc

    def loss(self, batch: list[Laid], progress: float) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the replies, and CTC of what was heard."""
        with torch.autocast(self.device.type, torch.bfloat16):
            logits, labels, ctc = self._logits(batch, self.rng)
        loss = F.cross_entropy(logits, labels[labels != IGNORED], label_smoothing=LABEL_SMOOTHING)
        return loss + CTC_WEIGHT * ctc, {"loss": loss.item(), "ctc": ctc.item()}

    @torch.no_grad()
    def report(self) -> dict[str, float]:
        """Share of reply tokens of the watched items that would have been written, by task, given those before."""
        self.module.eval()
        right: dict[str, list[bool]] = defaultdict(list)
        for laid in cut(self.watched, positions=self.positions, frames=self.frames, rng=np.random.default_rng(0)):
            with torch.autocast(self.device.type, torch.bfloat16):
                logits, labels, _ = self._logits(laid, None)
            hits = iter((logits.argmax(-1) == labels[labels != IGNORED]).tolist())
            for one in laid:
                right[one.item.task] += [next(hits) for _ in one.reply]
        self.module.train()
        return {f"right_{task}": float(np.mean(right[task])) if right[task] else np.nan
                for task in self.train_items.sources}  # fmt: skip

    def save_encoder(self, path: Path) -> None:
        """Write the encoder with its heads as stage 1 does, so that a later run can go on from it."""
        listener = self.listener.cpu()
        torch.save({"listener": listener.state_dict(), "classes": listener.classes, "llm_dim": HIDDEN_SIZE}, path)


def open_corpora(args: argparse.Namespace) -> list[Corpus | None]:
    """Sentences, sounds, spoken questions and talk; None for those that are not there."""
    folders = (args.corpus, args.sounds / "train", args.sounds / "train_questions", args.talks / "train")
    found = [Corpus(folder) if folder.is_dir() else None for folder in folders]
    if found[0] is None:
        raise FileNotFoundError(
            f"There is no corpus in {args.corpus}; make one with `python -m model.training.corpus`."
        )
    return found


def trained_tasks(sources: Iterable[str]) -> list[str]:
    """Names by which the app knows what a mixture teaches."""
    other = {"typed": Translation.name, "choices": AudioQuestions.name, "tools": ToolUse.name}
    return list(dict.fromkeys(other.get(name, name) for name in sources))


def open_readings(args: argparse.Namespace) -> tuple[list[Reading], list[Reading]]:
    """Texts with the codes of the trained speech tokenizer, those to train on and those to watch; none without one."""
    if not (args.token2wav / sizes.TOKENIZER_FILE).is_file() or not args.voice.is_dir():
        return [], []
    corpus = VoiceCorpus(args.voice)
    codes = prepare_codes(corpus, args.token2wav)
    made = {id(row): Reading(row.clip.text, tuple(map(int, own))) for row, own in zip(corpus.rows, codes, strict=True)}
    train, watched = ([made[id(row)] for row in rows if row.clip.text] for rows in corpus.split())
    return train, watched


def train(args: argparse.Namespace) -> Path:
    """Run the stage and write the checkpoint folder."""
    torch.manual_seed(args.seed)
    processor = StepAudio2Processor.from_pretrained(args.out if (args.out / "tokenizer.json").exists() else args.init)
    run, clock = loop.Run(args.run, vars(args)), loop.Clock(args.steps, args.minutes)
    rng = np.random.default_rng([args.seed, run.resumed_step()])
    corpora, readings = open_corpora(args), open_readings(args)
    weights = {task: WEIGHTS[task] for task in args.tasks}
    watched = Mixture(*corpora, readings, rng=np.random.default_rng(args.seed), watched=True, weights=weights)
    stage = MultitaskStage(
        Mixture(*corpora, readings, rng=rng, weights=weights),
        watched,
        processor,
        encoder=args.encoder if args.encoder.exists() else None,
        frames=args.frames,
        positions=args.positions,
        device=loop.pick_device(args.device),
        rng=rng,
        noises=batches.noise_mels(corpora[0]),
    )
    known = carry_over(stage.model, processor.tokenizer, args.init)
    logger.info("went on from %s: %d of %d tokens known", args.init, known, len(processor.tokenizer))
    average = loop.train_stage(stage, run, clock, peak_lr=args.lr, report_every=args.report_every)
    stage.module.load_state_dict(average.values)
    logger.info("averaged weights: %s", stage.report())
    stage.model.config.trained_tasks = trained_tasks(stage.train_items.sources)
    save_nano(stage.model, args.out)
    processor.tokenizer.save_pretrained(args.out)
    stage.save_encoder(run.folder / "encoder.pt")
    return args.out


def build_parser() -> argparse.ArgumentParser:
    """Flags of the stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--init", type=Path, default=Path("model/nano"), help="checkpoint folder to go on from")
    parser.add_argument(
        "--encoder", type=Path, default=Path("runs/asr/encoder.pt"), help="its encoder with heads, if that is there"
    )
    parser.add_argument("--sounds", type=Path, default=Path("runs/task_corpus"))
    parser.add_argument("--talks", type=Path, default=Path("runs/talk_corpus"))
    parser.add_argument("--voice", type=Path, default=Path("runs/voice"), help="sound to learn to speak from")
    parser.add_argument(
        "--token2wav", type=Path, default=Path("model/nano/token2wav"), help="where the trained speech tokenizer lies"
    )
    parser.add_argument("--tasks", nargs="+", default=list(WEIGHTS), choices=list(WEIGHTS), help="only these")
    parser.add_argument("--positions", type=int, default=3600, help="padded decoder positions in a batch")
    parser.add_argument("--out", type=Path, default=Path("model/nano"), help="checkpoint folder to write")
    loop.add_flags(parser, run=Path("runs/multitask"), peak_lr=8e-4)
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(build_parser().parse_args())
