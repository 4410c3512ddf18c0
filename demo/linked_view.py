"""The linked view as a gradio component: sound, tokens and attention on one time axis.

The view itself is the bundle of `analysis/view`, the same one that notebooks and standalone
files use. Here it is only given a place in the page and two links to Python: a token chosen in
the view arrives as an event, and the attention of other layers is fetched when asked for.

A factory, not a subclass: gradio writes a file beside the source of every component subclass.
"""

import json
from typing import Any

import gradio as gr

from analysis.view import layer_payload, view_payload
from demo.errors import explain
from demo.runs import Run
from demo.texts import VIEW_WORDS_ZH, Texts
from demo.workbench import Workbench

# gradio runs this once per mount. The value may have been set before, then no change is seen:
# hence the last line. `LinkedView` is defined by the bundle in the page's head.
MOUNT_JS = """
const root = element.querySelector('.linked-view-root');
const language = SETTINGS.lang === 'auto' ? navigator.language.slice(0, 2) : SETTINGS.lang;
const options = {
  labels: SETTINGS.labels[language] || {},
  fetchLayer: (question) => server.fetch_layer(question),
  onSelect: (chosen) => trigger('select', { index: chosen.index, value: chosen.run }),
};
let view = null, shown = '';
const show = () => {
  const payload = props.value || {};
  if ((payload.id || '') === shown) return;
  shown = payload.id || '';
  root.dataset.run = shown;
  if (!shown) { view.destroy(); view = null; }
  else if (view) view.update(payload);
  else view = LinkedView.mount(root, payload, options);
};
watch('value', show);
show();
"""


def linked_view(workbench: Workbench, *, elem_id: str) -> gr.HTML:
    """Return the component; its value is a `payload`, or `{}` for nothing.

    Its `select` event carries `index` (the number of a reply token) and `value` (the run).
    """

    def fetch_layer(question: object) -> dict[str, Any]:
        return layer_of(workbench, question)

    settings = {"lang": workbench.settings.lang, "labels": {"zh": VIEW_WORDS_ZH}}
    return gr.HTML(
        {},
        html_template='<div class="linked-view-root"></div>',
        js_on_load=f"const SETTINGS = {json.dumps(settings)};{MOUNT_JS}",
        apply_default_css=False,
        server_functions=[fetch_layer],
        elem_id=elem_id,
        elem_classes="linked-view",
    )


def payload(run: Run | None) -> dict[str, Any]:
    """Return what the view shows for a run; `{}` shows nothing."""
    return {} if run is None else view_payload(run.trace, run_id=run.id)


def layer_of(workbench: Workbench, question: object) -> dict[str, Any]:
    """Answer the view's question for one layer; never raises, since that would tell it nothing.

    Args:
        workbench: Holds the runs.
        question: From the browser, hence anything; wanted is {"run": id, "layer": number}.
    """
    run_id, layer = _asked(question)
    run = workbench.runs.get(run_id)
    if run is None:
        return {"error": Texts()("expired", minutes=f"{workbench.settings.run_minutes:g}")}
    try:
        return layer_payload(run.trace, layer)
    # The border to the browser: whatever it asked, it gets a sentence.
    except Exception as error:
        return {"error": str(explain(error, Texts()))}


def _asked(question: object) -> tuple[str, int]:
    """Read the two values, with values that match nothing in place of nonsense."""
    if not isinstance(question, dict):
        return "", -1
    layer = question.get("layer")
    good = isinstance(layer, int) and not isinstance(layer, bool)
    return str(question.get("run", "")), layer if good else -1
