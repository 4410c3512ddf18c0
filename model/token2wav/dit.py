"""The flow's estimator: a diffusion transformer that says where a noisy mel should move.

    noisy mel, mean mel, speaker, prompt mel --side by side--> [batch, frame, 4 x bins] --blocks--> velocity
    block: attention -> causal convolution -> feed-forward, each shifted, scaled and gated by the time

There is no code for positions: order enters by the convolutions, which look back two frames each, and by the mean. A
caller that passes an `EstimatorPast` gets the next one back.

Source: stepfun-ai/Step-Audio-2-mini, DiT (behaviour and names); Peebles & Xie, "Scalable Diffusion Models with
Transformers" (2023), adaLN-Zero.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.token2wav.config import EstimatorConfig
from model.token2wav.flow_encoder import prepend_tail
from model.token2wav.flow_state import AttentionMemory, EstimatorPast, OfficialMemory

Memory = AttentionMemory | OfficialMemory
TIME_WIDTH = 256
TIME_SCALE = 1000.0
"""Times run from 0 to 1; the sinusoids were made for 0 to 1000."""
KERNEL = 3


class TimeEmbedding(nn.Module):
    """Time of the solver as a vector."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Map times [batch] to [batch, width]."""
        half = TIME_WIDTH // 2
        rates = torch.exp(-math.log(10_000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
        angles = TIME_SCALE * t.float()[:, None] * rates
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.mlp[0].weight.dtype))


class Attention(nn.Module):
    """Self-attention with normalised queries and keys."""

    def __init__(self, config: EstimatorConfig):
        super().__init__()
        self.n_heads = config.num_heads
        width, inner = config.hidden_size, config.num_heads * config.head_dim
        self.to_q = nn.Linear(width, inner)
        self.to_k = nn.Linear(width, inner)
        self.to_v = nn.Linear(width, inner)
        self.q_norm = nn.LayerNorm(config.head_dim)
        self.k_norm = nn.LayerNorm(config.head_dim)
        self.proj = nn.Linear(inner, width)

    def forward(self, x: Tensor, mask: Tensor | None, memory: Memory | None, layer: int) -> tuple[Tensor, Tensor]:
        """Attend to what is new and to what is remembered.

        Args:
            x: [batch, frame, width].
            mask: True where a query may look, [batch or 1, query, key]; None is everywhere.
            memory: Keys and values of earlier blocks.
            layer: Which layer of the memory is this one's.

        Returns:
            Result [batch, frame, width], and the new keys and values [batch, head, frame, key and value].
        """
        q, k, v = (
            project(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        q, new = self.q_norm(q), torch.cat([self.k_norm(k), v], dim=-1)
        k, v = (new if memory is None else memory.join(layer, new)).chunk(2, dim=-1)
        mixed = attend(q, k, v, None if mask is None else mask[:, None])
        return self.proj(mixed.transpose(1, 2).flatten(2)), new


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Mix values by scaled dot products, [batch, head, query, width]; `mask` is True where a query may look."""
    if not q.requires_grad or q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # Training on CPU: the backward pass of the fused kernel is about three times slower than that of plain products.
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1) @ v


class FeedForward(nn.Module):
    """Two linear layers with GELU (tanh) between."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to itself."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class CausalConvs(nn.Module):
    """Convolution, norm, Mish, convolution; both look back two frames."""

    def __init__(self, width: int):
        super().__init__()
        # The official block counts its transpositions too; the weights sit at places 1, 3 and 6.
        layers = {"1": nn.Conv1d(width, width, KERNEL), "3": nn.LayerNorm(width), "6": nn.Conv1d(width, width, KERNEL)}
        self.block = nn.ModuleDict(layers)

    def forward(self, x: Tensor, tails: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map [batch, frame, width] to itself; tails are [batch, 2, width, 2], None at the start."""
        first, second = (None, None) if tails is None else tails.unbind(1)
        x, first = prepend_tail(x.transpose(1, 2), first, KERNEL - 1)
        x = F.mish(self.block["3"](self.block["1"](x).transpose(1, 2)))
        x, second = prepend_tail(x.transpose(1, 2), second, KERNEL - 1)
        return self.block["6"](x).transpose(1, 2), torch.stack([first, second], dim=1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shift and scale what was normalised; shift and scale are [batch or 1, 1, width]."""
    return x * (1 + scale) + shift


class DiTBlock(nn.Module):
    """Attention, convolutions and feed-forward, each switched by the time."""

    def __init__(self, config: EstimatorConfig):
        super().__init__()
        width = config.hidden_size
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = FeedForward(width, round(width * config.mlp_ratio))
        self.norm3 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.conv = CausalConvs(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 9 * width))

    def forward(
        self, x: Tensor, time: Tensor, mask: Tensor | None, memory: Memory | None, tails: Tensor | None, layer: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the block's output [batch, frame, width], its new keys and values, and its tails."""
        switches = self.adaLN_modulation(time)[:, None].chunk(9, dim=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m, shift_c, scale_c, gate_c = switches
        attended, new = self.attn(modulate(self.norm1(x), shift_a, scale_a), mask, memory, layer)
        x = x + gate_a * attended
        smoothed, tails = self.conv(modulate(self.norm3(x), shift_c, scale_c), tails)
        x = x + gate_c * smoothed
        return x + gate_m * self.mlp(modulate(self.norm2(x), shift_m, scale_m)), new, tails


class FinalLayer(nn.Module):
    """Norm switched by the time, then down to the bins of the mel."""

    def __init__(self, config: EstimatorConfig):
        super().__init__()
        width = config.hidden_size
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.Linear(width, config.out_channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map [batch, frame, width] to [batch, frame, bins]."""
        shift, scale = self.adaLN_modulation(time)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class DiT(nn.Module):
    """Velocity of the flow at one time."""

    def __init__(self, config: EstimatorConfig):
        super().__init__()
        self.t_embedder = TimeEmbedding(config.hidden_size)
        self.in_proj = nn.Linear(config.in_channels, config.hidden_size)
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)
        # Fresh blocks change nothing and the velocity is zero (adaLN-Zero), so training starts calm.
        for layer in (*(block.adaLN_modulation[1] for block in self.blocks), self.final_layer.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Tensor,
        mu: Tensor,
        t: Tensor,
        speaker: Tensor,
        cond: Tensor,
        *,
        mask: Tensor | None = None,
        past: EstimatorPast | None = None,
    ) -> tuple[Tensor, EstimatorPast | None]:
        """Estimate the velocity.

        Args:
            x: Noisy mel, [batch, bins, frame].
            mu: Mean mel from the encoder, [batch, bins, frame].
            t: Times, 0 (noise) to 1 (mel), [batch], or one for all, [1].
            speaker: Speaker vector after its affine layer, [batch, bins].
            cond: Mel of the prompt, zeros where it is to be made, [batch, bins, frame].
            mask: True where a frame may see another, [batch or 1, query, key]; None is everywhere, which is right for
                one block of a stream.
            past: What earlier blocks left at this step of the solver; None if nothing goes before or after.

        Returns:
            Velocity [batch, bins, frame], and what to pass on to the next block (None without `past`).
        """
        inputs = [x, mu, speaker[:, :, None].expand_as(x), cond]
        hidden = self.in_proj(torch.cat(inputs, dim=1).to(self.in_proj.weight.dtype).transpose(1, 2))
        time = self.t_embedder(t)
        memory, tails = (None, None) if past is None else (past.memory, past.tails)
        news, new_tails = [], []
        for layer, block in enumerate(self.blocks):
            hidden, new, tail = block(hidden, time, mask, memory, None if tails is None else tails[layer], layer)
            news.append(new)
            new_tails.append(tail)
        velocity = self.final_layer(hidden, time).transpose(1, 2)
        if past is not None:
            past = EstimatorPast(memory.grow(torch.stack(news)), torch.stack(new_tails))
        return velocity, past
