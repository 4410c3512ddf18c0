"""Sizes and token ids of a Step-Audio 2 checkpoint.

Three classes with the official names and fields, so that an official `config.json` is read without remote code;
fields we do not know are kept, never refused. What the official code writes as literals is a field here: the inner
width of the adaptor, the ids that mark a block of sound, and how far back a token may look.

Source: stepfun-ai/Step-Audio-2-mini, configuration_step_audio_2.py (field names and defaults).
"""

from transformers import AutoConfig, PreTrainedConfig, Qwen2Config

from model.tokens import TokenIds

OFFICIAL_IDS = TokenIds.official()


class StepAudio2EncoderConfig(PreTrainedConfig):
    """Audio encoder and adaptor: mel frames (100 Hz) to decoder positions (12.5 Hz)."""

    model_type = "step_audio_2_encoder"
    base_config_key = "audio_encoder_config"

    n_mels: int = 128
    n_audio_ctx: int = 1500
    """Longest input in frames after the second convolution (50 Hz), so 30 s."""
    n_audio_state: int = 512
    """Width of the encoder."""
    n_audio_head: int = 8
    n_audio_layer: int = 6
    llm_dim: int = 4096
    """Width of the adaptor's output; must equal the decoder's `hidden_size`."""
    kernel_size: int = 3
    adapter_stride: int = 2

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.n_audio_state % self.n_audio_head:
            raise ValueError(
                f"Audio encoder config: width n_audio_state={self.n_audio_state} cannot be split over "
                f"n_audio_head={self.n_audio_head} heads; choose a width that is a multiple of the heads."
            )


class StepAudio2TextConfig(Qwen2Config):
    """Decoder: a Qwen2 configuration under the official name and with the official defaults.

    The end-of-reply ids are widened like the official class does, but only when the vocabulary has them: a checkpoint
    with its own tokenizer keeps the ids that it names.
    """

    model_type = "step_audio_2_text"
    base_config_key = "text_config"
    default_theta = 1e6

    vocab_size: int = 64012
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 48
    num_attention_heads: int = 32
    num_attention_groups: int | None = None
    """Official second name of `num_key_value_heads`; the two must agree when both are given."""
    num_key_value_heads: int | None = None
    max_position_embeddings: int = 8192

    def __post_init__(self, **kwargs):
        self._settle_groups()
        super().__post_init__(**kwargs)
        self.eos_token_id = self._widened_eos()

    def _settle_groups(self):
        groups, heads = self.num_attention_groups, self.num_key_value_heads
        if groups is not None and heads is not None and groups != heads:
            raise ValueError(
                f"Text config: num_attention_groups={groups} and num_key_value_heads={heads} name the same thing "
                "and must be equal; correct config.json."
            )
        self.num_key_value_heads = self.num_attention_groups = heads or groups or 4

    def _widened_eos(self) -> list[int]:
        given = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        known = OFFICIAL_IDS.eos if self.vocab_size > max(OFFICIAL_IDS.eos) else ()
        return list(dict.fromkeys([*known, *(i for i in given if i is not None)]))

    def set_window(self, window: int | None):
        """Let every query look at the newest `window` keys only, itself included; None means at all of them."""
        self.use_sliding_window = window is not None
        self.sliding_window = window
        kind = "full_attention" if window is None else "sliding_attention"
        self.layer_types = [kind] * self.num_hidden_layers


class StepAudio2Config(PreTrainedConfig):
    """A whole checkpoint: encoder, adaptor, decoder, and the ids that join them."""

    model_type = "step_audio_2"
    sub_configs_defaults = {"text_config": StepAudio2TextConfig, "audio_encoder_config": StepAudio2EncoderConfig}

    text_config: dict | PreTrainedConfig | None = None
    audio_encoder_config: dict | PreTrainedConfig | None = None
    use_sliding_window: bool = False
    sliding_window: int | None = 2048
    max_window_layers: int | None = None
    adapter_hidden_size: int = 2048
    """Width between the two linear layers of the adaptor; a literal in the official code."""
    audio_start_token_id: int = OFFICIAL_IDS.audio_start
    """Id in front of a block of sound; the k-th one takes the features of the k-th clip."""
    audio_patch_token_id: int = OFFICIAL_IDS.audio_patch
    """Id that fills the block, one for each feature."""
    attention_window: int | None = None
    """Newest keys a decoder query may see. None (all) is what serving engines do and what published numbers mean;
    4096 repeats the old transformers stack, which applied an unused default of the nested Qwen2 config."""
    tie_word_embeddings: bool = False
    alignment_heads: list[list[int]] | None = None
    """[layer, head] of decoder heads that follow the sound as the answer is written, best first, if known. Ours: the
    official files do not name any."""
    trained_tasks: list[str] | None = None
    """What the weights were trained for, by `Task.name`; the only home of that fact. None, as in the official files:
    everything."""

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        text, audio = self.text_config, self.audio_encoder_config
        self.tie_word_embeddings = self.tie_word_embeddings or text.tie_word_embeddings
        if audio.llm_dim != text.hidden_size:
            raise ValueError(
                f"Step-Audio 2 config: the adaptor ends in llm_dim={audio.llm_dim} but the decoder reads "
                f"hidden_size={text.hidden_size}; the two must be equal, correct config.json."
            )
        if self.attention_window is not None and self.attention_window < 1:
            raise ValueError(
                f"Step-Audio 2 config: attention_window={self.attention_window}; expected None or at least 1."
            )

    @property
    def full_attention(self) -> bool:
        """Whether every decoder query sees all earlier positions."""
        return self.attention_window is None


AutoConfig.register("step_audio_2_encoder", StepAudio2EncoderConfig, exist_ok=True)
AutoConfig.register("step_audio_2_text", StepAudio2TextConfig, exist_ok=True)
AutoConfig.register("step_audio_2", StepAudio2Config, exist_ok=True)
