"""How fast a reply is decoded: our way, the official way and bare transformers, side by side in one run.

    official   every id again: encode the sound, read the whole sequence, logits of every position
    app        `model.generation.stream`: sound encoded once, one cached step per id, text events
    generate   `model.generate` of transformers on our model: sound encoded once, cached
    bare       `Qwen2ForCausalLM.generate` on the same decoder weights and prompt length, no sound at all

Random weights, about 30 million parameters, float32 on the CPU; 4 s of sound in the prompt. Run by `make bench`, or
`python -m tests.bench.bench_decode`. On a busy machine believe the ratios, not the seconds.
"""

import time
from dataclasses import dataclass
from statistics import median

import pytest
import torch
from transformers import GenerationConfig, Qwen2ForCausalLM

from model.checkpoint import NANO_DIR, syllables
from model.configuration_step_audio_2 import StepAudio2Config
from model.generation import stream
from model.messages import Audio, Message, Text
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.options import GenerationOptions
from model.processing_step_audio_2 import StepAudio2Processor
from model.tasks.prompts import ASR

LENGTHS = (64, 256, 512)
REPEATS = 3
WANTED_SPEEDUP = 10.0
"""Over the official way, at 256 ids."""
WANTED_OVERHEAD = 1.15
"""Against bare transformers, at 256 ids."""


@dataclass(frozen=True)
class Row:
    """Seconds to decode `n_ids` ids, median of the runs; the official way is run once."""

    n_ids: int
    official_s: float
    app_s: float
    generate_s: float
    bare_s: float

    @property
    def speedup(self) -> float:
        """How many times faster than the official way the app decodes."""
        return self.official_s / self.app_s


def build_model(processor: StepAudio2Processor, seed: int = 0) -> StepAudio2ForCausalLM:
    """Build a random model of about 30 million parameters for a tokenizer."""
    text = {"vocab_size": len(processor.tokenizer), "hidden_size": 512, "intermediate_size": 1536}
    text |= {"num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 2}
    audio = {"n_audio_state": 256, "n_audio_head": 4, "n_audio_layer": 6, "llm_dim": 512}
    ids = {"audio_start_token_id": processor.ids.audio_start, "audio_patch_token_id": processor.ids.audio_patch}
    torch.manual_seed(seed)
    return StepAudio2ForCausalLM(StepAudio2Config(text_config=text, audio_encoder_config=audio, **ids)).eval()


def build_bare(model: StepAudio2ForCausalLM) -> Qwen2ForCausalLM:
    """Build transformers' own decoder around the same weights."""
    with torch.device("meta"):
        bare = Qwen2ForCausalLM(model.config.text_config)
    bare.model, bare.lm_head = model.model, model.lm_head
    return bare.eval()


def build_conversation() -> tuple[Message, ...]:
    """Return a prompt with 4 s of sound and an open answer."""
    turn = Message("human", (Audio(syllables(4.0)),))
    return Message("system", (Text(ASR),)), turn, Message("assistant", (), closed=False)


@torch.inference_mode()
def time_official(model: StepAudio2ForCausalLM, inputs: dict, lengths: tuple[int, ...]) -> tuple[list[float], list]:
    """Decode the longest length the official way; return seconds at each length, and the ids."""
    ids, start, times = inputs["input_ids"], time.perf_counter(), []
    for n in range(1, max(lengths) + 1):
        mask = torch.ones_like(ids)
        output = model(ids, inputs["wavs"], inputs["wav_lens"], attention_mask=mask, use_cache=False)
        ids = torch.cat([ids, output.logits[:, -1:].argmax(-1)], dim=1)
        if n in lengths:
            times.append(time.perf_counter() - start)
    return times, ids[0, inputs["input_ids"].shape[1] :].tolist()


def time_of(run) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(lengths: tuple[int, ...] = LENGTHS, repeats: int = REPEATS) -> list[Row]:
    """Time the four ways; the three fast ones take turns, so that a busy moment hits them alike."""
    processor = StepAudio2Processor.from_pretrained(NANO_DIR)
    model, conversation = build_model(processor), build_conversation()
    bare, inputs = build_bare(model), dict(processor(conversation))
    plain = {"input_ids": torch.randint(0, 3000, inputs["input_ids"].shape)}
    ids: list[int] = []

    def run_app(n: int):
        options = GenerationOptions(max_new_tokens=n, repetition_guard=0)
        ids[:] = list(stream(model, processor, conversation, options))[-1].ids
        assert len(ids) == n, f"the reply ended after {len(ids)} of {n} ids: choose another seed"

    def run_generate(network, prompt: dict, n: int):
        settings = GenerationConfig(max_new_tokens=n, do_sample=False, eos_token_id=None, pad_token_id=0)
        output = network.generate(**prompt, generation_config=settings)
        assert output.shape[1] == prompt["input_ids"].shape[1] + n

    rows = []
    for n in lengths:
        ways = (
            lambda n=n: run_app(n),
            lambda n=n: run_generate(model, inputs, n),
            lambda n=n: run_generate(bare, plain, n),
        )
        ways[0]()  # the first run of a length pays for memory that the others find ready
        rounds = [[time_of(way) for way in ways] for _ in range(repeats)]
        rows.append((n, *(median(times) for times in zip(*rounds))))
    official, official_ids = time_official(model, inputs, lengths)
    assert official_ids == ids, "the official way gives other ids"
    return [Row(n, slow, *fast) for slow, (n, *fast) in zip(official, rows)]


def table(rows: list[Row]) -> str:
    """Lay out the results."""
    lines = [
        f"{'new ids':>8} {'official':>10} {'app':>9} {'generate':>9} {'bare':>9}"
        f" {'official/app':>13} {'app/bare':>9} {'generate/bare':>14}"
    ]
    for r in rows:
        seconds = f"{r.official_s:>8.2f} s {r.app_s:>7.2f} s {r.generate_s:>7.2f} s {r.bare_s:>7.2f} s"
        ratios = f"{r.speedup:>12.1f}x {r.app_s / r.bare_s:>9.2f} {r.generate_s / r.bare_s:>14.2f}"
        lines.append(f"{r.n_ids:>8} {seconds} {ratios}")
    return "\n".join([f"Decoding with {torch.get_num_threads()} threads, sound of 4 s in the prompt", *lines])


@pytest.mark.bench
def test_cached_decoding_is_fast():
    """The issue's demand: 10 times the official way at 256 ids, within 15 % of bare transformers."""
    rows = measure()
    print("\n" + table(rows))
    at_256 = next(row for row in rows if row.n_ids == 256)
    assert at_256.speedup >= WANTED_SPEEDUP
    assert at_256.app_s <= WANTED_OVERHEAD * at_256.bare_s


if __name__ == "__main__":
    print(table(measure()))
