"""HiFT vocoder: mel to wave, 480 samples a frame, whole or as a stream.

    mel ──────────── conv_pre ── up 8 ──(+)── blocks ── up 5 ──(+)── blocks ── up 3 ──(+)── blocks ── conv_post ── iSTFT
     '─ f0 ─ source ─ STFT ─────── down ─'─────────────── down ─'─────────────── down ─'

The network shapes an excitation that already has the right pitch, and says its result as a short spectrum (window 16,
hop 4). Streams give, to the rounding of floats, the very samples of the whole mel, however it is cut; what that takes
is in `hift_tape.py`. A stream lags by as many frames as its samples depend on frames to come: 21 at the official
sizes, 7 with causal blocks.

Source: FunAudioLLM/CosyVoice, hifigan/generator.py (HiFTGenerator); Step-Audio 2 `token2wav.py`; HiFTNet (Li et al.,
2023), Snake (Ziyin et al., 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from model.errors import AudioError
from model.token2wav.config import HiftConfig
from model.token2wav.hift_official import OfficialState, official_step
from model.token2wav.hift_source import F0_LAYERS, F0Predictor, HarmonicSource, SourceNoise
from model.token2wav.hift_tape import Memory, Tape

MAX_LOG_MAGNITUDE = math.log(100)
PRE_KERNEL = POST_KERNEL = 7
PIECE_FRAMES = 1000
"""Longer mels are run as a stream of such pieces (20 s): the same samples in bounded memory."""


@dataclass(frozen=True, eq=False)
class HiftState:
    """Everything one stream remembers; a value, never changed, so it may be copied and continued twice."""

    noise: SourceNoise
    waiting: Tensor | None = None
    """Mel frames that the network has not seen, [batch, bin, frame]; None once it runs, and before the first piece."""
    memory: Memory | None = None
    """What the layers keep; None until the network has run."""
    ended: bool = False
    """Whether the last piece was given."""

    @property
    def n_bytes(self) -> int:
        """Size of the tensors."""
        return sum(each.numel() * each.element_size() for each in self._tensors)

    @property
    def n_rows(self) -> int | None:
        """Rows of the batch; None before the first frame."""
        return len(self._tensors[0]) if self._tensors else None

    @property
    def _tensors(self) -> list[Tensor]:
        return [each for each in (*(self.memory or ()), self.waiting) if isinstance(each, Tensor)]


class Snake(nn.Module):
    """x + sin^2(a x) / a with one a per channel: lets a network of convolutions be periodic."""

    def __init__(self, width: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of [batch, channel, time]."""
        alpha = self.alpha[:, None]
        return torch.addcmul(x, torch.sin(x * alpha).square(), 1 / (alpha + 1e-9))


class ResBlock(nn.Module):
    """Pairs of convolutions around a residual; the first of each pair is dilated."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...], causal: bool):
        super().__init__()
        self.causal = causal
        self.convs1 = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, dilation=d, padding=d * (kernel - 1) // 2)) for d in dilations
        )
        self.convs2 = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, padding=(kernel - 1) // 2)) for _ in dilations
        )
        self.activations1 = nn.ModuleList(Snake(width) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(width) for _ in dilations)

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        """Return the next piece, [batch, channel, time]."""
        for conv1, conv2, act1, act2 in zip(self.convs1, self.convs2, self.activations1, self.activations2):
            y = tape.conv(conv1, act1(x), causal=self.causal)
            x = tape.add(x, tape.conv(conv2, act2(y), causal=self.causal))
        return x


class HiFT(nn.Module):
    """The vocoder, with official parameter names.

    Args:
        config: Sizes.
    """

    def __init__(self, config: HiftConfig):
        super().__init__()
        self.config = config
        causal, rates = config.causal, config.upsample_rates
        widths = [config.base_channels // 2**i for i in range(len(rates) + 1)]
        bins = config.istft_n_fft + 2
        self.f0_predictor = F0Predictor(config.in_channels, config.f0_cond_channels)
        self.m_source = HarmonicSource(config)
        self.conv_pre = weight_norm(nn.Conv1d(config.in_channels, widths[0], PRE_KERNEL, padding=PRE_KERNEL // 2))
        self.ups, self.source_downs = nn.ModuleList(), nn.ModuleList()
        self.resblocks, self.source_resblocks = nn.ModuleList(), nn.ModuleList()
        for i, (rate, kernel) in enumerate(zip(rates, config.upsample_kernel_sizes)):
            width, stride = widths[i + 1], math.prod(rates[i + 1 :])
            up = nn.ConvTranspose1d(widths[i], width, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            size = {"kernel_size": 2 * stride, "padding": stride // 2} if stride > 1 else {"kernel_size": 1}
            self.source_downs.append(nn.Conv1d(bins, width, stride=stride, **size))
            sizes = config.source_resblock_kernel_sizes[i], config.source_resblock_dilation_sizes[i]
            self.source_resblocks.append(ResBlock(width, *sizes, causal))
            for sizes in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes):
                self.resblocks.append(ResBlock(width, *sizes, causal))
        self.conv_post = weight_norm(nn.Conv1d(widths[-1], bins, POST_KERNEL, padding=POST_KERNEL // 2))
        self.register_buffer("window", torch.hann_window(config.istft_n_fft), persistent=False)

    def forward(
        self, mel: Tensor, *, noise: SourceNoise | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Turn whole mels into sound.

        Args:
            mel: Natural-log mel, float [batch, bin, frame], 50 frames/s.
            noise: Noise of the excitation, the same for every row; seed 0 if neither this nor a generator is given.
            generator: Draws the noise of every row anew, for training.

        Returns:
            Samples in -0.99..0.99, [batch, 480 * frame], 24 kHz.

        Raises:
            AudioError: If the mel has the wrong shape, type or number of bins, no frames, or NaN in it.
        """
        mel = self._checked(mel)
        if mel.shape[-1] > PIECE_FRAMES and generator is None and not torch.is_grad_enabled():
            return torch.cat(list(self._pieces(mel, noise)), dim=-1)
        noise = noise or (None if generator else SourceNoise())
        return self._run(mel, Tape(), noise, generator)

    def predict_f0(self, mel: Tensor) -> Tensor:
        """Return the pitch of whole mels in Hz, [batch, frame]; below 10 Hz is unvoiced."""
        return self.f0_predictor(self._checked(mel), Tape())

    def excite(
        self,
        f0: Tensor,
        *,
        noise: SourceNoise | None = None,
        generator: torch.Generator | None = None,
        first_frame: int = 0,
    ) -> Tensor:
        """Return the excitation of whole pitches, [batch, frame] -> [batch, 1, 480 * frame]; noise as in `forward`."""
        return self.m_source(f0, Tape(), noise or (None if generator else SourceNoise()), generator, first_frame)

    def decode(self, mel: Tensor, source: Tensor) -> Tensor:
        """Shape a given excitation [batch, 1, 480 * frame] by whole mels; returns samples [batch, 480 * frame]."""
        return self._shape(self._checked(mel), source, Tape())

    def start(
        self, *, seed: int = 0, noise: SourceNoise | None = None, parity: bool = False
    ) -> HiftState | OfficialState:
        """Return the state in which an utterance begins.

        Args:
            seed: Of the noise.
            noise: Other noise than that of the seed.
            parity: Cut and join pieces as the official code does: every piece alone, joined by a cross-fade that is
                0.67 dB too loud; for comparing only.
        """
        noise = noise or SourceNoise(seed)
        return OfficialState(noise) if parity else HiftState(noise)

    @torch.no_grad()
    def step(
        self, mel: Tensor, state: HiftState | OfficialState, *, last: bool = False
    ) -> tuple[Tensor, HiftState | OfficialState]:
        """Turn the next piece of a mel into sound.

        Args:
            mel: The next frames, float [batch, bin, frame]; none are fine.
            state: What `start` or the step before returned. It is not changed.
            last: Whether the utterance ends with this piece.

        Returns:
            The samples that are final by now, [batch, time], and the state for the next step. All steps together give
            480 samples for each frame.

        Raises:
            AudioError: If the mel is bad (see `forward`), has other rows than the stream, or the utterance was over.
        """
        mel = self._checked(mel, n_least=0)
        if state.ended or state.n_rows not in (None, len(mel)):
            raise AudioError(
                "go on with a stream",
                found="a state after the last piece" if state.ended else f"a mel of {len(mel)} rows",
                expected="an utterance that is not over" if state.ended else f"{state.n_rows} rows, as in its state",
                todo="Begin the next utterance with start().",
            )
        if isinstance(state, OfficialState):
            return official_step(self, mel, state, last=last)
        return self._step(mel, state, last)

    def _step(self, mel: Tensor, state: HiftState, last: bool) -> tuple[Tensor, HiftState]:
        mel = mel if state.waiting is None else torch.cat([state.waiting, mel], dim=-1)
        n_frames, begins = mel.shape[-1], state.memory is None
        n_least = self.lookahead_frames + 1 if begins else 1
        if n_frames < n_least and not (last and not (begins and n_frames == 0)):
            waiting = mel.clone() if begins else None  # the caller may reuse its buffer
            return mel.new_zeros(len(mel), 0), replace(state, waiting=waiting, ended=last)
        tape = Tape(state.memory, last=last)
        samples = self._run(mel, tape, state.noise, None)
        return samples, replace(state, waiting=None, memory=tape.memory, ended=last)

    def _pieces(self, mel: Tensor, noise: SourceNoise | None) -> Iterator[Tensor]:
        """Run a long mel piece by piece."""
        state = self.start(noise=noise)
        for start in range(0, mel.shape[-1], PIECE_FRAMES):
            piece = mel[..., start : start + PIECE_FRAMES]
            samples, state = self.step(piece, state, last=start + PIECE_FRAMES >= mel.shape[-1])
            yield samples

    def _run(self, mel: Tensor, tape: Tape, noise: SourceNoise | None, generator: torch.Generator | None) -> Tensor:
        """Run the whole network over the next piece; pitch and excitation always in full precision."""
        with torch.autocast(mel.device.type, enabled=False):
            source = self.m_source(self.f0_predictor(mel, tape), tape, noise, generator)
        return self._shape(mel, source, tape)

    @property
    def lookahead_frames(self) -> int:
        """Mel frames after a frame that its samples still depend on, rounded up: the lag of a stream.

        Two ways lead from the mel to the wave: through the body, and over the pitch and the excitation, which joins
        the body at each upsampling. Everything is counted in frames here.
        """
        config = self.config
        transform = config.istft_n_fft / config.samples_per_frame
        body, source, rate = PRE_KERNEL // 2, F0_LAYERS + 1 + transform / 2, 1  # phase runs to the next centre: + 1
        for i, (up, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes)):
            rate *= up
            joining = source + (1 + _reach(self.source_resblocks[i])) / rate
            body = max(body + (up + kernel) / 2 / rate, joining)
            body += max(_reach(block) for block in self._blocks(i)) / rate
        return math.ceil(body + (0 if config.causal else POST_KERNEL // 2) / rate + transform)

    def fold(self) -> HiFT:
        """Merge the two halves of normed weights for speed, in place; afterwards no longer for training or saving."""
        for module in self.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        return self.requires_grad_(False)

    def _blocks(self, stage: int) -> list[ResBlock]:
        n = len(self.config.resblock_kernel_sizes)
        return list(self.resblocks[stage * n : (stage + 1) * n])

    def _shape(self, mel: Tensor, source: Tensor, tape: Tape) -> Tensor:
        """Run the body of the network over the next piece of mel and excitation; returns samples [batch, time]."""
        config = self.config
        spectrum = self._spectrum(source, tape)
        x = tape.conv(self.conv_pre, mel)
        for i, up in enumerate(self.ups):
            x = tape.conv_transposed(up, F.leaky_relu(x, config.lrelu_slope))
            if i == len(self.ups) - 1:
                x = tape.mirror(x, 1, 0)  # the spectrum has one window more than the body has positions
            x = tape.add(x, self.source_resblocks[i](tape.conv(self.source_downs[i], spectrum), tape))
            blocks = self._blocks(i)
            x = tape.add(*[block(x, tape) for block in blocks]) / len(blocks)
        x = tape.conv(self.conv_post, F.leaky_relu(x), causal=config.causal)
        return self._wave(x.float(), tape)

    def _spectrum(self, source: Tensor, tape: Tape) -> Tensor:
        """Return real and imaginary parts of short windows of the excitation, [batch, 18, window]."""
        size, hop = self.config.istft_n_fft, self.config.istft_hop_len
        source = tape.mirror(source, size // 2, size // 2)
        windows = tape.windows(source.squeeze(1).float(), size, hop)
        bins = torch.fft.rfft(windows * self.window)
        return torch.cat([bins.real, bins.imag], dim=-1).transpose(1, 2)

    def _wave(self, x: Tensor, tape: Tape) -> Tensor:
        """Turn log magnitudes and phases, [batch, 18, window], into samples, [batch, time]."""
        size, hop = self.config.istft_n_fft, self.config.istft_hop_len
        magnitude, phase = x.transpose(1, 2).chunk(2, dim=-1)
        bins = torch.polar(magnitude.clamp(max=MAX_LOG_MAGNITUDE).exp(), phase.sin())
        windows = torch.fft.irfft(bins, n=size) * self.window
        spread = torch.stack([windows, self.window.square().expand_as(windows)], dim=1)  # its square weighs each sample
        spread = tape.overlap(_overlap_add(spread, hop), stride=hop, tail=size - hop, crop=size // 2)
        limit = self.config.audio_limit
        return (spread[:, 0] / spread[:, 1]).clamp(-limit, limit)

    def _checked(self, mel: Tensor, n_least: int = 1) -> Tensor:
        """Return a good mel in the type of the weights, refuse others."""
        bins = self.config.in_channels
        found = _mel_problem(mel, bins, n_least)
        if found:
            raise AudioError(
                "turn a mel into sound",
                found=found,
                expected=f"a finite float tensor of natural-log mels, [batch, {bins}, frames]",
                todo="Give the mel that the flow returns, one row of the batch for each utterance.",
            )
        return mel.to(self.conv_pre.bias.dtype)


def _mel_problem(mel: object, bins: int, n_least: int) -> str | None:
    if not isinstance(mel, Tensor):
        return f"an object of type {type(mel).__name__}"
    if mel.ndim != 3 or mel.shape[0] < 1 or mel.shape[1] != bins:
        return f"a tensor of shape {list(mel.shape)}"
    if not mel.is_floating_point():
        return f"a tensor of {mel.dtype}"
    if mel.shape[-1] < n_least:
        return "a mel without frames"
    if not mel.is_meta and not mel.isfinite().all():
        return "a mel with NaN or infinity in it"
    return None


def _reach(block: ResBlock) -> int:
    """Positions that a residual block looks ahead."""
    convs = [*block.convs1, *block.convs2]
    return 0 if block.causal else sum(conv.padding[0] for conv in convs)


def _overlap_add(windows: Tensor, hop: int) -> Tensor:
    """Add windows that overlap, [batch, channel, window, size] -> [batch, channel, (windows - 1) * hop + size]."""
    batch, channels, n, size = windows.shape
    columns = windows.permute(0, 1, 3, 2).reshape(batch, channels * size, n)
    return F.fold(columns, (1, (n - 1) * hop + size), (1, size), stride=(1, hop)).squeeze(2)
