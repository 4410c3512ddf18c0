"""Eleven questions about one recording, with the model's own probabilities, beside the curves of the sound.

`ask_all` and `inspect_one` are the whole of it and know no gradio: they yield a `Shown` whenever the page has
something new to show. The pictures are drawn in `demo/survey_view.py`; `build` only connects.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import gradio as gr

from demo.audio_input import (
    AudioInput,
    Example,
    busy_updates,
    connect,
    example_buttons,
    raw_microphone,
    recorder,
    run_buttons,
)
from demo.audio_turn import given, run_title, turn_frames, wait, write
from demo.downloads import fresh_path, hidden_link, offer
from demo.errors import Problem, explain, problem_html
from demo.model_thread import aside
from demo.notice import notice
from demo.page import QUIET, Page
from demo.runs import Run
from demo.session import Turn
from demo.survey import Survey, curves_csv, table_csv, whole_json
from demo.survey_view import INSPECT_JS, curves_html, survey_html
from demo.texts import Texts
from demo.transcript import FINISHED, Phase, Transcript
from demo.workbench import Workbench
from model.events import Event
from model.tasks.normalize import is_chinese
from model.tasks.paralinguistics import Paralinguistics

TAB = "paralinguistics"
LANES = ("sound", "pitch", "loudness", "rate", "time")


@dataclass(frozen=True, eq=False)
class Shown:
    """What the tab shows at one moment."""

    survey: Survey
    figure: Any = None
    """The curves, in the one picture in which they are new."""
    looking: int | None = None
    """Number of the question whose answer is being looked into."""
    run: Run | None = None
    """What came of looking."""

    @property
    def phase(self) -> Phase:
        """Where the survey is."""
        return "looking" if self.looking is not None else self.survey.phase

    @classmethod
    def at(cls, phase: Phase) -> Self:
        """Return a picture of nothing yet."""
        return cls(Survey(phase=phase))

    def stopped(self) -> Self:
        """Keep what was answered."""
        return type(self)(self.survey.stopped())

    def failed(self, problem: Problem) -> Self:
        """Keep what was answered and say what went wrong."""
        return type(self)(replace(self.survey.stopped(), phase="failed", problem=problem))


# --- handlers: plain functions -------------------------------------------------------------------


def ask_all(
    workbench: Workbench, session: str, path: str | None, texts: Texts, language: str = "en"
) -> Iterator[Shown]:
    """Ask all eleven questions about one recording, yielding whatever there is to show.

    Args:
        workbench: Model, surveys.
        session: Whose turn this is; an earlier one still under way is stopped.
        path: The recording, or None.
        texts: Words for the page.
        language: Of questions and answers, "en" or "zh".
    """

    def steps(turn: Turn) -> Iterator[Shown]:
        return _steps(workbench, session, turn, path, texts, language)

    return turn_frames(workbench, session, steps, texts, Shown)


def _steps(
    workbench: Workbench, session: str, turn: Turn, path: str | None, texts: Texts, language: str
) -> Iterator[Shown]:
    """Read the file, measure it, ask one question after the other."""
    heard = yield from given(workbench, turn, path, texts, Shown)
    if heard is None:
        return
    survey = Survey.of(session, Path(path).name, heard.waveform, language, heard.note)
    if heard.problem is not None:
        yield Shown(survey).failed(heard.problem)
        return
    drawn = yield from wait(aside(lambda: _curves(survey, texts), turn.cancel), Shown(survey))
    if drawn is None:
        return
    survey = replace(survey, prosody=drawn[0], phase="writing")
    yield Shown(survey, figure=drawn[1])
    for number in range(len(survey.asked)):
        survey = yield from _ask(workbench, turn, survey, number, texts)
        workbench.surveys.put(survey)
        if turn.cancel.is_set():
            return
    survey = workbench.surveys.put(replace(survey, phase="done"))
    yield Shown(survey)


def _curves(survey: Survey, texts: Texts) -> tuple[Any, Any]:
    """Measure the sound and draw it; what is needed for that is imported here."""
    from analysis.figures.prosody import prosody
    from analysis.prosody import measure_prosody

    measured = measure_prosody(survey.waveform)
    return measured, prosody(measured, survey.waveform, labels={lane: texts(f"lane_{lane}") for lane in LANES})


def _ask(workbench: Workbench, turn: Turn, survey: Survey, number: int, texts: Texts) -> Generator[Shown, None, Survey]:
    """Ask one question and weigh its candidates; a model that cannot answer ends the survey."""
    conversation = survey.asked[number].asks(survey.waveform, survey.name)
    job = workbench.answer(conversation, Paralinguistics.options, turn.cancel)
    survey = survey.with_asked(number, state="asking", conversation=conversation)
    events: list[Event] = []
    for seen in write(workbench, job, Transcript("listening"), events):
        waited_s = 0.0 if seen.phase in ("listening", "writing") else seen.waited_s
        survey = replace(survey.with_asked(number, answer=seen.text), waited_s=waited_s)
        yield Shown(survey)
    if turn.cancel.is_set():
        return survey
    survey = yield from _weigh(workbench, turn, survey.with_asked(number, events=tuple(events)), number, texts)
    return survey.with_asked(number, state=seen.phase if seen.phase in FINISHED else "failed")


def _weigh(
    workbench: Workbench, turn: Turn, survey: Survey, number: int, texts: Texts
) -> Generator[Shown, None, Survey]:
    """Find how likely each candidate answer is, where the backend can tell; the answer stands whatever happens."""
    if not workbench.can_weigh:
        return survey
    one = survey.asked[number]
    try:
        job = workbench.weigh(one.conversation, one.sentences, turn.cancel)
        found = yield from wait(job, Shown(survey.with_asked(number, state="weighing")))
    # The border to the page, for one question.
    except Exception as error:
        return survey.with_asked(number, problem=explain(error, texts))
    if found is None:
        return survey
    asked = (*survey.asked[:number], one.weighed(found), *survey.asked[number + 1 :])
    return replace(survey, asked=asked)


def inspect_one(workbench: Workbench, session: str, survey_id: str, number: object, texts: Texts) -> Iterator[Shown]:
    """Look into the answer to one question; the last picture carries the run. Id and number come from the browser."""
    survey = workbench.surveys.get(str(survey_id))
    good = isinstance(number, int) and not isinstance(number, bool)
    if survey is None or survey.owner != session or not good or not 0 <= number < len(survey.asked):
        gone = Problem(texts("expired_title"), texts("expired", minutes=f"{workbench.settings.run_minutes:g}"))
        return iter([Shown.at("failed").failed(gone)])

    def steps(turn: Turn) -> Iterator[Shown]:
        return _look(workbench, session, turn, survey, number)

    return turn_frames(workbench, session, steps, texts, Shown)


def _look(workbench: Workbench, session: str, turn: Turn, survey: Survey, number: int) -> Iterator[Shown]:
    one, shown = survey.asked[number], Shown(survey.stopped())
    if not one.can_be_inspected:
        yield shown
        return
    job = workbench.look_inside(one.conversation, one.events[-1].ids, one.events, turn.cancel)
    trace = yield from wait(job, replace(shown, looking=number))
    run = trace and workbench.runs.put(Run(session, run_title(one.answer), trace))
    yield replace(shown, run=run)


def save_survey(
    workbench: Workbench, kind: str, folder: Path, texts: Texts, survey_id: str | None, session: str
) -> Path:
    """Write a survey for taking along.

    Args:
        kind: "table", "curves" (both CSV) or "all" (JSON).
        folder: Where to write; a fresh folder is made inside.

    Raises:
        FileNotFoundError: If the survey is gone.
    """
    survey = workbench.surveys.get(survey_id or "")
    if survey is None or survey.owner != session:
        raise FileNotFoundError(2, "This survey is gone", survey_id or "-")
    model = workbench.loading.facts.name if workbench.loading.facts else ""
    stem = Path(survey.name).stem[:40] or "recording"
    name, content = {
        "table": (f"{stem}-paralinguistics.csv", lambda: table_csv(survey)),
        "curves": (f"{stem}-curves.csv", lambda: curves_csv(survey)),
        "all": (f"{stem}-paralinguistics.json", lambda: whole_json(survey, model)),
    }[kind]
    path = fresh_path(folder, name)
    # Spreadsheets take a CSV without the mark for something older than UTF-8.
    path.write_text(content(), encoding="utf-8" if kind == "all" else "utf-8-sig")
    return path


# --- the tab -------------------------------------------------------------------------------------


class ParalinguisticsTab(NamedTuple):
    """Components that other parts of the page connect to."""

    panel: gr.HTML
    curves: gr.HTML
    """What the tab is for; later the numbers over the plot."""
    raw_microphone: gr.Checkbox
    notice: gr.HTML
    inspected: gr.events.Dependency
    """Goes off when an answer was looked into."""
    run_id: gr.State
    """Id of the run that came of it; None if none did."""


def build(page: Page) -> ParalinguisticsTab:
    """Build the tab inside a `gr.Tab`."""
    label = page.label
    survey_id, run_id = gr.State(None), gr.State(None)
    told = notice(page, Paralinguistics.name)
    with gr.Row(equal_height=True):
        with gr.Column(scale=5, min_width=300):
            sound = recorder(page, "survey-sound")
            language = gr.Radio(
                [(label("ask_in_en"), "en"), (label("ask_in_zh"), "zh")], label=label("ask_language"),
                value="zh" if page.workbench.settings.lang == "zh" else "en",
                elem_id="survey-language", elem_classes="plain-radio",
            )  # fmt: skip
            go, halt = run_buttons(page, "ask_all", go_id="ask-all", halt_id="survey-stop")
        with gr.Column(scale=7, min_width=300):
            curves = gr.HTML(curves_html(Shown.at("empty").survey, Texts()), apply_default_css=False, elem_id="curves")
            plot = gr.Plot(show_label=False, label=label("curves_label"), visible=False, elem_id="curves-plot")
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            chips = example_buttons(page)
        with gr.Column(scale=1, min_width=300):
            raw = raw_microphone(page, "survey-raw-microphone")
    panel = gr.HTML("", js_on_load=INSPECT_JS, apply_default_css=False, elem_id="survey")
    saving = _save_row(page, survey_id, panel)
    with gr.Accordion(label("survey_method"), open=False, elem_id="survey-method"):
        gr.Markdown(label("survey_method_text"))
    outputs = [panel, go, halt, curves, plot, saving, survey_id]
    given_parts = AudioInput(sound, go, halt)
    connect(page, given_parts, chips, [language], outputs, ask_all, updates, kind=Shown, chosen_for=language_of)
    return ParalinguisticsTab(panel, curves, raw, told, _connect_inspect(page, panel, run_id), run_id)


def language_of(example: Example) -> list[str]:
    """Return the language to ask in, from the language of an example's caption."""
    return ["zh" if is_chinese(example.caption) else "en"]


def updates(shown: Shown, texts: Texts, *, is_new: bool = False) -> list:
    """Return what changes: panel, go, halt, numbers of the curves, their plot, saving, the survey's id."""
    survey = shown.survey
    done = bool(survey.n_answered) and not survey.is_under_way
    plot = gr.skip()
    if shown.figure is not None:
        plot = gr.update(value=shown.figure, visible=True)
    elif is_new or survey.waveform is None:
        plot = gr.update(visible=False)
    return [
        survey_html(survey, texts, looking=shown.looking),
        *busy_updates(shown.phase == "looking" or survey.is_under_way),
        curves_html(survey, texts),
        plot,
        gr.update(visible=done),
        survey.id if done else None,
    ]


def _save_row(page: Page, survey_id: gr.State, panel: gr.HTML) -> gr.Row:
    with gr.Row(visible=False, elem_classes="save-row", elem_id="survey-save") as row:
        buttons = [
            (gr.Button(page.label(key), size="sm", scale=0, min_width=170, elem_id=key.replace("_", "-")), kind)
            for key, kind in (
                ("survey_save_csv", "table"), ("survey_save_json", "all"), ("survey_save_curves", "curves"),
            )
        ]  # fmt: skip
    link = hidden_link("survey-file")
    for button, kind in buttons:

        def save(folder: Path, texts: Texts, chosen: str | None, session: str, kind: str = kind) -> Path:
            return save_survey(page.workbench, kind, folder, texts, chosen, session)

        offer(page, button, link, save, [survey_id, page.session], panel, problem_html)
    return row


def _connect_inspect(page: Page, panel: gr.HTML, run_id: gr.State) -> gr.events.Dependency:
    """Look into an answer when its button is clicked; no turn of this session runs meanwhile."""

    def look(session: str, request: gr.Request, event: gr.EventData) -> Iterator[list]:
        texts = page.texts(request)
        chosen = getattr(event, "value", ""), getattr(event, "index", None)
        for shown in inspect_one(page.workbench, session, *chosen, texts):
            yield [survey_html(shown.survey, texts, looking=shown.looking), shown.run.id if shown.run else None]

    return panel.select(
        look, page.session, [panel, run_id], concurrency_id="model", concurrency_limit=1, **QUIET
    )  # fmt: skip
