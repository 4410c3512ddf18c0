"""What every training stage shares: a clock that sets the learning rate, a log, and checkpoints to go on from.

    Stage        what a stage trains on, its loss and its report      (encoder.py, asr.py)
    train_stage  the loop itself, the same for all
    run folder   log.csv (one line per report)   state.pt (everything needed to resume)   args.json

A stage stops by steps or by minutes. Minutes count training time only, over all resumed parts, so a run that was cut
off goes on exactly where it was on its schedule.
"""

import argparse
import csv
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

WARMUP_SHARE = 0.04
FINAL_LR_SHARE = 0.03


@dataclass
class Clock:
    """Progress of a run from 0 to 1, by steps or (when `minutes` is set) by training time."""

    steps: int
    minutes: float | None = None
    step: int = 0
    elapsed_s: float = 0.0
    _mark: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """Count one finished step."""
        now = time.monotonic()
        self.elapsed_s += now - self._mark
        self._mark = now
        self.step += 1

    def pause(self) -> None:
        """Leave the time since the last tick out (evaluation, saving)."""
        self._mark = time.monotonic()

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0..1."""
        done = self.elapsed_s / (60 * self.minutes) if self.minutes else self.step / self.steps
        return min(done, 1.0)

    def learning_rate(self, peak: float) -> float:
        """Linear warm-up, then half a cosine down to a few percent of `peak`."""
        if self.progress < WARMUP_SHARE:
            return peak * max(self.progress / WARMUP_SHARE, 0.02)
        after = (self.progress - WARMUP_SHARE) / (1 - WARMUP_SHARE)
        return peak * (FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * after)))


class Average:
    """Exponential moving average of a module's floating-point state; its values are what a stage hands on."""

    def __init__(self, module: nn.Module, decay: float = 0.998):
        self.decay = decay
        self.values = {name: value.detach().clone().float() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module; early steps move faster."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            self.values[name].lerp_(value.detach().float(), 1 - keep)


class Run:
    """A run folder: where a stage logs, saves and resumes."""

    def __init__(self, folder: Path, args: dict):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "args.json").write_text(json.dumps(args, indent=1, default=str))

    @property
    def state_path(self) -> Path:
        """Where the resumable state lies."""
        return self.folder / "state.pt"

    def log(self, row: dict[str, float]) -> None:
        """Append one line to log.csv; the first line decides the columns."""
        path = self.folder / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})

    def save(self, **state) -> None:
        """Write the state so that a cut in the middle never destroys the last one."""
        partial = self.state_path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.state_path)

    def load(self) -> dict | None:
        """The saved state, or None at the first start."""
        if not self.state_path.exists():
            return None
        return torch.load(self.state_path, map_location="cpu", weights_only=True)

    def resumed_step(self) -> int:
        """Steps done by earlier parts of this run; seeds what must differ between parts."""
        return (self.load() or {"step": 0})["step"]


def optimizer_for(
    module: nn.Module, *, weight_decay: float, lr_shares: Mapping[str, float] | None = None
) -> torch.optim.AdamW:
    """AdamW; vectors (norms, biases) are not decayed.

    Args:
        module: What to train.
        weight_decay: For matrices.
        lr_shares: Name prefix -> share of the learning rate for the parameters below it; 1 elsewhere.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            share = next((s for prefix, s in (lr_shares or {}).items() if name.startswith(prefix)), 1.0)
            groups.setdefault((weight_decay if parameter.ndim > 1 else 0.0, share), []).append(parameter)
    listed = [{"params": p, "weight_decay": decay, "lr_share": share} for (decay, share), p in groups.items()]
    return torch.optim.AdamW(listed, lr=1e-3, betas=(0.9, 0.98), fused=True)


def step_optimizer(loss: Tensor, optimizer: torch.optim.Optimizer, lr: float, max_norm: float = 1.0) -> float:
    """Backward, clip, step. Returns the gradient norm; a step with a non-finite gradient is skipped."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm).item()
    if math.isfinite(norm):
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_share"]
        optimizer.step()
    return norm


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes a GPU when there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def add_flags(parser: argparse.ArgumentParser, *, run: Path, peak_lr: float) -> None:
    """Add the flags that every stage has."""
    parser.add_argument("--corpus", type=Path, default=Path("runs/corpus/train"))
    parser.add_argument("--run", type=Path, default=run, help="run folder: log, resumable state")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, help="stop and schedule by training minutes instead of steps")
    parser.add_argument("--lr", type=float, default=peak_lr, help="highest learning rate")
    parser.add_argument("--frames", type=int, default=9000, help="mel frames in a batch (100 are one second)")
    parser.add_argument("--report-every", type=int, default=250, help="steps between log lines and saved states")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=1)


class Stage(Protocol):
    """What differs from stage to stage."""

    module: nn.Module
    """Everything that is saved; what has `requires_grad` is trained."""
    weight_decay: float
    lr_shares: Mapping[str, float]
    """See `optimizer_for`."""

    def batches(self, progress: float) -> Iterator[Any]:
        """Batches of one epoch that begins at `progress`; may end early to let the next epoch choose other clips."""

    def loss(self, batch: Any, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Loss to minimise, and numbers worth logging."""

    def report(self) -> dict[str, float]:
        """Numbers on the watched clips."""


def train_stage(stage: Stage, run: Run, clock: Clock, *, peak_lr: float, report_every: int) -> Average:
    """Train until the clock says so, resuming what the run folder holds; returns the averaged weights."""
    optimizer = optimizer_for(stage.module, weight_decay=stage.weight_decay, lr_shares=stage.lr_shares)
    average = Average(stage.module)
    _resume(run, stage.module, optimizer, average, clock)
    seen: list[dict[str, float]] = []
    with tqdm(total=1.0, initial=clock.progress, desc=run.folder.name, unit="run") as bar:
        clock.pause()
        while clock.progress < 1:
            for batch in stage.batches(clock.progress):
                loss, numbers = stage.loss(batch, clock.progress)
                lr = clock.learning_rate(peak_lr)
                norm = step_optimizer(loss, optimizer, lr)
                average.update(stage.module, clock.step)
                clock.tick()
                seen.append({**numbers, "grad_norm": norm})
                _show(bar, clock, numbers)
                if clock.step % report_every == 0 or clock.progress >= 1:
                    means = {name: float(torch.tensor([n[name] for n in seen]).mean()) for name in seen[0]}
                    seen.clear()
                    run.log({"step": clock.step, "minutes": clock.elapsed_s / 60, "lr": lr, **means, **stage.report()})
                    _save(run, stage.module, optimizer, average, clock)
                    clock.pause()
                if clock.progress >= 1:
                    break
    return average


def _show(bar: tqdm, clock: Clock, numbers: dict[str, float]) -> None:
    bar.n = round(clock.progress, 4)
    shown = {name: f"{value:.3f}" for name, value in numbers.items()}
    bar.set_postfix(step=clock.step, **shown, refresh=clock.step % 10 == 0)


def _save(run: Run, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average, clock: Clock) -> None:
    run.save(
        model=module.state_dict(),
        optimizer=optimizer.state_dict(),
        average=average.values,
        step=clock.step,
        elapsed_s=clock.elapsed_s,
    )


def _resume(run: Run, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average, clock: Clock) -> None:
    if state := run.load():
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.values = state["average"]
        clock.step, clock.elapsed_s = state["step"], state["elapsed_s"]
