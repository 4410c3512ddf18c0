"""The Paralinguistics tab without a browser: eleven questions, candidates, curves, files, the way into Inspect."""

import csv
import json
import time
from dataclasses import replace

import pytest

from demo.audio_turn import paced, stop
from demo.settings import Settings
from demo.survey import Asked, Candidate, Survey, curves_csv, table_csv, whole_json
from demo.survey_view import curves_html, percent, survey_html
from demo.tabs.paralinguistics import Shown, ask_all, inspect_one, save_survey, updates
from demo.texts import Texts
from demo.workbench import Workbench
from model.errors import CheckpointError, TraceError
from model.messages import Audio, Text
from model.tasks.paralinguistics import DIMENSIONS, labels
from tests.demo.fakes import ready_workbench
from tests.demo.task_fakes import right_label, task_engine, weigh


def last(frames):
    return list(frames)[-1]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """All pictures of one finished survey, and its workbench."""
    from model.audio import save_waveform
    from tests.demo.fakes import tone

    path = tmp_path_factory.mktemp("sound") / "clip.wav"
    save_waveform(path, tone(1.5))
    bench = ready_workbench(task_engine())
    return bench, list(ask_all(bench, "me", str(path), Texts("en")))


def test_all_eleven_are_asked_and_answered(asked):
    bench, frames = asked
    survey = frames[-1].survey
    assert survey.phase == "done" and [one.dimension for one in survey.asked] == list(DIMENSIONS)
    assert all(one.state == "done" and one.named == right_label(one.dimension) for one in survey.asked)
    assert bench.surveys.owned_by("me") == (survey,)
    calls = bench.engine.backend.calls
    assert len(calls) == 11 and all(options.temperature == 0 for _, options in calls)
    for conversation, _ in calls:
        assert [type(part) for part in conversation[1].parts] == [Audio, Text], "the sound is heard before the question"


def test_every_label_has_its_probability_the_likeliest_first(asked):
    for one in asked[1][-1].survey.asked:
        assert {candidate.label for candidate in one.candidates} == set(labels(one.dimension))
        assert sum(candidate.share for candidate in one.candidates) == pytest.approx(1)
        shares = [candidate.share for candidate in one.candidates]
        assert shares == sorted(shares, reverse=True) and one.candidates[0].label == right_label(one.dimension)
        assert one.candidates[0].share == pytest.approx(0.75) and 0 < one.coverage < 1


def test_progress_is_shown_step_by_step_and_the_curves_once(asked):
    frames = asked[1]
    counts = [frame.survey.n_answered for frame in frames if frame.survey.asked]
    assert counts == sorted(counts) and set(counts) >= set(range(11))
    assert sum(frame.figure is not None for frame in frames) == 1
    first = next(number for number, frame in enumerate(frames) if frame.figure is not None)
    assert all(frame.survey.n_answered == 0 for frame in frames[: first + 1]), "curves come before the first answer"


def test_pacing_never_drops_the_curves(clip, texts):
    bench = ready_workbench(task_engine())
    shown = list(paced(ask_all(bench, "me", clip, texts), least_s=60))
    assert sum(frame.figure is not None for frame in shown) == 1 and shown[-1].survey.n_answered == 11


def test_questions_and_answers_can_be_chinese(clip, texts):
    survey = last(ask_all(ready_workbench(task_engine()), "me", clip, texts, "zh")).survey
    assert survey.asked[0].question == "说话人是男性还是女性？" and survey.asked[0].answer == "说话人是女性。"
    assert survey.asked[0].candidates[0].word == "女性"
    assert last(ask_all(ready_workbench(task_engine()), "me", clip, texts, "fr")).survey.asked[0].language == "en"


def test_stop_keeps_what_was_answered_and_it_can_be_taken_along(clip, texts, tmp_path):
    bench = ready_workbench(task_engine(pause_s=0.02))
    frames = ask_all(bench, "me", clip, texts)
    for frame in frames:
        if frame.survey.n_answered >= 2:
            break
    began = time.monotonic()
    stop(bench, "me", Shown)
    shown = last(frames)
    assert time.monotonic() - began < 1.0
    survey = shown.survey
    assert survey.phase == "stopped" and [one.state for one in survey.asked[:2]] == ["done", "done"]
    assert {one.state for one in survey.asked[3:]} == {"stopped"}
    assert save_survey(bench, "table", tmp_path, texts, survey.id, "me").is_file()


def test_a_backend_without_probabilities_still_answers(clip, texts):
    bench = ready_workbench(replace(task_engine(), weigh=None))
    survey = last(ask_all(bench, "me", clip, texts)).survey
    assert survey.phase == "done" and not survey.asked[0].candidates and survey.asked[0].named
    assert "gives no probabilities" in survey_html(survey, texts)


def test_candidates_that_cannot_be_weighed_say_so_and_the_answers_stand(clip, texts):
    def sometimes(conversation, replies, cancel):
        if "happy" in replies[1]:
            raise TraceError("score candidate replies", found="a fault", expected="none", todo="Try again.")
        return weigh(conversation, replies, cancel)

    survey = last(ask_all(ready_workbench(task_engine(weigh=sometimes)), "me", clip, texts)).survey
    failed = [one for one in survey.asked if one.problem is not None]
    assert [one.dimension for one in failed] == ["emotion"] and "a fault" in str(failed[0].problem)
    assert failed[0].named == "happy" and not failed[0].candidates and "a fault" in survey_html(survey, texts)
    assert survey.phase == "done" and survey.n_answered == 11


def test_a_model_that_did_not_load_says_why_once(clip, texts):
    def load(settings, progress):
        raise CheckpointError("load 'x'", found="no shard 2 of 3", expected="all shards", todo="Copy it again.")

    bench = Workbench(Settings(lang="en"), load)
    bench.start()
    survey = last(ask_all(bench, "me", clip, texts)).survey
    assert survey.phase == "failed" and survey_html(survey, texts).count("no shard 2 of 3") == 1


def test_nothing_given_and_silence_are_told(texts, tmp_path):
    import numpy as np
    import soundfile

    bench = ready_workbench(task_engine())
    assert "no recording yet" in str(last(ask_all(bench, "me", None, texts)).survey.problem)
    silent = tmp_path / "silence.wav"
    soundfile.write(silent, np.zeros(16_000, np.float32), 16_000)
    shown = last(ask_all(bench, "me", str(silent), texts))
    assert "silent" in str(shown.survey.problem) and shown.survey.phase == "failed" and not bench.engine.backend.calls


# --- looking into one answer ----------------------------------------------------------------------


def test_one_answer_becomes_a_run(asked, texts):
    bench, frames = asked
    survey = frames[-1].survey
    shown = list(inspect_one(bench, "me", survey.id, 5, texts))
    assert shown[0].looking == 5 and shown[0].phase == "looking"
    assert shown[-1].run in bench.runs.owned_by("me") and shown[-1].looking is None
    assert survey.asked[5].answer[:20] in shown[-1].run.title


@pytest.mark.parametrize("number", [-1, 11, True, "0", None, 1.0])
def test_numbers_from_the_browser_may_be_anything(asked, texts, number):
    bench, frames = asked
    shown = last(inspect_one(bench, "me", frames[-1].survey.id, number, texts))
    assert shown.run is None and "gone" in str(shown.survey.problem)


def test_nobody_sees_the_survey_of_another(asked, texts, tmp_path):
    bench, frames = asked
    survey = frames[-1].survey
    assert last(inspect_one(bench, "you", survey.id, 0, texts)).run is None
    with pytest.raises(FileNotFoundError):
        save_survey(bench, "all", tmp_path, texts, survey.id, "you")


def test_a_closed_page_leaves_no_survey(clip, texts):
    bench = ready_workbench(task_engine())
    bench.sessions.remember("tab-1", "me")
    last(ask_all(bench, "me", clip, texts))
    assert len(bench.surveys) == 1
    bench.close_connection("tab-1")
    assert len(bench.surveys) == 0


# --- files ----------------------------------------------------------------------------------------


def test_the_table_has_every_candidate(asked, texts, tmp_path):
    bench, frames = asked
    path = save_survey(bench, "table", tmp_path, texts, frames[-1].survey.id, "me")
    assert path.name == "clip-paralinguistics.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == sum(len(labels(dimension)) for dimension in DIMENSIONS)
    assert rows[0]["dimension"] == "gender" and rows[0]["label"] == "female" and float(rows[0]["share"]) == 0.75


def test_the_json_holds_everything_but_the_sound(asked):
    survey = asked[1][-1].survey
    content = json.loads(whole_json(survey, "nano"))
    assert content["model"] == "nano" and content["recording"] == "clip.wav" and content["seconds"] == 1.5
    assert len(content["asked"]) == 11 and content["asked"][0]["named"] == "female"
    assert len(content["curves"]) == len(survey.prosody.time_s)


def test_the_curves_are_a_line_each_10_ms(asked):
    survey = asked[1][-1].survey
    lines = curves_csv(survey).splitlines()
    assert lines[0] == "time_s,pitch_hz,loudness_db,rate_per_s" and len(lines) == 1 + len(survey.prosody.time_s)


def test_a_spreadsheet_runs_nothing_that_a_model_wrote():
    one = Asked("gender", "en", "done", "=HYPERLINK(1)", (Candidate("male", "a man", 1.0, -0.1),), 0.9)
    assert "'=HYPERLINK(1)" in table_csv(Survey(asked=(one,)))


# --- pictures -------------------------------------------------------------------------------------


def test_cards_show_label_answer_and_bars(asked, texts):
    shown = survey_html(asked[1][-1].survey, texts)
    assert (
        shown.count("<article") == 11
        and "Gender" in shown
        and "a woman" in shown
        and "The speaker is a woman." in shown
    )
    assert "Candidates cover" in shown and shown.count('class="inspect-one"') == 11
    chinese = survey_html(asked[1][-1].survey, Texts("zh"))
    assert "性别" in chinese and "候选占所有可能回答的" in chinese


def test_an_answer_that_contradicts_its_probabilities_says_so(texts):
    candidates = (Candidate("female", "a woman", 0.8, -0.2), Candidate("male", "a man", 0.2, -1.6))
    one = Asked("gender", "en", "done", "A man.", candidates, 0.5)
    shown = survey_html(Survey(asked=(one,), phase="done"), texts)
    assert "Said a man; the most likely candidate is a woman." in shown
    vague = replace(one, answer="Hard to say.")
    assert "no label named" in survey_html(Survey(asked=(vague,), phase="done"), texts)


def test_everything_from_the_model_is_escaped(texts):
    one = Asked("gender", "en", "done", "<img src=x>", (), None)
    assert "<img" not in survey_html(Survey(asked=(one,), phase="done"), texts)


def test_an_empty_tab_teaches():
    assert "eleven questions" in curves_html(Survey(), Texts("en")) and "十一个问题" in curves_html(
        Survey(), Texts("zh")
    )
    assert survey_html(Survey(), Texts("en")) == ""


def test_small_shares_do_not_look_like_nothing():
    assert [percent(x) for x in (0, 1e-9, 0.0004, 0.032, 0.41, 0.999, 1)] == [
        "0 %", "< 0.01 %", "0.04 %", "3.2 %", "41 %", "100 %", "100 %",
    ]  # fmt: skip


def test_buttons_and_saving_follow_the_survey(asked, texts):
    done = updates(Shown(asked[1][-1].survey), texts)
    assert done[1]["interactive"] and done[5]["visible"] and done[6] == asked[1][-1].survey.id
    busy = updates(next(frame for frame in asked[1] if frame.survey.phase == "writing"), texts)
    assert not busy[1]["interactive"] and busy[2]["interactive"] and not busy[5]["visible"] and busy[6] is None
