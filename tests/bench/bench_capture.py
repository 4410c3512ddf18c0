"""What looking costs: capture against eager attention weights, growth with the length of the clip, and file size.

    weights   `output_attentions=True`, the whole square of every layer       what one would do without this project
    capture   `capture_trace`, rows of the reply, reduced layer by layer
    prefill   the model alone, reading prompt and reply once                  the least that any of them costs

Peak memory is what the process grew by while it ran. Files are written twice: with every head, and with the mean over
heads, which is what five minutes fit into 10 MB with. Run by `make bench`, or `python -m tests.bench.bench_capture
[MODEL] [SECONDS ...]`; best on a quiet machine.
"""

import gc
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.capture import capture_trace, evaluating, lay_out, predicted_megabytes, sound_inputs
from analysis.hooks import decoder_of, n_layers
from analysis.trace import CaptureSpec, Trace
from analysis.trace_file import save_trace
from model.audio import Waveform
from model.checkpoint import load_model, syllables
from model.tasks.asr import ASR

LENGTHS_S = (10, 30, 60, 120, 300)
SENTENCE = "Can I have a large iced coffee with some milk please. "
SQUARE_S = 117
"""About 1,500 positions with prompt and reply."""
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def turn(loaded, seconds: float, *, sentences: int = 4):
    """A conversation about a clip of that length, and a reply that was not generated: its ids are what matters."""
    sound = syllables(seconds)
    recorded = Waveform(np.rint(sound.samples * 32768).astype(np.float32) / 32768, sound.sample_rate_hz)  # 16 bits
    conversation = ASR.conversation(recorded)
    return conversation, [*loaded.processor.encode_text(SENTENCE * sentences), loaded.processor.ids.eot]


def whole_input(loaded, conversation, reply) -> dict:
    """Prompt and reply as one pass reads them."""
    prompt = loaded.processor.encode(conversation)
    ids = torch.tensor([[*prompt.ids, *reply]], device=loaded.model.device)
    return {"input_ids": ids, "use_cache": False, **sound_inputs(loaded.processor, prompt)}


def weights(loaded, conversation, reply) -> None:
    """Form every attention weight, as eager attention gives them."""
    model = loaded.model
    config = decoder_of(model).config
    before, config._attn_implementation = config._attn_implementation, "eager"
    try:
        with evaluating(model), torch.inference_mode():
            found = model(**whole_input(loaded, conversation, reply), output_attentions=True)
            assert len(found.attentions) == n_layers(model)
    finally:
        config._attn_implementation = before


def prefill(loaded, conversation, reply) -> None:
    """Read prompt and reply, and look at nothing."""
    with evaluating(loaded.model), torch.inference_mode():
        loaded.model(**whole_input(loaded, conversation, reply), logits_to_keep=len(reply))


def measured(run: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Return the best time in seconds, and by how many megabytes the process grew at most."""
    run()
    times = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        run()
        times.append(time.perf_counter() - start_s)
    gc.collect()
    RESET.write_text("5")
    before = _kilobytes("VmRSS")
    run()
    return min(times), (_kilobytes("VmHWM") - before) / 1000


def _kilobytes(name: str) -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(name))


def side_by_side(loaded, seconds: float) -> dict[str, tuple[float, float]]:
    """Time and memory of the three ways for one clip."""
    conversation, reply = turn(loaded, seconds)
    ways = {"weights": weights, "capture": capture_trace, "prefill": prefill}
    return {name: measured(lambda way=way: way(loaded, conversation, reply)) for name, way in ways.items()}


def growth(loaded, lengths=LENGTHS_S) -> list[tuple[float, ...]]:
    """Seconds of sound, seconds of work, megabytes predicted, kept, on disk, and on disk with the mean over heads."""
    rows = []
    for seconds in lengths:
        conversation, reply = turn(loaded, seconds)
        layout = lay_out(loaded.processor.encode(conversation), reply, loaded.processor)
        heads = decoder_of(loaded.model).config.num_attention_heads
        columns = len(layout.frames) + len(layout.segment_names)
        start_s = time.perf_counter()
        trace = capture_trace(loaded, conversation, reply)
        spent_s = time.perf_counter() - start_s
        kept = sum(tensor.nbytes for tensor in trace.tensors.values()) / 1e6
        predicted = predicted_megabytes(n_layers(loaded.model), heads, len(reply), columns)
        mean = capture_trace(loaded, conversation, reply, spec=CaptureSpec(heads="mean"))
        rows.append((seconds, spent_s, predicted, kept, on_disk(trace), on_disk(mean)))
    return rows


def on_disk(trace: Trace) -> float:
    """Return the size of a trace file in megabytes."""
    file = io.BytesIO()
    save_trace(file, trace)
    return len(file.getvalue()) / 1e6


def show(model: str, seconds: float, found: dict[str, tuple[float, float]], rows) -> None:
    """Print both tables."""
    print(f"\n{model}, {seconds:g} s of sound")
    for name, (spent_s, megabytes) in found.items():
        print(f"  {name:<8} {spent_s:7.3f} s  {megabytes:8.1f} MB more")
    print("\n  sound (s)  work (s)  predicted MB  kept MB  file MB  with mean heads")
    for row in rows:
        print(f"  {row[0]:9.0f}  {row[1]:8.2f}  {row[2]:12.2f}  {row[3]:7.2f}  {row[4]:7.2f}  {row[5]:15.2f}")


@pytest.mark.bench
@pytest.mark.skipif(not RESET.exists(), reason="peak memory is read from /proc")
def test_capture_costs_little():
    loaded = load_model()
    found, rows = side_by_side(loaded, SQUARE_S), growth(loaded)
    show("nano", SQUARE_S, found, rows)
    assert found["weights"][1] >= 10 * found["capture"][1] and found["capture"][0] <= 1.5 * found["prefill"][0]
    assert all(abs(predicted / kept - 1) <= 0.1 for _, _, predicted, kept, *_ in rows)
    assert rows[-1][5] < 10  # a clip of five minutes


def main() -> None:
    """Command line: model, lengths in seconds."""
    model = sys.argv[1] if len(sys.argv) > 1 else "nano"
    lengths = [float(text) for text in sys.argv[2:]] or LENGTHS_S
    loaded = load_model(model)
    seconds = min(SQUARE_S, max(lengths))
    show(model, seconds, side_by_side(loaded, seconds), growth(loaded, lengths))


if __name__ == "__main__":
    main()
