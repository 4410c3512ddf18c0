"""Step-Audio 2 as a network: audio encoder, adaptor, Qwen2 decoder; official parameter names.

    mels [clip, 128, T] --encoder--> [clip, T/4, width] --adaptor--> [clip, T/8, hidden] --merge--> decoder --> logits
      100 Hz                          25 Hz                           12.5 Hz

The sound is encoded once, when the prompt is read; after that every new token costs one cached decoder step. This
file knows nothing of sound files, tokenizers or conversations.

Source: stepfun-ai/Step-Audio-2-mini, modeling_step_audio_2.py (behaviour to match); Whisper (Radford et al., 2022).
"""

import math
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Cache, GenerationMixin, PreTrainedModel, Qwen2Model
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from model.configuration_step_audio_2 import StepAudio2Config, StepAudio2EncoderConfig
from model.errors import AudioError, ConversationError

ENCODER_BATCH = 16
"""Clips encoded in one go. A half-hour recording is 72 clips; all at once would need gigabytes for nothing."""

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
        q, k, v = (
            project(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mask = key_mask.clamp(min=torch.finfo(q.dtype).min / 2).to(q.dtype)  # float16 has no -1e10
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
            AudioError: If shapes disagree or a clip is shorter than 3 frames or longer than the position table.
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
            raise AudioError(
                "encode the sound",
                found=f"mels of shape {tuple(mels.shape)} with lengths of shape {tuple(lens.shape)}",
                expected=f"[clip, {n_mels}, frames] and [clip]",
                todo="Prepare them with the processor.",
            )
        if not 3 <= mels.shape[-1] <= 2 * n_ctx:
            raise AudioError(
                "encode the sound",
                found=f"a clip of {mels.shape[-1]} mel frames",
                expected=f"3 to {2 * n_ctx} frames (100 per second)",
                todo="Cut longer sound into pieces of at most 25 s; the processor does it.",
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


class StepAudio2PreTrainedModel(PreTrainedModel):
    """What the model says about itself to transformers, and how fresh weights are drawn."""

    config: StepAudio2Config
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("audio", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["Qwen2DecoderLayer", "EncoderBlock"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Draw the decoder like Qwen2; scale encoder and adaptor by their fan-in, with sinusoidal positions."""
        if isinstance(module, AudioEncoder):
            init.copy_(module.positional_embedding.weight, sinusoids(*module.positional_embedding.weight.shape))
        elif isinstance(module, nn.Linear | nn.Conv1d) and self._hears(module):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif not (isinstance(module, nn.Embedding) and self._hears(module)):
            super()._init_weights(module)

    def _hears(self, module: nn.Module) -> bool:
        """Whether a layer belongs to the encoder or the adaptor."""
        return any(module is layer for part in (self.encoder, self.adapter) for layer in part.modules())


class StepAudio2ForCausalLM(StepAudio2PreTrainedModel, GenerationMixin):
    """Speech and text in, text and speech-code ids out; argument names of the official model.

    `generate` is transformers' own: the clips are encoded once, before its first step, and every further step is a
    cached decoder step. Batches of prompts are padded on the left.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: StepAudio2Config):
        super().__init__(config)
        text = config.text_config
        text.set_window(config.attention_window)
        self.vocab_size = text.vocab_size
        self.model = Qwen2Model(text)
        self.encoder = AudioEncoder(config.audio_encoder_config)
        self.adapter = Adaptor(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_audio_features(self, wavs: Tensor, wav_lens: Tensor) -> list[Tensor]:
        """Encode clips into decoder positions.

        Args:
            wavs: Log-mels, [clip, n_mels, T], padded on the right with 0.0.
            wav_lens: Valid mel frames of each clip (mel frames - 2), [clip].

        Returns:
            One [n_positions, hidden_size] tensor per clip, 12.5 positions per second; empty for a clip too short to
            give a position.
        """
        wavs, wav_lens = wavs.to(self.device), wav_lens.to(self.device)
        features: list[Tensor] = []
        for some, lens in zip(wavs.split(ENCODER_BATCH), wav_lens.split(ENCODER_BATCH), strict=True):
            mapped, n_valid = self.adapter(*self.encoder(some, lens))
            features += [clip[:n] for clip, n in zip(mapped, n_valid.tolist(), strict=True)]
        return features

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        wavs: Tensor | None = None,
        wav_lens: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        audio_features: list[Tensor] | None = None,
        logits_to_keep: int | Tensor = 0,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Read ids and sound, return logits.

        Args:
            input_ids: [batch, time]; a block of sound is audio_start, one audio_patch per position, audio_end.
            wavs: Log-mels of all clips in reading order, rows of the batch one after the other, [clip, n_mels, T].
            wav_lens: Valid mel frames of each clip, [clip].
            attention_mask: 1 where an id is real, [batch, past + time].
            position_ids: [batch, time]; by default counted from the mask, so that left padding takes no position.
            past_key_values: Keys and values of earlier positions.
            inputs_embeds: Instead of `input_ids`, [batch, time, hidden_size]; sound already merged.
            labels: Ids to predict, -100 where there is nothing to learn, [batch, time]; shifted inside.
            use_cache: Return keys and values for the next call.
            audio_features: Already encoded clips instead of `wavs`, as `get_audio_features` returns them.
            logits_to_keep: Give logits of the last so many positions only (0: all), or of these positions.
            output_attentions: Also return the weights [batch, head, query, key] of each layer.
            **kwargs: Passed on to the decoder, for example `output_hidden_states`.

        Returns:
            Logits [batch, time, vocabulary] in the model's dtype, and what was asked for.

        Raises:
            ConversationError: If clips and blocks of sound do not match.
        """
        if inputs_embeds is None:
            if audio_features is None and wavs is not None:
                audio_features = self.get_audio_features(wavs, wav_lens)
            inputs_embeds = self.model.embed_tokens(input_ids)
            if audio_features is not None:
                inputs_embeds = self.merge_audio(input_ids, inputs_embeds, audio_features)
        if position_ids is None:
            position_ids = positions_from_mask(attention_mask, inputs_embeds.shape[1])
        with attention_weights_if(output_attentions, self.model.config):
            outputs = self.model(
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                inputs_embeds=inputs_embeds,
                use_cache=use_cache,
                output_attentions=output_attentions,
                **kwargs,
            )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, keep])
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def merge_audio(self, input_ids: Tensor, embeds: Tensor, features: list[Tensor]) -> Tensor:
        """Write the features of the k-th clip over the positions behind the k-th audio_start, in reading order.

            ids     .. start patch patch patch end ..
            embeds  ..   e    f_0   f_1   f_2   e  ..

        Args:
            input_ids: [batch, time].
            embeds: Embeddings of the ids, [batch, time, hidden_size]; not changed.
            features: One [n_positions, hidden_size] tensor per clip.

        Returns:
            Embeddings with the sound in place, [batch, time, hidden_size].

        Raises:
            ConversationError: If the number of blocks, or of patches in a block, is not that of the clips.
        """
        rows, columns = (input_ids == self.config.audio_start_token_id).nonzero(as_tuple=True)
        self._check_blocks(input_ids, rows, columns, [len(clip) for clip in features])
        n = torch.tensor([len(clip) for clip in features], device=input_ids.device)
        within = torch.arange(int(n.sum()), device=n.device) - (n.cumsum(0) - n).repeat_interleave(n)
        place = rows.repeat_interleave(n), columns.repeat_interleave(n) + 1 + within
        return embeds.index_put(place, torch.cat(features).to(embeds)) if features else embeds

    def _check_blocks(self, input_ids: Tensor, rows: Tensor, columns: Tensor, n_features: list[int]):
        """Refuse prompts whose blocks of sound are not those of the clips."""
        if len(rows) != len(n_features):
            raise ConversationError(
                "put the sound into the prompt",
                found=f"{len(rows)} blocks of sound in the ids but {len(n_features)} clips",
                expected="one audio_start id for each clip",
                todo="Build prompts with the processor, and give clips only with the prompt that contains them.",
            )
        is_patch = (input_ids == self.config.audio_patch_token_id).tolist()
        for k, (row, column, n) in enumerate(zip(rows.tolist(), columns.tolist(), n_features, strict=True)):
            behind = is_patch[row][column + 1 :]
            n_patches = behind.index(False) if False in behind else len(behind)
            if n_patches != n:
                raise ConversationError(
                    "put the sound into the prompt",
                    found=f"{n_patches} placeholders in block {k} (row {row}, position {column})",
                    expected=f"{n}, the number of positions its clip takes",
                    todo="Count placeholders with the processor; wav_lens must be mel frames - 2.",
                )

    def prepare_inputs_for_generation(
        self, input_ids, *, audio_features=None, is_first_iteration=False, use_cache=True, **kwargs
    ):
        """Give the decoder the sound with the first step only, or with each step when there is no cache."""
        inputs = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, use_cache=use_cache, **kwargs
        )
        if audio_features is not None and (is_first_iteration or not use_cache):
            inputs["audio_features"] = self._features_in_view(input_ids, inputs["input_ids"], audio_features)
        return inputs

    def _features_in_view(self, all_ids: Tensor, ids: Tensor | None, features: list[Tensor]) -> list[Tensor]:
        """Leave out the clips of earlier turns, whose keys and values a continued cache already holds."""
        if ids is None or ids.shape == all_ids.shape:
            return features
        per_row = self._split_by_row(all_ids, features)
        n_seen = (ids == self.config.audio_start_token_id).sum(1).tolist()
        return [clip for row, n in zip(per_row, n_seen, strict=True) for clip in row[len(row) - n :]]

    def _split_by_row(self, input_ids: Tensor, features: list[Tensor]) -> list[list[Tensor]]:
        """Share the clips out to the rows of a batch, by their audio_start ids."""
        clips = iter(features)
        counts = (input_ids == self.config.audio_start_token_id).sum(1).tolist()
        return [[clip for _, clip in zip(range(n), clips, strict=False)] for n in counts]

    def _expand_inputs_for_generation(self, expand_size=1, is_encoder_decoder=False, input_ids=None, **kwargs):
        """Encode the sound once, before the first step, and copy it along when rows become beams or samples."""
        features, wavs, wav_lens = (kwargs.pop(name, None) for name in ("audio_features", "wavs", "wav_lens"))
        if features is None and wavs is not None:
            features = self.get_audio_features(wavs, wav_lens)
        if features is not None and expand_size > 1:
            per_row = self._split_by_row(input_ids, features)
            features = [clip for row in per_row for _ in range(expand_size) for clip in row]
        input_ids, kwargs = super()._expand_inputs_for_generation(expand_size, is_encoder_decoder, input_ids, **kwargs)
        return input_ids, {**kwargs, "audio_features": features}


def positions_from_mask(attention_mask: Tensor | None, n_new: int) -> Tensor | None:
    """Count positions of the newest `n_new` ids from a mask [batch, past + new]; None where the decoder can count."""
    if not isinstance(attention_mask, Tensor) or attention_mask.ndim != 2:
        return None
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -n_new:]


@contextmanager
def attention_weights_if(wanted: bool | None, decoder_config):
    """Use the attention that can return its weights while they are wanted; fused kernels have none to give."""
    usual = decoder_config._attn_implementation
    if not wanted or usual == "eager":
        yield
        return
    decoder_config._attn_implementation = "eager"
    try:
        yield
    finally:
        decoder_config._attn_implementation = usual


AutoModelForCausalLM.register(StepAudio2Config, StepAudio2ForCausalLM, exist_ok=True)
