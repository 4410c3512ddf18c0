"""What the flow refuses, each with a sentence: codes that are no speech codes, voices that do not fit, too much."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from model.errors import AudioError
from model.token2wav.config import CODE_RATE_HZ, FlowConfig
from model.token2wav.flow_state import FlowState

MAX_OFFLINE_CODES = 2500
"""100 s, prompt and speech together: the edge of the official table of positions, and 4 GB of attention at mini's
size. Streams have no longest length."""
MAX_PROMPT_CODES = 750
"""30 s. A prompt is always read at once and always remembered."""


def check_codes(codes: Tensor, config: FlowConfig, *, at_least: int = 0, state: FlowState | None = None) -> Tensor:
    """Return speech codes as int64 [1, n], or refuse them.

    Args:
        codes: What was given as codes.
        config: Says how many codes there are.
        at_least: How many must be there.
        state: Of the stream that they are for.

    Raises:
        AudioError: If they are no whole numbers of shape [1, n], too few, out of range, or come after the end.
    """
    if state is not None and state.finished:
        _refuse("codes after the last ones", "a stream that goes on", "Start the next utterance from a fresh state.")
    _check_kind(codes, "codes")
    if codes.shape[1] < at_least:
        _refuse(f"{codes.shape[1]} codes", f"{at_least} or more", "An answer without codes has no sound to make.")
    codes = codes.long()
    wrong = ((codes < 0) | (codes >= config.n_codes)).nonzero()
    if len(wrong):
        place = int(wrong[0, 1])
        code = int(codes[0, place])
        pad = f"Remove pad codes ({config.pad_code}), which fill slots without sound."
        todo = pad if code == config.pad_code else "Give codes of this checkpoint's tokenizer, not ids of the decoder."
        _refuse(f"code {code} at place {place}", f"codes from 0 to {config.n_codes - 1}", todo)
    return codes


def check_voice(codes: Tensor, mel: Tensor, speaker: Tensor, config: FlowConfig) -> None:
    """Refuse a voice whose parts do not fit each other or the network.

    Raises:
        AudioError: If shapes disagree, numbers are missing (NaN), the speaker is zero or the prompt too short or long.
    """
    check_codes(codes, config)
    n = codes.shape[1]
    if not config.lookahead_codes <= n <= MAX_PROMPT_CODES:
        length = f"{config.lookahead_codes} to {MAX_PROMPT_CODES} codes ({MAX_PROMPT_CODES // CODE_RATE_HZ} s)"
        _refuse(f"a voice prompt of {n} codes", length, "Use a recording of 3 to 15 s.")
    expected = (1, config.output_size, n * config.frames_per_code)
    _check_numbers(mel, "a prompt mel", expected, f"for the {n} codes of the prompt")
    _check_numbers(speaker, "a speaker vector", (1, config.spk_embed_dim), "as the speaker network gives")
    if not speaker.any():
        _refuse("a speaker vector of zeros", "a direction", "Use a recording with speech in it.")


def check_length(n_codes: int) -> None:
    """Refuse more codes than can be made at once."""
    if n_codes > MAX_OFFLINE_CODES:
        length = f"at most {MAX_OFFLINE_CODES} ({MAX_OFFLINE_CODES // CODE_RATE_HZ} s) at once"
        _refuse(f"{n_codes} codes, the prompt included", length, "Use start and step, which have no longest length.")


def _check_kind(codes: Any, name: str) -> None:
    """Refuse what is no tensor of whole numbers, [1, n]."""
    whole = isinstance(codes, Tensor) and codes.dtype in (torch.int64, torch.int32, torch.int16, torch.uint8)
    if not whole or codes.ndim != 2 or codes.shape[0] != 1:
        found = f"{codes.dtype} {list(codes.shape)}" if isinstance(codes, Tensor) else type(codes).__name__
        _refuse(f"{name} as {found}", "a tensor of whole numbers, [1, n]", "Give one utterance at a time.")


def _check_numbers(values: Any, name: str, shape: tuple[int, ...], why: str) -> None:
    """Refuse what has another shape, or numbers that are none."""
    if not isinstance(values, Tensor) or not values.is_floating_point() or tuple(values.shape) != shape:
        found = f"{values.dtype} {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        _refuse(f"{name} as {found}", f"floating point {list(shape)}, {why}", "Make the voice with this checkpoint.")
    if not values.isfinite().all():
        _refuse(f"{name} with NaN or infinity", "finite numbers", "Make the voice again from a sound recording.")


def _refuse(found: str, expected: str, todo: str) -> NoReturn:
    raise AudioError("turn the speech codes into a mel", found=found, expected=expected, todo=todo)
