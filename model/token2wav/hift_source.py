"""What the vocal cords do: pitch from the mel, and the sines and noise that the vocoder shapes.

    mel [80, T] --F0Predictor--> f0 [T] --HarmonicSource--> excitation [480 T]
      50 Hz                       Hz      9 sines + noise, mixed to one, tanh

The phase of a wave is the sum of its frequencies so far, linear between the centres of frames. It is summed in float64
and carried from piece to piece, so a steady tone has no seam and long speech does not drift. Before the first centre
and after the last one the phase stands still, as in the official code.

Noise is drawn for each frame from (seed, number of the frame) alone: how the speech is cut changes nothing, and nor
does what else the process has drawn.

Source: FunAudioLLM/CosyVoice, hifigan/generator.py (SineGen2, SourceModuleHnNSF) and hifigan/f0_predictor.py; the
start phases drawn there never reach the wave and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from model.errors import OptionsError
from model.token2wav.config import HiftConfig
from model.token2wav.hift_tape import Tape

F0_LAYERS = 5
"""Convolutions of the pitch predictor, each of which looks one frame ahead."""


@dataclass(frozen=True)
class SourceNoise:
    """The noise of one utterance, as a function of place: ask for any frames in any order."""

    seed: int = 0
    """0 to 2**64 - 1; equal seeds give equal noise on every machine."""

    def __post_init__(self) -> None:
        """Refuse seeds that are no key."""
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**64):
            raise OptionsError(
                "draw the vocoder's noise",
                found=f"seed={self.seed!r}",
                expected="a whole number from 0 to 2**64 - 1",
                todo="Give such a seed, or none for seed 0.",
            )

    def frames(self, start: int, n_frames: int, width: int) -> np.ndarray:
        """Return standard normal draws, float32 [n_frames, width], for frames from number `start` on."""
        drawn = np.empty((n_frames, width), np.float32)
        for row, frame in zip(drawn, range(start, start + n_frames)):
            rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, frame, 0, 0]))
            rng.standard_normal(dtype=np.float32, out=row)
        return drawn


@dataclass(frozen=True)
class NoNoise(SourceNoise):
    """Silence in place of noise; for comparing."""

    def frames(self, start: int, n_frames: int, width: int) -> np.ndarray:
        """Return zeros, [n_frames, width]."""
        return np.zeros((n_frames, width), np.float32)


@dataclass(frozen=True, eq=False)
class GivenNoise(SourceNoise):
    """Draws made elsewhere; for comparing."""

    samples: np.ndarray | None = None
    """[time, wave], standard normal."""

    def frames(self, start: int, n_frames: int, width: int) -> np.ndarray:
        """Return the part that belongs to the frames, [n_frames, width]."""
        return self.samples.reshape(-1, width)[start : start + n_frames].astype(np.float32)


def exact_dtype(x: Tensor) -> torch.dtype:
    """Return float64 where the device of a tensor has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


class F0Predictor(nn.Module):
    """Five convolutions that read the pitch off the mel."""

    def __init__(self, in_channels: int, width: int):
        super().__init__()
        layers = []
        for i in range(F0_LAYERS):
            layers += [weight_norm(nn.Conv1d(width if i else in_channels, width, 3, padding=1)), nn.ELU()]
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, 1)

    def forward(self, mel: Tensor, tape: Tape) -> Tensor:
        """Return the pitch in Hz, [batch, frame], never negative; `mel` is [batch, bin, frame].

        Outside of training it is computed in float64: the rounding of float32, which depends on how a mel is cut,
        would add up in the phase.
        """
        x = mel if torch.is_grad_enabled() else mel.to(exact_dtype(mel))
        for layer in self.condnet:
            x = tape.conv(layer, x) if isinstance(layer, nn.Conv1d) else layer(x)
        f0 = F.linear(x.transpose(1, 2), self.classifier.weight.to(x.dtype), self.classifier.bias.to(x.dtype))
        return f0.squeeze(-1).abs().to(mel.dtype)


class HarmonicSource(nn.Module):
    """Sines at the pitch and its multiples, noise, and the mixture of them."""

    def __init__(self, config: HiftConfig):
        super().__init__()
        self.config = config
        self.n_waves = config.n_waves
        self.l_linear = nn.Linear(self.n_waves, 1)
        centred = (torch.arange(config.samples_per_frame) + 0.5) / config.samples_per_frame - 0.5
        self.register_buffer("places", centred[:, None], persistent=False)  # of samples between centres, in frames
        self.register_buffer("orders", torch.arange(1.0, self.n_waves + 1), persistent=False)

    def forward(
        self,
        f0: Tensor,
        tape: Tape,
        noise: SourceNoise | None = None,
        generator: torch.Generator | None = None,
        first_frame: int = 0,
    ) -> Tensor:
        """Make the excitation of the next piece; one frame less than given, until the last piece.

        Args:
            f0: Pitch in Hz, [batch, frame].
            tape: Memory of the stream.
            noise: Noise by place, the same for every row of the batch.
            generator: Draws noise for every row anew when no `noise` is given (training); it must live on f0's device.
            first_frame: Number of the first piece's first frame, for the noise.

        Returns:
            [batch, 1, time] in -1..1, 480 samples per frame.
        """
        f0, cycles, before, after = self._phases(f0, tape)
        config, hop = self.config, self.config.samples_per_frame
        sines = (cycles.unsqueeze(2) + self.places.clamp(max=0) * before + self.places.clamp(min=0) * after) * 2 * np.pi
        voiced = (f0 > config.nsf_voiced_threshold).to(f0.dtype)[..., None, None]
        strength = voiced * config.nsf_sigma + (1 - voiced) * config.nsf_alpha / 3
        shape = (len(f0) if noise is None else 1, f0.shape[1], hop, self.n_waves)
        start = tape.recall(first_frame)
        tape.keep(start + f0.shape[1])
        if noise is None:
            drawn = torch.randn(shape, generator=generator, device=f0.device, dtype=f0.dtype)
        else:
            drawn = torch.from_numpy(noise.frames(start, f0.shape[1], hop * self.n_waves)).view(shape).to(f0)
        waves = config.nsf_alpha * voiced * torch.sin(sines) + strength * drawn
        return self.l_linear(waves).tanh().flatten(1).unsqueeze(1)

    def _phases(self, f0: Tensor, tape: Tape) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Find the phase at the centres of frames and how it goes on from there.

        Returns:
            Pitch of the frames that are ready, [batch, frame]; phase at their centres in cycles, 0..1,
            [batch, frame, wave]; cycles from the centre before and to the centre after, [batch, frame, 1, wave].
        """
        f0 = torch.cat([tape.recall(f0[:, :0]), f0], dim=1)
        n_ready = f0.shape[1] if tape.last else f0.shape[1] - 1
        tape.keep(f0[:, n_ready:])
        config = self.config
        steps = (f0[..., None] * self.orders / config.sampling_rate).remainder(1) * config.samples_per_frame
        sofar = tape.recall(steps.new_zeros(len(f0), 1, self.n_waves, dtype=exact_dtype(f0)))
        cycles = (sofar + steps[:, :n_ready].to(sofar.dtype).cumsum(1)).remainder(1)
        tape.keep(cycles[:, -1:])
        before = F.pad(steps[:, 1:n_ready], (0, 0, 1, 0)) if tape.first else steps[:, :n_ready]
        after = F.pad(steps[:, 1:], (0, 0, 0, 1)) if tape.last else steps[:, 1:]
        return f0[:, :n_ready], cycles.to(f0.dtype), before.unsqueeze(2), after.unsqueeze(2)
