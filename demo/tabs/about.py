"""Which model this is, what it can do, what is measured, and what is kept."""

import html

import gradio as gr

from demo.header import count
from demo.page import AT_ONCE, Page
from demo.texts import WORDS, Texts
from demo.workbench import ModelFacts, Workbench

TAB = "about"


def about_html(workbench: Workbench, texts: Texts) -> str:
    """Lay out facts, method and privacy; everything is escaped."""
    minutes = f"{workbench.settings.run_minutes:g}"
    facts = workbench.loading.facts
    model = f'<p class="small">{html.escape(texts("about_none"))}</p>' if facts is None else facts_html(facts, texts)
    return (
        f'<div class="prose-block"><h2>{html.escape(texts("about_model"))}</h2>{model}'
        f"{_section('about_method', texts)}{_section('about_privacy', texts, minutes=minutes)}</div>"
    )


def _section(key: str, texts: Texts, **values: object) -> str:
    return f"<h2>{html.escape(texts(key))}</h2><p>{html.escape(texts(f'{key}_text', **values))}</p>"


def facts_html(facts: ModelFacts, texts: Texts) -> str:
    """List what is known about the loaded model."""
    health = texts("about_health_none")
    if facts.logit_shift is not None:
        health = texts("about_health_ok", n=f"{facts.logit_shift:.3g}")
    rows = (
        ("about_name", facts.name),
        ("about_revision", facts.revision),
        ("about_device", " · ".join(part for part in (facts.device, facts.dtype) if part)),
        ("about_size", count(facts.n_parameters) if facts.n_parameters else ""),
        ("about_memory", f"{facts.memory_bytes / 2**20:,.0f} MiB" if facts.memory_bytes else ""),
        ("about_health", health),
        ("about_abilities", " · ".join(ability(name, texts) for name in facts.capabilities)),
    )
    cells = "".join(f"<dt>{html.escape(texts(key))}</dt><dd>{html.escape(value)}</dd>" for key, value in rows if value)
    return f'<dl class="facts">{cells}</dl>'


def ability(name: str, texts: Texts) -> str:
    """Put a backend's capability into words; one we have no words for stays as it is."""
    key = f"ability_{name}"
    return texts(key) if key in WORDS else name


def card_text(workbench: Workbench) -> str:
    """Return the model card as Markdown, without its front matter."""
    card = workbench.loading.facts.card if workbench.loading.facts else ""
    if card.startswith("---"):
        card = card.split("\n---", 1)[-1]
    return card.lstrip("-\n ")


def build(page: Page) -> list:
    """Build the tab inside a `gr.Tab`; return what `connect` fills."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            facts = gr.HTML(about_html(page.workbench, Texts()), apply_default_css=False, elem_id="about-facts")
        with gr.Column(scale=6, min_width=300):
            with gr.Accordion(page.label("about_card"), open=True, visible=False) as block:
                card = gr.Markdown(elem_id="model-card")
    return [facts, block, card]


def connect(page: Page, item: gr.Tab, outputs: list) -> None:
    """Fill the tab whenever it is opened."""

    def fill(request: gr.Request) -> list:
        card = card_text(page.workbench)
        return [about_html(page.workbench, page.texts(request)), gr.update(visible=bool(card)), card]

    item.select(fill, None, outputs, **AT_ONCE)
