"""Sizes of everything under token2wav/: one frozen record for each network, with the official field names.

    Token2WavConfig ── flow ──────── encoder, decoder ── estimator       codes, 25 Hz -> mel, 50 Hz
                    ├─ hift                                              mel -> samples, 24 kHz
                    └─ tokenizer                                         sound, 16 kHz -> codes

The defaults are the sizes of Step-Audio 2 mini. An official folder says its sizes in `flow.yaml`, our own folders have
`token2wav.json`.

Source: stepfun-ai/Step-Audio-2-mini, token2wav/flow.yaml and the constructors of the official classes (field names).
"""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from model.errors import CheckpointError
from model.token2wav.tagged_yaml import parse_tagged_yaml

CONFIG_FILE = "token2wav.json"
OFFICIAL_FILE = "flow.yaml"
CODE_RATE_HZ = 25
"""Speech codes per second, of every checkpoint: the tokenizer's strides fix it."""


class _Sizes:
    """What all records below share: reading from plain values, writing to them, and refusing nonsense."""

    FIXED: ClassVar[dict[str, Any]] = {}
    """Official settings that our code knows one value of; another value is refused rather than ignored."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read from JSON or YAML values; what is missing keeps mini's size, what we do not know is left aside.

        Raises:
            CheckpointError: If a value has the wrong type, or asks for a network that we do not have.
        """
        if not isinstance(values, dict):
            raise _refusal(cls, found=f"{values!r}", expected="a mapping of names to sizes")
        for name, only in cls.FIXED.items():
            if values.get(name, only) != only:
                raise _refusal(cls, found=f"{name}={values[name]!r}", expected=f"{name}={only!r}, the only kind built")
        known = {each.name: each for each in dataclasses.fields(cls) if each.name in values}
        return cls(**{name: _value(cls, name, _default(each), values[name]) for name, each in known.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; `from_dict` reads them back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def _check(self, good: bool, found: str, expected: str) -> None:
        if not good:
            raise _refusal(type(self), found=found, expected=expected)

    def _check_positive(self) -> None:
        """Refuse sizes of zero or less, also inside lists."""
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float | tuple) and not isinstance(value, bool):
                self._check(all(x > 0 for x in _flat(value)), f"{each.name}={value}", "sizes above 0")


@dataclass(frozen=True)
class FlowEncoderConfig(_Sizes):
    """Conformer that turns codes (25 Hz) into the mean of the mel (50 Hz)."""

    FIXED = {
        "input_layer": "linear",
        "pos_enc_layer_type": "rel_pos_espnet",
        "selfattention_layer_type": "rel_selfattn",
        "normalize_before": True,
        "key_bias": True,
    }
    input_size: int = 512
    """Width of the code embedding."""
    output_size: int = 512
    """Width of the blocks."""
    pre_lookahead_len: int = 3
    """Codes to come that a code looks at."""
    num_blocks: int = 6
    """Blocks at 25 Hz."""
    num_up_blocks: int = 4
    """Blocks after up-sampling."""
    up_stride: int = 2
    """Mel frames of one code."""
    attention_heads: int = 8
    linear_units: int = 2048
    """Inner width of the feed-forward layers."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        self._check_positive()
        self._check(self.input_size == self.output_size, f"{self.input_size} -> {self.output_size}", "equal widths")
        heads = f"width {self.output_size} with {self.attention_heads} heads"
        self._check(self.output_size % (2 * self.attention_heads) == 0, heads, "an even width for each head")


@dataclass(frozen=True)
class EstimatorConfig(_Sizes):
    """Diffusion transformer that estimates the velocity of the flow."""

    in_channels: int = 320
    """Noisy mel, mean mel, speaker and prompt mel, side by side: four times the mel bins."""
    out_channels: int = 80
    mlp_ratio: float = 4.0
    depth: int = 16
    num_heads: int = 8
    head_dim: int = 64
    hidden_size: int = 512

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        self._check_positive()
        found = f"in_channels={self.in_channels} with out_channels={self.out_channels}"
        self._check(self.in_channels == 4 * self.out_channels, found, "four times the mel bins as input")


@dataclass(frozen=True)
class FlowDecoderConfig(_Sizes):
    """The ordinary differential equation around the estimator."""

    inference_cfg_rate: float = 0.7
    """Strength of guidance: velocity = (1 + rate) * conditional - rate * unconditional."""
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)

    def __post_init__(self) -> None:
        """Refuse negative guidance."""
        self._check(self.inference_cfg_rate >= 0, f"inference_cfg_rate={self.inference_cfg_rate}", "0 or more")


@dataclass(frozen=True)
class FlowConfig(_Sizes):
    """Flow matching: codes to mel."""

    FIXED = {"output_type": "mel"}
    input_size: int = 512
    """Width of the code embedding."""
    output_size: int = 80
    """Mel bins."""
    spk_embed_dim: int = 192
    """Width of the speaker vector."""
    vocab_size: int = 6561
    """Size of the codebook, without the pad code."""
    encoder: FlowEncoderConfig = field(default_factory=FlowEncoderConfig)
    decoder: FlowDecoderConfig = field(default_factory=FlowDecoderConfig)

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other."""
        self._check_positive()
        width, mels = self.encoder.input_size, self.decoder.estimator.out_channels
        self._check(self.input_size == width, f"input_size={self.input_size}", f"the encoder's input_size={width}")
        self._check(self.output_size == mels, f"output_size={self.output_size}", f"the estimator's out_channels={mels}")

    @property
    def n_codes(self) -> int:
        """Size of the codebook; the number itself is the pad code."""
        return self.vocab_size

    @property
    def pad_code(self) -> int:
        """The number that fills an audio slot when the sound is over; never a sound itself."""
        return self.vocab_size

    @property
    def frames_per_code(self) -> int:
        """Mel frames that one code becomes."""
        return self.encoder.up_stride

    @property
    def lookahead_codes(self) -> int:
        """Codes that must have arrived after a code before its frames can be made."""
        return self.encoder.pre_lookahead_len


@dataclass(frozen=True)
class HiftConfig(_Sizes):
    """HiFT vocoder: mel to samples."""

    in_channels: int = 80
    """Mel bins."""
    base_channels: int = 512
    """Width after the first convolution; each upsampling halves it."""
    nb_harmonics: int = 8
    """Overtones of the excitation, besides the pitch itself."""
    sampling_rate: int = 24_000
    """Samples per second of the result."""
    nsf_alpha: float = 0.1
    """Amplitude of each sine of the excitation; a third of it is the noise where unvoiced."""
    nsf_sigma: float = 0.003
    """Standard deviation of the noise where voiced."""
    nsf_voiced_threshold: float = 10.0
    """Pitch in Hz above which a frame is voiced."""
    upsample_rates: tuple[int, ...] = (8, 5, 3)
    upsample_kernel_sizes: tuple[int, ...] = (16, 11, 7)
    istft_n_fft: int = 16
    istft_hop_len: int = 4
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    """One residual block each, side by side, after every upsampling."""
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    source_resblock_kernel_sizes: tuple[int, ...] = (7, 7, 11)
    """One block for the excitation at every upsampling."""
    source_resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    lrelu_slope: float = 0.1
    audio_limit: float = 0.99
    """Samples are clipped to plus and minus this."""
    f0_cond_channels: int = 512
    """Width of the pitch predictor."""
    causal: bool = False
    """Residual blocks and the last convolution look back only. Not official; same weights' names, less look-ahead."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        self._check_positive()
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        sources = self.source_resblock_kernel_sizes
        for name, n in (
            ("upsample_kernel_sizes", len(rates)),
            ("source_resblock_kernel_sizes", len(rates)),
            ("source_resblock_dilation_sizes", len(rates)),
            ("resblock_dilation_sizes", len(self.resblock_kernel_sizes)),
        ):
            self._check(len(getattr(self, name)) == n, f"{name}={getattr(self, name)}", f"{n} entries")
        halved = self.base_channels % 2 ** len(rates) == 0
        self._check(halved, f"base_channels={self.base_channels}", f"a multiple of {2 ** len(rates)}")
        fit = all(k >= r and (k - r) % 2 == 0 for k, r in zip(kernels, rates))
        self._check(fit, f"upsample_kernel_sizes={kernels}", f"{rates}, or more by an even number")
        odd = all(k % 2 for k in (*self.resblock_kernel_sizes, *sources))
        self._check(odd, f"residual kernels {self.resblock_kernel_sizes} and {sources}", "odd kernels")
        hops = f"istft_n_fft={self.istft_n_fft}, istft_hop_len={self.istft_hop_len}"
        self._check(self.istft_n_fft % (2 * self.istft_hop_len) == 0, hops, "windows of an even number of hops")

    @property
    def samples_per_frame(self) -> int:
        """Samples that one mel frame becomes."""
        return math.prod(self.upsample_rates) * self.istft_hop_len

    @property
    def n_waves(self) -> int:
        """Sines of the excitation: the pitch and its overtones."""
        return self.nb_harmonics + 1


@dataclass(frozen=True)
class TokenizerConfig(_Sizes):
    """S3 speech tokenizer, version 2: log-mel at 100 Hz to codes at 25 Hz."""

    n_mels: int = 128
    n_audio_ctx: int = 1500
    """Longest input in 50 Hz frames: 30 s."""
    n_audio_state: int = 1280
    n_audio_head: int = 20
    n_audio_layer: int = 6
    fsq_digits: int = 8
    """Rounded numbers that make one code."""
    fsq_levels: int = 3
    """Values that each of them can take; odd."""
    fsmn_kernel_size: int = 31
    """Frames that the memory beside each attention looks over; odd."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        self._check_positive()
        self._check(self.fsq_levels % 2 == 1, f"fsq_levels={self.fsq_levels}", "an odd number")
        heads = f"width {self.n_audio_state} with {self.n_audio_head} heads"
        self._check(self.n_audio_state % (2 * self.n_audio_head) == 0, heads, "an even width for each head")
        self._check(self.fsmn_kernel_size % 2 == 1, f"fsmn_kernel_size={self.fsmn_kernel_size}", "an odd number")

    @property
    def n_codes(self) -> int:
        """Size of the codebook; the number itself is the pad code."""
        return self.fsq_levels**self.fsq_digits


@dataclass(frozen=True)
class Token2WavConfig(_Sizes):
    """A whole voice: three networks whose borders fit."""

    flow: FlowConfig = field(default_factory=FlowConfig)
    hift: HiftConfig = field(default_factory=HiftConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)

    def __post_init__(self) -> None:
        """Refuse networks that do not fit each other."""
        codes, mels = self.flow.vocab_size, self.flow.output_size
        theirs = self.tokenizer.n_codes
        self._check(theirs == codes, f"a tokenizer of {theirs} codes", f"{codes} codes, as the flow has")
        theirs = self.hift.in_channels
        self._check(theirs == mels, f"a vocoder for {theirs} mel bins", f"{mels} bins, as the flow makes")
        frame_rate = CODE_RATE_HZ * self.flow.frames_per_code
        rate = self.hift.samples_per_frame * frame_rate
        found = f"{frame_rate} frames/s of {self.hift.samples_per_frame} samples"
        self._check(rate == self.hift.sampling_rate, found, f"{self.hift.sampling_rate} samples per second")

    @classmethod
    def mini(cls) -> "Token2WavConfig":
        """Sizes of Step-Audio 2 mini."""
        return cls()

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Token2WavConfig":
        """Read `token2wav.json`, or `flow.yaml` of an official folder (which has mini's vocoder and tokenizer).

        Raises:
            CheckpointError: If neither file is there, it cannot be read, or its sizes are refused.
        """
        folder = Path(folder)
        for name, parse in ((CONFIG_FILE, json.loads), (OFFICIAL_FILE, parse_tagged_yaml)):
            if (folder / name).is_file():
                return cls.from_dict(_parse(folder / name, parse))
        raise CheckpointError(
            f"read the sizes of the voice in '{folder}'",
            found="no file that holds them",
            expected=f"{CONFIG_FILE} or {OFFICIAL_FILE}",
            todo="Give the token2wav folder of a checkpoint; if it is one, download it again.",
        )

    def save(self, folder: str | Path) -> Path:
        """Write `token2wav.json` into a folder that exists and return its path."""
        path = Path(folder) / CONFIG_FILE
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        return path


def _refusal(cls: type, *, found: str, expected: str) -> CheckpointError:
    tried = f"use the sizes of the voice ({cls.__name__})"
    return CheckpointError(tried, found=found, expected=expected, todo="Correct the file that came with the weights.")


def _default(each: dataclasses.Field) -> Any:
    return each.default if each.default is not dataclasses.MISSING else each.default_factory()


def _value(cls: type, name: str, default: Any, given: Any) -> Any:
    """Return a given value in the type of the default, or refuse it."""
    if isinstance(default, _Sizes):
        return type(default).from_dict(given)
    if isinstance(default, tuple) and isinstance(given, list | tuple) and given:
        return tuple(_value(cls, name, default[0], each) for each in given)
    if isinstance(default, bool) and isinstance(given, bool):
        return given
    number = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    if number and isinstance(default, int | float) and not isinstance(default, bool) and given == type(default)(given):
        return type(default)(given)
    kind = "a list of numbers" if isinstance(default, tuple) else f"a value such as {default}"
    raise _refusal(cls, found=f"{name}={given!r}", expected=kind)


def _flat(value: Any) -> list:
    """Return the numbers of a number or of nested tuples."""
    return [x for each in value for x in _flat(each)] if isinstance(value, tuple) else [value]


def _parse(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"read '{path}'",
            found=f"a file that cannot be parsed ({error})",
            expected="the sizes of the voice",
            todo="Download the file again.",
        ) from error
