"""Words to speech: type a text, choose a voice, hear it while it is made, see its codes and its sound.

`read_aloud` is the whole of it and knows no gradio: it yields a `Spoken` whenever the page has something new to show.
`build` makes the tab, `connect` fills in what is only known once the model is there.
"""

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import gradio as gr

from demo.audio_input import COPY_JS, AudioInput, busy_updates, recorder, run_buttons
from demo.audio_input import connect as connect_turn
from demo.audio_turn import turn_frames, wait
from demo.errors import Problem, explain, problem_html
from demo.model_thread import TICK_S, Tick, aside
from demo.notice import notice_html
from demo.page import AT_ONCE, Page
from demo.player import Feed, stop_js
from demo.session import Turn
from demo.speech import Recording, Speech
from demo.spoken import Spoken, advance, spoken_html, with_mel
from demo.spoken_view import spoken_view
from demo.texts import Texts
from demo.transcript import FINISHED, Phase
from demo.workbench import Workbench
from model.speaking import MAX_CHARACTERS
from model.tasks.tts import TTS

TAB = "speech"
VIEW = "speech-view"
AUTO = "*auto"
"""Choice of the voice that suits the text; no voice can be called so."""
Source = Literal["builtin", "own"]
EXAMPLES = (
    "Turn on the light in the kitchen.",
    "I would like a large cappuccino with some milk.",
    "What is the weather like in London today?",
    "请打开客厅的灯。",
    "今天天气怎么样？",
)


@dataclass(frozen=True)
class Wish:
    """What somebody wants to hear, as the page gives it."""

    text: str
    source: Source = "builtin"
    voice: str = AUTO
    """Name of a built-in voice."""
    recording: str | None = None
    """File of the voice to speak with."""
    has_consent: bool = False
    """Whether its owner has agreed."""
    seed: int = 0

    def problem(self, texts: Texts) -> Problem | None:
        """Return why this cannot be done, before anything is asked of the model."""
        text = self.text.strip()
        if not any(map(str.isalnum, text)):
            return Problem(texts("speech_nothing_title"), texts("speech_nothing"))
        if len(text) > MAX_CHARACTERS:
            detail = texts("speech_too_long", n=len(text), most=MAX_CHARACTERS)
            return Problem(texts("speech_too_long_title"), detail)
        if self.source == "own" and not self.recording:
            return Problem(texts("nothing_given_title"), texts("speech_no_recording"))
        if self.source == "own" and not self.has_consent:
            return Problem(texts("speech_no_consent_title"), texts("speech_no_consent"))
        return None


# --- handlers: plain functions -------------------------------------------------------------------


def read_aloud(workbench: Workbench, session: str, wish: Wish, texts: Texts) -> Iterator[Spoken]:
    """Read one text aloud, yielding whatever there is to show.

    Args:
        workbench: Model and sessions.
        session: Whose turn this is; an earlier one still under way is stopped.
        wish: Text, voice and seed.
        texts: Words for the page.
    """
    return turn_frames(workbench, session, lambda turn: _steps(workbench, turn, wish, texts), texts, Spoken)


def _steps(workbench: Workbench, turn: Turn, wish: Wish, texts: Texts) -> Iterator[Spoken]:
    problem = wish.problem(texts)
    if problem is not None:
        yield Spoken("starting").failed(problem)
        return
    for seen in _speak(workbench, turn, wish):
        if seen.phase not in FINISHED:  # what is finished is shown once, with its mel
            yield seen
    if seen.phase in FINISHED and not turn.cancel.is_set():
        yield (yield from wait(aside(lambda: with_mel(seen), turn.cancel), replace(seen, phase="speaking"))) or seen


def _speak(workbench: Workbench, turn: Turn, wish: Wish) -> Iterator[Spoken]:
    """Yield a picture for every event and every tick; the codebook is known once the model is there."""
    seen, options = Spoken("starting", feed=Feed()), replace(TTS.options, seed=wish.seed)
    job = workbench.speak(wish.text.strip(), lambda speech: voice_of(speech, wish), options, turn.cancel)
    waited_s = 0.0
    yield seen
    for item in job:
        if isinstance(item, Tick):
            waited_s += TICK_S
            phase = _waiting_phase(workbench, job.started, seen.phase)
            seen = replace(seen, phase=phase, waited_s=0.0 if phase in ("writing", "speaking") else waited_s)
        else:
            n_codes = workbench.engine.speech.n_codes
            seen = replace(advance(seen, item), n_codes=n_codes, waited_s=0.0)
        yield seen


def _waiting_phase(workbench: Workbench, is_started: bool, phase: Phase) -> Phase:
    if phase in ("writing", "speaking"):
        return phase
    if is_started:
        return "voice"
    return "model" if workbench.loading.phase == "loading" else "queued"


def voice_of(speech: Speech, wish: Wish) -> str | Recording:
    """Return the voice that is wished for: a name, or a recording to make one of."""
    if wish.source == "own":
        return Recording(wish.recording or "")
    if wish.voice != AUTO:
        return wish.voice
    from model.token2wav.voices import suited

    card = suited(speech.cards, wish.text)
    return card.name if card else ""


class Offer(NamedTuple):
    """What the tab offers, given the model."""

    notice: str
    """Why it cannot be used, or what to expect of it, as HTML; may be empty."""
    voices: tuple[tuple[str, str], ...]
    """Label and value of every choice."""
    sources: tuple[Source, ...]
    can_speak: bool


def offer(workbench: Workbench, texts: Texts) -> Offer:
    """Tell what the tab can offer at this moment."""
    phase = workbench.loading.phase
    if phase == "loading":
        notice = f'<p class="note">{html.escape(texts("speech_loading"))}</p>'
        return Offer(notice, ((texts("speech_auto"), AUTO),), ("builtin", "own"), True)
    speech = workbench.engine.speech if phase == "ready" else None
    if speech is None or not speech.is_ready:
        return Offer(_notice(speech, texts), (), (), False)
    voices = tuple((_label(card, texts), card.name) for card in speech.cards)
    automatic = ((texts("speech_auto"), AUTO),) if voices else ()
    sources: tuple[Source, ...] = ("builtin",) * bool(voices) + ("own",) * speech.makes_voices
    return Offer(notice_html(workbench, TTS.name, texts), (*automatic, *voices), sources, True)


def _notice(speech: Speech | None, texts: Texts) -> str:
    """Say why a model cannot read aloud."""
    if speech is not None and speech.problem is not None:
        return problem_html(explain(speech.problem, texts))
    key = "speech_no_voice" if speech is None else "speech_no_voices"
    return problem_html(Problem(texts("speech_no_voice_title"), texts(key)))


def _label(card, texts: Texts) -> str:
    described = card.described(texts.language)
    return f"{card.name} · {described}" if described else card.name


# --- the tab -------------------------------------------------------------------------------------


class SpeechTab(NamedTuple):
    """Components that other parts of the page connect to."""

    panel: gr.HTML
    notice: gr.HTML
    """Why the model cannot read aloud."""
    source: gr.Radio
    voice: gr.Dropdown
    builtin: gr.Column
    own: gr.Column
    go: gr.Button
    offered: gr.State
    """Phase of the model that the offer on show is for."""


def build(page: Page) -> SpeechTab:
    """Build the tab inside a `gr.Tab`."""
    notice = gr.HTML("", apply_default_css=False, elem_id="speech-notice")
    offered = gr.State("")
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            text = _text_box(page)
            source, voice, builtin, own, recording, consent, seed = _voice_choice(page)
            go, halt = run_buttons(page, "speak", go_id="speak", halt_id="speak-stop")
        with gr.Column(scale=7, min_width=300):
            panel = gr.HTML(
                spoken_html(Spoken(), Texts()), js_on_load=COPY_JS, apply_default_css=False, elem_id="speech-panel",
                elem_classes="transcript-box",
            )  # fmt: skip
            view = spoken_view(page, elem_id=VIEW)

    def ask(workbench, session, words, texts, *chosen) -> Iterator[Spoken]:
        return read_aloud(workbench, session, wish_of(words, *chosen), texts)

    choices = [source, voice, recording, consent, seed]
    connect_turn(page, AudioInput(text, go, halt), [], choices, [panel, go, halt, view], ask, _updates, kind=Spoken)
    halt.click(None, None, None, js=stop_js(VIEW), **AT_ONCE)
    return SpeechTab(panel, notice, source, voice, builtin, own, go, offered)


def wish_of(text: str | None, source: Source, voice: str | None, recording: str | None, consent: bool, seed) -> Wish:
    """Read the components' values; what a visitor has emptied counts as not chosen."""
    return Wish(text or "", source, voice or AUTO, recording, bool(consent), max(0, int(seed or 0)))


def _text_box(page: Page) -> gr.Textbox:
    text = gr.Textbox(
        label=page.label("speech_text"), info=page.label("speech_text_info"), lines=3, max_lines=8,
        max_length=MAX_CHARACTERS, elem_id="speech-text",
    )  # fmt: skip
    with gr.Row(elem_classes="examples"):
        gr.Markdown(page.label("examples"), elem_classes="section-title")
        for sentence in EXAMPLES:
            chip = gr.Button(sentence, size="sm", scale=0)
            chip.click(lambda sentence=sentence: sentence, None, text, **AT_ONCE)
    return text


def _voice_choice(page: Page) -> tuple:
    """Build the two ways to a voice, of which one is shown, and the seed."""
    choices = [(page.label("speech_builtin"), "builtin"), (page.label("speech_own"), "own")]
    with gr.Row(equal_height=True):
        source = gr.Radio(
            choices, value="builtin", label=page.label("speech_source"), scale=3, min_width=270, elem_id="speech-source"
        )  # fmt: skip
        seed = gr.Number(
            0, label=page.label("speech_seed"), precision=0, minimum=0, maximum=2**31 - 1, scale=1, min_width=110,
            elem_id="speech-seed",
        )  # fmt: skip
    with gr.Column(elem_id="speech-builtin") as builtin:
        voice = gr.Dropdown(
            [(page.label("speech_auto"), AUTO)], value=AUTO, label=page.label("speech_voice"), filterable=False,
            elem_id="speech-voice",
        )  # fmt: skip
    with gr.Column(visible=False, elem_id="speech-own") as own:
        gr.Markdown(page.label("speech_own_info"), elem_classes="section-title")
        recording = recorder(page, "speech-recording")
        consent = gr.Checkbox(
            False, label=page.label("speech_consent"), elem_classes="plain-check", elem_id="speech-consent"
        )  # fmt: skip
    source.change(
        lambda chosen: [gr.update(visible=chosen != "own"), gr.update(visible=chosen == "own")],
        source, [builtin, own], **AT_ONCE,
    )  # fmt: skip
    return source, voice, builtin, own, recording, consent, seed


def _updates(seen: Spoken, texts: Texts, *, is_new: bool = False) -> list:
    """Return what changes on the page: panel, go, halt, player and view."""
    return [spoken_html(seen, texts), *busy_updates(seen.is_under_way), {} if is_new else seen.value]


def connect(page: Page, tab: SpeechTab, *triggers) -> None:
    """Show what the model offers, whenever one of the triggers fires and the model has come further.

    Args:
        page: Workbench and words.
        tab: The built tab.
        *triggers: Event methods such as `demo.load`, `timer.tick`.
    """
    workbench = page.workbench
    outputs = [tab.offered, tab.panel, tab.notice, tab.source, tab.voice, tab.builtin, tab.own, tab.go]

    def refresh(shown_for: str, source: Source, request: gr.Request) -> list:
        phase, texts = workbench.loading.phase, page.texts(request)
        if phase == shown_for:
            return [gr.skip()] * len(outputs)
        panel = gr.skip() if shown_for else spoken_html(Spoken(), texts)
        return [phase, panel, *offer_updates(offer(workbench, texts), source)]

    for trigger in triggers:
        trigger(refresh, [tab.offered, tab.source], outputs, **AT_ONCE)


def offer_updates(offered: Offer, source: Source) -> list:
    """Return what changes with an offer: notice, source, voice, built-in block, own block, Speak."""
    chosen = source if source in offered.sources else next(iter(offered.sources), source)
    return [
        offered.notice,
        gr.update(value=chosen, visible=len(offered.sources) > 1),
        gr.update(choices=list(offered.voices), value=offered.voices[0][1] if offered.voices else None),
        gr.update(visible=bool(offered.voices) and chosen == "builtin"),
        gr.update(visible=chosen == "own" and offered.can_speak),
        gr.update(interactive=offered.can_speak),
    ]
