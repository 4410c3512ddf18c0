"""How a survey looks: one card for each question, and the numbers of the curves. Records in, HTML out."""

import html
import math

from demo.errors import problem_html
from demo.survey import Asked, Candidate, Survey
from demo.texts import Texts
from demo.transcript import empty_html, timings_html

N_BARS = 4
"""Candidates shown at once; the others are behind a fold."""
# The panel is redrawn with every step, so clicks are caught on its parent.
INSPECT_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('.inspect-one');
  if (button) trigger('select', { index: Number(button.dataset.number), value: button.dataset.survey });
});
"""


def survey_html(survey: Survey, texts: Texts, *, looking: int | None = None) -> str:
    """Draw all cards and how far the survey is; every word from elsewhere is escaped.

    Args:
        survey: What to draw.
        texts: Words for the page.
        looking: Number of the question whose answer is being looked into.
    """
    if survey.phase == "empty":
        return ""
    problem = problem_html(survey.problem) if survey.problem is not None else ""
    note = f'<p class="note">{html.escape(survey.note)}</p>' if survey.note else ""
    cards = "".join(_card_html(survey, number, texts, looking) for number in range(len(survey.asked)))
    phase = "looking" if looking is not None else survey.phase
    busy = str(phase == "looking" or survey.is_under_way).lower()
    return (
        f'<div class="survey" data-phase="{phase}" aria-busy="{busy}">{_head_html(survey, phase, texts)}{problem}{note}'
        f'<div class="cards">{cards}</div></div>'
    )


def _head_html(survey: Survey, phase: str, texts: Texts) -> str:
    total = len(survey.asked)
    words = texts("phase_asking" if phase == "writing" else f"phase_{phase}")
    count = f" · {texts('survey_progress', n=survey.n_answered, total=total)}" if total else ""
    share = 100 * survey.n_answered / total if total else 0
    waited = f' <span class="waited">{texts("seconds", n=f"{survey.waited_s:.1f}")}</span>' if survey.waited_s else ""
    bar = (
        f'<div class="strip-bar" role="progressbar" aria-label="{html.escape(words)}" aria-valuemin="0" '
        f'aria-valuemax="{max(1, total)}" aria-valuenow="{survey.n_answered}"><i style="width:{share:.0f}%"></i></div>'
    )
    status = f'<p class="survey-head" role="status">{html.escape(words)}{html.escape(count)}{waited}</p>'
    return status + (bar if survey.is_under_way and total else "")


def _card_html(survey: Survey, number: int, texts: Texts, looking: int | None) -> str:
    one = survey.asked[number]
    name = texts(f"dimension_{one.dimension}")
    parts = [f"<header><h3>{html.escape(name)}</h3>{_button_html(survey, number, name, texts, looking)}</header>"]
    parts.append(_label_html(one, texts))
    if one.answer:
        caret = '<span class="caret" aria-hidden="true"></span>' if one.state == "asking" else ""
        parts.append(f'<p class="card-answer" dir="auto">{html.escape(one.answer)}{caret}</p>')
    if one.problem is not None:
        parts.append(problem_html(one.problem))
    parts.append(_candidates_html(one, texts))
    state = "looking" if looking == number else one.state
    return f'<article class="card" data-dimension="{one.dimension}" data-state="{state}">{"".join(parts)}</article>'


def _button_html(survey: Survey, number: int, name: str, texts: Texts, looking: int | None) -> str:
    one = survey.asked[number]
    if one.state == "waiting":
        return f'<span class="small">{html.escape(texts("waiting_dimension"))}</span>'
    if one.state in ("asking", "weighing") or looking == number:
        key = {"asking": "phase_asking", "weighing": "phase_weighing"}.get(one.state, "phase_looking_short")
        return f'<span class="small busy">{html.escape(texts(key))}</span>'
    if not one.can_be_inspected or survey.is_under_way:
        return ""
    title = html.escape(texts("inspect_this", dimension=name))
    disabled = " disabled" if looking is not None else ""
    return (
        f'<button type="button" class="inspect-one" data-number="{number}" data-survey="{html.escape(survey.id)}" '
        f'aria-label="{title}" title="{title}"{disabled}>{html.escape(texts("inspect_one"))}</button>'
    )


def _label_html(one: Asked, texts: Texts) -> str:
    """Draw the label that the answer names, and what the candidates say where they say something else."""
    if one.state in ("waiting", "asking") or (one.state in ("stopped", "failed") and not one.answer):
        return '<p class="card-label none">–</p>'
    if one.named is None:
        shown = f'<p class="card-label none">{html.escape(texts("no_label"))}</p>'
    else:
        shown = f'<p class="card-label" dir="auto">{html.escape(one.word(one.named))}</p>'
    best = one.candidates[0] if one.candidates else None
    if best is None or one.named is None or best.label == one.named:
        return shown
    differs = texts("differs", said=one.word(one.named), likely=best.word)
    return f'{shown}<p class="small differs">{html.escape(differs)}</p>'


def _candidates_html(one: Asked, texts: Texts) -> str:
    if not one.candidates and one.problem is None:
        over = one.state in ("done", "length", "repetition")
        return f'<p class="small">{html.escape(texts("no_probabilities"))}</p>' if over else ""
    if not one.candidates:
        return ""
    first, rest = one.candidates[:N_BARS], one.candidates[N_BARS:]
    if len(rest) == 1:
        first, rest = one.candidates, ()
    fold = ""
    if rest:
        more = html.escape(texts("more_labels", n=len(rest)))
        fold = f"<details><summary>{more}</summary>{_bars_html(rest, one)}</details>"
    covered = texts("covered", share=percent(one.coverage or 0.0))
    info = html.escape(texts("covered_info"))
    return f'{_bars_html(first, one)}{fold}<p class="small covered" title="{info}">{html.escape(covered)}</p>'


def _bars_html(candidates: tuple[Candidate, ...], one: Asked) -> str:
    rows = "".join(
        f'<span class="name{" named" if c.label == one.named else ""}" dir="auto">{html.escape(c.word)}</span>'
        f'<span class="bar"><i style="width:{100 * c.share:.1f}%"></i></span><span class="n">{percent(c.share)}</span>'
        for c in candidates
    )
    return f'<div class="shares">{rows}</div>'


def percent(share: float) -> str:
    """Write a share so that small ones do not look like nothing: 41 %, 3.2 %, 0.04 %, < 0.01 %."""
    if not share:
        return "0 %"
    if share < 0.0001:
        return "< 0.01 %"
    return f"{100 * share:.{2 if share < 0.001 else 1 if share < 0.0995 else 0}f} %"


def curves_html(survey: Survey, texts: Texts) -> str:
    """Draw the numbers over the curves; what the tab is for before there are any."""
    if survey.phase == "empty":
        return empty_html(texts, "survey_empty")
    if survey.prosody is None:
        return ""
    s = survey.prosody.summary
    cells = (
        ("curve_pitch", texts("curve_pitch_value", hz=_round(s["pitch_hz"]), range=_round(s["pitch_range_semitones"]))),
        ("curve_rate", texts("curve_rate_value", n=_round(s["rate_per_s"], 1))),
        ("curve_loudness", texts("curve_loudness_value", n=_round(s["loudness_db"]))),
        ("curve_voiced", texts("curve_voiced_value", n=percent(s["voiced_share"]))),
    )
    title = html.escape(texts("curves_title"))
    return f'<h3 class="section-title">{title}</h3>{timings_html(cells, texts)}'


def _round(value: float, digits: int = 0) -> str:
    return "–" if not math.isfinite(value) else f"{value:.{digits}f}"
