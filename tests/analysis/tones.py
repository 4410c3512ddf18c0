"""A small trained model whose evidence is known: it names the tones of a clip in the order they sound.

    sound    ~~~ [700 Hz] ~~~~~ [300 Hz] ~ [2600 Hz] ~~     bursts at random places in noise
    reply        " is"          " go"      " one"  <|EOT|>  one word for each of six pitches

So each word's evidence is one burst, and nothing else in the clip: planted truth for occlusion, counterfactuals and
alignment, on a real (if tiny) network with real attention. The weights in `tones.safetensors` were made by this file:
`python -m tests.analysis.tones` trains them anew, a few minutes on one core.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from analysis.attention import WordTime
from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.chat import Audio, Conversation, Message
from model.configuration_step_audio_2 import StepAudio2Config
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.processing_step_audio_2 import StepAudio2Processor
from model.tokens import CONTROL_NAMES, IM_END, code_name

WEIGHTS = Path(__file__).parent / "tones.safetensors"
PITCHES_HZ = {" go": 300, " in": 480, " is": 700, " it": 1100, " one": 1700, " hello": 2600}
NOISE = 0.004
POSITIONS = "encoder.positional_embedding.weight"
"""A table that is computed, and so not kept in the file."""


@functools.cache
def build_processor() -> StepAudio2Processor:
    """A byte-level tokenizer with one token for each word; nothing in it is learned, so its ids never move."""
    return word_processor(tuple(PITCHES_HZ))


def word_processor(words: Sequence[str], controls: Sequence[str] = ()) -> StepAudio2Processor:
    """A byte-level tokenizer with one token for each word (a space or letters first), and more control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab, merges = {letter: k for k, letter in enumerate(alphabet)}, []
    for word in words:
        letters = word.replace(" ", "Ġ").replace("\n", "Ċ")
        for k in range(1, len(letters)):
            if (letters[:k], letters[k]) not in merges:
                merges.append((letters[:k], letters[k]))
                vocab.setdefault(letters[: k + 1], len(vocab))
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    names = (*CONTROL_NAMES, IM_END, *(code_name(code) for code in range(9)))
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    core.add_tokens([AddedToken(name, special=False, normalized=False) for name in controls])
    return StepAudio2Processor(PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False))


def build_model() -> StepAudio2ForCausalLM:
    """Two layers, width 48; random weights."""
    processor = build_processor()
    text = {
        "vocab_size": len(processor.tokenizer), "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.1,
        "eos_token_id": processor.ids.eot, "pad_token_id": processor.ids.pad,
    }  # fmt: skip
    audio = {"n_audio_state": 48, "n_audio_head": 4, "n_audio_layer": 1, "llm_dim": 48}
    ids = {"audio_start_token_id": processor.ids.audio_start, "audio_patch_token_id": processor.ids.audio_patch}
    sizes = {"adapter_hidden_size": 48, "tie_word_embeddings": True}
    return StepAudio2ForCausalLM(StepAudio2Config(text_config=text, audio_encoder_config=audio, **ids, **sizes))


@functools.cache
def load_tones() -> SimpleNamespace:
    """What `load_model` returns, with the trained weights."""
    model = build_model()
    weights = {name: value.float() for name, value in load_file(WEIGHTS).items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert set(missing) <= {POSITIONS, "lm_head.weight"} and not unexpected
    model.tie_weights()
    info = SimpleNamespace(name="tones", revision="test", dtype="float32", device="cpu")
    return SimpleNamespace(model=model.eval(), processor=build_processor(), info=info)


def make_clip(
    rng: np.random.Generator, *, n_words: int | None = None, seconds: float | None = None
) -> tuple[Waveform, list[WordTime]]:
    """Return a sound and where its bursts are; 2 to 4 of them, 0.2 to 0.35 s long, all different."""
    n_words = n_words or int(rng.integers(2, 5))
    seconds = seconds or round(float(rng.uniform(0.55 * n_words + 0.3, 0.8 * n_words + 0.8)), 2)
    lengths = rng.uniform(0.2, 0.35, n_words)
    gaps = rng.dirichlet(np.full(n_words + 1, 2.0)) * (seconds - lengths.sum() - 0.08 * (n_words + 1)) + 0.08
    starts = gaps[:-1].cumsum() + np.concatenate([[0], lengths[:-1].cumsum()])
    words = rng.permutation(list(PITCHES_HZ))[:n_words]
    t = np.arange(round(seconds * INPUT_SAMPLE_RATE_HZ)) / INPUT_SAMPLE_RATE_HZ
    samples = NOISE * rng.standard_normal(len(t))
    for word, start, length in zip(words, starts, lengths):
        inside = (t >= start) & (t < start + length)
        shape = np.minimum(1, 40 * np.minimum(t[inside] - start, start + length - t[inside]))
        hz = PITCHES_HZ[str(word)] * rng.uniform(0.97, 1.03)
        samples[inside] += rng.uniform(0.1, 0.3) * shape * np.sin(2 * np.pi * hz * t[inside] + rng.uniform(0, 6))
    truth = [WordTime(str(w).strip(), float(s), float(s + n)) for w, s, n in zip(words, starts, lengths)]
    return Waveform(samples.astype(np.float32), INPUT_SAMPLE_RATE_HZ), truth


def ask(sound: Waveform) -> Conversation:
    """The only question this model knows."""
    return (Message("human", (Audio(sound, "tones.wav"),)), Message("assistant", (), closed=False))


def reply_ids(truth: list[WordTime]) -> list[int]:
    """The right answer."""
    processor = build_processor()
    return [*processor.encode_text("".join(f" {word.text}" for word in truth)), processor.ids.eot]


def clips(n: int, seed: int) -> list[tuple[Waveform, list[WordTime]]]:
    """Return n clips with their truth."""
    rng = np.random.default_rng([2507, seed])
    return [make_clip(rng) for _ in range(n)]


def _bucket(rng: np.random.Generator, size: int) -> dict[str, torch.Tensor]:
    """Return model inputs and labels for clips of one length."""
    n_words = int(rng.integers(2, 5))
    seconds = round(float(rng.uniform(0.55 * n_words + 0.3, 0.8 * n_words + 0.8)), 2)
    made = [make_clip(rng, n_words=n_words, seconds=seconds) for _ in range(size)]
    batch = build_processor()([ask(sound) for sound, _ in made])
    replies, prompt = torch.tensor([reply_ids(truth) for _, truth in made]), batch["input_ids"]
    labels = torch.cat([torch.full_like(prompt, -100), replies], dim=1)
    sound = {name: batch[name] for name in ("wavs", "wav_lens")}
    return {"input_ids": torch.cat([prompt, replies], dim=1), "labels": labels, **sound}


def train(steps: int = 1600, size: int = 24, seed: int = 5, lr: float = 3e-3) -> StepAudio2ForCausalLM:
    """Train from random weights on 60 lengths with 48 clips each; prints how it goes."""
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), build_model().train()
    buckets = [_bucket(rng, 2 * size) for _ in range(60)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    losses = []
    for step in range(steps):
        bucket, rows = buckets[rng.integers(len(buckets))], rng.permutation(2 * size)[:size]
        loss = model(**{name: value[rows] for name, value in bucket.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 99:
            print(step + 1, round(float(np.mean(losses[-100:])), 4), flush=True)
    return model.eval()


def main() -> None:
    """Train and save."""
    weights = train().state_dict()
    kept = {
        name: value.half().contiguous() for name, value in weights.items() if name not in (POSITIONS, "lm_head.weight")
    }
    save_file(kept, WEIGHTS)


if __name__ == "__main__":
    main()
