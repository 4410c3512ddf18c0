"""Player and spoken view as one gradio component: speech is heard, and seen on one time axis, while it is made.

The player is `assets/player.js`, the picture `analysis/view/spoken.js`; both stand in the page's head. Here they get
one value (`demo.spoken.Spoken.value`) and are tied together: a click into the picture seeks, the playhead follows.
"""

import json

import gradio as gr

from demo.page import Page
from demo.player import player_settings
from demo.speech_words import SPOKEN_WORDS_ZH

# Runs once per mount. A value that is there before is shown, but not played: nobody has asked to hear it.
MOUNT_JS = """
const root = element.querySelector('.spoken-root');
const language = SETTINGS.lang === 'auto' ? navigator.language.slice(0, 2) : SETTINGS.lang;
let view = null, drawn = '';
const player = PcmPlayer.mount(root.querySelector('.spoken-player'), {
  labels: SETTINGS.labels[language] || SETTINGS.labels.en,
  onTime: (seconds) => view && view.playhead(seconds),
});
view = SpokenView.mount(root.querySelector('.spoken-plot'), {
  labels: SETTINGS.picture[language] || {},
  onSeek: (seconds) => player.engine.seek(seconds * player.engine.sound.rate),
});
const show = (live) => {
  const value = props.value || {};
  root.hidden = !value.id;
  player.update(value, live);
  const key = value.id ? [value.id, value.pieces.length, value.codes.length, Boolean(value.mel)].join() : '';
  if (key === drawn) return;
  drawn = key;
  view.update(value.id ? { ...value, samples: player.engine.sound.whole() } : null);
};
watch('value', () => show(true));
show(false);
"""


def spoken_view(page: Page, *, elem_id: str) -> gr.HTML:
    """Build the component; its value is `Spoken.value`, or `{}` for nothing."""
    settings = player_settings(page) | {"picture": {"zh": SPOKEN_WORDS_ZH}}
    return gr.HTML(
        {},
        html_template='<div class="spoken-root" hidden><div class="spoken-player"></div>'
        '<div class="spoken-plot"></div></div>',
        js_on_load=f"const SETTINGS = {json.dumps(settings)};{MOUNT_JS}",
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="spoken-view",
    )
