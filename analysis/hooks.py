"""The only place where a network is hooked: read attention rows, read activations, and put others in their place.

`taps` and `recorded` work at a `Site`, an activation under its TransformerLens name. What a tap returns takes the
activation's place in this run; a tap that returns nothing only looks:

    resid_pre -+--> q k v -> z -> attn_out --+-- resid_mid -+--> mlp_post -> mlp_out --+-- resid_post
               +-----------------------------+              +------------------------+

Attention weights are never asked of the model. It keeps its fast kernel, which does not even form them; instead the
query and key projections are overheard, and of the square

                 key  0 ........................ n-1
        query 0      .
              ...      .
     wanted -> p     [ * * * * * * * * ]             one row: softmax(q_p k^T / sqrt(d) + mask)
     wanted -> p+1   [ * * * * * * * * * ]
              ...

only the wanted rows are made again, layer by layer, and reduced at once to what shall be kept. Looking changes
nothing: outputs are read, never returned. Hooks are removed when the body ends, also by an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from model.errors import TraceError

Reducer = Callable[[Tensor], Tensor]
"""Attention rows [head, query, key] in float32, each row summing to 1 -> what to keep, [head, query, ...]."""
MAX_BLOCK_ELEMENTS = 2**24
"""Weights made at once, 64 MiB in float32; more queries than that are done in blocks."""

Tap = Callable[[Tensor], Tensor | None]
"""Sees an activation [batch, position, width], or [batch, position, head, width] at q, k, v and z; what it returns
takes the activation's place, and may have more rows in its batch when there was one."""


class Site(NamedTuple):
    """One activation of the network."""

    name: str
    """resid_pre, resid_mid, resid_post, attn_out, mlp_out, mlp_post (the neurons), q, k, v, z; or `out`, what the
    encoder or the adaptor gives in the end."""
    layer: int = 0
    """Layer, counted from 0; `out` has none."""
    part: Literal["encoder", "adaptor", "decoder"] = "decoder"


class _Place(NamedTuple):
    """Where in a Hugging Face module an activation is."""

    module: Callable[[nn.Module], nn.Module]
    """Layer -> the module that takes it in or gives it out."""
    end: Literal["in", "out"]
    by_head: bool = False


_PLACES = {
    "decoder": {
        "resid_pre": _Place(lambda layer: layer, "in"),
        "resid_mid": _Place(lambda layer: layer.post_attention_layernorm, "in"),
        "resid_post": _Place(lambda layer: layer, "out"),
        "attn_out": _Place(lambda layer: layer.self_attn, "out"),
        "mlp_out": _Place(lambda layer: layer.mlp, "out"),
        "mlp_post": _Place(lambda layer: layer.mlp.down_proj, "in"),
        "q": _Place(lambda layer: layer.self_attn.q_proj, "out", True),
        "k": _Place(lambda layer: layer.self_attn.k_proj, "out", True),
        "v": _Place(lambda layer: layer.self_attn.v_proj, "out", True),
        "z": _Place(lambda layer: layer.self_attn.o_proj, "in", True),
    },
    "encoder": {
        "resid_pre": _Place(lambda layer: layer, "in"),
        "resid_mid": _Place(lambda layer: layer.mlp_ln, "in"),
        "resid_post": _Place(lambda layer: layer, "out"),
        "attn_out": _Place(lambda layer: layer.attn, "out"),
        "mlp_out": _Place(lambda layer: layer.mlp, "out"),
        "mlp_post": _Place(lambda layer: layer.mlp[2], "in"),
        "z": _Place(lambda layer: layer.attn.out, "in", True),
        "out": _Place(lambda encoder: encoder.after_norm, "out"),
    },
    "adaptor": {"out": _Place(lambda adaptor: adaptor, "out")},
}
"""The map between TransformerLens names and Hugging Face modules."""


@contextmanager
def taps(model: nn.Module, at: Mapping[Site, Tap]) -> Iterator[None]:
    """Show activations to functions while the body runs the model, and let them put others in their place.

        with taps(model, {Site("z", 3): lambda z: z * mask}):      # heads of layer 3, [batch, position, head, width]
            logits = model(**inputs).logits

    Args:
        model: A StepAudio2ForCausalLM; for decoder sites also a Qwen2ForCausalLM or a Qwen2Model.
        at: Site -> what shall see the activation there, each time the model comes by.

    Raises:
        TraceError: If the model has no such site.
    """
    places = {site: _find(model, site) for site in at}
    handles: list[Any] = []
    try:
        for site, (module, end, n_heads) in places.items():
            if end == "in":
                handles.append(module.register_forward_pre_hook(_tap_input(at[site], n_heads)))
            else:
                handles.append(module.register_forward_hook(_tap_output(at[site], n_heads)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded(
    model: nn.Module, sites: Sequence[Site], keep: Callable[[Tensor], Tensor] = Tensor.detach
) -> Iterator[dict[Site, Tensor]]:
    """Collect activations while the body runs the model; of each what `keep` returns, by site, of the last run."""
    found: dict[Site, Tensor] = {}

    def listener(site: Site) -> Tap:
        def listen(activation: Tensor) -> None:
            found[site] = keep(activation)

        return listen

    with taps(model, {site: listener(site) for site in sites}):
        yield found


def n_layers(model: nn.Module, part: str = "decoder") -> int:
    """Return how many layers the decoder or the encoder has."""
    return len(decoder_of(model).layers if part == "decoder" else model.encoder.blocks)


def unembed(model: nn.Module, residual: Tensor) -> Tensor:
    """Return the logits of a residual stream, [..., vocabulary]: the model's own last norm and unembedding."""
    return model.lm_head(decoder_of(model).norm(residual))


def _find(model: nn.Module, site: Site) -> tuple[nn.Module, str, int | None]:
    """Return the module of a site, which end of it, and how many heads to unfold."""
    place = _PLACES.get(site.part, {}).get(site.name)
    if place is None:
        known = {part: list(names) for part, names in _PLACES.items()}
        raise _no_site(f"a site {tuple(site)}", f"one of {known}")
    if site.part == "decoder":
        whole, layers = decoder_of(model), decoder_of(model).layers
    else:
        whole = getattr(model, {"encoder": "encoder", "adaptor": "adapter"}[site.part], None)
        if whole is None:
            raise _no_site(f"a {type(model).__name__} without {site.part}", "a Step-Audio 2 model")
        layers = getattr(whole, "blocks", ())
    if site.name == "out":
        return place.module(whole), place.end, None
    if not 0 <= site.layer < len(layers):
        raise _no_site(f"{site.part} layer {site.layer}", f"layers 0 to {len(layers) - 1}")
    layer = layers[site.layer]
    return place.module(layer), place.end, _n_heads(layer, site.name) if place.by_head else None


def _n_heads(layer: nn.Module, name: str) -> int:
    if hasattr(layer, "attn"):
        return layer.attn.n_heads
    config = layer.self_attn.config
    return config.num_key_value_heads if name in ("k", "v") else config.num_attention_heads


def _tap_input(tap: Tap, n_heads: int | None) -> Callable:
    def hook(_module: nn.Module, args: tuple) -> tuple | None:
        changed = _show(tap, args[0], n_heads)
        return None if changed is None else (changed, *args[1:])

    return hook


def _tap_output(tap: Tap, n_heads: int | None) -> Callable:
    def hook(_module: nn.Module, _args: tuple, output: Any) -> Any:
        several = isinstance(output, tuple)
        changed = _show(tap, output[0] if several else output, n_heads)
        if changed is None:
            return None
        return (changed, *output[1:]) if several else changed

    return hook


def _show(tap: Tap, activation: Tensor, n_heads: int | None) -> Tensor | None:
    """Show an activation to its tap, heads on an axis of their own, and fold back what it returns."""
    changed = tap(activation if n_heads is None else activation.unflatten(-1, (n_heads, -1)))
    return changed if changed is None or n_heads is None else changed.flatten(-2)


@dataclass
class AttentionRows:
    """What `attention_rows` collects; complete when the model has run once."""

    layers: tuple[int, ...]
    """The layers asked for."""
    parts: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    """Reducer name -> layer -> kept values on the CPU, float16 [head, query, ...]."""

    def stacked(self, name: str) -> np.ndarray:
        """Return what one reducer kept, float16 [layer, head, query, ...]."""
        kept = self.parts.get(name, {})
        missing = [layer for layer in self.layers if layer not in kept]
        if missing:
            raise _refusal(
                f"no attention from layers {missing}", "one forward pass of the model inside the `with` block"
            )
        return torch.stack([kept[layer] for layer in self.layers]).numpy()


@contextmanager
def attention_rows(
    model: nn.Module,
    positions: Sequence[int] | Tensor,
    reduce: Mapping[str, Reducer],
    *,
    layers: Sequence[int] | None = None,
    on_layer: Callable[[int], None] | None = None,
) -> Iterator[AttentionRows]:
    """Collect reduced attention rows of the decoder while the body runs the model once.

        with attention_rows(model, [40, 41], {"audio": lambda rows: rows[..., 5:30]}) as rows:
            model(**inputs)
        rows.stacked("audio")        # [layer, head, 2, 25]

    Args:
        model: A StepAudio2ForCausalLM, a Qwen2ForCausalLM or a Qwen2Model.
        positions: Query positions, [query], counted in the sequence that is fed to the model.
        reduce: What to keep of the rows, by name.
        layers: Decoder layers to look at; None looks at all of them.
        on_layer: Called with each layer's number when it is done (progress; raising stops the run).

    Yields:
        The collection, filled as the model runs.

    Raises:
        TraceError: If the model has no such layers, or runs more than one sequence or more than once.
    """
    decoder = decoder_of(model)
    chosen = tuple(range(len(decoder.layers))) if layers is None else tuple(layers)
    outside = [layer for layer in chosen if not 0 <= layer < len(decoder.layers)]
    if outside:
        raise _refusal(f"layers {outside} of a decoder with {len(decoder.layers)}", "layers that the model has")
    rows = AttentionRows(chosen, {name: {} for name in reduce})
    handles: list[Any] = []
    try:
        for layer in chosen:
            tap = _LayerTap(layer, torch.as_tensor(positions), reduce, rows, on_layer)
            attention = decoder.layers[layer].self_attn
            handles.append(attention.q_proj.register_forward_hook(tap.hear_queries))
            handles.append(attention.k_proj.register_forward_hook(tap.hear_keys))
            handles.append(attention.register_forward_hook(tap.reduce_rows, with_kwargs=True))
        yield rows
    finally:
        for handle in handles:
            handle.remove()


def decoder_of(model: nn.Module) -> nn.Module:
    """Return the Qwen2 decoder inside a model: the module that has `layers`."""
    for candidate in (model, getattr(model, "model", None)):
        if hasattr(candidate, "layers"):
            return candidate
    raise _refusal(f"a {type(model).__name__} without decoder layers", "a Step-Audio 2 or Qwen2 model")


class _LayerTap:
    """What the three hooks of one layer share while that layer runs."""

    def __init__(
        self,
        layer: int,
        positions: Tensor,
        reduce: Mapping[str, Reducer],
        rows: AttentionRows,
        on_layer: Callable[[int], None] | None,
    ) -> None:
        self.layer, self.positions, self.reduce, self.rows, self.on_layer = layer, positions, reduce, rows, on_layer
        self.queries: Tensor | None = None
        self.keys: Tensor | None = None

    def hear_queries(self, _module: nn.Module, _args: tuple, output: Tensor) -> None:
        """Keep the projected queries of the wanted positions, [query, head * width]."""
        if output.shape[0] != 1:
            raise _refusal(f"a batch of {output.shape[0]} sequences", "one sequence at a time")
        n = output.shape[1]
        if len(self.positions) and not 0 <= int(self.positions.min()) <= int(self.positions.max()) < n:
            raise _refusal(
                f"a pass over {n} positions", "a pass that has every wanted position; feed the whole sequence"
            )
        self.queries = output.detach()[0, self.positions.to(output.device)]

    def hear_keys(self, _module: nn.Module, _args: tuple, output: Tensor) -> None:
        """Keep the projected keys of all positions, [key, kv head * width]."""
        self.keys = output.detach()[0]

    def reduce_rows(self, attention: nn.Module, args: tuple, kwargs: dict, _output: object) -> None:
        """Make the wanted rows again, keep what the reducers return, and forget queries and keys."""
        if any(self.layer in kept for kept in self.rows.parts.values()):
            raise _refusal("a second pass of the model", "one forward pass inside the `with` block")
        _refuse_cached_keys(kwargs.get("past_key_values"), self.layer, len(self.keys))
        with torch.no_grad():
            blocks = list(_reduced_blocks(attention, self.queries, self.keys, self.positions, kwargs, self.reduce))
        for name, kept in self.rows.parts.items():
            kept[self.layer] = torch.cat([block[name] for block in blocks], dim=1)
        self.queries = self.keys = None
        if self.on_layer is not None:
            self.on_layer(self.layer)


def _reduced_blocks(
    attention: nn.Module, queries: Tensor, keys: Tensor, positions: Tensor, kwargs: dict, reduce: Mapping[str, Reducer]
) -> Iterator[dict[str, Tensor]]:
    """Yield the reduced rows, a block of queries at a time so that memory stays bounded."""
    n_heads = queries.shape[-1] // attention.head_dim
    size = max(1, MAX_BLOCK_ELEMENTS // (n_heads * len(keys)))
    for start in range(0, max(1, len(positions)), size):
        block = slice(start, start + size)
        pattern = _pattern(attention, queries[block], keys, positions[block], kwargs)
        yield {name: reducer(pattern).to("cpu", torch.float16) for name, reducer in reduce.items()}


def _pattern(attention: nn.Module, queries: Tensor, keys: Tensor, positions: Tensor, kwargs: dict) -> Tensor:
    """Return softmax rows of one layer as the model's own attention forms them.

    Rotation runs in the model's dtype, as in the model; scores and softmax in float32, as in its fused kernels.

    Args:
        attention: The layer's attention module.
        queries: Projected, not yet rotated, [query, head * width].
        keys: Projected, not yet rotated, [key, kv head * width].
        positions: Places of the queries in the sequence, [query].
        kwargs: What the module was called with: position_embeddings, attention_mask.

    Returns:
        float32 [head, query, key]; rows sum to 1.
    """
    width, groups = attention.head_dim, attention.num_key_value_groups
    cos, sin = kwargs["position_embeddings"]
    places = positions.to(cos.device)
    q = queries.unflatten(-1, (-1, width)).transpose(0, 1)[None]
    k = keys.unflatten(-1, (-1, width)).transpose(0, 1)[None]
    q, _ = apply_rotary_pos_emb(q, q, cos[:, places], sin[:, places])
    _, k = apply_rotary_pos_emb(k, k, cos, sin)
    # A group of query heads shares each key head: fold the group into an axis instead of copying the keys.
    q = q[0].float().unflatten(0, (-1, groups))
    scores = torch.einsum("hgqd,hkd->hgqk", q, k[0].float()).flatten(0, 1) * attention.scaling
    return _masked(scores, positions, attention, kwargs.get("attention_mask")).softmax(dim=-1)


def _masked(scores: Tensor, positions: Tensor, attention: nn.Module, mask: Tensor | None) -> Tensor:
    """Hide the keys the model hides: by its own mask when it made one, else everything later than the query."""
    hidden = torch.finfo(scores.dtype).min
    places = positions.to(scores.device)
    if mask is not None and mask.ndim == 4:
        rows = mask[0][:, places].to(scores.device)  # [1 or head, query, key]
        return scores.masked_fill(~rows, hidden) if rows.dtype == torch.bool else scores + rows.float()
    key = torch.arange(scores.shape[-1], device=scores.device)
    seen = key[None, :] <= places[:, None]
    if attention.sliding_window is not None:
        seen &= key[None, :] > places[:, None] - attention.sliding_window
    if mask is not None:  # flash attention is given the padding mask only, [batch, key]
        seen &= mask[0].bool().to(scores.device)[None, :]
    return scores.masked_fill(~seen, hidden)


def _refuse_cached_keys(cache: Any, layer: int, n_keys: int) -> None:
    if cache is not None and cache.get_seq_length(layer) != n_keys:
        raise _refusal("a pass that continues a cache", "a pass over the whole sequence (teacher forcing)")


def _no_site(found: str, expected: str) -> TraceError:
    todo = "Name sites with `Site`; `n_layers` counts layers."
    return TraceError("find an activation", found=found, expected=expected, todo=todo)


def _refusal(found: str, expected: str) -> TraceError:
    return TraceError(
        "read attention rows", found=found, expected=expected, todo="Use `capture_trace`, which does all this."
    )
