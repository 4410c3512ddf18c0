"""The four tools as the paper lists them: clock, weather, web search, audio search."""

from collections.abc import Collection, Mapping, Sequence

from model.tools.audio_search import AudioSearch
from model.tools.base import Tool
from model.tools.clock import Clock
from model.tools.net import Door
from model.tools.toolbox import Toolbox
from model.tools.voice_library import VoiceLibrary
from model.tools.weather import Weather
from model.tools.web_search import WebSearch, ddgs_engine

CLOCK, WEATHER, WEB, AUDIO = "get_date_time", "get_weather", "web_search", "audio_search"
STANDARD_NAMES = (CLOCK, WEATHER, WEB, AUDIO)
STEP_EVAL_NAMES = {AUDIO: "timbre_rag"}
"""Names in StepEval-Audio-Toolcall where they differ; the official example calls the web search `search`."""


def _nobody(host: str, port: int) -> Sequence[str]:
    raise OSError("the network is switched off")


CLOSED_DOOR = Door(resolve=_nobody)
"""Reaches nothing."""


def standard_toolbox(
    libraries: Sequence[VoiceLibrary] = (),
    *,
    use: Collection[str] = STANDARD_NAMES,
    names: Mapping[str, str] | None = None,
    online: bool = True,
) -> Toolbox:
    """Put the standard tools into a box.

    Args:
        libraries: Where audio search looks, in this order: the user's own, then the model's.
        use: Which tools, by their standard names.
        names: Other names for the model to call them by, standard name -> name.
        online: False keeps all of them off the network; the weather then says so, the search uses its knowledge base.
    """
    names = names or {}

    def called(name: str) -> str:
        return names.get(name, name)

    tools: dict[str, Tool] = {
        CLOCK: Clock(name=called(CLOCK)),
        WEATHER: Weather(Door() if online else CLOSED_DOOR, name=called(WEATHER)),
        WEB: WebSearch(ddgs_engine() if online else None, name=called(WEB)),
        AUDIO: AudioSearch(libraries, name=called(AUDIO)),
    }
    return Toolbox(tools[name] for name in STANDARD_NAMES if name in use)
