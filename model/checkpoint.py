"""`load_model()`: from a name to a model that is proven to hear, or one sentence that says why not.

    1. find    "nano" | folder | Hub id         -> a folder with every file (downloaded when need be)
    2. check   config, weight names and shapes  -> read from file headers, nothing is allocated yet
    3. place   device, dtype, memory            -> refused before allocation when it cannot fit
    4. load    tensor by tensor                 -> never two copies of the model in memory
    5. prove   real sound against silence       -> the answer must depend on the sound

Nothing here knows the app; progress is told to a callback.
"""

import hashlib
import json
import math
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn
from transformers import GenerationConfig

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.configuration_step_audio_2 import StepAudio2Config
from model.errors import CheckpointError
from model.hub import cached_snapshot, download
from model.messages import Audio, Message, Text
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.placement import choose_placement
from model.processing_step_audio_2 import StepAudio2Processor
from model.tasks.prompts import ASR
from model.weight_files import differences, read_shapes, some

if TYPE_CHECKING:
    from model.token2wav.token2wav import Token2Wav

NANO = "nano"
NANO_DIR = Path(__file__).parent / "nano"
VOICE_FOLDER = "token2wav"
"""Folder of a checkpoint in which everything after the decoder lies."""
INDEX_NAME, WEIGHTS_NAME = "model.safetensors.index.json", "model.safetensors"
COPY_AGAIN = "Use a Step-Audio 2 checkpoint, or copy it again."
MIN_LOGIT_SHIFT = 1e-3
"""Least change of the answer's logits, in standard deviations, that counts as hearing; a severed path gives
exactly 0, random weights about 0.03."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class HealthReport:
    """Whether sound changes the answer of a loaded model."""

    logit_shift: float
    """Largest change of a logit at the answer position, sound against silence, in standard deviations of the logits."""
    passed: bool
    """Whether the change is finite and at least `MIN_LOGIT_SHIFT`."""


@dataclass(frozen=True)
class ModelInfo:
    """Where a loaded model comes from and what it takes."""

    name: str
    """As asked for: "nano", a folder or a Hub id."""
    path: Path
    """Folder that was read."""
    revision: str
    """Commit of a Hub repository, or a fingerprint of a local folder's config and weights."""
    dtype: str
    """"float32", "bfloat16" or "float16"."""
    device: str
    n_parameters: int
    memory_bytes: int
    """Bytes taken by the weights."""
    health: HealthReport | None
    """None if the check was not asked for."""
    card_path: Path | None
    """The model card, if the folder has one."""
    notes: tuple[str, ...] = ()
    """Decisions worth telling, such as a smaller dtype because the larger did not fit."""
    trained_tasks: tuple[str, ...] | None = None
    """Names of the tasks the weights were trained for (`trained_tasks` in config.json); None: all of them."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to answer, and the processor that belongs to it."""

    model: StepAudio2ForCausalLM
    processor: StepAudio2Processor
    info: ModelInfo
    _parts: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def has_voice(self) -> bool:
        """Whether the checkpoint can turn speech codes into sound; asking loads nothing."""
        return (self.info.path / VOICE_FOLDER).is_dir()

    @property
    def token2wav(self) -> "Token2Wav | None":
        """What turns speech codes into sound, on the device of the model; None if the checkpoint has no such folder.

        It is read when it is first asked for and then kept, so that whoever only listens does not wait for it.

        Raises:
            MemoryShortage: If it does not fit into the memory.
            CheckpointError: If the folder is incomplete or damaged; what is missing is named.
        """
        if not self.has_voice:
            return None
        with _VOICE_TURN:
            if VOICE_FOLDER not in self._parts:
                from model.token2wav.loading import load_token2wav

                self._parts[VOICE_FOLDER] = load_token2wav(self.info.path / VOICE_FOLDER, device=self.info.device)
            return self._parts[VOICE_FOLDER]


_VOICE_TURN = threading.Lock()
"""Two threads that ask at once must not read it twice."""


def load_model(
    name_or_path: str | Path = NANO,
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    progress: Progress | None = None,
    health_check: bool = True,
    voice: bool = False,
) -> LoadedModel:
    """Load a checkpoint, in the five steps listed at the top of this file.

    Args:
        name_or_path: "nano", a checkpoint folder, or a Hub id such as "stepfun-ai/Step-Audio-2-mini" ("@revision"
            may follow). The Hub is asked only for what is not on disk.
        device: "auto" takes CUDA, then Apple's MPS, then the CPU.
        dtype: "auto" is bfloat16 on CUDA and float32 elsewhere, unless only the smaller one fits.
        progress: Called with the name of the step and the fraction of it that is done, 0 to 1.
        health_check: Refuse a model whose answer does not depend on the sound.
        voice: Fetch what a Hub checkpoint speaks with, too; of an official one over a gigabyte. If that fails, the
            model is loaded without, and `info.notes` says why. Folders speak or do not, whatever is asked.

    Raises:
        MemoryShortage: If it does not fit into the memory, or the download onto the disk.
        CheckpointError: For everything else that is wrong with the folder or the name.
    """
    tell = progress or (lambda step, fraction: None)
    tell("find", 0.0)
    folder, revision = find_folder(str(name_or_path), tell)
    voice_note = fetch_voice(str(name_or_path), folder, tell) if voice and revision else ()
    tell("check", 0.0)
    empty = build_empty(folder)
    files = check_weights(folder, empty)
    processor = StepAudio2Processor.from_pretrained(folder)
    check_ids(folder, empty.config, processor)
    n_parameters = sum(parameter.numel() for parameter in empty.parameters())
    place, chosen, notes = choose_placement(n_parameters, device, dtype)
    model = read_weights(empty, files, place, chosen, tell)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    tell("prove", 0.0)
    health = prove_hearing(model, processor, folder) if health_check else None
    tell("prove", 1.0)
    card = folder / "README.md"
    info = ModelInfo(
        name=str(name_or_path),
        path=folder,
        revision=revision or fingerprint(folder, files),
        dtype=str(chosen).removeprefix("torch."),
        device=str(place),
        n_parameters=n_parameters,
        memory_bytes=n_parameters * chosen.itemsize,
        health=health,
        card_path=card if card.is_file() else None,
        notes=(*notes, *voice_note),
        trained_tasks=None if model.config.trained_tasks is None else tuple(model.config.trained_tasks),
    )
    return LoadedModel(model, processor, info)


# --- 1. find ------------------------------------------------------------------------------------


def find_folder(name: str, tell: Progress = lambda step, fraction: None) -> tuple[Path, str]:
    """Return the folder of a checkpoint and, for the Hub, its commit (otherwise "")."""
    if name == NANO:
        return NANO_DIR, ""
    local = Path(name).expanduser()
    if local.is_dir():
        return local, ""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) or name.startswith("."):
        raise CheckpointError(
            f"find the model {name!r}",
            found="no such folder",
            expected='"nano", a folder with config.json and weights, or a Hub id like "owner/name"',
            todo="Check the spelling of the path.",
        )
    folder = cached_snapshot(name, is_complete) or download(name, tell)
    return folder, folder.name


def fetch_voice(name: str, snapshot: Path, tell: Progress = lambda step, fraction: None) -> tuple[str, ...]:
    """Fetch what a Hub checkpoint speaks with, if it is not in its snapshot yet; return what is worth telling."""
    from model.token2wav.loading import ALL_FILES, find_files

    try:
        find_files(snapshot / VOICE_FOLDER)
    except CheckpointError:
        try:
            repo, files = name.partition("@")[0], [f"{VOICE_FOLDER}/{file}" for file in ALL_FILES]
            download(f"{repo}@{snapshot.name}", tell, files)
        except CheckpointError as error:
            return (f"It cannot speak: {error}",)
    return ()


def is_complete(folder: Path) -> bool:
    """Whether a folder has every weight file that it should have."""
    try:
        return bool(weight_files(folder))
    except CheckpointError:
        return False


# --- 2. check -----------------------------------------------------------------------------------


def read_config(folder: Path) -> dict[str, Any]:
    """Read the fields of `config.json`, or say what is wrong with the file."""
    tried = f"read the configuration of {str(folder)!r}"
    try:
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, text = fields.get("model_type"), fields.get("text_config")
    except FileNotFoundError:
        raise CheckpointError(tried, found="no config.json", expected="one in the folder", todo=COPY_AGAIN) from None
    except (ValueError, AttributeError, OSError) as error:
        found = f"a damaged config.json ({error})"
        raise CheckpointError(tried, found=found, expected="a JSON object", todo=COPY_AGAIN) from error
    if kind != StepAudio2Config.model_type or not isinstance(text, dict):
        found = f"model_type {kind!r} and text_config of type {type(text).__name__}"
        expected = f"model_type {StepAudio2Config.model_type!r} with a nested text_config"
        raise CheckpointError(tried, found=found, expected=expected, todo=COPY_AGAIN)
    return fields


def build_empty(folder: Path) -> StepAudio2ForCausalLM:
    """Build the model that a folder's `config.json` describes, without memory for its weights."""
    fields = read_config(folder)
    try:
        with torch.device("meta"):
            return StepAudio2ForCausalLM(StepAudio2Config(**fields))
    except Exception as error:  # configs and layers refuse in many types that have no common root
        raise CheckpointError(
            f"build the model that {str(folder / 'config.json')!r} describes",
            found=f"fields that make no model ({error})",
            expected="sizes that fit together",
            todo=COPY_AGAIN,
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a folder: one, or all shards that its index names."""
    tried = f"read the weights of {str(folder)!r}"
    if not (folder / INDEX_NAME).is_file():
        if (folder / WEIGHTS_NAME).is_file():
            return [folder / WEIGHTS_NAME]
        other = sorted(p.name for p in folder.glob("*") if p.suffix in {".bin", ".pt", ".safetensors"})
        found = f"no {WEIGHTS_NAME} and no {INDEX_NAME}" + (f", but {some(other)}" if other else "")
        todo = "Copy or download the checkpoint again; weights in pickle files are not read."
        raise CheckpointError(tried, found=found, expected="one of them", todo=todo)
    try:
        names = sorted(set(json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        found = f"a damaged {INDEX_NAME} ({type(error).__name__})"
        raise CheckpointError(tried, found=found, expected="a weight_map", todo="Copy it again.") from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            tried,
            found=f"{len(missing)} of {len(names)} weight files missing: {some(missing)}",
            expected="every file that the index names",
            todo="Download the missing files again.",
        )
    return [folder / name for name in names]


def check_weights(folder: Path, empty: StepAudio2ForCausalLM) -> list[Path]:
    """Compare names and shapes in the file headers with those of the model; return the files.

    Raises:
        CheckpointError: If a file is missing or damaged, or a tensor is missing, unknown or of another shape.
    """
    files = weight_files(folder)
    stored = {name: shape for file in files for name, shape in read_shapes(file).items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    found = differences(stored, wanted, optional=["lm_head.weight"] if empty.config.tie_word_embeddings else ())
    if found:
        raise CheckpointError(
            f"match the weights of {str(folder)!r} with its config.json",
            found=found,
            expected=f"the {len(wanted)} tensors of a Step-Audio 2 model of these sizes",
            todo="Use weights and config.json of one checkpoint.",
        )
    return files


def check_ids(folder: Path, config: StepAudio2Config, processor: StepAudio2Processor):
    """Refuse a tokenizer whose ids are not those the model was made for."""
    ids = processor.ids
    ours = (config.audio_start_token_id, config.audio_patch_token_id)
    highest, rows = max(processor.tokenizer.get_vocab().values()), config.text_config.vocab_size
    if ours != (ids.audio_start, ids.audio_patch) or highest >= rows:
        raise CheckpointError(
            f"match the tokenizer of {str(folder)!r} with its config.json",
            found=f"audio_start, audio_patch = {ids.audio_start}, {ids.audio_patch} and ids up to {highest}",
            expected=f"{ours[0]}, {ours[1]} and at most {rows - 1}",
            todo="Use the tokenizer that came with the checkpoint.",
        )


# --- 4. load ------------------------------------------------------------------------------------


def read_weights(
    model: StepAudio2ForCausalLM, files: list[Path], device: torch.device, dtype: torch.dtype, tell: Progress
) -> StepAudio2ForCausalLM:
    """Fill an empty model tensor by tensor and return it; at most one tensor is in memory twice."""
    model.config.dtype = dtype
    n_tensors = len(model.state_dict())
    for k, (name, tensor) in enumerate(_stored_tensors(files)):
        # A copy, not the mapped file: a checkpoint may be replaced on disk while the app runs.
        _set_parameter(model, name, tensor.to(device=device, dtype=dtype, copy=True))
        tell("load", min((k + 1) / n_tensors, 1.0))
    model.tie_weights()
    rotary = model.model.rotary_emb  # its table is computed, not stored, so it is still empty
    model.model.rotary_emb = type(rotary)(model.model.config).to(device)
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    assert not left, f"check_weights let these tensors stay empty: {some(left)}"
    tell("load", 1.0)
    return model.eval()


def _stored_tensors(files: list[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                yield name, tensors.get_tensor(name)


def _set_parameter(model: nn.Module, name: str, tensor: torch.Tensor):
    parent, _, leaf = name.rpartition(".")
    module = model.get_submodule(parent)
    setattr(module, leaf, nn.Parameter(tensor, requires_grad=getattr(module, leaf).requires_grad))


def fingerprint(folder: Path, files: list[Path]) -> str:
    """Name the content of a folder in 12 characters: its config, and size and first MiB of each weight file."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in files:
        digest.update(str(file.stat().st_size).encode())
        with file.open("rb") as stream:
            digest.update(stream.read(2**20))
    return digest.hexdigest()[:12]


# --- 5. prove -----------------------------------------------------------------------------------


def prove_hearing(model: StepAudio2ForCausalLM, processor: StepAudio2Processor, folder: Path) -> HealthReport:
    """Run the health check and refuse a model that fails it."""
    report = audio_path_health_check(model, processor)
    if not report.passed:
        raise CheckpointError(
            f"prove that the model in {str(folder)!r} hears",
            found=f"a logit shift of {report.logit_shift:.4f} between sound and silence",
            expected=f"at least {MIN_LOGIT_SHIFT}",
            todo="The sound does not reach the decoder: check encoder and adapter weights, and library versions.",
        )
    return report


@torch.no_grad()
def audio_path_health_check(model: StepAudio2ForCausalLM, processor: StepAudio2Processor) -> HealthReport:
    """Compare the logits of the first answer position for a sound and for silence of the same length."""
    sound = syllables()
    silence = replace(sound, samples=np.zeros_like(sound.samples))
    heard, unheard = (_answer_logits(model, processor, waveform) for waveform in (sound, silence))
    shift = ((heard - unheard).abs().max() / unheard.std().clamp(min=1e-12)).item()
    return HealthReport(shift, passed=math.isfinite(shift) and shift >= MIN_LOGIT_SHIFT)


def _answer_logits(model: StepAudio2ForCausalLM, processor: StepAudio2Processor, waveform: Waveform) -> torch.Tensor:
    open_turn = Message("assistant", (), closed=False)
    conversation = (Message("system", (Text(ASR),)), Message("human", (Audio(waveform),)), open_turn)
    inputs = processor(conversation).to(model.device)
    return model(**inputs).logits[0, -1].float()


def syllables(seconds: float = 2.0, rate_hz: int = INPUT_SAMPLE_RATE_HZ) -> Waveform:
    """Return a voice-like test sound: a gliding tone with ten overtones, four bursts per second."""
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 0.7 * time_s)) / rate_hz
    voiced = sum(np.sin(k * phase) / k for k in range(1, 11))
    return Waveform((0.1 * voiced * np.sin(np.pi * 4 * time_s) ** 2).astype(np.float32), rate_hz)
