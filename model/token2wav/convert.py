"""Write a voice in our layout: safetensors, sizes as JSON, nothing that could run code.

    python -m model.token2wav.convert path/to/Step-Audio-2-mini --out voices/mini
    flow.pt  hift.pt  speech_tokenizer_v2_25hz.onnx  campplus.onnx  flow.yaml
      -> flow.safetensors  hift.safetensors  speech_tokenizer.safetensors  speaker.onnx  token2wav.json

Names and shapes of all tensors are checked on the way. The sizes are written last: a folder without them is not taken
for a voice, so a conversion that broke off is never loaded.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from model.errors import CheckpointError, StepAudioError
from model.placement import DTYPES
from model.token2wav.config import CONFIG_FILE
from model.token2wav.loading import FILES, FLOW, TOKENIZER, VOCODER, copy_rest, find_files, save_part


def convert(
    source: str | Path,
    out: str | Path,
    *,
    dtype: str = "float32",
    force: bool = False,
    tell: Callable[[Path], None] | None = None,
) -> Path:
    """Write the voice of one folder into another.

    Args:
        source: A token2wav folder of either layout, or the checkpoint around it.
        out: Made if need be.
        dtype: How the weights are stored: float32, or float16 or bfloat16 in half the space.
        force: Write over a voice that is there already.
        tell: Called with every file that was written.

    Returns:
        The folder.

    Raises:
        CheckpointError: If the source cannot be read, or the folder holds a voice already.
    """
    files, out, tell = find_files(source), Path(out), tell or (lambda path: None)
    held = sorted(name for name in (CONFIG_FILE, *(ours for ours, _ in FILES.values())) if (out / name).exists())
    if held and (not force or out.resolve() == files.folder.resolve()):
        todo = "Choose an empty folder" + ("." if force else ", or add --force to write over it.")
        raise CheckpointError(f"write a voice into '{out}'", found=", ".join(held), expected="none there", todo=todo)
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG_FILE).unlink(missing_ok=True)
    for part in (FLOW, VOCODER, TOKENIZER):
        if part in files.paths:
            tell(save_part(out, part, files.read(part), DTYPES[dtype]))
    for path in copy_rest(files, out):
        tell(path)
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        convert(
            args.folder,
            args.out,
            dtype=args.dtype,
            force=args.force,
            tell=lambda path: print(f"{path}  {path.stat().st_size / 1e6:.1f} MB", flush=True),
        )
    except (StepAudioError, OSError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Flags of the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.token2wav.convert", description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", help="token2wav folder, or the checkpoint around it")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to write")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of the weights; float32 if not given")
    parser.add_argument("--force", action="store_true", help="write over a voice that is there already")
    return parser


if __name__ == "__main__":
    sys.exit(main())
