"""The seam to the real model: a checkpoint on disk, loaded, asked, looked into, and refused where it is broken."""

import json
import shutil
import time
from pathlib import Path

import pytest

from demo.header import strip_html
from demo.linked_view import payload
from demo.settings import Settings
from demo.tabs.asr import transcribe
from demo.tabs.paralinguistics import ask_all, inspect_one
from demo.workbench import Workbench
from model.options import GenerationOptions
from model.tasks.paralinguistics import Paralinguistics

NANO = Path(__file__).parents[2] / "model" / "nano"
pytestmark = pytest.mark.skipif(not (NANO / "config.json").is_file(), reason="nano is not here")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Nano's tokenizer and ids with a much smaller network of random weights, in two shards."""
    import torch

    from model.configuration_step_audio_2 import StepAudio2Config
    from model.modeling_step_audio_2 import StepAudio2ForCausalLM

    folder = tmp_path_factory.mktemp("checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(NANO / name, folder)
    config = StepAudio2Config.from_pretrained(NANO)
    config.text_config.num_hidden_layers = 2
    config.text_config.layer_types = ["full_attention"] * 2
    config.audio_encoder_config.n_audio_layer = 1
    torch.manual_seed(0)
    StepAudio2ForCausalLM(config).save_pretrained(folder, max_shard_size="4MB")
    (folder / "README.md").write_text("---\nlicense: x\n---\n# Small\n", encoding="utf-8")
    return folder


def loaded(folder):
    workbench = Workbench(Settings(model=str(folder), device="cpu", lang="en"))
    workbench.start()
    deadline = time.monotonic() + 120
    while workbench.loading.phase == "loading" and time.monotonic() < deadline:
        time.sleep(0.02)
    return workbench


@pytest.fixture(scope="module")
def real(checkpoint):
    return loaded(checkpoint)


def test_a_checkpoint_answers_and_can_be_looked_into(real, clip, texts):
    assert real.loading.phase == "ready", real.loading.error
    *_, frame = transcribe(real, "me", clip, texts)
    assert frame.transcript.phase in ("done", "length", "repetition") and frame.transcript.problem is None
    assert frame.transcript.encode_s is not None and frame.transcript.sound_s == pytest.approx(1.5)
    trace = frame.run.trace
    assert trace.tensors["attention.audio"].shape[0] == 2 and trace.n_reply == len(trace.events[-1].ids)
    assert payload(frame.run)["layers"] == [0, 1]


def test_the_header_and_about_tell_what_was_loaded(real, checkpoint, texts):
    facts = real.loading.facts
    assert facts.name == checkpoint.name and facts.device == "cpu" and facts.dtype == "float32"
    assert facts.n_parameters > 0 and facts.logit_shift > 0 and not facts.is_scripted and facts.card.startswith("---")
    assert str(checkpoint.parent) not in strip_html(real.loading, real.settings.model, texts)


def test_a_checkpoint_is_asked_all_eleven_and_weighs_its_candidates(real, clip, texts, monkeypatch):
    monkeypatch.setattr(Paralinguistics, "options", GenerationOptions(max_new_tokens=3))
    *_, shown = ask_all(real, "me", clip, texts)
    assert shown.survey.phase == "done" and shown.survey.n_answered == 11, shown.survey.problem
    for one in shown.survey.asked:
        assert one.problem is None and sum(candidate.share for candidate in one.candidates) == pytest.approx(1)
        assert all(candidate.logprob < 0 for candidate in one.candidates) and 0 <= one.coverage < 1
    *_, looked = inspect_one(real, "me", shown.survey.id, 0, texts)
    assert looked.run is not None and looked.run.trace.n_reply == 3


def test_the_page_knows_what_the_checkpoint_was_trained_for(real, checkpoint):
    named = json.loads((checkpoint / "config.json").read_text())["trained_tasks"]
    assert real.loading.facts.trained_tasks == tuple(named) and real.can_weigh


def missing_shard(folder):
    sorted(folder.glob("model-*.safetensors"))[-1].unlink()


def wrong_config(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] += 64
    (folder / "config.json").write_text(json.dumps(config))


def no_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "says"), [(missing_shard, "model-0000"), (wrong_config, "config"), (no_config, "config.json")]
)
def test_a_broken_checkpoint_is_a_sentence_on_the_page(damage, says, checkpoint, tmp_path, clip, texts):
    folder = shutil.copytree(checkpoint, tmp_path / "broken")
    damage(folder)
    workbench = loaded(folder)
    assert workbench.loading.phase == "failed"
    shown = strip_html(workbench.loading, workbench.settings.model, texts)
    assert "cannot be loaded" in shown and says in shown and "goes on working" in shown
    *_, frame = transcribe(workbench, "me", clip, texts)
    assert says in str(frame.transcript.problem)
