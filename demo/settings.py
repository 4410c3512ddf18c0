"""What the person who starts the app may decide, from flags and the environment.

This is the only file that reads the environment. A flag wins over its variable, a variable
over the default. Nothing here imports gradio: some of its switches are read when it is
imported, so `prepare_environment` has to run first.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

LANGUAGES = ("auto", "en", "zh")
PREFIX = "STEP_AUDIO_"
# What hosted spaces already set, read when our own variable is absent.
ALSO_READ = {"host": "GRADIO_SERVER_NAME", "port": "GRADIO_SERVER_PORT"}


@dataclass(frozen=True)
class Settings:
    """Everything the app can be told before it starts."""

    model: str = "nano"
    """Name or folder of the checkpoint."""
    device: str = "auto"
    """"auto", "cpu", "cuda", "cuda:1", "mps"."""
    dtype: str = "auto"
    """"auto", "float32", "bfloat16", "float16"."""
    host: str = "127.0.0.1"
    """Address to listen on; anything else than this machine must be asked for."""
    port: int | None = None
    """Port; None takes the first free one from 7860 on."""
    lang: str = "auto"
    """Language of the interface: "en", "zh", or "auto" for the visitor's browser."""
    max_audio_s: float = 1800.0
    """Longest recording accepted, in seconds; checked before it is decoded."""
    max_upload_mb: int = 400
    """Largest file accepted, in megabytes: half an hour of 48 kHz stereo is 346."""
    run_minutes: float = 60.0
    """How long a run (its sound included) is kept after it was last looked at."""
    run_store_mb: int = 1024
    """Memory that all kept runs may take together, in megabytes."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, in a sentence."""
        if self.lang not in LANGUAGES:
            raise ValueError(f"--lang {self.lang!r} is unknown; use one of {', '.join(LANGUAGES)}.")
        if self.port is not None and not 0 < self.port < 65536:
            raise ValueError(f"--port {self.port} is not a port; use a number from 1 to 65535.")
        for name in ("max_audio_s", "max_upload_mb", "run_minutes", "run_store_mb"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be above zero.")


def read_settings(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read flags, then variables, then defaults.

    Args:
        argv: Flags without the program's name; None takes those of this process.
        environ: Variables, e.g. STEP_AUDIO_MODEL=/path/to/Step-Audio-2-mini.

    Raises:
        SystemExit: With a sentence, when a value cannot be used.
    """
    parser = _parser()
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    try:
        return Settings(**{**_from_environ(environ), **given})
    except ValueError as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python app.py",
        description="Speech into words, and a look at which moments of sound each word came from.",
        epilog=f"Each flag has a variable, such as {PREFIX}MODEL for --model; the flag wins.",
    )
    defaults = Settings()
    parser.add_argument("--model", help=f"checkpoint: a name or a folder (default: {defaults.model})")
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--dtype", help="auto, float32, bfloat16, float16 (default: auto)")
    parser.add_argument("--host", help=f"address to listen on (default: {defaults.host})")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument("--lang", help="language of the interface: en, zh, auto (default: auto)")
    return parser


def _from_environ(environ: Mapping[str, str]) -> dict[str, object]:
    """Return the fields that the environment names, converted to the field's type."""
    found: dict[str, object] = {}
    for field in fields(Settings):
        text = environ.get(PREFIX + field.name.upper()) or environ.get(ALSO_READ.get(field.name, ""))
        if text:
            found[field.name] = _convert(field.name, text)
    return found


def _convert(name: str, text: str) -> object:
    kinds = {"port": int, "max_upload_mb": int, "run_store_mb": int}
    kinds |= {"max_audio_s": float, "run_minutes": float}
    try:
        return kinds.get(name, str)(text)
    except ValueError:
        raise ValueError(f"{PREFIX}{name.upper()}={text!r} is not a number.") from None


def prepare_environment(environ: MutableMapping[str, str] = os.environ) -> Path:
    """Set the switches that gradio reads at import, and return the folder for uploads.

    Uploads go to a fresh folder of this process, so that they can be removed when it ends.
    Where even an empty folder cannot be made (a full disk), the name is returned all the same:
    the page still opens, and the upload itself says what is wrong.
    """
    environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        folder = Path(tempfile.mkdtemp(prefix="step-audio-"))
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"step-audio-{os.getpid()}"
    environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder
