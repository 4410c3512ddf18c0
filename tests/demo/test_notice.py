"""What the page tells about tasks that the loaded model was not trained for."""

import pytest

from demo.notice import is_trained, notice_html, task_name
from demo.settings import Settings
from demo.texts import Texts
from demo.workbench import ModelFacts, Workbench
from tests.demo.fakes import ready_workbench
from tests.demo.task_fakes import task_engine


@pytest.mark.parametrize(
    ("facts", "trained"),
    [
        (None, True),
        (ModelFacts("official"), True),
        (ModelFacts("nano", trained_tasks=("asr",)), False),
        (ModelFacts("nano", trained_tasks=("asr", "translation")), True),
    ],
)
def test_only_a_model_that_says_so_is_untrained(facts, trained):
    assert is_trained(facts, "translation") is trained


def test_the_notice_names_what_the_model_can_do():
    bench = ready_workbench(task_engine(trained_tasks=("asr", "juggling")))
    shown = notice_html(bench, "translation", Texts("en"))
    assert "never learned this" in shown and "speech recognition, juggling" in shown and "script" in shown
    assert "语音识别" in notice_html(bench, "paralinguistics", Texts("zh"))
    assert notice_html(bench, "asr", Texts("en")) == ""


def test_there_is_no_notice_before_the_model_is_there():
    assert notice_html(Workbench(Settings()), "translation", Texts()) == ""


def test_every_task_has_a_name_in_words():
    from pathlib import Path

    import model.tasks

    folder = Path(model.tasks.__file__).parent
    names = [p.stem for p in folder.glob("*.py") if "(Task)" in p.read_text(encoding="utf-8")]
    assert len(names) >= 8 and all(task_name(name, Texts("zh")) != name for name in names)
