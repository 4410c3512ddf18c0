"""Speech tokenizer S3 v2: 25 codes per second that keep the words and leave the voice behind.

    mel [clip, 128, T] --conv, conv--> [clip, T/4, width] --blocks--> hidden --FSQ--> codes [clip, T/4]
      100 Hz                            25 Hz

A block is attention with rotary positions plus a memory (a depthwise convolution over the values), then a four times
wider layer. Long recordings are read in windows of 30 s that overlap by 4 s; the codes near a cut are thrown away on
both sides, so that each code has seen at least 2 s around it.

The same class trains: gradients pass the quantiser, and `quantise` gives what a recognition loss needs.

Source: CosyVoice 2 (Du et al., 2024), S3 tokenizer v2 (behaviour and parameter names to match); FSMN memory after
Gao et al., "San-M" (2020); RoFormer (Su et al., 2021).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform, log_mel
from model.errors import AudioError
from model.token2wav.config import TokenizerConfig
from model.token2wav.fsq import FSQ

FRAMES_PER_CODE = 4
"""Frames of the 100 Hz log-mel for one code."""
WINDOW_FRAMES, OVERLAP_FRAMES = 3000, 400
"""Windows for long recordings: 30 s, overlapping by 4 s."""
ROTARY_BASE = 10_000.0
MASKED_SCORE = -1e10
"""Added to the score of a key beyond the end of its clip; finite, so that an empty clip gives no NaN."""


class Quantised(NamedTuple):
    """What the tokenizer makes of a batch; positions beyond `lens` mean nothing."""

    hidden: Tensor
    """Before quantising, [clip, code, width]."""
    values: Tensor
    """Rounded values with a straight-through gradient, float32 [clip, code, digit] in -1..1."""
    codes: Tensor
    """int64 [clip, code]."""
    lens: Tensor
    """Valid codes of each clip, [clip]."""


def code_length(frames):
    """Count the codes of `frames` mel frames at 100 Hz; works on numbers and on tensors."""
    return (frames + FRAMES_PER_CODE - 1) // FRAMES_PER_CODE


def windows(n_frames: int) -> list[tuple[int, int]]:
    """Return start and end frame of each window over a recording; one that is not long is a single window.

    The official code starts another window when the one before has already reached the end, and then loses up to 2 s;
    here the first window that reaches the end is the last.
    """
    starts = range(0, max(1, n_frames - OVERLAP_FRAMES), WINDOW_FRAMES - OVERLAP_FRAMES)
    return [(start, min(start + WINDOW_FRAMES, n_frames)) for start in starts]


class SpeechTokenizer(nn.Module):
    """Turn 16 kHz speech into codes at 25 Hz."""

    def __init__(self, config: TokenizerConfig | None = None):
        super().__init__()
        self.config = config or TokenizerConfig()
        self.encoder = SpeechEncoder(self.config)
        self.quantizer = FSQ(self.config.n_audio_state, self.config.fsq_digits, self.config.fsq_levels)

    def quantise(self, mels: Tensor, lens: Tensor) -> Quantised:
        """Quantise a batch and keep what training needs.

        Args:
            mels: Log-mels padded to the longest, [clip, mel, T] at 100 Hz, made without the 479-sample pad.
            lens: Valid frames of each clip, [clip]; what lies beyond has no influence.

        Raises:
            AudioError: If the shapes are not these.
        """
        self._check(mels, lens)
        hidden, lens = self.encoder(mels, lens.to(mels.device))
        return Quantised(hidden, *self.quantizer(hidden), lens)

    def forward(self, mels: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes, int64 [clip, T/4], and how many are valid, [clip]; the rest is the pad code `n_codes`."""
        made = self.quantise(mels, lens)
        beyond = ~_valid(made.lens, made.codes.shape[1])
        return made.codes.masked_fill(beyond, self.config.n_codes), made.lens

    @torch.inference_mode()
    def encode(self, waveform: Waveform) -> Tensor:
        """Return the codes of one recording of any length and rate, int64 [code] on the CPU.

        Raises:
            AudioError: If there are too few samples for one mel frame (13 ms).
        """
        waveform = waveform.resample(INPUT_SAMPLE_RATE_HZ)
        return self.encode_mel(log_mel(waveform, pad_samples=0, n_mels=self.config.n_mels))

    @torch.inference_mode()
    def encode_mel(self, mel: Tensor) -> Tensor:
        """Return the codes of one log-mel of any length, [mel, T] -> int64 [code] on the CPU."""
        weight, cuts = self.encoder.conv1.weight, windows(mel.shape[1])
        kept, margin = [], OVERLAP_FRAMES // 2 // FRAMES_PER_CODE
        for start, end in cuts:  # one at a time: a half-hour recording must not need gigabytes
            piece = mel[None, :, start:end].to(weight)
            codes = self.quantise(piece, torch.tensor([end - start], device=weight.device)).codes[0].cpu()
            first = margin if start else 0
            last = len(codes) - (margin if end < mel.shape[1] else 0)
            kept.append(codes[first:last])
        return torch.cat(kept)

    def _check(self, mels: Tensor, lens: Tensor) -> None:
        n_mels = self.config.n_mels
        if mels.ndim != 3 or mels.shape[1] != n_mels or not mels.shape[2] or lens.shape != mels.shape[:1]:
            raise AudioError(
                "turn speech into codes",
                found=f"mels of shape {tuple(mels.shape)} and lengths of shape {tuple(lens.shape)}",
                expected=f"[clip, {n_mels}, frame] with at least one frame, and [clip]",
                todo=f"Use `log_mel(..., pad_samples=0, n_mels={n_mels})` and pad the clips of a batch to one length.",
            )


class SpeechEncoder(nn.Module):
    """Two halving convolutions and a stack of blocks: mels at 100 Hz -> hidden vectors at 25 Hz."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        width = config.n_audio_state
        self.head_width = width // config.n_audio_head
        self.conv1 = nn.Conv1d(config.n_mels, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_audio_layer))

    def forward(self, mels: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden vectors [clip, T/4, width] and the valid ones of each clip, [clip]."""
        x = mels
        for conv in (self.conv1, self.conv2):
            x = F.gelu(conv(x * _valid(lens, x.shape[2])[:, None]))
            lens = (lens + 1) // 2
        x = x.transpose(1, 2)
        valid = _valid(lens, x.shape[1])
        turn = rotary(x.shape[1], self.head_width, x.device)
        for block in self.blocks:
            x = block(x, valid, turn)
        return x, lens


class Block(nn.Module):
    """Pre-norm block: attention with memory, then a four times wider exact-GELU layer."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        width = config.n_audio_state
        self.attn = MemoryAttention(width, config.n_audio_head, config.fsmn_kernel_size)
        self.attn_ln = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: Tensor, valid: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Return [clip, code, width] again."""
        x = x + self.attn(self.attn_ln(x), valid, turn)
        return x + self.mlp(self.mlp_ln(x))


class MemoryAttention(nn.Module):
    """Self-attention with rotary positions, plus a depthwise convolution over the values (FSMN memory)."""

    def __init__(self, width: int, n_heads: int, n_taps: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.fsmn_block = nn.Conv1d(width, width, n_taps, padding=n_taps // 2, groups=width, bias=False)

    def forward(self, x: Tensor, valid: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Attend within each clip.

        Args:
            x: [clip, code, width].
            valid: Which codes are real, bool [clip, code].
            turn: Cosine and sine of each position, see `rotary`.
        """
        value = self.value(x)
        q, k, v = (y.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for y in (self.query(x), self.key(x), value))
        scale = q.shape[-1] ** -0.25  # on both factors, which keeps half precision in range
        scores = (rotate(q, turn) * scale) @ (rotate(k, turn) * scale).transpose(-1, -2)
        # Plain attention on purpose: at 25 Hz it is small, and its backward is faster on a CPU than the fused one.
        weights = scores.float().masked_fill(~valid[:, None, None], MASKED_SCORE).softmax(-1).to(v.dtype)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        return self.out(mixed) + self._memory(value, valid)

    def _memory(self, value: Tensor, valid: Tensor) -> Tensor:
        """Return the values plus what the convolution finds around them, zero beyond the end of each clip."""
        value = value * valid[..., None]
        around = self.fsmn_block(value.transpose(1, 2)).transpose(1, 2)
        return (around + value) * valid[..., None]


def rotary(length: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosine and sine, float32 [position, width] each; channel c and c + width / 2 turn at the same rate."""
    rates = 1.0 / ROTARY_BASE ** (torch.arange(0, width, 2, device=device).float() / width)
    angles = torch.outer(torch.arange(length, device=device).float(), rates).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of channels (c, c + half) of [..., position, width] by the angle of its position."""
    cos, sin = (t.to(x.dtype) for t in turn)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def _valid(lens: Tensor, length: int) -> Tensor:
    """Return bool [clip, length], true before the end of each clip."""
    return torch.arange(length, device=lens.device) < lens[:, None]
