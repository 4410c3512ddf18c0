"""Step-Audio 2 as a network: audio encoder, adaptor, Qwen2 decoder; official parameter names.

    mels [clip, 128, T] --encoder--> [clip, T/4, width] --adaptor--> [clip, T/8, hidden] --merge--> decoder --> logits
      100 Hz                          25 Hz                           12.5 Hz

The sound is encoded once, when the prompt is read; after that every new token costs one cached decoder step. This
file knows nothing of sound files, tokenizers or conversations.

Source: stepfun-ai/Step-Audio-2-mini, modeling_step_audio_2.py (behaviour to match); Whisper (Radford et al., 2022).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.configuration_step_audio_2 import StepAudio2Config, StepAudio2EncoderConfig

MASKED_SCORE = -1e10
"""Added to the score of a key that must not be seen. Finite on purpose: a clip without one valid frame then gets
uniform weights instead of NaN, as in the official code."""


def sinusoids(length: int, width: int, max_timescale: float = 10_000.0) -> Tensor:
    """Return the sine/cosine position table of Whisper, [length, width]."""
    half = width // 2
    rates = torch.exp(-math.log(max_timescale) / max(half - 1, 1) * torch.arange(half))
    angles = torch.arange(length)[:, None] * rates[None, :]
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width - 2 * half))


class EncoderAttention(nn.Module):
    """Self-attention over the frames of one clip; the key projection has no bias."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, key_mask: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Attend within each clip.

        Args:
            x: [clip, frame, width].
            key_mask: Added to the scores, [clip, 1, 1, frame]; 0 or a large negative number.
            need_weights: Also return the weights (slower: the fused kernel does not give them).

        Returns:
            Result [clip, frame, width] and weights [clip, head, query, key] or None; rows sum to 1.
        """
        q, k, v = (proj(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for proj in (self.query, self.key, self.value))
        mask = key_mask.to(q.dtype)
        weights = None
        if need_weights:
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask
            weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
            mixed = weights @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2)), weights


class EncoderBlock(nn.Module):
    """Pre-norm transformer block: attention, then a four times wider exact-GELU layer."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.attn = EncoderAttention(width, n_heads)
        self.attn_ln = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: Tensor, key_mask: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the block's output [clip, frame, width] and, if wanted, its attention weights."""
        attended, weights = self.attn(self.attn_ln(x), key_mask, need_weights)
        x = x + attended
        return x + self.mlp(self.mlp_ln(x)), weights


class AudioEncoder(nn.Module):
    """Whisper-style encoder: log-mel at 100 frames/s to vectors at 25 frames/s.

    The last two mel frames of every clip count as invalid (`lens` is frames - 2), also in a batch of one: trained
    weights expect it. Positions are a table saved in the checkpoint and not trained.
    """

    def __init__(self, config: StepAudio2EncoderConfig):
        super().__init__()
        self.config = config
        width = config.n_audio_state
        self.conv1 = nn.Conv1d(config.n_mels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.positional_embedding = nn.Embedding(config.n_audio_ctx, width)
        self.positional_embedding.requires_grad_(False)
        self.blocks = nn.ModuleList(EncoderBlock(width, config.n_audio_head) for _ in range(config.n_audio_layer))
        self.after_norm = nn.LayerNorm(width)
        with torch.no_grad():
            self.positional_embedding.weight.copy_(sinusoids(config.n_audio_ctx, width))

    def forward(
        self, mels: Tensor, lens: Tensor, *, hidden_states: list | None = None, attentions: list | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode a padded batch of clips.

        Args:
            mels: Log-mels, [clip, n_mels, T]; short clips are padded on the right with 0.0.
            lens: Valid frames of each clip, [clip]; the front end says mel frames - 2.
            hidden_states: If a list, receives the input of each block and the last output, [clip, T/2, width] each.
            attentions: If a list, receives the weights of each block, [clip, head, query, key] each.

        Returns:
            Vectors [clip, T/4, width] and how many of each clip are valid, [clip]. Rows beyond are padding, and
            there may be one more row than the longest clip needs: slice by the lengths, never by the shape.

        Raises:
            ValueError: If shapes disagree or a clip is longer than the position table.
        """
        self._check(mels, lens)
        x = F.gelu(self.conv1(mels.to(self.conv1.weight.dtype)))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.positional_embedding.weight[: x.shape[1]].to(x.dtype)
        key_mask = self._key_mask(mels.shape[-1], lens.to(mels.device))
        for block in self.blocks:
            if hidden_states is not None:
                hidden_states.append(x)
            x, weights = block(x, key_mask, need_weights=attentions is not None)
            if attentions is not None:
                attentions.append(weights)
        if hidden_states is not None:
            hidden_states.append(x)
        # The pooling looks at padding too: a frame beyond the end can leak into the last vector, as it did in training.
        x = F.avg_pool1d(x.transpose(1, 2), kernel_size=2).transpose(1, 2)
        return self.after_norm(x), torch.div(torch.div(lens + 1, 2, rounding_mode="floor"), 2, rounding_mode="floor")

    def _check(self, mels: Tensor, lens: Tensor):
        n_mels, n_ctx = self.config.n_mels, self.config.n_audio_ctx
        if mels.ndim != 3 or mels.shape[1] != n_mels or lens.shape != mels.shape[:1]:
            raise ValueError(
                f"Encoding audio: got mels {tuple(mels.shape)} and lens {tuple(lens.shape)}; "
                f"expected [clip, {n_mels}, frames] and [clip]. Use the processor to prepare them."
            )
        if not 3 <= mels.shape[-1] <= 2 * n_ctx:
            raise ValueError(
                f"Encoding audio: got a clip of {mels.shape[-1]} mel frames; expected 3 to {2 * n_ctx}. "
                "Cut longer sound into pieces of at most 25 s; the processor does it."
            )

    @staticmethod
    def _key_mask(n_frames: int, lens: Tensor) -> Tensor:
        """Return what is added to attention scores, [clip, 1, 1, ceil(n_frames / 2)]."""
        frame = torch.arange((n_frames + 1) % 2, n_frames, 2, device=lens.device)
        return (frame[None, :] >= lens[:, None])[:, None, None, :] * MASKED_SCORE


class Adaptor(nn.Module):
    """Halve the frame rate to 12.5 Hz and map the encoder's width to the decoder's."""

    def __init__(self, config: StepAudio2Config):
        super().__init__()
        audio = config.audio_encoder_config
        self.kernel_size, self.stride = audio.kernel_size, audio.adapter_stride
        width = audio.n_audio_state
        self.conv = nn.Conv1d(width, width, self.kernel_size, stride=self.stride, padding=1)
        self.linear1 = nn.Linear(width, config.adapter_hidden_size)
        self.linear2 = nn.Linear(config.adapter_hidden_size, audio.llm_dim)

    def forward(self, hidden: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Map encoder vectors to decoder positions.

        Args:
            hidden: Encoder output, [clip, frame, width]; padding is not masked, as in the official code.
            lens: Valid frames of each clip, [clip].

        Returns:
            Features [clip, frame / 2, hidden_size] and how many of each clip are valid, [clip].
        """
        x = F.gelu(self.conv(hidden.transpose(1, 2)).transpose(1, 2))
        features = self.linear2(F.relu(self.linear1(x)))
        return features, torch.div(lens - 1, self.stride, rounding_mode="floor") + 1
