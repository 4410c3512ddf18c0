"""A quiet notice on the tab of a task that the loaded model was never trained for."""

import html

import gradio as gr

from demo.page import Page
from demo.task_words import TASK_WORDS
from demo.texts import Texts
from demo.workbench import ModelFacts, Workbench


def is_trained(facts: ModelFacts | None, task: str) -> bool:
    """Return False only where it is known that the weights were not trained for a task (`Task.name`)."""
    return facts is None or facts.trained_tasks is None or task in facts.trained_tasks


def notice_html(workbench: Workbench, task: str, texts: Texts) -> str:
    """Say what the model was trained for, if that is not this; empty while it is not loaded."""
    facts = workbench.loading.facts
    if is_trained(facts, task):
        return ""
    tasks = ", ".join(task_name(name, texts) for name in facts.trained_tasks) or "–"
    title, words = texts("untrained_title"), texts("untrained", name=facts.name, tasks=tasks)
    return f'<p class="untrained" role="note"><b>{html.escape(title)}.</b> {html.escape(words)}</p>'


def task_name(name: str, texts: Texts) -> str:
    """Put the name of a task into words; one we have no words for stays as it is."""
    key = f"task_{name}"
    return texts(key) if key in TASK_WORDS else name


def notice(page: Page, task: str) -> gr.HTML:
    """Build the notice; `ui.py` fills it when the page opens and when the model is there."""
    return gr.HTML(
        notice_html(page.workbench, task, Texts()), apply_default_css=False, elem_classes="task-notice",
        elem_id=f"{task}-notice",
    )  # fmt: skip
