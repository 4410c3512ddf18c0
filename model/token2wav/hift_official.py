"""The official way to stream the vocoder, for comparing with the official code only.

Every piece is turned into sound alone, eight old frames before it; of the excitation the first 3840 samples are those
of the piece before, and the waves are cross-faded over as many samples. The two halves of the Hamming window add up to
1.08, so every seam is 0.67 dB too loud, and the phase of the excitation jumps behind the 3840 samples.

    piece n      |----new----|oooo|          o: held back, given in the next piece after the cross-fade
    piece n + 1              |oooo|----new----|oooo|

Source: Step-Audio 2 `token2wav.py` (stream).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from model.errors import AudioError
from model.token2wav.hift_source import SourceNoise

if TYPE_CHECKING:
    from model.token2wav.hift import HiFT

OVERLAP_FRAMES = 8


@dataclass(frozen=True, eq=False)
class OfficialState:
    """What the official code keeps between two pieces; a value, never changed."""

    noise: SourceNoise
    n_frames: int = 0
    """Frames given so far; places the noise."""
    mel: Tensor | None = None
    """The newest 8 frames, [batch, bin, 8]; None before the first piece."""
    source: Tensor | None = None
    """Their excitation, [batch, 1, 3840]."""
    samples: Tensor | None = None
    """Their sound, [batch, 3840], not given out yet."""
    ended: bool = False
    """Whether the last piece was given."""

    @property
    def n_rows(self) -> int | None:
        """Rows of the batch; None before the first piece."""
        return None if self.mel is None else len(self.mel)


def official_step(hift: HiFT, mel: Tensor, state: OfficialState, *, last: bool) -> tuple[Tensor, OfficialState]:
    """Turn the next piece into sound; see `HiFT.step`. A first piece that is not the last has 8 frames or more."""
    overlap = OVERLAP_FRAMES * hift.config.samples_per_frame
    n_given = mel.shape[-1]
    if state.mel is None and n_given < OVERLAP_FRAMES and not last:
        raise AudioError(
            "begin a stream in the official way",
            found=f"a first piece of {n_given} frames",
            expected=f"at least the {OVERLAP_FRAMES} frames that are held back",
            todo="Give a longer first piece.",
        )
    mel = mel if state.mel is None else torch.cat([state.mel, mel], dim=-1)
    first_frame = state.n_frames + n_given - mel.shape[-1]
    source = hift.excite(hift.predict_f0(mel), noise=state.noise, first_frame=first_frame)
    if state.source is not None:
        source = torch.cat([state.source, source[..., overlap:]], dim=-1)
    samples = hift.decode(mel, source)
    if state.samples is not None:
        samples = torch.cat([_fade(state.samples, samples[:, :overlap]), samples[:, overlap:]], dim=-1)
    kept = mel[..., -OVERLAP_FRAMES:], source[..., -overlap:], samples[:, -overlap:]
    state = OfficialState(state.noise, state.n_frames + n_given, *kept, ended=last)
    return samples if last else samples[:, :-overlap], state


def _fade(old: Tensor, new: Tensor) -> Tensor:
    rising, falling = torch.from_numpy(np.hamming(2 * new.shape[-1])).to(new.device).split(new.shape[-1])
    return (new * rising + old * falling).to(new.dtype)
