"""What the view is given says the same as the trace, and the page it stands in is closed."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from analysis.trace import CaptureSpec
from analysis.view import iframe_html, layer_payload, script, standalone_html, stylesheet, view_payload
from analysis.view import payload as payload_module
from analysis.view.bundle import FOLDER, SCRIPT_PARTS
from model.audio import Waveform
from model.errors import TraceError
from tests.analysis.planted import ENGLISH, POINTING, planted_trace


@pytest.fixture(scope="module")
def trace():
    return planted_trace()[0]


def decoded(encoded: dict) -> np.ndarray:
    """Attention as the script decodes it, [head, query, frame]."""
    shape = encoded["shape"]
    codes = np.frombuffer(base64.b64decode(encoded["codes"]), "u1").reshape(shape)
    scale = np.frombuffer(base64.b64decode(encoded["scale"]), "<f4").reshape(shape[:2])
    return codes / 255 * scale[..., None]


def test_the_payload_is_json_and_complete(trace):
    payload = view_payload(trace, run_id="abc", title="Turn 1")
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload
    assert payload["id"] == "abc" and payload["title"] == "Turn 1"
    assert [token["text"] for token in payload["tokens"]] == [*ENGLISH, "<|EOT|>"]
    assert [word["text"] for word in payload["words"]][6:8] == ["coffee", "please"]
    assert payload["words"][6]["tokens"] == [6, 7] and payload["tokens"][7]["word"] == 6
    assert len(payload["frames"]["start_s"]) == len(trace.frames)
    assert payload["start"] == {"layer": POINTING[0], "head": POINTING[1]}
    assert payload["best"][0]["layer"] == POINTING[0] and payload["best"][0]["head"] == POINTING[1]


def test_attention_survives_the_eight_bits(trace):
    payload = view_payload(trace)
    for layer in trace.meta.layers:
        rows = trace.tensors["attention.audio"][layer].astype(float)
        error = np.abs(decoded(payload["matrices"][str(layer)]) - rows)
        assert (error <= rows.max(axis=-1, keepdims=True) / 255).all()


def test_sound_travels_sample_for_sample(trace):
    clip = view_payload(trace)["clips"][0]
    samples = np.frombuffer(base64.b64decode(clip["pcm"]), "<i2")
    np.testing.assert_array_equal(samples / 32768, trace.audio["input_0"].samples)
    assert clip["mel"]["columns"] == len(samples) // 160 and clip["mel"]["column_s"] == 0.01
    assert len(base64.b64decode(clip["mel"]["codes"])) == clip["mel"]["bins"] * clip["mel"]["columns"]


def test_only_the_first_layer_of_a_large_model_travels_along(trace, monkeypatch):
    monkeypatch.setattr(payload_module, "INLINE_BYTES", 10)
    assert list(view_payload(trace)["matrices"]) == [str(POINTING[0])]
    assert decoded(layer_payload(trace, 2)).shape == (4, trace.n_reply, len(trace.frames))
    with pytest.raises(TraceError, match="layer 9"):
        layer_payload(trace, 9)


def test_clips_stand_one_after_the_other(trace):
    second = Waveform(np.zeros(16000, np.float32), 16000)
    clip = trace.tokens.clip.copy()
    clip[trace.frames.token[-3:]] = 1
    both = replace(
        trace,
        audio={**trace.audio, "input_1": second},
        tokens=replace(trace.tokens, clip=clip),
        meta=replace(trace.meta, clips=("a.wav", "b.wav")),
    )
    payload = view_payload(both)
    first = trace.audio["input_0"].duration_s
    assert payload["clips"][1]["offset_s"] == pytest.approx(first + 0.4)
    assert payload["duration_s"] == pytest.approx(first + 1.4)
    assert payload["frames"]["start_s"][-1] == pytest.approx(trace.frames.start_s[-1] + first + 0.4, abs=1e-3)


def test_a_trace_without_attention_or_sound_can_still_be_shown(trace):
    payload = view_payload(replace(trace, tensors={}))
    assert payload["layers"] == [] and payload["matrices"] == {} and len(payload["tokens"]) == trace.n_reply
    tokens = replace(trace.tokens, clip=np.full(len(trace.tokens), -1))
    assert view_payload(replace(trace, tensors={}, audio={}, tokens=tokens))["clips"] == []


def test_head_mean_traces_offer_no_heads(trace):
    mean = {name: tensor.mean(axis=1, keepdims=True) for name, tensor in trace.tensors.items()}
    meta = replace(trace.meta, n_heads=1, capture=CaptureSpec(heads="mean"))
    payload = view_payload(replace(trace, meta=meta, tensors=mean))
    assert payload["heads_averaged"] and payload["start"]["head"] is None


def test_long_sounds_are_drawn_from_fewer_columns():
    long = Waveform(np.random.default_rng(0).standard_normal(16000 * 130).astype(np.float32) * 0.1, 16000)
    mel = payload_module._mel(long)
    assert mel["columns"] <= payload_module.MEL_COLUMNS and mel["column_s"] == pytest.approx(0.03)


def test_the_page_asks_the_network_for_nothing(trace):
    page = standalone_html(trace, title="a </title><script>alert(1)</script>")
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//|@import|url\(", page)
    assert "default-src 'none'" in page
    assert page.count("<script>") == 1 and page.count("</script>") == 1


def test_token_texts_cannot_end_the_script(trace):
    text = list(trace.tokens.text)
    text[trace.meta.n_prompt] = "</script><img src=x onerror=alert(1)>"
    page = standalone_html(replace(trace, tokens=replace(trace.tokens, text=text)))
    assert page.count("</script>") == 1 and "<img" not in page


def test_a_notebook_cell_holds_the_same_page_in_a_frame(trace):
    class Frames(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, dict(attrs)))

    found: list = []
    Frames().feed(iframe_html(trace, height=500, title='a "quoted" <title>'))
    assert [tag for tag, _ in found] == ["iframe"]
    assert found[0][1]["srcdoc"] == standalone_html(trace, title='a "quoted" <title>')
    assert found[0][1]["sandbox"] == "allow-scripts" and "height: 500px" in found[0][1]["style"]


def test_the_script_never_writes_markup():
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", script())


def test_every_script_file_is_in_the_bundle_and_every_colour_in_the_theme():
    assert sorted(SCRIPT_PARTS) == sorted(path.name for path in FOLDER.glob("*.js"))
    own = (FOLDER / "view.css").read_text(encoding="utf-8") + script()
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?!.*rrggbb)", own.replace("#rrggbb", ""))
    assert "--lv-light-accent" in stylesheet()
