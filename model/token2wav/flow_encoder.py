"""The flow's encoder: codes at 25 Hz to the mean of the mel at 50 Hz, whole or block by block.

    codes --embed--> --look-ahead--> blocks --> x2 --> --embed--> blocks --norm--> hidden
    25 Hz            3 codes to come            50 Hz

Attention is Transformer-XL's: content and distance are scored apart, with a learned bias for each. Distances are
computed where they are needed instead of being read from a table of 5000 rows, so speech has no longest length; beyond
the table's edge a distance counts as its largest. A caller that passes an `EncoderPast` gets the next one back.

Source: stepfun-ai/Step-Audio-2-mini, UpsampleConformerEncoderV2 (behaviour and names); Dai et al., "Transformer-XL"
(2019), section 3.3; ESPnet's relative sinusoids.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.token2wav.config import FlowEncoderConfig
from model.token2wav.flow_state import AttentionMemory, EncoderPast

MAX_DISTANCE = 4999
"""Edge of the official table of distances."""


class Segment(NamedTuple):
    """Codes that follow each other, and what the last of them see ahead."""

    codes: Tensor
    """Embedded codes, [batch, code, width]."""
    ahead: Tensor | None = None
    """The next codes, embedded, [batch, look-ahead, width]; None if the speech ends here."""


class Distances(NamedTuple):
    """Sinusoids of every distance between queries and keys, ordered so that a shift aligns them."""

    table: Tensor
    """[rows of all runs, width]; in each run from the largest distance to the smallest."""
    runs: list[int]
    """Length of each unbroken run of keys."""


def build_distances(start: int, n: int, runs: list[tuple[int, int]], like: Tensor) -> Distances:
    """Build what attention needs to know about positions.

    Args:
        start: Position of the first of `n` queries.
        n: Number of queries.
        runs: (first position, length) of each unbroken run of keys.
        like: A tensor of the wanted width (last axis), type and device.
    """
    downwards = [torch.arange(start + n - 1 - first, start - first - length, -1) for first, length in runs]
    width = like.shape[-1]
    distance = torch.cat(downwards).clamp(-MAX_DISTANCE, MAX_DISTANCE)
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10_000.0) / width))
    angles = distance[:, None] * rates
    return Distances(torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like), [n for _, n in runs])


def _align(scores: Tensor, n_keys: int) -> Tensor:
    """Turn scores by distance, [..., query, query + n_keys - 1], into scores by key, [..., query, key].

    Query i meets key j in column n_queries - 1 - i + j: each row is the row above moved by one.
    """
    n = scores.shape[-2]
    padded = F.pad(scores, (1, 0)).flatten(-2)[..., n:]
    return padded.unflatten(-1, (n, -1))[..., :n_keys]


class RelativeAttention(nn.Module):
    """Self-attention that scores content and distance apart."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_heads, width // n_heads)))
        self.pos_bias_v = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_heads, width // n_heads)))

    def forward(
        self, x: Tensor, distances: Distances, mask: Tensor | None, memory: AttentionMemory | None, layer: int
    ) -> tuple[Tensor, Tensor]:
        """Attend to what is new and to what is remembered.

        Args:
            x: [batch, time, width].
            distances: Of these queries to all keys, remembered ones first.
            mask: True where a query may look, [batch or 1, query, key]; None is everywhere.
            memory: Keys and values of earlier blocks.
            layer: Which layer of the memory is this one's.

        Returns:
            Result [batch, time, width], and the new keys and values [batch, head, time, key and value].
        """
        q = self.linear_q(x).unflatten(-1, (self.n_heads, -1))
        new = torch.cat([self._heads(self.linear_k(x)), self._heads(self.linear_v(x))], dim=-1)
        k, v = (new if memory is None else memory.join(layer, new)).chunk(2, dim=-1)
        content = (q + self.pos_bias_u).transpose(1, 2) @ k.transpose(-1, -2)
        scores = content + self._by_distance((q + self.pos_bias_v).transpose(1, 2), distances)
        scores = scores / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        mixed = scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v
        return self.linear_out(mixed.transpose(1, 2).flatten(2)), new

    def _by_distance(self, q: Tensor, distances: Distances) -> Tensor:
        """Score every key by its distance only, [batch, head, query, key]."""
        n = q.shape[-2]
        positions = self._heads(self.linear_pos(distances.table)[None])
        scores = (q @ positions.transpose(-1, -2)).split([n + run - 1 for run in distances.runs], dim=-1)
        return torch.cat([_align(each, run) for each, run in zip(scores, distances.runs)], dim=-1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with SiLU between."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.w_1 = nn.Linear(width, inner)
        self.w_2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to itself."""
        return self.w_2(F.silu(self.w_1(x)))


class ConformerBlock(nn.Module):
    """Pre-norm attention and feed-forward; the official block has no convolution inside."""

    def __init__(self, config: FlowEncoderConfig):
        super().__init__()
        width = config.output_size
        self.self_attn = RelativeAttention(width, config.attention_heads)
        self.feed_forward = FeedForward(width, config.linear_units)
        self.norm_ff = nn.LayerNorm(width, eps=1e-12)
        self.norm_mha = nn.LayerNorm(width, eps=1e-12)

    def forward(
        self, x: Tensor, distances: Distances, mask: Tensor | None, memory: AttentionMemory | None, layer: int
    ) -> tuple[Tensor, Tensor]:
        """Return the block's output [batch, time, width] and its new keys and values."""
        attended, new = self.self_attn(self.norm_mha(x), distances, mask, memory, layer)
        x = x + attended
        return x + self.feed_forward(self.norm_ff(x)), new


class Embedding(nn.Module):
    """Linear layer and norm, scaled by the root of the width."""

    def __init__(self, n_in: int, width: int):
        super().__init__()
        self.out = nn.Sequential(nn.Linear(n_in, width), nn.LayerNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., n_in] to [..., width]."""
        return self.out(x) * math.sqrt(x.shape[-1])


class LookAhead(nn.Module):
    """Mix the next codes into each code; the second convolution looks back, so it has a tail to remember."""

    def __init__(self, width: int, n_ahead: int):
        super().__init__()
        self.n_ahead = n_ahead
        self.conv1 = nn.Conv1d(width, width, n_ahead + 1)
        self.conv2 = nn.Conv1d(width, width, 3)

    def forward(self, x: Tensor, ahead: Tensor | None, tail: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mix one segment.

        Args:
            x: [batch, time, width].
            ahead: What comes after it, [batch, n_ahead, width]; None is zeros.
            tail: What the segment before left, [batch, width, 2]; None is zeros.

        Returns:
            Result [batch, time, width] and the tail for the next segment.
        """
        seen = F.pad(x, (0, 0, 0, self.n_ahead)) if ahead is None else torch.cat([x, ahead], dim=1)
        hidden = F.leaky_relu(self.conv1(seen.transpose(1, 2)))
        hidden, tail = prepend_tail(hidden, tail, 2)
        return x + self.conv2(hidden).transpose(1, 2), tail


class UpSample(nn.Module):
    """Repeat every code for each of its frames, then smooth with a convolution that looks back."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv1d(width, width, 2 * stride + 1)

    def forward(self, x: Tensor, tail: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map [batch, code, width] to [batch, frame, width]; the tail is [batch, width, 2 * stride]."""
        hidden = x.transpose(1, 2).repeat_interleave(self.stride, dim=-1)
        hidden, tail = prepend_tail(hidden, tail, 2 * self.stride)
        return self.conv(hidden).transpose(1, 2), tail


def prepend_tail(x: Tensor, tail: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
    """Put the last `n` inputs of the block before in front of this one, zeros at the start.

    Args:
        x: Input of a convolution that looks back by `n`, [..., time].
        tail: [..., n], or None at the start.
        n: How far the convolution looks back.

    Returns:
        The longer input [..., n + time] and the tail for the next block, [..., n].
    """
    x = F.pad(x, (n, 0)) if tail is None else torch.cat([tail, x], dim=-1)
    return x, x[..., x.shape[-1] - n :].clone()  # a view would keep the whole block alive


class FlowEncoder(nn.Module):
    """Conformer with look-ahead and up-sampling: embedded codes to hidden vectors at the mel's rate."""

    def __init__(self, config: FlowEncoderConfig):
        super().__init__()
        width = config.output_size
        self.stride = config.up_stride
        self.embed = Embedding(config.input_size, width)
        self.pre_lookahead_layer = LookAhead(width, config.pre_lookahead_len)
        self.encoders = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_blocks))
        self.up_layer = UpSample(width, self.stride)
        self.up_embed = Embedding(width, width)
        self.up_encoders = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_up_blocks))
        self.after_norm = nn.LayerNorm(width)

    def forward(
        self,
        segments: list[Segment],
        *,
        valid: Tensor | None = None,
        mask: Tensor | None = None,
        past: EncoderPast | None = None,
    ) -> tuple[Tensor, EncoderPast | None]:
        """Encode codes that follow each other.

        Args:
            segments: Usually one. Two where the codes before a border must see other codes ahead than those after it.
            valid: True at real codes, [batch, code]; None if nothing is padded. Padding is silenced, so that a row of a
                batch is what it is alone.
            mask: True where a code may see another, [batch or 1, query code, key code]; None is everywhere, which
                is right for one block of a stream.
            past: What earlier calls left; None for a call that nothing goes before or after.

        Returns:
            Hidden vectors [batch, frame, width], and what to pass on to the next call (None without `past`).
        """
        start = EncoderPast() if past is None else past
        x, ahead_tail = self._look_ahead(segments, valid, start.ahead_tail)
        position = start.position + x.shape[1]
        x, codes = self._attend(self.encoders, x, start.position, mask, None if past is None else past.codes)
        x, up_tail = self.up_layer(x, start.up_tail)
        if mask is not None:
            mask = mask.repeat_interleave(self.stride, 1).repeat_interleave(self.stride, 2)
        x, first = self.up_embed(x), start.position * self.stride
        x, frames = self._attend(self.up_encoders, x, first, mask, None if past is None else past.frames)
        if past is not None:
            past = EncoderPast(codes, frames, ahead_tail, up_tail, position)
        return self.after_norm(x), past

    def _look_ahead(
        self, segments: list[Segment], valid: Tensor | None, tail: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Embed the segments and let each see ahead; return them joined, and the last one's tail."""
        mixed, done = [], 0
        for segment in segments:
            x = self.embed(segment.codes)
            if valid is not None:
                x = x * valid[:, done : done + x.shape[1], None]
            done += x.shape[1]
            x, tail = self.pre_lookahead_layer(x, None if segment.ahead is None else self.embed(segment.ahead), tail)
            mixed.append(x)
        return torch.cat(mixed, dim=1), tail

    @staticmethod
    def _attend(
        blocks: nn.ModuleList, x: Tensor, start: int, mask: Tensor | None, memory: AttentionMemory | None
    ) -> tuple[Tensor, AttentionMemory | None]:
        """Run a stack of blocks over positions from `start` on; return its output and the grown memory."""
        n = x.shape[1]
        distances = build_distances(start, n, (memory or AttentionMemory()).runs(start, n), like=x)
        news = []
        for layer, block in enumerate(blocks):
            x, new = block(x, distances, mask, memory, layer)
            news.append(new)
        return x, None if memory is None else memory.grow(torch.stack(news))
