"""The picture of a thought shows every step with its verdict, and the sound above, on screen and on paper."""

import numpy as np
import pytest

from analysis.figures import theme
from analysis.figures.thought import LONGEST, evidence, print_evidence
from analysis.statistic import Axis, Statistic
from model.audio import Waveform
from model.errors import TraceError

TIME = Axis("time", values=np.linspace(0.1, 0.9, 9), unit="s")
STEPS = ("1 The speaker is a woman.", "2 " + "very " * 20 + "long.", "3 So it is eight.")
VALUES = np.arange(27.0).reshape(3, 9) - 5
VALUES[2, 8] = np.nan
MAP = Statistic("log-probability lost", VALUES, (Axis("step", labels=STEPS), TIME), "nat",
                notes={"verdicts": ["heard", "unsupported", "follows"]})  # fmt: skip
SOUND = Waveform(np.sin(np.arange(16_000) / 9).astype(np.float32), 16_000)


@pytest.mark.parametrize("dark", [False, True])
def test_steps_stand_under_the_sound_with_their_verdicts(dark):
    figure = evidence(MAP, SOUND, dark=dark)
    heat = figure.data[-1]
    assert list(heat.z[0]) == VALUES[0].tolist() and heat.z[2][8] is None and heat.zmax == -heat.zmin == 20
    labels = figure.layout.yaxis.ticktext
    assert labels[0] == "1 The speaker is a woman. [heard]" and labels[2].endswith("[follows]")
    assert labels[1].endswith("… [unsupported]") and len(labels[1]) == LONGEST + len(" [unsupported]")
    assert figure.data[1].fillcolor == (theme.DARK if dark else theme.LIGHT).trace
    assert tuple(figure.layout.xaxis.range) == (0, 1) and figure.layout.yaxis.autorange == "reversed"


def test_the_printed_map_has_its_windows_in_place(tmp_path):
    figure = print_evidence(MAP, SOUND)
    image = figure.axes[1].images[0]
    np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan), VALUES)
    assert image.get_extent() == pytest.approx([0.05, 0.95, 2.5, -0.5])
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()][0].endswith("[heard]")
    figure.savefig(tmp_path / "evidence.png")


def test_without_verdicts_steps_stand_alone_and_other_shapes_are_refused():
    plain = Statistic("drop", VALUES[:1], (Axis("step", labels=STEPS[:1]), TIME), "nat")
    assert evidence(plain, SOUND).layout.yaxis.ticktext == (STEPS[0],)
    with pytest.raises(TraceError, match="1 axes"):
        evidence(Statistic("drop", VALUES[0], (TIME,), "nat"), SOUND)
