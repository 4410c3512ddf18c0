"""A hand-made model that thinks: every dependence in it was planted, so what an analysis finds can be wrong.

    sound      a low tone? a high tone?
    thought    " man" or " woman" "."   by the low tone
               " dog" or " cat" "!"     by the high tone
               " barks" or " purrs" "?" by whether it thought " dog" before
    answer     " left" or " right"      by whether it thought " barks"  (build_toy("thought"))
                                        by the high tone itself         (build_toy("sound"): the thought is for show)
                                        by the sound in layer 0, against it by a written " cat" in layer 1
                                                                        (build_toy("conflict"): the text wins)

Heads look for one flag each: when a position with the flag is there, all their attention is on it, else on the first
token. What comes next is read off the last token and those heads. The encoder is planted too: it says of each audio
position whether a low and a high tone is in it.
"""

import functools
from types import SimpleNamespace

import numpy as np
import torch

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.chat import THINK_PREFIX, Audio, Conversation, Message, Text
from model.configuration_step_audio_2 import StepAudio2Config
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.tokens import TOOL_CALL, TOOL_CALL_END
from tests.analysis.tones import word_processor

LOW_HZ, HIGH_HZ = 300, 2600
WORDS = (" man", " woman", " dog", " cat", " barks", " purrs", " left", " right", "</", "think", "\n\n")
NEXT = {" man": ".", " woman": ".", " dog": "!", " cat": "!", " barks": "?", " purrs": "?", "?": "</", "</": "think"}
CHOICES = {"\n": (" man", " woman", 0), ".": (" dog", " cat", 1), "!": (" barks", " purrs", 2)}
"""Token -> what follows if its head found its flag, what follows if not, and the head."""
WIDTH, N_HEADS, HEAD_WIDTH, SLOW = 64, 8, 8, 3
ONE, OTHER, LOW, HIGH, FIRST, OUT = 0, 1, 2, 3, 4, 8
"""Dimensions: always 1; nothing special; tones; the first token; what head h of layer k found is at OUT + 8 k + h."""
FLAGS, NOT = 24, 40
"""One dimension for each token that means something; then what head h of layer k did not find, which keeps the norm
of every position the same."""
N_PLANTED = (4, 1)
"""Planted heads by layer."""
SURE, LEAN = 6.0, 3.0
"""Strength of what must follow, and of what the heads decide."""
_FLAGGED = (*WORDS, ".", "!", "?", ">", "\n")


@functools.cache
def build_processor():
    return word_processor(WORDS, (TOOL_CALL, TOOL_CALL_END))


class PlantedEncoder(StepAudio2ForCausalLM):
    """The official model with an encoder that was told what to hear."""

    def get_audio_features(self, wavs, wav_lens):
        features = []
        for mel, length in zip(wavs, wav_lens):
            n = ((int(length) + 1) // 2 // 2 + 2 - 3) // 2 + 1
            floor = mel.median()
            rows = torch.zeros(n, WIDTH)
            for place in range(n):
                here = mel[:, 8 * place : 8 * place + 8].mean(dim=1) - floor
                rows[place, LOW], rows[place, HIGH] = here[12:18].max() > 1, here[80:96].max() > 1
            rows[:, ONE] = 1
            rows[:, OTHER] = 1 - rows[:, [LOW, HIGH]].amax(dim=1)
            features.append(rows)
        return features


@functools.cache
def build_toy(answer_from: str = "thought") -> SimpleNamespace:
    """What `load_model` returns; shared, nothing in it is ever changed."""
    processor = build_processor()
    text = {
        "vocab_size": len(processor.tokenizer), "hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": N_HEADS, "num_key_value_heads": N_HEADS, "max_position_embeddings": 1024,
        "eos_token_id": processor.ids.eot, "pad_token_id": processor.ids.pad, "rope_theta": 1e6,
        "tie_word_embeddings": False,
    }  # fmt: skip
    audio = {"n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 1, "llm_dim": WIDTH}
    ids = {"audio_start_token_id": processor.ids.audio_start, "audio_patch_token_id": processor.ids.audio_patch}
    model = PlantedEncoder(StepAudio2Config(text_config=text, audio_encoder_config=audio, **ids)).eval()
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.zero_()
        model.lm_head.weight.zero_()
        for name, weight in model.model.named_parameters():
            if "norm" in name:
                weight.fill_(1)
        _plant_embeddings(model, processor)
        looking_for = {(0, 0): LOW, (0, 1): HIGH, (0, 2): _flag(" dog"), (0, 3): _flag(" barks"), (1, 4): _flag(" cat")}
        for (layer, head), flag in looking_for.items():
            _plant_head(model.model.layers[layer].self_attn, layer, head, flag)
        _plant_answers(model, processor, answer_from)
    info = SimpleNamespace(name="planted toy", revision="test", dtype="float32", device="cpu")
    return SimpleNamespace(model=model, processor=processor, info=info)


def _flag(token: str) -> int:
    return FLAGS + _FLAGGED.index(token)


def _id(processor, token: str) -> int:
    [one] = processor.encode_text(token)
    return one


def _plant_embeddings(model, processor) -> None:
    embed = model.model.embed_tokens.weight
    embed[:, ONE], embed[:, OTHER] = 1, 1
    flags = {_id(processor, token): _flag(token) for token in _FLAGGED}
    for token, flag in {**flags, processor.ids.bot: FIRST}.items():
        embed[token, OTHER], embed[token, flag] = 0, 1


def _plant_head(attention, layer: int, head: int, flag: int) -> None:
    """Look at positions with the flag, else at a turn's first token; write 1 if there was one."""
    first = head * HEAD_WIDTH
    attention.q_proj.bias[first + SLOW] = 10
    attention.k_proj.weight[first + SLOW, flag], attention.k_proj.weight[first + SLOW, FIRST] = 2, 1
    attention.v_proj.weight[first, flag] = 1
    attention.v_proj.weight[first + 1, FIRST] = 1
    unit = (layer * N_PLANTED[0] + 2) ** 0.5 / WIDTH**0.5  # undoes the norm before the layer
    attention.o_proj.weight[OUT + 8 * layer + head, first] = unit
    attention.o_proj.weight[NOT + 8 * layer + head, first + 1] = unit


def _plant_answers(model, processor, answer_from: str) -> None:
    out = model.lm_head.weight
    for token, follows in NEXT.items():
        out[_id(processor, follows), _flag(token)] = SURE
    out[_id(processor, ">"), _flag("think")] = SURE
    out[_id(processor, "\n\n"), _flag(">")] = SURE
    for answer in (" left", " right"):
        out[processor.ids.eot, _flag(answer)] = SURE
    after = "\n" if answer_from == "conflict" else "\n\n"
    heads = {"thought": ((0, 3, 1),), "sound": ((0, 1, 1),), "conflict": ((0, 1, 1), (1, 4, -1))}[answer_from]
    chosen = {} if answer_from == "conflict" else {**CHOICES}
    for token, (yes, no, head) in chosen.items():
        _plant_choice(out, processor, token, yes, no, ((0, head, 1),))
    _plant_choice(out, processor, after, " left", " right", heads)


def _plant_choice(out, processor, token: str, yes: str, no: str, heads) -> None:
    for word, sign in ((yes, 1), (no, -1)):
        row = out[_id(processor, word)]
        row[_flag(token)] += SURE
        row[ONE] -= sign * LEAN / 2
        for layer, head, weight in heads:
            row[OUT + 8 * layer + head] += sign * weight * LEAN


def clip(low: tuple[float, float] | None, high: tuple[float, float] | None, seconds: float = 2.0) -> Waveform:
    """A quiet noise with a low and a high tone from and to given seconds."""
    rng, t = np.random.default_rng(4), np.arange(round(seconds * INPUT_SAMPLE_RATE_HZ)) / INPUT_SAMPLE_RATE_HZ
    samples = 0.0005 * rng.standard_normal(len(t))
    for span, hz in ((low, LOW_HZ), (high, HIGH_HZ)):
        if span is not None:
            inside = (t >= span[0]) & (t < span[1])
            samples[inside] += 0.2 * np.sin(2 * np.pi * hz * t[inside])
    return Waveform(samples.astype(np.float32), INPUT_SAMPLE_RATE_HZ)


def ask(sound: Waveform | None, *written: str, think: bool = True) -> Conversation:
    """A question with a sound and, if wanted, something written; the reply begins with a thought or at once."""
    heard = (Audio(sound, "toy.wav"),) if sound is not None else ()
    human = Message("human", (*heard, *(Text(text) for text in written)))
    return (human, Message("assistant", (Text(THINK_PREFIX),) if think else (), closed=False))


def full_reply(*words: str) -> list[int]:
    """Ids of `man. dog! barks?</think>\\n\\n left` and the end of the turn, for words (man, dog, barks, left)."""
    processor, (who, what, does, answer) = build_processor(), words
    text = f" {who}. {what}! {does}?</think>\n\n"
    return [*processor.encode_text(text), *processor.encode_text(f" {answer}"), processor.ids.eot]
