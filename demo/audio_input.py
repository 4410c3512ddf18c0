"""How a tab is given a recording and asked about it: recorder, example sounds, run and stop, the raw microphone.

Only components and what connects them; what happens in a turn is in `demo/audio_turn.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from demo.audio_turn import Frame, Picture, accept, paced, stop
from demo.linked_view import linked_view
from demo.page import AT_ONCE, QUIET, Page
from demo.theme import waveform_look
from model.audio import INPUT_SAMPLE_RATE_HZ

EXAMPLES = Path(__file__).parents[1] / "model" / "nano" / "examples"

# Copies the words; a panel is redrawn with every token, so the click is caught on its parent.
COPY_JS = """
element.addEventListener('click', async (event) => {
  const button = event.target.closest('.copy');
  if (!button) return;
  await navigator.clipboard.writeText(button.closest('.transcript').querySelector('.words').textContent);
  button.textContent = button.dataset.copied;
});
"""
RAW_JS = "(on) => { window.stepAudioRawMicrophone?.set(on); return Array(COUNT).fill(on); }"
RAW_LOAD_JS = "() => Array(COUNT).fill(window.stepAudioRawMicrophone?.get() ?? true)"


class Example(NamedTuple):
    """A sound that ships with the model."""

    path: Path
    caption: str


def examples(folder: Path = EXAMPLES) -> list[Example]:
    """Find the example sounds; the caption of `name.flac` is the first line of `name.txt`."""
    sounds = sorted(path for path in folder.glob("*") if path.suffix in (".wav", ".flac"))
    return [Example(path, _caption(path)) for path in sounds]


def _caption(sound: Path) -> str:
    text = sound.with_suffix(".txt")
    lines = text.read_text(encoding="utf-8").strip().splitlines() if text.is_file() else []
    return lines[0].strip() if lines else sound.stem.replace("_", " ")


class AudioInput(NamedTuple):
    """The components with which a recording is given and a turn is run."""

    sound: gr.Audio
    go: gr.Button
    halt: gr.Button


def recorder(page: Page, elem_id: str) -> gr.Audio:
    """Build the recorder: a file or the microphone, at the model's rate."""
    return gr.Audio(
        label=page.label("sound"), sources=["upload", "microphone"], type="filepath", buttons=[],
        waveform_options=waveform_look(INPUT_SAMPLE_RATE_HZ), elem_id=elem_id, elem_classes="recorder",
    )  # fmt: skip


def run_buttons(page: Page, key: str, *, go_id: str, halt_id: str) -> tuple[gr.Button, gr.Button]:
    """Build the row of the two buttons: the one that runs, with the words `key`, and Stop."""
    with gr.Row():
        go = gr.Button(page.label(key), variant="primary", scale=3, min_width=120, elem_id=go_id)
        halt = gr.Button(page.label("stop"), scale=1, min_width=90, interactive=False, elem_id=halt_id)
    return go, halt


def raw_microphone(page: Page, elem_id: str) -> gr.Checkbox:
    """Build the switch; it shows what the browser remembers once `share_raw_microphone` has tied all of them."""
    raw = gr.Checkbox(
        True, label=page.label("raw_microphone"), info=page.label("raw_microphone_info"),
        elem_classes="plain-check", elem_id=elem_id,
    )  # fmt: skip
    gr.Markdown(page.label("no_microphone"), elem_classes="no-microphone-note")
    return raw


def share_raw_microphone(demo: gr.Blocks, switches: Sequence[gr.Checkbox]) -> None:
    """Tie the switches of all tabs together: what one is set to, all show and the browser remembers."""
    boxes, count = list(switches), str(len(switches))
    for switch in boxes:
        switch.input(None, switch, boxes, js=_for_one(RAW_JS, count), **AT_ONCE)
    demo.load(None, None, boxes, js=_for_one(RAW_LOAD_JS, count), **AT_ONCE)


def _for_one(js: str, count: str) -> str:
    return js.replace("COUNT", count)


def example_buttons(page: Page) -> list[tuple[gr.Button, Example]]:
    """Build a button for each example sound."""
    found = examples()
    if not found:
        return []
    with gr.Row(elem_classes="examples"):
        gr.Markdown(page.label("examples"), elem_classes="section-title")
        return [(gr.Button(item.caption, size="sm", scale=0), item) for item in found]


def connect(
    page: Page,
    given: AudioInput,
    chips: Sequence[tuple[gr.Button, Example]],
    choices: Sequence[gr.components.Component],
    outputs: list,
    ask: Callable[..., Iterator[Picture]],
    updates: Callable[..., list],
    *,
    kind: type[Picture],
    chosen_for: Callable[[Example], list] = lambda example: [],
) -> None:
    """Connect run, stop and examples: first the page shows that it heard you, then the turn queues.

    Args:
        page: Workbench, session, words.
        given: The recorder and the two buttons.
        chips: The example buttons.
        choices: More inputs of the turn, handed to `ask` in this order.
        outputs: What a picture fills.
        ask: `ask(workbench, session, path, texts, *choices)` yields the pictures of one turn.
        updates: `updates(picture, texts, is_new=False)` returns the outputs; `is_new` for the first one after a click.
        kind: Class of the pictures.
        chosen_for: Values of the choices that fit an example, all or none.
    """
    workbench, inputs = page.workbench, [given.sound, page.session, *choices]

    def clicked(request: gr.Request, path: str | None, session: str, *chosen: Any) -> list:
        return updates(accept(workbench, session, path, kind), page.texts(request), is_new=True)

    def run(request: gr.Request, path: str | None, session: str, *chosen: Any) -> Iterator[list]:
        texts = page.texts(request)
        for picture in paced(ask(workbench, session, path, texts, *chosen)):
            yield updates(picture, texts)

    def halted(session: str, request: gr.Request) -> list:
        picture = stop(workbench, session, kind)
        return [gr.skip()] * len(outputs) if picture is None else updates(picture, page.texts(request))

    def start(trigger: Any) -> None:
        chosen = trigger(clicked, inputs, outputs, **AT_ONCE)
        chosen.then(run, inputs, outputs, concurrency_id="model", concurrency_limit=1, **QUIET)

    start(given.go.click)
    for chip, item in chips:
        values = chosen_for(item)
        filled = [given.sound, *choices[: len(values)]]
        start(chip.click(lambda item=item, values=values: _filling(item, values), None, filled, **AT_ONCE).then)
    # Not by gradio's `cancels`: frames on their way would arrive after the stop and stay on the page.
    given.halt.click(halted, page.session, outputs, **AT_ONCE)


def _filling(item: Example, values: list) -> Any:
    return [str(item.path), *values] if values else str(item.path)


class RunBlock(NamedTuple):
    """The linked view under an answer, hidden until there is a run."""

    block: gr.Column
    view: gr.HTML
    run_id: gr.State
    """Id of the run on show."""
    open_button: gr.Button

    @property
    def outputs(self) -> list:
        """What `run_updates` fills."""
        return [self.block, self.view, self.run_id]


def run_block(page: Page, view_id: str, *, open_id: str) -> RunBlock:
    """Build the block: a title, the way into Inspect, the linked view."""
    run_id = gr.State(None)
    with gr.Column(visible=False, elem_id=f"{view_id}-block", elem_classes="view-block") as block:
        with gr.Row(equal_height=True):
            gr.Markdown(page.label("view_title"), elem_classes="view-title")
            open_button = gr.Button(
                page.label("open_in_inspect"), size="sm", scale=0, min_width=150, elem_id=open_id
            )  # fmt: skip
        view = linked_view(page.workbench, elem_id=view_id)
    return RunBlock(block, view, run_id, open_button)


def run_updates(frame: Frame, *, is_new: bool) -> list[Any]:
    """Return what changes under the words; a new turn hides the run of the one before.

    The view is filled once, when it comes; frames after it keep it and say again that it is shown, for a page under
    load does not see every frame.
    """
    if frame.run is not None:
        return [gr.update(visible=True), gr.skip() if frame.view is None else frame.view, frame.run.id]
    if is_new:
        return [gr.update(visible=False), {}, None]
    return [gr.skip(), gr.skip(), gr.skip()]


def busy_updates(is_busy: bool) -> list:
    """Return the updates of the two buttons."""
    return [gr.update(interactive=not is_busy), gr.update(interactive=is_busy)]
