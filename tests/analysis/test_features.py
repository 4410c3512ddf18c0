"""Features are what the network held, row by row, padding never among them."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.features import record_features
from analysis.hooks import Site, taps
from analysis.probes import probe
from model.audio import Waveform
from model.chat import Audio
from model.errors import TraceError
from model.tasks.asr import ASR
from tests.analysis.test_capture import n_hooks


@pytest.fixture(scope="module")
def sounds():
    rng = np.random.default_rng(0)
    return [Waveform((0.1 * rng.standard_normal(n)).astype(np.float32), 16_000) for n in (9_600, 16_000, 12_345)]


@pytest.fixture(scope="module")
def pooled(tiny_loaded, sounds):
    return record_features(tiny_loaded, sounds)


def one_clip(loaded, sound):
    """Encoder states, encoder output, positions and decoder states of one clip, by the model alone."""
    batch, states = loaded.processor(ASR.conversation(sound)), []
    with torch.inference_mode():
        out, n = loaded.model.encoder(batch["wavs"], batch["wav_lens"], hidden_states=states)
        positions = loaded.model.get_audio_features(batch["wavs"], batch["wav_lens"])[0]
        whole = loaded.model(**batch, output_hidden_states=True).hidden_states
    at_50 = (int(batch["wav_lens"][0]) + 1) // 2
    patches = batch["input_ids"][0] == loaded.processor.ids.audio_patch
    return states[1][0, :at_50], out[0, : int(n[0])], positions, [state[0] for state in whole], patches


def test_means_are_those_of_the_valid_frames(tiny_loaded, sounds, pooled):
    assert pooled.sites == (
        "encoder 0", "encoder", "adaptor", "decoder in", "decoder 0", "decoder 1", "decoder 2",
        "answer 0", "answer 1", "answer 2",
    )  # fmt: skip
    assert len(pooled) == 3 and np.isnan(pooled.time_s).all()
    for row, sound in enumerate(sounds):
        block, out, positions, states, patches = one_clip(tiny_loaded, sound)
        expected = {"encoder 0": block, "encoder": out, "adaptor": positions, "decoder in": positions}
        expected |= {"decoder 0": states[1][patches], "decoder 1": states[2][patches]}
        for site, frames in expected.items():
            np.testing.assert_allclose(pooled.values[site][row], frames.mean(0), rtol=1e-4, atol=1e-5, err_msg=site)
        np.testing.assert_allclose(pooled.values["answer 0"][row], states[1][-1], rtol=1e-4, atol=1e-5)


def test_frames_are_the_positions_of_the_decoder(tiny_loaded, sounds):
    frames = record_features(tiny_loaded, sounds[:2], pool="frames")
    _, out, positions, states, patches = one_clip(tiny_loaded, sounds[1])
    mine = frames.clip == 1
    assert mine.sum() == len(positions) and not any(site.startswith("answer") for site in frames.sites)
    np.testing.assert_allclose(frames.values["adaptor"][mine], positions, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(frames.values["decoder in"], frames.values["adaptor"], rtol=1e-5)
    np.testing.assert_allclose(frames.values["decoder 1"][mine], states[2][patches], rtol=1e-4, atol=1e-5)
    owner = np.arange(len(out)) * len(positions) // len(out)
    np.testing.assert_allclose(frames.values["encoder"][mine][3], out[owner == 3].mean(0), rtol=1e-4, atol=1e-5)
    assert (np.diff(frames.time_s[mine]) > 0).all() and 0 < frames.time_s[mine][-1] < 1.1


def test_long_and_several_clips_make_one_row(tiny_loaded, heard):
    found = record_features(tiny_loaded, [heard])
    assert len(found) == 1
    frames = record_features(tiny_loaded, [heard], pool="frames")
    assert len(frames) == 19 + 313 + 13


def test_a_property_planted_in_one_layer_is_read_from_there_on(tiny_loaded):
    """A direction is written into layer 1 for every other clip; before it, there is nothing to read."""
    rng = np.random.default_rng(1)
    clips = [Waveform((0.1 * rng.standard_normal(6_400)).astype(np.float32), 16_000) for _ in range(24)]
    counter = iter(range(24))
    direction = torch.zeros(32)
    direction[5] = 60.0

    def plant(residual: torch.Tensor) -> torch.Tensor:
        return residual + direction * (next(counter) % 2)

    with taps(tiny_loaded.model, {Site("resid_post", 1): plant}):
        features = record_features(tiny_loaded, clips)
    found = probe(features, ["no", "yes"] * 12)
    assert {"decoder 1", "decoder 2", "answer 1", "answer 2"} <= set(found.beats_control)
    assert not set(found.beats_control) & {"encoder 0", "encoder", "adaptor", "decoder in", "decoder 0", "answer 0"}


def test_progress_cancel_and_cleaning_up(tiny_loaded, sounds):
    told, cancel, hooked = [], threading.Event(), n_hooks(tiny_loaded.model)

    def progress(step: str, share: float) -> None:
        told.append((step, round(share, 2)))
        if len(told) == 2:
            cancel.set()

    found = record_features(tiny_loaded, sounds, progress=progress, cancel=cancel)
    assert told == [("features", 0.33), ("features", 0.67)] and len(found) == 2
    with pytest.raises(TraceError, match="no clip"):
        record_features(tiny_loaded, sounds, cancel=cancel)
    assert n_hooks(tiny_loaded.model) == hooked


def test_a_conversation_without_sound_is_refused(tiny_loaded, heard):
    silent = (heard[0], replace(heard[1], parts=tuple(p for p in heard[1].parts if not isinstance(p, Audio))), heard[2])
    with pytest.raises(TraceError, match="without sound"):
        record_features(tiny_loaded, [silent])
