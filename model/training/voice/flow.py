"""Stage 3 of the voice: teach the flow to turn codes into a mel, in any voice it is given.

    another clip of the same speaker     the clip
    |---- prompt: codes and mel ----|---- codes: what to say ----|        as at inference
         mel at time t = (1 - t) * noise + t * mel   --estimator-->   velocity   <-- squared error -- mel - noise

- Every prompt of a batch is equally long: several clips in a row, cut; or the beginning of the clip itself.
- Half of the batches attend everywhere (`Flow.offline`), half in the blocks of a stream (`Flow.step`), whose first
  block has one of several sizes. One network learns both.
- Codes, voice and prompt of a fifth of the clips are hidden: guidance needs the velocity that follows nothing.
- At first the encoder's mean is also pulled towards the mel itself, so that it says something before the estimator
  can read it.

    python -m model.training.voice.flow --corpus runs/voice --run runs/voice_flow --minutes 35

Source: Lipman et al., "Flow Matching for Generative Modeling" (2023); Matcha-TTS (Mehta et al., 2024), the loss of the
mean; CosyVoice 2 (Du et al., 2024), one network for streams and whole utterances.
"""

import argparse
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model.token2wav.config import FlowConfig
from model.token2wav.flow import Flow
from model.token2wav.flow_grid import BlockGrid, Masks
from model.token2wav.token2wav import blocks_of
from model.training import batches, loop
from model.training.voice import sizes
from model.training.voice.corpus import PROMPT_FRAMES, test_corpora, training_corpora
from model.training.voice.prepared import Spoken, by_speaker, prepare

logger = logging.getLogger(__name__)
PROMPT_CODES, PROMPT_SKEW = (15, 125), 3
"""Shortest and longest prompt, 0.6 to 5 s; short ones are drawn more often (uniform to this power), they cost less."""
OWN_SHARE, OWN_LEAST = 0.25, 15
"""How often the beginning of a clip is its own prompt, and how many codes must then be left to say."""
STREAM_SHARE, FIRST_BLOCKS = 0.5, (5, 10, 15, 25)
HIDDEN_SHARE = 0.2
PROMPT_WEIGHT = 0.2
"""Of the frames of the prompt in the loss: the estimator must carry them along, but has them before its eyes."""
MEAN_TIME = 1 - 2 / math.pi
"""Of `spread_times`."""
VOICE_SPREAD = 2.0
"""Of the embedded voice at first; the mels vary by as much."""
MEAN_SHARE = 0.25
"""Over this first share of the run the loss of the encoder's mean fades out."""
WATCHED, WATCHED_PROMPT, WATCHED_STEPS = 12, 75, 10
MEASURED = 48


class Utterances(NamedTuple):
    """A batch: prompts of one length, and what follows each."""

    codes: Tensor
    """int64 [clip, code], prompt first, zeros as padding."""
    mel: Tensor
    """float32 [clip, bin, frame], prompt first, zeros as padding."""
    voice: Tensor
    """float32 [clip, 192]."""
    lens: Tensor
    """Codes that are no padding, int64 [clip]."""
    n_prompt: int
    """Codes of the prompt."""

    def to(self, device: torch.device) -> "Utterances":
        """Return the same on a device."""
        return Utterances(*(x.to(device) for x in self[:4]), self.n_prompt)


def prompt_for(
    clip: Spoken, others: Sequence[Spoken], n_codes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a prompt of exactly `n_codes` in the voice of a clip: other clips in a row, the clip itself if need be.

    Returns:
        Codes [n_codes], mel [2 * n_codes, bin], and the voice of the first of them [192].
    """
    others = [other for other in others if other is not clip] or [clip]
    chosen: list[Spoken] = []
    while sum(len(each.codes) for each in chosen) < n_codes:
        chosen.append(others[rng.integers(len(others))])
    codes = np.concatenate([each.codes for each in chosen])[:n_codes]
    mel = np.concatenate([each.mel for each in chosen])[: PROMPT_FRAMES * n_codes]
    return codes, mel, chosen[0].voice


def collate(
    clips: Sequence[Spoken],
    speakers: Mapping[str, Sequence[Spoken]],
    n_prompt: int,
    rng: np.random.Generator,
    own_share: float = OWN_SHARE,
) -> Utterances:
    """Put a prompt before every clip, or let its own beginning be the prompt."""
    rows = []
    for clip in clips:
        if rng.random() < own_share and len(clip.codes) >= n_prompt + OWN_LEAST:
            rows.append((clip.codes, clip.mel, clip.voice))
        else:
            codes, mel, voice = prompt_for(clip, speakers[clip.row.speaker], n_prompt, rng)
            rows.append((np.concatenate([codes, clip.codes]), np.concatenate([mel, clip.mel]), voice))
    lens = [len(codes) for codes, _, _ in rows]
    codes = np.zeros((len(rows), max(lens)), np.int64)
    mel = np.zeros((len(rows), PROMPT_FRAMES * max(lens), rows[0][1].shape[1]), np.float32)
    for i, (own_codes, own_mel, _) in enumerate(rows):
        codes[i, : lens[i]], mel[i, : len(own_mel)] = own_codes, own_mel
    voice = torch.from_numpy(np.stack([voice for *_, voice in rows]))
    return Utterances(
        torch.from_numpy(codes), torch.from_numpy(mel).transpose(1, 2), voice, torch.tensor(lens), n_prompt
    )


def fresh_flow(config: FlowConfig, mean_mel: Tensor) -> Flow:
    """Return an untrained flow that starts at the mean of all mels, [bin], and hears the voice as loud as the mels."""
    flow, n = Flow(config), config.output_size
    estimator = flow.decoder.estimator
    with torch.no_grad():
        flow.encoder_proj.bias.copy_(mean_mel)
        estimator.final_layer.linear.bias.copy_(mean_mel)
        # Of what the estimator reads, noisy mel and mean mel are far from zero, and would drown what varies in them.
        noisy, mean = estimator.in_proj.weight[:, :n], estimator.in_proj.weight[:, n : 2 * n]
        estimator.in_proj.bias.copy_(-(MEAN_TIME * noisy + mean) @ mean_mel)
    nn.init.normal_(flow.spk_embed_affine_layer.weight, std=VOICE_SPREAD)
    return flow


def spread_times(n: int, generator: torch.Generator) -> Tensor:
    """Draw a time for each of `n` clips, evenly spread over the run of the solver, float32 [n] in 0..1.

    Like the solver's own times they are dense near 0, where the noise still decides.
    """
    even = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    return (1 - torch.cos(even * math.pi / 2))[torch.randperm(n, generator=generator)]


def losses(
    flow: Flow, batch: Utterances, grid: BlockGrid | None, generator: torch.Generator, hidden: float = HIDDEN_SHARE
) -> tuple[Tensor, Tensor]:
    """Return the loss of the velocity and the loss of the encoder's mean, both scalars.

    Args:
        flow: The network.
        batch: What it should say.
        grid: Blocks of a stream; None attends everywhere.
        generator: Draws times, noise and what is hidden; on the CPU.
        hidden: Share of the clips whose codes, voice and prompt are hidden.
    """
    codes, mel, voice, lens, n_prompt = batch
    n, device = len(codes), codes.device
    masks = Masks(*(mask.to(device) for mask in flow.masks(codes.shape[1], n_prompt=n_prompt, grid=grid, lens=lens)))
    mu = flow.encode(codes, n_prompt=0 if grid is None else n_prompt, mask=masks.codes, lens=lens)
    seen = (torch.rand(n, generator=generator) >= hidden).float().to(device)[:, None]
    noise = torch.randn(mel.shape, generator=generator).to(device)
    t = spread_times(n, generator).to(device)
    noisy = (1 - t)[:, None, None] * noise + t[:, None, None] * mel
    cond = torch.zeros_like(mel)
    cond[..., : PROMPT_FRAMES * n_prompt] = mel[..., : PROMPT_FRAMES * n_prompt]
    velocity, _ = flow.decoder.estimator(
        noisy, mu * seen[..., None], t, flow.embed_speaker(voice) * seen, cond * seen[..., None], mask=masks.frames
    )
    frame = torch.arange(mel.shape[-1], device=device)
    weight = (frame < PROMPT_FRAMES * lens[:, None]).float()
    weight[:, : PROMPT_FRAMES * n_prompt] = PROMPT_WEIGHT
    weight = (weight / weight.sum() / mel.shape[1])[:, None]
    off = velocity.float() - (mel - noise)
    return (off.square() * weight).sum(), ((mu.float() - mel).abs() * weight).sum()


@torch.no_grad()
def measure(
    flow: Flow,
    clips: Sequence[Spoken],
    speakers: Mapping[str, Sequence[Spoken]],
    device: torch.device,
    n_steps: Sequence[int] = (WATCHED_STEPS,),
) -> dict[str, float]:
    """Say clips again, each after another clip of its speaker, with fixed noise.

    Returns:
        Loss of the velocity, attending everywhere and in blocks, and the mean distance of the mels (natural log) that
        the solver makes, whole (`mel_l1`, and `mel_l1_6` for another number of steps) and as a stream.
    """
    flow.eval()
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    batch = collate(clips, speakers, WATCHED_PROMPT, rng, own_share=0).to(device)
    found = {
        name: losses(flow, batch, grid, generator, hidden=0.0)[0].item()
        for name, grid in (("velocity", None), ("velocity_stream", blocks_of()))
    }
    far: dict[str, list[float]] = {}
    for i in range(len(clips)):
        codes, mel = batch.codes[i : i + 1, : batch.lens[i]], batch.mel[i : i + 1, :, : PROMPT_FRAMES * batch.lens[i]]
        said, truth = codes[:, WATCHED_PROMPT:], mel[..., PROMPT_FRAMES * WATCHED_PROMPT :]
        prompt = codes[:, :WATCHED_PROMPT], mel[..., : PROMPT_FRAMES * WATCHED_PROMPT], batch.voice[i : i + 1]
        for n in n_steps:
            name = "mel_l1" if n == WATCHED_STEPS else f"mel_l1_{n}"
            made = flow.offline(said, *prompt, n_steps=n)
            far.setdefault(name, []).append((made - truth).abs().mean().item())
        made = flow.offline(said, *prompt, n_steps=WATCHED_STEPS, grid=blocks_of())
        far.setdefault("mel_l1_stream", []).append((made - truth).abs().mean().item())
    flow.train()
    return found | {name: float(np.mean(values)) for name, values in far.items()}


class FlowStage:
    """All clips, each after a prompt; see `loop.Stage`."""

    weight_decay = 0.01
    lr_shares: ClassVar[dict[str, float]] = {}

    def __init__(
        self,
        train: Sequence[Spoken],
        watched: Sequence[Spoken],
        *,
        config: FlowConfig,
        frames: int,
        device: torch.device,
        rng: np.random.Generator,
    ):
        self.frames, self.device, self.rng = frames, device, rng
        self.clips, self.watched = list(train), list(watched)[:WATCHED]
        self.speakers = by_speaker(self.clips)
        self.prompts_of_watched = by_speaker([*self.clips, *watched])
        some = [self.clips[i] for i in rng.permutation(len(self.clips))[:200]]
        mean = np.concatenate([clip.mel for clip in some]).astype(np.float32).mean(0)
        self.module: nn.Module = fresh_flow(config, torch.from_numpy(mean)).to(device)
        self.generator = torch.Generator().manual_seed(int(rng.integers(2**31)))

    def batches(self, progress: float) -> Iterator[Utterances]:
        """All clips once."""
        shortest, longest = PROMPT_CODES
        # The budget counts the clips; what their prompts add is about as much again.
        for clips in batches.epoch(self.clips, frame_budget=self.frames, rng=self.rng):
            n_prompt = int(shortest + (longest - shortest) * self.rng.random() ** PROMPT_SKEW)
            yield collate(clips, self.speakers, n_prompt, self.rng)

    def loss(self, batch: Utterances, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Velocity, and at first the encoder's mean."""
        streams = self.rng.random() < STREAM_SHARE
        grid = blocks_of(int(self.rng.choice(FIRST_BLOCKS))) if streams else None
        with torch.autocast(self.device.type, torch.bfloat16):
            velocity, mean = losses(self.module, batch.to(self.device), grid, self.generator)
        weight = max(0.0, 1 - progress / MEAN_SHARE)
        return velocity + weight * mean, {"velocity_train": velocity.item(), "mean": mean.item()}

    def report(self) -> dict[str, float]:
        """Numbers on the watched clips."""
        return measure(self.module, self.watched, self.prompts_of_watched, self.device)


def final_report(stage: FlowStage, folder: Path, networks: Path) -> dict[str, dict[str, float]]:
    """Measure on the watched clips with fewer steps too, and on what was never trained on."""
    steps = (4, 6, WATCHED_STEPS)
    found = {"watched": measure(stage.module, stage.watched, stage.prompts_of_watched, stage.device, steps)}
    for name, corpus in test_corpora(folder).items():
        clips = prepare(corpus, networks)
        found[name] = measure(stage.module, clips[:MEASURED], by_speaker(clips), stage.device, steps)
    return found


def split(folder: Path, networks: Path) -> tuple[list[Spoken], list[Spoken]]:
    """Prepare all training corpora; return what to train on and what to watch, the corpora taking turns."""
    train, watched = [], []
    for corpus in training_corpora(folder):
        own = {clip.row.clip.id: clip for clip in prepare(corpus, networks)}
        rows, rows_watched = corpus.split()
        train += [own[row.clip.id] for row in rows]
        watched.append([own[row.clip.id] for row in rows_watched])
    return train, [clip for turn in zip(*watched) for clip in turn]


def train(args: argparse.Namespace) -> Path:
    """Run the stage; returns the file of the averaged weights."""
    device = loop.pick_device(args.device)
    torch.manual_seed(args.seed)
    run, clock = loop.Run(args.run, vars(args)), loop.Clock(args.steps, args.minutes)
    rng = np.random.default_rng([args.seed, run.resumed_step()])
    clips, watched = split(args.corpus, args.networks or args.out)
    stage = FlowStage(clips, watched, config=sizes.FLOW, frames=args.frames, device=device, rng=rng)
    average = loop.train_stage(stage, run, clock, peak_lr=args.lr, report_every=args.report_every)
    # Measured as shipped: in half precision.
    stage.module.load_state_dict({name: value.half().float() for name, value in average.values.items()})
    found = final_report(stage, args.corpus, args.networks or args.out)
    (run.folder / "report.json").write_text(json.dumps(found, indent=1))
    for name, numbers in found.items():
        logger.info("%s: %s", name, ", ".join(f"{k} {v:.4g}" for k, v in numbers.items()))
    return sizes.save_weights(stage.module, args.out / sizes.FLOW_FILE)


def build_parser() -> argparse.ArgumentParser:
    """Flags of the stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    loop.add_flags(parser, run=Path("runs/voice_flow"), peak_lr=1.5e-3)
    parser.add_argument("--out", type=Path, default=sizes.FOLDER)
    parser.add_argument("--networks", type=Path, help="folder of tokenizer and speaker network, default --out")
    parser.set_defaults(corpus=Path("runs/voice"), frames=6000, report_every=500)
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(build_parser().parse_args())
