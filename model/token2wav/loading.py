"""`load_token2wav()`: from a folder to networks that speak, or one sentence that says why not.

    part       our name                        official name                      what it is
    sizes      token2wav.json                  flow.yaml
    flow       flow.safetensors                flow.pt                            codes to mel
    vocoder    hift.safetensors                hift.pt                            mel to sound
    tokenizer  speech_tokenizer.safetensors    speech_tokenizer_v2_25hz.onnx      sound to codes
    speaker    speaker.onnx                    campplus.onnx                      sound to a vector
    voices     voices/NAME.safetensors         none                               voices that were made before

A folder may mix both kinds of names; ours come first. Names and shapes are compared before anything is allocated.
Tokenizer and speaker network may be missing together: the folder then speaks, but makes no new voices. Of `.pt` files
only tensors are read (weights_only), so that a file cannot run anything.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.errors import CheckpointError, OptionsError
from model.placement import DTYPES, choose_placement
from model.token2wav.config import CONFIG_FILE, OFFICIAL_FILE, Token2WavConfig
from model.token2wav.flow import Flow
from model.token2wav.hift import HiFT
from model.token2wav.onnx_weights import load_onnx_weights
from model.token2wav.s3_tokenizer import SpeechTokenizer
from model.token2wav.speaker import SpeakerEncoder
from model.token2wav.token2wav import Token2Wav, Token2WavInfo
from model.token2wav.voice import VoiceMaker, Voices
from model.weight_files import Shapes, differences, read_shapes

FLOW, VOCODER, TOKENIZER, SPEAKER = "flow", "vocoder", "tokenizer", "speaker"
FILES = {
    FLOW: ("flow.safetensors", "flow.pt"),
    VOCODER: ("hift.safetensors", "hift.pt"),
    TOKENIZER: ("speech_tokenizer.safetensors", "speech_tokenizer_v2_25hz.onnx"),
    SPEAKER: ("speaker.onnx", "campplus.onnx"),
}
"""Part -> our file and the official one."""
NEEDED = (FLOW, VOCODER)
VOICES_FOLDER = "voices"
SUBFOLDER = "token2wav"
"""Where all this lies in a checkpoint."""
ALL_FILES = (CONFIG_FILE, OFFICIAL_FILE, *(name for names in FILES.values() for name in names), f"{VOICES_FOLDER}/*")
"""Everything that is read of a folder, as patterns; official ones hold more."""
_VOCODER_PREFIX = "generator."
"""Stands before every name of some official vocoder files."""
_AGAIN = "Copy or download this folder again."

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class VoiceFiles:
    """A folder that was found to be complete."""

    folder: Path
    config: Token2WavConfig
    paths: Mapping[str, Path]
    """Part -> the file that holds it."""

    def read(self, part: str) -> dict[str, Tensor]:
        """Read the weights of one part, official names -> tensors on the CPU, names and shapes checked.

        Raises:
            CheckpointError: If the file is damaged, or tensors are missing, unexpected or of another shape.
        """
        path = self.paths[part]
        wanted = {name: tuple(tensor.shape) for name, tensor in build_empty(part, self.config).state_dict().items()}
        if path.suffix == ".safetensors":
            self._compare(part, read_shapes(path), wanted)
            return load_file(path)
        weights = load_onnx_weights(path) if path.suffix == ".onnx" else _read_pt(path)
        if part == VOCODER:
            weights = {name.removeprefix(_VOCODER_PREFIX): tensor for name, tensor in weights.items()}
        self._compare(part, {name: tuple(tensor.shape) for name, tensor in weights.items()}, wanted)
        return weights

    def _compare(self, part: str, stored: Shapes, wanted: Shapes) -> None:
        found = differences(stored, wanted)
        if found:
            raise CheckpointError(
                f"match the weights in '{self.paths[part]}' with the sizes of the voice",
                found=found,
                expected=f"the {len(wanted)} tensors of a {part} of these sizes",
                todo="Use files of one checkpoint.",
            )


def load_token2wav(
    folder: str | Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    progress: Progress | None = None,
) -> Token2Wav:
    """Load everything that turns speech codes into sound.

    Args:
        folder: A token2wav folder, or the checkpoint around it; official names and ours (see the top of this file).
        device: "auto" takes CUDA, then Apple's MPS, then the CPU. The speaker network always runs on the CPU.
        dtype: Of the flow's weights: "float32", "float16" or "bfloat16". The rest is always float32.
        progress: Called with the name of the part and the fraction of all parts that is done.

    Raises:
        MemoryShortage: If it does not fit into the memory.
        CheckpointError: If files or tensors are missing (which is said), damaged, or do not fit each other.
        OptionsError: If there is no such dtype.
    """
    tell = progress or (lambda part, fraction: None)
    flow_dtype = DTYPES.get(dtype)
    if flow_dtype is None:
        found, expected = f"dtype={dtype!r}", " or ".join(DTYPES)
        raise OptionsError("load a voice", found=found, expected=expected, todo="Use float32 unless memory is short.")
    files = find_files(folder)
    makes_voices = TOKENIZER in files.paths
    parts = [FLOW, VOCODER, *([TOKENIZER] if makes_voices else [])]
    dtypes = {part: flow_dtype if part == FLOW else torch.float32 for part in parts}
    n_numbers, n_bytes = count(files.config, dtypes)
    place = choose_placement(n_bytes // 4, device, "float32")[0]  # by bytes: the parts differ in dtype
    made = {}
    for done, part in enumerate(parts):
        tell(part, done / (len(parts) + 1))
        made[part] = _fill(build_empty(part, files.config), files.read(part), place, dtypes[part])
    tell(SPEAKER, len(parts) / (len(parts) + 1))
    maker = VoiceMaker(made[TOKENIZER], SpeakerEncoder(files.paths[SPEAKER])) if makes_voices else None
    tell(SPEAKER, 1.0)
    return Token2Wav(
        files.config,
        made[FLOW],
        made[VOCODER].fold(),
        maker=maker,
        voices=Voices(files.folder / VOICES_FOLDER),
        info=Token2WavInfo(files.folder, str(place), dtype, n_numbers, n_bytes),
    )


def find_files(folder: str | Path) -> VoiceFiles:
    """Find the file of each part, in a token2wav folder or in the checkpoint around one.

    Raises:
        CheckpointError: If the folder is not there, its sizes cannot be read, or files are missing.
    """
    folder = Path(folder).expanduser()
    sizes = (CONFIG_FILE, OFFICIAL_FILE)
    if (folder / SUBFOLDER).is_dir() and not any((folder / name).is_file() for name in sizes):
        folder = folder / SUBFOLDER
    if not folder.is_dir():
        found = "no such folder"
        raise CheckpointError(f"load the voice in '{folder}'", found=found, expected="a token2wav folder", todo=_AGAIN)
    config = Token2WavConfig.from_folder(folder)
    paths = {part: folder / name for part, names in FILES.items() for name in names[::-1] if (folder / name).is_file()}
    missing = [part for part in NEEDED if part not in paths]
    if (TOKENIZER in paths) != (SPEAKER in paths):
        missing += [part for part in (TOKENIZER, SPEAKER) if part not in paths]
    if missing:
        raise CheckpointError(
            f"load the voice in '{folder}'",
            found=f"no file for {' and '.join(missing)}",
            expected=", ".join(" or ".join(FILES[part]) for part in missing),
            todo=_AGAIN,
        )
    return VoiceFiles(folder, config, paths)


def build_empty(part: str, config: Token2WavConfig) -> nn.Module:
    """Build a network of the right sizes without memory for its weights."""
    with torch.device("meta"):
        if part == FLOW:
            return Flow(config.flow)
        return HiFT(config.hift) if part == VOCODER else SpeechTokenizer(config.tokenizer)


def count(config: Token2WavConfig, dtypes: Mapping[str, torch.dtype]) -> tuple[int, int]:
    """Return how many numbers the named parts have, and how many bytes they take."""
    sizes = {part: sum(x.numel() for x in build_empty(part, config).state_dict().values()) for part in dtypes}
    return sum(sizes.values()), sum(n * dtypes[part].itemsize for part, n in sizes.items())


def save_part(folder: str | Path, part: str, weights: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> Path:
    """Write the weights of one part under our name; official tensor names, optionally in another precision."""
    path = Path(folder) / FILES[part][0]
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    if dtype is not None:
        kept = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in kept.items()}
    partial = path.with_name(f".{path.name}.partial")
    save_file(kept, partial, {"format": "pt"})
    return partial.replace(path)


def copy_rest(files: VoiceFiles, folder: Path) -> list[Path]:
    """Copy what needs no conversion, speaker network and voices, and write the sizes; returns the files."""
    copied = []
    if SPEAKER in files.paths:
        copied.append(Path(shutil.copyfile(files.paths[SPEAKER], folder / FILES[SPEAKER][0])))
    for voice in sorted((files.folder / VOICES_FOLDER).glob("*.safetensors")):
        (folder / VOICES_FOLDER).mkdir(exist_ok=True)
        copied.append(Path(shutil.copyfile(voice, folder / VOICES_FOLDER / voice.name)))
    return [*copied, files.config.save(folder)]


def _read_pt(path: Path) -> dict[str, Tensor]:
    """Read a state dict that torch saved; nothing else is taken out of the file."""
    tried = f"read the weights in '{path}'"
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # torch raises many types for damaged files and for objects that it will not build
        found = f"a file that torch does not read ({_first_words(error)})"
        todo = "Download the file again; files with other objects than tensors are refused, since they can run code."
        raise CheckpointError(tried, found=found, expected="a state dict", todo=todo) from error
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        found = f"an object of type {type(weights).__name__}, not of tensors alone"
        raise CheckpointError(tried, found=found, expected="a state dict", todo=_AGAIN)
    return weights


def _is_zip(path: Path) -> bool:
    """Tell whether a file is of the kind that torch can map instead of read; old ones are not."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _first_words(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words[:120].rstrip(". ")


def _fill(empty: nn.Module, weights: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Give an empty network its weights; copies, because files may be replaced while the app runs."""
    if isinstance(empty, HiFT):
        filled = HiFT(empty.config)  # small, and it has tables that no file holds
        filled.load_state_dict(weights)
        return filled.to(device).eval()
    kept = {name: tensor.to(device=device, dtype=dtype, copy=True) for name, tensor in weights.items()}
    empty.load_state_dict(kept, assign=True)
    left = [name for name, tensor in [*empty.named_parameters(), *empty.named_buffers()] if tensor.is_meta]
    assert not left, f"these tensors stayed empty: {left}"
    return empty.requires_grad_(False).eval()
