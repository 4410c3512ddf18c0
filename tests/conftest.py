"""What several rooms of tests share."""

import pytest

from tests.golden_recipe import draw_state_dict, read_json


@pytest.fixture(scope="session")
def tiny_model():
    """A two-layer model with the weights of the golden recipe; official vocabulary, float32, CPU, not trained.

    Shared by the whole session: a test that changes it must put back what it found.
    """
    from model.configuration_step_audio_2 import StepAudio2Config
    from model.modeling_step_audio_2 import StepAudio2ForCausalLM

    model = StepAudio2ForCausalLM(StepAudio2Config(**read_json("config.json")))
    model.load_state_dict(draw_state_dict(read_json("tiny_shapes.json.gz")["llm"]))
    return model.eval()
