"""Flow matching: speech codes and a voice become a mel, whole or as a stream.

    codes 25 Hz --encoder--> mean mel 50 Hz ----\\
    prompt codes -^          prompt mel ---------+--> estimator, 10 steps of Euler --> mel 50 Hz
    speaker vector --affine----------------------/          from seeded noise

There are two ways to attend, and each has its own "whole":

- `offline(...)`: everything sees everything, the future included, as the official offline code does. A stream cannot
  know the future, so no stream ever equals this.
- `start` and `step`: speech is made in blocks on a fixed grid; a block sees the prompt, earlier blocks and itself.
  Any slicing of the codes gives the same mel, bit for bit, because the grid is counted from the start of the speech.
  `offline(..., grid=...)` computes the same numbers in one piece by masks, for proofs and for training.

`start(parity=True)` repeats the official client with its cut of the estimator's memory (see `OfficialMemory`). As long
as nothing is cut, the official stream and ours are the same numbers.

Nothing is stored in the modules while they run: a state goes in and a state comes out, so any number of streams can
take turns on one set of weights.

Source: stepfun-ai/Step-Audio-2-mini, CausalMaskedDiffWithXvec and CausalConditionalCFM (behaviour and names); Lipman et
al., "Flow Matching for Generative Modeling" (2023); Ho & Salimans, "Classifier-Free Diffusion Guidance" (2022).
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.errors import OptionsError
from model.token2wav.config import FlowConfig, FlowDecoderConfig
from model.token2wav.dit import DiT
from model.token2wav.flow_checks import check_codes, check_length, check_voice
from model.token2wav.flow_encoder import FlowEncoder, Segment
from model.token2wav.flow_grid import BlockGrid, Masks, Window, attention_masks
from model.token2wav.flow_noise import GivenNoise, Noise, SeededNoise
from model.token2wav.flow_state import (
    AttentionMemory,
    EncoderPast,
    EstimatorPast,
    FlowState,
    OfficialMemory,
)

MAX_STEPS = 100
DEFAULT_GRID, DEFAULT_WINDOW = BlockGrid(), Window()


def time_grid(n_steps: int) -> list[tuple[float, float]]:
    """Return time and length of each step of the solver; small steps first, where the noise still decides.

    Times are 1 - cos(pi/2 * i/n), added up in float32 as the official solver does.

    Raises:
        OptionsError: If there are fewer than 1 or more than 100 steps.
    """
    if isinstance(n_steps, bool) or not isinstance(n_steps, int) or not 1 <= n_steps <= MAX_STEPS:
        found, expected = f"n_steps={n_steps!r}", f"a whole number from 1 to {MAX_STEPS}"
        raise OptionsError("solve the flow", found=found, expected=expected, todo="Use 10, as the model was made for.")
    span = 1 - torch.cos(torch.linspace(0, 1, n_steps + 1) * 0.5 * math.pi)
    t, steps = span[0], []
    for end in span[1:]:
        steps.append((t.item(), (end - t).item()))
        t = t + (end - t)
    return steps


class FlowDecoder(nn.Module):
    """The estimator with guidance, and the solver around it."""

    def __init__(self, config: FlowDecoderConfig):
        super().__init__()
        self.guidance = config.inference_cfg_rate
        self.estimator = DiT(config.estimator)

    def velocities(
        self,
        x: Tensor,
        mu: Tensor,
        t: float,
        speaker: Tensor,
        cond: Tensor,
        *,
        mask: Tensor | None = None,
        past: EstimatorPast | None = None,
    ) -> tuple[Tensor, EstimatorPast | None]:
        """Estimate the velocity with and without what it should follow; arguments as in `DiT`, `t` one number.

        Returns:
            Velocities [2, batch, bins, frame], knowing everything and knowing nothing, and the estimator's next past.
            Without guidance only the first, [1, batch, bins, frame].
        """
        n = 2 if self.guidance else 1

        def doubled(known: Tensor) -> Tensor:
            return torch.cat([known, torch.zeros_like(known)][:n])

        times = torch.full((1,), t, dtype=torch.float32, device=x.device)
        inputs = x.repeat(n, 1, 1), doubled(mu), times, doubled(speaker), doubled(cond)
        if mask is not None and len(mask) > 1:
            mask = mask.repeat(n, 1, 1)
        velocity, past = self.estimator(*inputs, mask=mask, past=past)
        return velocity.unflatten(0, (n, -1)), past

    def solve(
        self,
        noise: Tensor,
        mu: Tensor,
        speaker: Tensor,
        cond: Tensor,
        *,
        n_steps: int = 10,
        mask: Tensor | None = None,
        pasts: tuple[EstimatorPast, ...] | None = None,
    ) -> tuple[Tensor, tuple[EstimatorPast, ...] | None]:
        """Follow the flow from noise to mel; arguments as in `DiT`, `pasts` one for each step.

        Returns:
            Mel [batch, bins, frame], and what to pass on to the next block (None without `pasts`).
        """
        x, after = noise, []
        for step, (t, length) in enumerate(time_grid(n_steps)):
            past = None if pasts is None else pasts[step]
            velocities, past = self.velocities(x, mu, t, speaker, cond, mask=mask, past=past)
            velocity = velocities[0].to(x.dtype)
            if self.guidance:
                velocity = (1 + self.guidance) * velocity - self.guidance * velocities[1].to(x.dtype)
            x = x + length * velocity
            after.append(past)
        return x, None if pasts is None else tuple(after)


class Flow(nn.Module):
    """Speech codes to mel in a given voice."""

    def __init__(self, config: FlowConfig | None = None):
        super().__init__()
        self.config = config = config or FlowConfig()
        self.input_embedding = nn.Embedding(config.vocab_size, config.input_size)
        self.spk_embed_affine_layer = nn.Linear(config.spk_embed_dim, config.output_size)
        self.encoder = FlowEncoder(config.encoder)
        self.encoder_proj = nn.Linear(config.encoder.output_size, config.output_size)
        self.decoder = FlowDecoder(config.decoder)

    # The parts, with gradients: what training needs.

    def masks(
        self,
        n_codes: int,
        *,
        n_prompt: int = 0,
        grid: BlockGrid | None = None,
        window: Window = DEFAULT_WINDOW,
        lens: Tensor | None = None,
    ) -> Masks:
        """Return who may see whom for this network's sizes; see `attention_masks`."""
        n_ahead, per_code = self.config.lookahead_codes, self.config.frames_per_code
        return attention_masks(
            n_codes,
            n_ahead=n_ahead,
            frames_per_code=per_code,
            n_prompt=n_prompt,
            grid=grid,
            window=window,
            lens=lens,
        )

    def encode(
        self, codes: Tensor, *, n_prompt: int = 0, mask: Tensor | None = None, lens: Tensor | None = None
    ) -> Tensor:
        """Return the mean mel of whole utterances.

        Args:
            codes: int64 [batch, code], the prompt first; padding may be any valid code.
            n_prompt: If above 0, the last of the prompt see the prompt's own beginning ahead, as in a stream, whose
                prompt is read before its first code is known. 0 lets them see what really follows.
            mask: `masks(...).codes`.
            lens: Valid codes of each row, [batch]; None if nothing is padded.

        Returns:
            [batch, bins, frame]; frames of padding mean nothing.
        """
        valid = None if lens is None else torch.arange(codes.shape[1], device=codes.device) < lens[:, None]
        segments = [Segment(self.input_embedding(codes))]
        if n_prompt:
            prompt, speech = segments[0].codes.split([n_prompt, codes.shape[1] - n_prompt], dim=1)
            segments = [Segment(prompt, prompt[:, : self.config.lookahead_codes]), Segment(speech)]
        hidden, _ = self.encoder(segments, valid=valid, mask=mask)
        return self.encoder_proj(hidden).transpose(1, 2)

    def embed_speaker(self, speaker: Tensor) -> Tensor:
        """Map speaker vectors of any length, [batch, spk_embed_dim], to what the estimator reads, [batch, bins]."""
        unit = F.normalize(speaker, dim=1)
        return self.spk_embed_affine_layer(unit.to(self.spk_embed_affine_layer.weight.dtype))

    # Whole utterances.

    @torch.no_grad()
    def offline(
        self,
        codes: Tensor,
        prompt_codes: Tensor,
        prompt_mel: Tensor,
        speaker: Tensor,
        *,
        n_steps: int = 10,
        noise: Tensor | None = None,
        seed: int = 0,
        grid: BlockGrid | None = None,
        window: Window = DEFAULT_WINDOW,
    ) -> Tensor:
        """Turn a whole utterance into a mel at once.

        Args:
            codes: Whole numbers [1, n], n at least 1, in 0..n_codes-1.
            prompt_codes: Codes of the voice prompt, [1, p], p at least the look-ahead (3).
            prompt_mel: Log-mel of the prompt, [1, bins, 2p].
            speaker: Speaker vector, [1, spk_embed_dim], of any length but zero.
            n_steps: Steps of the solver.
            noise: Standard normal start, [1, bins, 2(p + n) or more]; None takes it from the seed.
            seed: Which noise; the same number gives the same noise to a frame in a stream.
            grid: None lets everything see everything (official). A grid repeats a stream of `start` and `step`.
            window: How far a block of the grid looks back.

        Returns:
            Log-mel of the speech without the prompt, float32 [1, bins, 2n].

        Raises:
            AudioError: If codes, prompt, speaker or noise cannot be used, or there are more than 100 s of them.
            OptionsError: If `n_steps` or `seed` are out of range.
        """
        codes = check_codes(codes, self.config, at_least=1).to(self.device)
        prompt, mel, speaker = self._voice(prompt_codes, prompt_mel, speaker)
        both, n_prompt = torch.cat([prompt, codes], dim=1), prompt.shape[1]
        check_length(both.shape[1])
        masks = self.masks(both.shape[1], n_prompt=n_prompt, grid=grid, window=window)
        masks = Masks(*(None if mask is None else mask.to(self.device) for mask in masks))
        mu = self.encode(both, n_prompt=0 if grid is None else n_prompt, mask=masks.codes)
        start = self._noise(noise, seed).frames(0, mu.shape[-1]).to(mel)
        cond = F.pad(mel, (0, mu.shape[-1] - mel.shape[-1]))
        made, _ = self.decoder.solve(start, mu, speaker, cond, n_steps=n_steps, mask=masks.frames)
        return made[..., mel.shape[-1] :].float()

    # Streams.

    @torch.no_grad()
    def start(
        self,
        prompt_codes: Tensor,
        prompt_mel: Tensor,
        speaker: Tensor,
        *,
        n_steps: int = 10,
        parity: bool = False,
        seed: int = 0,
        noise: Tensor | None = None,
        grid: BlockGrid = DEFAULT_GRID,
        window: Window = DEFAULT_WINDOW,
    ) -> FlowState:
        """Read a voice prompt and return the state in which every utterance of this voice can begin.

        The state depends on voice and options only, so it can be kept and used again. The last codes of the prompt see
        the prompt's first ones ahead, since nobody knows yet what will be said (as the official code does).

        Args:
            prompt_codes: As in `offline`.
            prompt_mel: As in `offline`.
            speaker: As in `offline`.
            n_steps: Steps of the solver; memory of a stream is proportional to it.
            parity: Cut the estimator's memory as the official client does; grid and window are then the official ones.
            seed: Which noise.
            noise: A buffer [1, bins, frames] to take the noise from instead, prompt first.
            grid: Sizes of the blocks; smaller ones speak sooner.
            window: How far a block looks back.

        Raises:
            AudioError: If prompt, speaker or noise cannot be used.
            OptionsError: If options are out of range or contradict each other.
        """
        if parity and (grid != DEFAULT_GRID or window != DEFAULT_WINDOW):
            found, expected = f"parity with {grid} and {window}", "parity alone, which has the official ones"
            raise OptionsError("start a stream", found=found, expected=expected, todo="Leave one of them out.")
        n_steps = len(time_grid(n_steps))
        prompt, mel, speaker = self._voice(prompt_codes, prompt_mel, speaker)
        reach = None if parity or window.codes is None else window.codes
        frames = None if reach is None else reach * self.config.frames_per_code
        memory = OfficialMemory() if parity else AttentionMemory(window.frames)
        empty = FlowState(
            encoder=EncoderPast(AttentionMemory(reach), AttentionMemory(frames)),
            estimator=(EstimatorPast(memory),) * n_steps,
            speaker=speaker,
            noise=self._noise(noise, seed),
            grid=grid,
            waiting=prompt[:, :0].clone(),
            n_frames=0,
        )
        _, state = self._advance(empty, prompt, prompt[:, : self.config.lookahead_codes], mel)
        return replace(state, n_blocks=0)

    @torch.no_grad()
    def step(self, codes: Tensor, state: FlowState, *, last: bool = False) -> tuple[Tensor, FlowState]:
        """Take the next codes and return the mel that is now certain.

        Codes are sent once each, in slices of any length; a block is made as soon as it and the look-ahead are there,
        so what comes back lags behind by at most a block and three codes. The slicing never changes the result.

        Args:
            codes: Whole numbers [1, n], n from 0 on.
            state: From `start` or the last `step`. It stays valid: the same state can be continued twice.
            last: No more codes will come; everything that waits is made.

        Returns:
            Log-mel float32 [1, bins, frames], possibly without frames, and the next state.

        Raises:
            AudioError: If a code is no speech code, the stream has ended, or a given noise buffer has.
        """
        codes = check_codes(codes, self.config, state=state).to(self.device)
        waiting, n_ahead = torch.cat([state.waiting, codes], dim=1), self.config.lookahead_codes
        mels = [torch.zeros(1, self.config.output_size, 0, device=self.device)]
        while size := state.grid.next_size(state.n_blocks, waiting.shape[1], n_ahead, last):
            ahead = waiting[:, size : size + n_ahead] if waiting.shape[1] > size else None
            mel, state = self._advance(state, waiting[:, :size], ahead, None)
            mels.append(mel.float())
            waiting = waiting[:, size:]
        return torch.cat(mels, dim=-1), replace(state, waiting=waiting.clone(), finished=last)

    def codes_needed(self, state: FlowState) -> int:
        """Return how many more codes make the next block come out."""
        return state.grid.size(state.n_blocks) + self.config.lookahead_codes - state.waiting.shape[1]

    def _advance(
        self, state: FlowState, codes: Tensor, ahead: Tensor | None, mel: Tensor | None
    ) -> tuple[Tensor, FlowState]:
        """Make one block and the state after it; `mel` is known only for the prompt."""
        segment = Segment(self.input_embedding(codes), None if ahead is None else self.input_embedding(ahead))
        hidden, encoder = self.encoder([segment], past=state.encoder)
        mu = self.encoder_proj(hidden).transpose(1, 2)
        n, first = mu.shape[-1], state.noise_offset
        start = state.noise.frames(first, first + n).to(self.device, self._solver_dtype)
        cond = torch.zeros_like(start) if mel is None else mel
        made, pasts = self.decoder.solve(start, mu, state.speaker, cond, n_steps=state.n_steps, pasts=state.estimator)
        state = replace(
            state, encoder=encoder, estimator=pasts, n_frames=state.n_frames + n, n_blocks=state.n_blocks + 1
        )
        return made, state

    # Small helpers.

    @property
    def device(self) -> torch.device:
        """Where the weights are; inputs are moved there."""
        return self.input_embedding.weight.device

    @property
    def _solver_dtype(self) -> torch.dtype:
        """The mel is added up in float32 also where the weights are float16 or bfloat16."""
        return torch.promote_types(self.input_embedding.weight.dtype, torch.float32)

    def _voice(self, codes: Tensor, mel: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Check a voice and return its codes, mel and embedded speaker on our device."""
        check_voice(codes, mel, speaker, self.config)
        mel = mel.to(self.device, self._solver_dtype)
        return codes.to(self.device).long(), mel, self.embed_speaker(speaker.to(self.device, self._solver_dtype))

    def _noise(self, given: Tensor | None, seed: int) -> Noise:
        return SeededNoise(seed, self.config.output_size) if given is None else GivenNoise(given)
