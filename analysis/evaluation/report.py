"""Numbers with their intervals, and where they came from: what an evaluation leaves behind.

Metric  one row of a model card: name, value, 95 % interval, n, bar to reach, baseline
Report  metrics + provenance (model, command, date, seed); JSON and Markdown are two forms of it
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from model.tasks.metrics import bootstrap_interval

CARD_BEGIN, CARD_END = "<!-- numbers:{name} -->", "<!-- /numbers:{name} -->"


@dataclass(frozen=True)
class Metric:
    """One measured number. `value`, `low`, `high` are in `unit`; `n` counts what `of` names."""

    name: str
    value: float
    low: float
    high: float
    n: int
    of: str = "utterances"
    unit: str = "%"
    bar: str = ""
    baseline: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(
                f"Metric {self.name!r}: the value {self.value} lies outside its interval {self.low}..{self.high}; "
                "compute both from the same samples."
            )

    def cell(self) -> str:
        """Value and interval as people read them: `2.1 % [1.4, 2.9]`."""
        return f"{self.value:.1f} {self.unit} [{self.low:.1f}, {self.high:.1f}]"


def mean_metric(
    name: str, values: Sequence[float], weights: Sequence[float] | None = None, *, of: str = "utterances", **texts: str
) -> Metric:
    """Weighted mean of shares or error rates in percent; the interval resamples what was measured."""
    interval = bootstrap_interval(values, weights)
    mean = float(np.average(values, weights=weights))
    low, high = min(interval.low, mean), max(interval.high, mean)
    return Metric(name, 100 * mean, 100 * low, 100 * high, len(values), of=of, **texts)


@dataclass(frozen=True)
class Report:
    """What one evaluation command found."""

    name: str
    metrics: tuple[Metric, ...]
    provenance: dict[str, str | int | float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Report":
        """Read what `save` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(data["name"], tuple(Metric(**m) for m in data["metrics"]), data["provenance"])

    def markdown(self) -> str:
        """A table for a model card, followed by the command that makes it again."""
        lines = ["| measure | value [95 % interval] | n | bar | baseline | note |", "|---|---|---|---|---|---|"]
        for m in self.metrics:
            lines.append(f"| {m.name} | {m.cell()} | {m.n} {m.of} | {m.bar} | {m.baseline} | {m.note} |")
        made = ", ".join(f"{key} {value}" for key, value in self.provenance.items() if key != "command")
        lines += ["", f"Made by `{self.provenance.get('command', '')}` ({made})."]
        return "\n".join(lines)


def write_into_card(card: Path, report: Report) -> None:
    """Replace the part of a model card between the markers of this report.

    Raises:
        ValueError: the card has no such markers.
    """
    begin, end = CARD_BEGIN.format(name=report.name), CARD_END.format(name=report.name)
    text = card.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise ValueError(
            f"Writing numbers into {card} found no {begin} ... {end}; put the two markers where they belong."
        )
    body = f"{begin}\n{report.markdown()}\n{end}"
    card.write_text(
        re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: body, text, flags=re.S), encoding="utf-8"
    )
