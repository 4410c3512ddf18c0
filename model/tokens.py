"""Control tokens, token ids and audio codes: which kind of thing an id is.

The official vocabulary, in the order of its ids::

    0 ........ 151643 ... 151665 ... 151688-151690 ... 151693-151695  151696 ..... 158256   158257
    text       pad        EOT        audio in          tts            <audio_0> .. _6560    <audio_6561>
                                     start end patch   start end pad  speech codes          code padding

Smaller models use other ids and fewer codes but the same names, so ids are resolved by name
(`TokenIds.from_tokenizer`). "id" is a vocabulary entry of the language model, "code" an index into
the speech codebook; the id after the last code is padding of an audio slot and is no code.

Source: the official Step-Audio 2 mini tokenizer; `<|BOT|>`'s id is not confirmed there, so real
tokenizers are always asked by name.
"""

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from model.errors import CheckpointError

ENDOFTEXT = "<|endoftext|>"
IM_END = "<|im_end|>"
BOT = "<|BOT|>"
EOT = "<|EOT|>"
AUDIO_START = "<audio_start>"
AUDIO_END = "<audio_end>"
AUDIO_PATCH = "<audio_patch>"
TTS_START = "<tts_start>"
TTS_END = "<tts_end>"
TTS_PAD = "<tts_pad>"
TOOL_CALL = "<tool_call>"
TOOL_CALL_END = "</tool_call>"

OFFICIAL_N_CODES = 6561
EOS_NAMES = (ENDOFTEXT, IM_END, EOT)

_NAME_OF_FIELD = {
    "pad": ENDOFTEXT,
    "bot": BOT,
    "eot": EOT,
    "audio_start": AUDIO_START,
    "audio_end": AUDIO_END,
    "audio_patch": AUDIO_PATCH,
    "tts_start": TTS_START,
    "tts_end": TTS_END,
    "tts_pad": TTS_PAD,
}
CONTROL_NAMES = tuple(_NAME_OF_FIELD.values())
"""Names every tokenizer of this family must have, besides its codes."""


def code_name(code: int) -> str:
    """Name of the token that carries speech code `code`."""
    return f"<audio_{code}>"


class Kind(Enum):
    """What an id stands for."""

    TEXT = "text"
    SPECIAL = "special"
    AUDIO_IN = "audio_in"
    AUDIO_OUT = "audio_out"


@dataclass(frozen=True)
class TokenIds:
    """Ids of one tokenizer's control tokens and the range of its speech codes."""

    pad: int
    """`<|endoftext|>`: batch padding, and the base model's end."""
    bot: int
    """`<|BOT|>`: begin of turn."""
    eot: int
    """`<|EOT|>`: end of turn."""
    audio_start: int
    audio_end: int
    audio_patch: int
    """Placeholder; one per 12.5 Hz position of input audio."""
    tts_start: int
    tts_end: int
    tts_pad: int
    """Fills a text slot of a spoken reply when the text is over."""
    first_code: int
    """Id of `<audio_0>`; codes follow without gaps."""
    n_codes: int
    """Size of the codebook; the id `first_code + n_codes` is the padding of an audio slot."""
    eos: tuple[int, ...]
    """Ids that end a reply."""

    def __post_init__(self) -> None:
        """Refuse clashing ids: control tokens are distinct and lie outside the codes."""
        control = [getattr(self, name) for name in _NAME_OF_FIELD]
        inside = [i for i in control if self.first_code <= i <= self.code_pad]
        if len(set(control)) != len(control) or inside or self.n_codes < 1 or not self.eos:
            raise CheckpointError(
                "read the control tokens of a tokenizer",
                found=f"ids {control}, codes {self.first_code}..{self.code_pad}, eos {self.eos}",
                expected="distinct control ids outside the codes, at least one code and one eos",
                todo="use the tokenizer that came with the checkpoint",
            )

    @property
    def code_pad(self) -> int:
        """Id that fills an audio slot when the sound is over; never a sound itself."""
        return self.first_code + self.n_codes

    @classmethod
    def official(cls) -> "TokenIds":
        """Ids of Step-Audio 2 mini, mini-Base and mini-Think."""
        return cls(
            pad=151643,
            bot=151666,
            eot=151665,
            audio_start=151688,
            audio_end=151689,
            audio_patch=151690,
            tts_start=151693,
            tts_end=151694,
            tts_pad=151695,
            first_code=151696,
            n_codes=OFFICIAL_N_CODES,
            eos=(151643, 151645, 151665),
        )

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "TokenIds":
        """Resolve every id by its name.

        Args:
            tokenizer: A Hugging Face tokenizer (anything with `get_vocab() -> dict[str, int]`).

        Raises:
            CheckpointError: If a control token is missing or the codes have gaps.
        """
        vocabulary = tokenizer.get_vocab()
        missing = [name for name in (*CONTROL_NAMES, code_name(0)) if name not in vocabulary]
        if missing:
            raise CheckpointError(
                "read the control tokens of a tokenizer",
                found=f"no token named {', '.join(missing)} among {len(vocabulary)} entries",
                expected="a Step-Audio 2 tokenizer, which has all of them",
                todo="use the tokenizer that came with the checkpoint",
            )
        ids = {field: vocabulary[name] for field, name in _NAME_OF_FIELD.items()}
        eos = tuple(vocabulary[name] for name in EOS_NAMES if name in vocabulary)
        first, n_codes = _code_range(vocabulary)
        return cls(**ids, first_code=first, n_codes=n_codes, eos=eos)

    def kind(self, token_id: int) -> Kind:
        """Tell what `token_id` is; ids above the codes are unused rows and count as special."""
        if self.first_code <= token_id <= self.code_pad:
            return Kind.AUDIO_OUT
        if token_id == self.audio_patch:
            return Kind.AUDIO_IN
        if token_id in self.control or token_id in self.eos:
            return Kind.SPECIAL
        above_all = token_id > self.code_pad and self.code_pad > max(self.control)
        return Kind.SPECIAL if above_all else Kind.TEXT

    @property
    def control(self) -> tuple[int, ...]:
        """The control ids, in the order of `CONTROL_NAMES`."""
        return tuple(getattr(self, name) for name in _NAME_OF_FIELD)

    def control_id(self, name: str) -> int:
        """Id of the control token called `name`, one of `CONTROL_NAMES`."""
        return self.control[CONTROL_NAMES.index(name)]

    def is_code(self, token_id: int) -> bool:
        """Whether `token_id` is a sound: in the codebook, and not the padding after it."""
        return self.first_code <= token_id < self.code_pad

    def code_of(self, token_id: int) -> int:
        """Speech code of an id.

        Raises:
            ValueError: If the id is not a code (the padding id is none either).
        """
        if not self.is_code(token_id):
            raise ValueError(
                f"id {token_id} is no speech code: codes are ids "
                f"{self.first_code}..{self.code_pad - 1}; drop padding and text first"
            )
        return token_id - self.first_code

    def id_of(self, code: int) -> int:
        """Id of a speech code.

        Raises:
            ValueError: If `code` is outside the codebook.
        """
        if not 0 <= code < self.n_codes:
            raise ValueError(
                f"code {code} is outside the codebook 0..{self.n_codes - 1}; "
                "the padding of an audio slot is the id `code_pad`, not a code"
            )
        return self.first_code + code

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for records and logs."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def _code_range(vocabulary: dict[str, int]) -> tuple[int, int]:
    """Id of code 0 and the number of codes; the last `<audio_N>` is the padding, not a code."""
    first = vocabulary[code_name(0)]
    count = 0
    while vocabulary.get(code_name(count)) == first + count:
        count += 1
    if code_name(count) in vocabulary or count < 2:
        raise CheckpointError(
            "read the speech codes of a tokenizer",
            found=f"{code_name(count)} has id {vocabulary.get(code_name(count))}",
            expected=f"codes without gaps, so {first + count}, and one padding code after them",
            todo="use the tokenizer that came with the checkpoint",
        )
    return first, count - 1
