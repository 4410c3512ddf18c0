"""Vectors to probe: what encoder, adaptor and decoder hold of each clip, at every layer, in one pass a clip.

    site            rows                                                     rate of the frames
    encoder 0 ..    output of each encoder block                             50 Hz
    encoder         its output, pooled and normalised                        25 Hz
    adaptor         what the decoder is given for the sound                  12.5 Hz
    decoder in      the same, as the decoder's residual stream               12.5 Hz
    decoder 0 ..    residual stream after each layer, at the sound           12.5 Hz
    answer 0 ..     residual stream after each layer, where the reply begins   one

`mean` gives one row for each clip, the mean over its frames; `frames` one row for each 12.5 Hz position, faster sites
averaged into it, and no `answer` sites. Padding is never looked at. Decoder sites depend on the prompt before the
sound; a bare Waveform is put into the transcription prompt.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from analysis.capture import Layout, evaluating, lay_out, sound_inputs
from analysis.hooks import Site, Tap, n_layers, taps
from model.audio import Waveform
from model.chat import Conversation, with_reply
from model.errors import TraceError
from model.tasks.asr import ASR

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of it that is done, 0 to 1."""
Pool = Literal["mean", "frames"]


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of many clips at many sites, row by row the same clips and times."""

    values: Mapping[str, np.ndarray]
    """Site -> float32 [row, width], in the order of the network."""
    clip: np.ndarray
    """Which clip each row is of, int64 [row]."""
    time_s: np.ndarray
    """Middle of each row's frame in its clip, seconds, float64 [row]; NaN for means."""

    def __post_init__(self) -> None:
        rows = {site: len(values) for site, values in self.values.items()} | {"time_s": len(self.time_s)}
        wrong = {site: n for site, n in rows.items() if n != len(self.clip)}
        bad = [site for site, values in self.values.items() if not np.isfinite(values).all()]
        if wrong or bad or not self.values or not len(self.clip):
            raise _refusal(
                f"{len(self.clip)} rows, but {wrong}, not finite at {bad}", "as many finite rows at every site"
            )

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, in the order of the network."""
        return tuple(self.values)


def record_features(
    loaded: Any,
    clips: Sequence[Waveform | Conversation],
    *,
    pool: Pool = "mean",
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Features:
    """Run each clip through the model once and keep what every layer holds.

        features = record_features(loaded, waveforms)
        result = probe(features, labels, groups=speakers)

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        clips: Sounds, or whole conversations with sound in them; an assistant turn is opened where none is.
        pool: One row for each clip, or one for each 12.5 Hz position.
        progress: Told after each clip.
        cancel: Looked at between clips; when set, the features of the clips so far are returned.

    Raises:
        TraceError: If there is no clip, or one without sound.
    """
    tell, rows = progress or (lambda step, fraction: None), []
    with evaluating(loaded.model), torch.inference_mode():
        for number, clip in enumerate(clips):
            if cancel is not None and cancel.is_set():
                break
            conversation = ASR.conversation(clip) if isinstance(clip, Waveform) else with_reply(clip)
            rows.append(_one_clip(loaded, conversation, pool))
            tell("features", (number + 1) / len(clips))
    if not rows:
        raise _refusal("no clip", "at least one")
    sites = rows[0][0]
    return Features(
        values={site: np.concatenate([values[site] for values, _ in rows]) for site in sites},
        clip=np.repeat(np.arange(len(rows)), [len(time_s) for _, time_s in rows]),
        time_s=np.concatenate([time_s for _, time_s in rows]),
    )


def _one_clip(loaded: Any, conversation: Conversation, pool: Pool) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the rows of one clip by site, and their times."""
    model, processor = loaded.model, loaded.processor
    prompt = processor.encode(conversation)
    layout = lay_out(prompt, (), processor)
    if not len(layout.frames):
        raise _refusal("a conversation without sound", "sound in every clip")
    inputs = sound_inputs(processor, prompt)
    seen = _seen(model, torch.as_tensor(layout.ids, device=next(model.parameters()).device)[None], inputs)
    found = _sound_rows(model, seen, inputs["wav_lens"], pool)
    found |= _decoder_rows(model, seen, layout, pool)
    times = (layout.start_s + layout.end_s)[layout.frames] / 2 if pool == "frames" else np.array([np.nan])
    return {site: rows.float().cpu().numpy() for site, rows in found.items()}, times


def _seen(model: nn.Module, ids: Tensor, inputs: Mapping[str, Tensor]) -> dict[Site, list[Tensor]]:
    """Run the model once; return what each site held, one tensor [clip, frame, width] for each time it was passed."""
    sites = [Site("resid_post", layer, "encoder") for layer in range(n_layers(model, "encoder"))]
    sites += [Site("out", part="encoder"), Site("out", part="adaptor"), Site("resid_pre", 0)]
    sites += [Site("resid_post", layer) for layer in range(n_layers(model))]
    seen: dict[Site, list[Tensor]] = {site: [] for site in sites}

    def listener(site: Site) -> Tap:
        def listen(activation: Tensor) -> None:
            seen[site].append(activation)

        return listen

    with taps(model, {site: listener(site) for site in sites}):
        model(input_ids=ids, use_cache=False, logits_to_keep=1, **inputs)
    return seen


def _sound_rows(model: nn.Module, seen: Mapping[Site, list[Tensor]], wav_lens: Tensor, pool: Pool) -> dict[str, Tensor]:
    """Return the valid frames of encoder and adaptor, pooled, by site."""
    at_50 = torch.div(wav_lens + 1, 2, rounding_mode="floor")
    at_25 = torch.div(at_50, 2, rounding_mode="floor")
    at_12 = torch.div(at_25 - 1, 2, rounding_mode="floor") + 1
    named = {
        f"encoder {layer}": (Site("resid_post", layer, "encoder"), at_50) for layer in range(n_layers(model, "encoder"))
    }
    named |= {"encoder": (Site("out", part="encoder"), at_25), "adaptor": (Site("out", part="adaptor"), at_12)}
    found = {}
    for name, (site, lengths) in named.items():
        chunks = [chunk for batch in seen[site] for chunk in batch]
        valid = [chunk[: int(n)] for chunk, n in zip(chunks, lengths)]
        if pool == "mean":
            found[name] = torch.cat(valid).mean(dim=0, keepdim=True)
        else:
            found[name] = torch.cat([_at_rate(frames, int(n)) for frames, n in zip(valid, at_12)])
    return found


def _at_rate(frames: Tensor, n: int) -> Tensor:
    """Average neighbouring frames into n positions."""
    owner = (torch.arange(len(frames)) * n // len(frames)).to(frames.device)
    sums = torch.zeros(n, frames.shape[1], device=frames.device, dtype=torch.float32)
    sums.index_add_(0, owner, frames.float())
    return sums / torch.bincount(owner, minlength=n)[:, None]


def _decoder_rows(model: nn.Module, seen: Mapping[Site, list[Tensor]], layout: Layout, pool: Pool) -> dict[str, Tensor]:
    """Return the residual stream at the sound and, for pooled rows, where the reply begins, by site."""
    depths = {"in": Site("resid_pre", 0)}
    depths |= {str(layer): Site("resid_post", layer) for layer in range(n_layers(model))}
    frames = torch.as_tensor(layout.frames)
    heard = {name: seen[site][0][0][frames.to(seen[site][0].device)] for name, site in depths.items()}
    if pool == "frames":
        return {f"decoder {name}": rows for name, rows in heard.items()}
    found = {f"decoder {name}": rows.mean(dim=0, keepdim=True) for name, rows in heard.items()}
    return found | {f"answer {name}": seen[site][0][0, -1:] for name, site in depths.items() if name != "in"}


def _refusal(found: str, expected: str) -> TraceError:
    todo = "Pass waveforms, or conversations with an Audio part."
    return TraceError("record features", found=found, expected=expected, todo=todo)
