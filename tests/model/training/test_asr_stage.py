"""The ASR stage: its prompt is the processor's, its labels are the transcript, and a few steps lower the loss."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.audio import Waveform, log_mel
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.processing_step_audio_2 import StepAudio2Processor
from model.tasks.asr import ASR
from model.training import asr, loop
from model.training.corpus import Clip, Row
from model.training.nano import nano_config, save_nano

NANO = Path(__file__).parents[3] / "model" / "nano"


@pytest.fixture(scope="module")
def processor() -> StepAudio2Processor:
    return StepAudio2Processor.from_pretrained(NANO)


@pytest.fixture(scope="module")
def prompt(processor) -> asr.Prompt:
    return asr.Prompt(processor)


def _row(text: str, language: str = "en", source: str = "world") -> Row:
    return Row(Clip("x", source, language, text), 1, 0, 100, 16_000)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.3])
def test_prompt_is_what_the_processor_makes(processor, prompt, seconds):
    sound = Waveform(np.zeros(int(16_000 * seconds), np.float32), 16_000)
    ids = processor.encode(ASR.conversation(sound)).ids
    assert prompt.ids(ids.count(prompt.patch)) == ids


def test_labels_are_the_transcript_and_the_end_of_turn(processor, prompt):
    rows = [_row("Turn left."), _row("打开灯。", "zh")]
    ids, labels, mask, _ = asr.pack(prompt, rows, [5, 3], None, processor.ids.pad)
    for k, row in enumerate(rows):
        wanted = labels[k][labels[k] != asr.IGNORED].tolist()
        assert wanted[-1] == prompt.eot
        assert processor.tokenizer.decode(wanted[:-1]) == row.clip.text
        assert ids[k][labels[k] != asr.IGNORED].tolist() == wanted  # without noise the history is the truth
        assert mask[k].sum() == len(prompt.ids([5, 3][k])) + len(wanted)


def test_history_noise_changes_inputs_but_never_labels(processor, prompt):
    rows = [_row("What is the weather like in London tomorrow?")] * 20
    ids, labels, _, _ = asr.pack(prompt, rows, [4] * 20, np.random.default_rng(0), processor.ids.pad)
    wanted = labels != asr.IGNORED
    assert 0.02 < (ids[wanted] != labels[wanted]).float().mean() < 0.3
    assert all(torch.equal(labels[0], other) for other in labels)


def test_reading_aloud_and_bare_syllables_are_left_to_the_encoder():
    assert asr.speaks(_row("Turn left."))
    assert not asr.speaks(_row("he had come", source="librispeech"))
    assert not asr.speaks(_row("ban2", "pinyin", "pinyin_sounds"))
    assert not asr.speaks(_row("纲", "zh", "cmn_hsk_words"))
    assert not asr.speaks(_row("", ""))


def test_loss_equals_the_models_own_and_falls(processor, prompt, monkeypatch):
    monkeypatch.setattr(asr, "LABEL_SMOOTHING", 0.0)
    torch.manual_seed(0)
    model = StepAudio2ForCausalLM(_small(processor))
    mels = torch.stack(
        [
            log_mel(Waveform(np.random.default_rng(k).normal(0, 0.1, 16_000).astype(np.float32), 16_000))
            for k in range(2)
        ]
    )
    lens = torch.tensor([100, 100], dtype=torch.int32)
    rows = [_row("Turn left."), _row("打开灯。", "zh")]
    features = model.get_audio_features(mels, lens)
    packed = asr.pack(prompt, rows, [len(f) for f in features], None, processor.ids.pad)
    loss, _ = asr.loss_of(model, features, packed)
    ids, labels, mask, _ = packed
    own = model(input_ids=ids, wavs=mels, wav_lens=lens, attention_mask=mask, labels=labels).loss
    assert loss.item() == pytest.approx(own.item(), abs=1e-4)
    optimizer = loop.optimizer_for(model, weight_decay=0.0)
    for _ in range(8):
        loop.step_optimizer(asr.loss_of(model, model.get_audio_features(mels, lens), packed)[0], optimizer, 3e-3)
    assert asr.loss_of(model, model.get_audio_features(mels, lens), packed)[0].item() < 0.7 * loss.item()


def test_saved_weights_come_back_with_a_tied_head(processor, tmp_path):
    model = StepAudio2ForCausalLM(_small(processor))
    save_nano(model, tmp_path)
    again = StepAudio2ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert again.lm_head.weight.data_ptr() == again.model.embed_tokens.weight.data_ptr()
    for name, value in model.state_dict().items():
        assert torch.allclose(again.state_dict()[name], value, atol=2e-3), name


def _small(processor):
    config = nano_config(processor.ids, len(processor.tokenizer))
    config.text_config.num_hidden_layers = 2
    config.text_config.layer_types = config.text_config.layer_types[:2]
    config.audio_encoder_config.n_audio_layer = 1
    return config
