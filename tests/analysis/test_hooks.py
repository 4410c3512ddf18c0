"""Attention rows read by hooks: they are the model's own, and reading them changes nothing."""

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from analysis import hooks
from model.errors import TraceError
from tests.golden_recipe import read_arrays, read_json, read_mels

N = 23


def build(*, attention: str = "sdpa", window: int | None = None) -> Qwen2ForCausalLM:
    """A random decoder with grouped heads; the same weights for every attention implementation."""
    torch.manual_seed(7)
    config = Qwen2Config(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, use_sliding_window=window is not None,
        sliding_window=window, layer_types=None if window is None else ["sliding_attention"] * 3,
        attn_implementation=attention, initializer_range=0.4,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    for name, bias in model.named_parameters():
        if name.endswith("proj.bias"):  # they are initialised to 0, which would hide a forgotten bias
            torch.nn.init.normal_(bias, std=0.5)
    return model


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(0, 97, (1, N), generator=torch.Generator().manual_seed(1))


def whole(rows: torch.Tensor) -> torch.Tensor:
    """Keep the rows as they are."""
    return rows


class Recorder:
    """A reducer that remembers the rows in full precision."""

    def __init__(self) -> None:
        self.rows: list[torch.Tensor] = []

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        self.rows.append(rows)
        return rows[..., :1]


def captured(model: Qwen2ForCausalLM, ids: torch.Tensor, positions: list[int], **kwargs) -> np.ndarray:
    with torch.inference_mode(), hooks.attention_rows(model, positions, {"rows": whole}, **kwargs) as rows:
        model(input_ids=ids, use_cache=False)
    return rows.stacked("rows").astype(np.float64)


@pytest.mark.parametrize("window", [None, 5])
def test_rows_equal_attention_of_an_eager_forward(ids, window):
    positions = [0, 3, 11, N - 1]
    eager = build(attention="eager", window=window)
    with torch.inference_mode():
        expected = torch.stack(eager(input_ids=ids, output_attentions=True).attentions)[:, 0]
    rows = captured(build(window=window), ids, positions)
    assert rows.shape == (3, 4, len(positions), N)
    np.testing.assert_allclose(rows, expected[:, :, positions].numpy(), atol=5e-4)  # kept in float16
    model, record = build(window=window), Recorder()
    with torch.inference_mode(), hooks.attention_rows(model, positions, {"rows": record}):
        model(input_ids=ids)
    torch.testing.assert_close(torch.stack(record.rows), expected[:, :, positions], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("case", ["text", "one_clip", "two_clips"])
def test_rows_equal_the_official_attention(tiny_model, case):
    """The golden rows come from the official code; its layer 1, last query."""
    golden, clips = read_arrays("lm.npz"), read_json("cases.json")["lm"]["cases"][case].get("clips", [])
    inputs = {"input_ids": torch.from_numpy(golden[f"{case}__input_ids"]).long()}
    if clips:
        inputs["wavs"], inputs["wav_lens"] = read_mels(clips)
    record = Recorder()
    with (
        torch.inference_mode(),
        hooks.attention_rows(tiny_model, [inputs["input_ids"].shape[1] - 1], {"rows": record}, layers=[1]),
    ):
        tiny_model(**inputs)
    np.testing.assert_allclose(record.rows[0][:, 0], golden[f"{case}__attn_last_query"][0], atol=2e-5)


def test_rows_of_a_given_padding_mask_equal_eager(ids):
    mask = torch.ones(1, N, dtype=torch.long)
    mask[:, :6] = 0
    eager = build(attention="eager")
    with torch.inference_mode():
        expected = torch.stack(eager(input_ids=ids, attention_mask=mask, output_attentions=True).attentions)[:, 0]
    model = build()
    with torch.inference_mode(), hooks.attention_rows(model, [9, 20], {"rows": whole}) as rows:
        model(input_ids=ids, attention_mask=mask)
    np.testing.assert_allclose(rows.stacked("rows"), expected[:, :, [9, 20]].numpy(), atol=5e-4)


def test_rows_equal_attention_of_cached_decoding(ids):
    """Law 7: what decoding looked at, step by step, is what the teacher-forced pass shows."""
    start, eager, cache, steps = 15, build(attention="eager"), None, []
    with torch.inference_mode():
        for end in range(start, N + 1):
            piece = ids[:, :end] if cache is None else ids[:, end - 1 : end]
            output = eager(input_ids=piece, past_key_values=cache, use_cache=True, output_attentions=True)
            cache = output.past_key_values
            steps.append([layer[0, :, -1] for layer in output.attentions])
    rows = captured(build(), ids, list(range(start - 1, N)))
    for query, step in enumerate(steps):
        for layer, expected in enumerate(step):
            np.testing.assert_allclose(rows[layer, :, query, : expected.shape[-1]], expected.numpy(), atol=5e-4)
            assert not rows[layer, :, query, expected.shape[-1] :].any()


def test_looking_changes_nothing(ids):
    """Law 6: logits are bit-equal with and without hooks, and no hook stays behind."""
    model = build()
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        with hooks.attention_rows(model, [4, 5], {"rows": whole}):
            during = model(input_ids=ids).logits
        after = model(input_ids=ids).logits
    assert torch.equal(before, during) and torch.equal(before, after)
    assert n_hooks(model) == 0
    assert model.config._attn_implementation == "sdpa"


def test_hooks_are_removed_when_the_body_raises(ids):
    model = build()
    with pytest.raises(KeyboardInterrupt), hooks.attention_rows(model, [4], {"rows": whole}):
        assert n_hooks(model) == 9
        raise KeyboardInterrupt
    assert n_hooks(model) == 0


def test_raising_in_on_layer_stops_the_run(ids):
    class Cancelled(Exception):
        """The person pressed Stop."""

    seen, model = [], build()

    def stop(layer: int) -> None:
        seen.append(layer)
        if layer == 1:
            raise Cancelled

    with (
        pytest.raises(Cancelled),
        torch.inference_mode(),
        hooks.attention_rows(model, [4], {"rows": whole}, on_layer=stop),
    ):
        model(input_ids=ids)
    assert seen == [0, 1] and n_hooks(model) == 0


def test_blocks_of_queries_give_the_same_rows(ids, monkeypatch):
    at_once = captured(build(), ids, list(range(N)))
    monkeypatch.setattr(hooks, "MAX_BLOCK_ELEMENTS", 4 * N * 3)
    np.testing.assert_array_equal(at_once, captured(build(), ids, list(range(N))))


def test_layers_can_be_chosen(ids):
    every = captured(build(), ids, [7])
    np.testing.assert_array_equal(captured(build(), ids, [7], layers=[2]), every[[2]])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda model, ids: None, "no attention from layers"),
        (lambda model, ids: model(input_ids=ids.repeat(2, 1)), "batch of 2"),
        (lambda model, ids: [model(input_ids=ids), model(input_ids=ids)], "second pass"),
        (lambda model, ids: model(input_ids=ids[:, :5]), "pass over 5 positions"),
    ],
)
def test_misuse_is_refused(ids, run, message):
    model = build()
    with pytest.raises(TraceError, match=message):
        with torch.inference_mode(), hooks.attention_rows(model, [7], {"rows": whole}) as rows:
            run(model, ids)
        rows.stacked("rows")


def test_continuing_a_cache_is_refused(ids):
    model = build()
    with torch.inference_mode():
        cache = model(input_ids=ids[:, :10], use_cache=True).past_key_values
        with pytest.raises(TraceError, match="continues a cache"), hooks.attention_rows(model, [1], {"rows": whole}):
            model(input_ids=ids[:, 10:], past_key_values=cache)


def test_unknown_layers_and_models_are_refused():
    with pytest.raises(TraceError, match="layers \\[3\\]"), hooks.attention_rows(build(), [0], {}, layers=[3]):
        pass
    with (
        pytest.raises(TraceError, match="without decoder layers"),
        hooks.attention_rows(torch.nn.Linear(2, 2), [0], {}),
    ):
        pass


def n_hooks(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
