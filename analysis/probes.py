"""Linear probes: at which layer can a property of the sound be read off by a straight line, and is that worth anything?

    features [row, width] --ridge, strength chosen inside--> labels of rows whose group the probe never saw
                            the same for shuffled labels, and for a control task         --> three curves by site

    probe      the labels as they are
    control    each type (say, each sentence) is given one of the labels at random: a probe that scores here has room
               to memorise types. Probe minus control is its selectivity
    shuffled   labels dealt anew to the rows: what no information gives

Rows of one group (speaker, clip) are never on both sides of a split, and the strength of the ridge is chosen on the
training side alone. Scores are balanced accuracy (each class counts the same; chance is one over the number of
classes) or, for numbers, the share of variance explained. All intervals draw whole groups. That a probe reads a
property does not mean that the model uses it: patching can tell.

Source: Alain and Bengio 2016 (probes); Hewitt and Liang 2019 (control tasks, selectivity); features are those of
`analysis.features`, or any arrays.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from analysis.features import Features, Progress
from analysis.resampling import mean_interval
from analysis.ridge import cross_validated
from analysis.statistic import Axis, Statistic
from model.errors import TraceError

MEASURES = ("probe", "control", "shuffled")
MAX_DRAWS = 50
"""Control tasks drawn before one is taken that is no control, as with two types there is no other."""
Kind = Literal["class", "number"]


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """How well one property can be read at each site; never a score without its baselines."""

    scores: Statistic
    """[measure, site] with intervals: probe, control, shuffled."""
    selectivity: Statistic
    """Probe minus control, [site]; the interval is of the difference, group by group."""
    truth: np.ndarray
    """Labels of the rows that had one, [row]."""
    rows: np.ndarray
    """Which rows of the features they are, int64 [row]."""
    predicted: np.ndarray
    """Held-out predictions, [site, row]."""
    best_draw: np.ndarray
    """Highest score of any single control or shuffle, float64 [site]."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites."""
        return self.selectivity.axes[0].labels

    @property
    def beats_control(self) -> tuple[str, ...]:
        """Sites where the probe beats its control: the selectivity's interval is above 0, and no single draw of
        either baseline scores as high. With n draws, luck does the latter once in n + 1 sites at most."""
        good = (self.selectivity.low > 0) & (self.scores.values[0] > self.best_draw)
        return tuple(site for site, is_good in zip(self.sites, good) if is_good)

    def confusion(self, site: str) -> Statistic:
        """Return how often each class was taken for each, [truth, predicted]; rows sum to 1."""
        if self.scores.notes["kind"] != "class":
            raise _refusal("numbers", "classes, which can be confused")
        names = tuple(dict.fromkeys(map(str, np.unique(self.truth))))
        predicted = self.predicted[self.sites.index(site)]
        counts = [[((self.truth == a) & (predicted == b)).sum() for b in names] for a in names]
        shares = np.array(counts) / np.sum(counts, axis=1, keepdims=True)
        axes = Axis("truth", labels=names), Axis("predicted", labels=names)
        return Statistic("share of the class", shares, axes, unit="share", n=len(self.truth))

    def over_time(self, features: Features, clip: int) -> Statistic:
        """Return where in one clip the property was read rightly, [site, frame], with what was read; 0 or 1."""
        mine = np.flatnonzero(features.clip[self.rows] == clip)
        axes = Axis("site", labels=self.sites), Axis("frame", values=features.time_s[self.rows[mine]], unit="s")
        right = self.predicted[:, mine] == self.truth[mine]
        return Statistic("read rightly", right, axes, texts=self.predicted[:, mine].astype(str))


def probe(
    features: Features | Mapping[str, np.ndarray],
    labels: Sequence[Any],
    *,
    groups: Sequence[Any] | None = None,
    types: Sequence[Any] | None = None,
    kind: Kind | None = None,
    folds: int = 5,
    n_baselines: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> ProbeResult:
    """Probe one property at every site.

    Args:
        features: From `record_features`, or site -> [row, width].
        labels: One for each row, or one for each clip. None, "" and NaN are left out.
        groups: What must not be on both sides of a split (speakers); one for each row or clip. By default the clips.
        types: What the control task gives random labels to (sentences, words); should recur in several groups. By
            default the groups, and the control then shows what chance does with so few of them.
        kind: Classes or numbers; by default numbers if the labels are floats.
        folds: Parts the groups are dealt into, evenly by label.
        n_baselines: How often labels are shuffled, and control tasks drawn.
        seed: Of folds, baselines and intervals.
        progress: Told after each site.
        cancel: Looked at between sites; the sites not reached are NaN.

    Raises:
        TraceError: If lengths differ, there are fewer than two classes, or a class is in fewer than two groups.
    """
    task = _task(features, labels, groups, types, kind)
    fold = deal_folds(task.strata, task.groups, folds, seed)
    targets, weights = _targets(task, n_baselines, seed)
    sites = features.sites if isinstance(features, Features) else tuple(features)
    values = features.values if isinstance(features, Features) else features
    scores = np.full((len(sites), targets.shape[0], len(task.rows)), np.nan)
    predicted = np.full((len(sites), len(task.rows)), np.nan)
    for number, site in enumerate(sites):
        if cancel is not None and cancel.is_set():
            break
        x = np.asarray(values[site], dtype=np.float64)[task.rows]
        scores[number], predicted[number] = cross_validated(x, targets, weights, fold, is_class=task.names is not None)
        if progress is not None:
            progress("probe", (number + 1) / len(sites))
    return _result(task, sites, scores, predicted, seed, folds)


def probe_table(
    features: Features, table: Mapping[str, Sequence[Any]], *, progress: Progress | None = None, **settings: Any
) -> dict[str, ProbeResult]:
    """Probe every column of a label table that has at least two values; settings as for `probe`.

    Columns named in `groups` or `types` may be given by name.
    """
    named = {k: table[v] if k in ("groups", "types") and isinstance(v, str) else v for k, v in settings.items()}
    used = {v for k, v in settings.items() if k in ("groups", "types") and isinstance(v, str)}
    columns = [name for name, column in table.items() if name not in used and len(set(column) - {None, ""}) > 1]
    found = {}
    for number, name in enumerate(columns):
        found[name] = probe(features, table[name], **named)
        if progress is not None:
            progress("probe", (number + 1) / len(columns))
    return found


def overview(results: Mapping[str, ProbeResult], measure: str = "selectivity") -> Statistic:
    """Return one value for each property and site, [property, site]: selectivity, or one of `MEASURES`."""
    rows = [r.selectivity.values if measure == "selectivity" else _row(r, measure) for r in results.values()]
    first = next(iter(results.values()))
    axes = Axis("property", labels=tuple(results)), Axis("site", labels=first.sites)
    return Statistic(measure, np.stack(rows), axes, unit="share")


def read_labels(path: str | Path) -> dict[str, list[str]]:
    """Read a label table: CSV or TSV with a header, one line for each clip; column -> values.

    Raises:
        TraceError: If a line has other columns than the header, or there is no line.
    """
    path = Path(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *lines = list(csv.reader(file, delimiter=delimiter)) or [[]]
    uneven = [number for number, line in enumerate(lines, start=2) if len(line) != len(header)]
    if not lines or uneven or len(set(header)) != len(header):
        raise _refusal(
            f"{len(lines)} lines in {path.name}, line {uneven[:1]} not as wide as the header {header}",
            "a header with distinct names and at least one line of the same width",
        )
    return {name: list(column) for name, column in zip(header, zip(*lines))}


# --- the task -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Task:
    """Labels in numbers, for the rows that have one."""

    rows: np.ndarray
    y: np.ndarray
    """Class numbers, or the numbers themselves, float64 [row]."""
    names: np.ndarray | None
    """Class names; None for numbers."""
    groups: np.ndarray
    types: np.ndarray
    """Both numbered from 0, [row]."""

    @property
    def strata(self) -> np.ndarray:
        """What the folds are balanced by: classes, or fifths of the numbers, int64 [row]."""
        if self.names is not None:
            return self.y.astype(np.int64)
        return np.searchsorted(np.quantile(self.y, [0.2, 0.4, 0.6, 0.8]), self.y)


def _task(features: Features | Mapping, labels: Sequence, groups: Any, types: Any, kind: Kind | None) -> _Task:
    """Check the labels and bring them to rows."""
    if isinstance(features, Features):
        clip = features.clip
    else:
        clip = np.arange(len(next(iter(features.values()))))
        bad = [site for site, values in features.items() if len(values) != len(clip) or not np.isfinite(values).all()]
        if bad:
            raise _refusal(
                f"sites {bad} with other rows or numbers that are not finite", "finite rows, as many at every site"
            )
    column = _by_row(labels, clip, "labels")
    rows = np.array([k for k, label in enumerate(column) if not _is_missing(label)], dtype=np.int64)
    kept = [column[k] for k in rows]
    kind = kind or ("number" if kept and all(isinstance(label, float | np.floating) for label in kept) else "class")
    owner = _numbered(_by_row(clip if groups is None else groups, clip, "groups"), rows)
    family = owner if types is None else _numbered(_by_row(types, clip, "types"), rows)
    if kind == "number":
        y = np.array(kept, dtype=np.float64)
        if len(np.unique(y)) < 2 or len(np.unique(owner)) < 2:
            raise _refusal(f"{len(np.unique(y))} values in {len(np.unique(owner))} groups", "two of each at least")
        return _Task(rows, y, None, owner, family)
    names, y = np.unique([str(label) for label in kept], return_inverse=True)
    alone = [str(name) for k, name in enumerate(names) if len(np.unique(owner[y == k])) < 2]
    if len(names) < 2 or alone:
        raise _refusal(
            f"classes {names[:10].tolist()}, of which {alone[:10]} are in a single group",
            "two classes at least, each in two groups at least",
        )
    return _Task(rows, y.astype(np.float64), names, owner, family)


def _by_row(column: Sequence, clip: np.ndarray, what: str) -> list:
    """Return one entry for each row, from one for each row or each clip."""
    column, n_clips = list(column), int(clip.max()) + 1
    if len(column) == len(clip):
        return column
    if len(column) == n_clips:
        return [column[k] for k in clip]
    raise _refusal(f"{len(column)} {what}", f"one for each of {len(clip)} rows or {n_clips} clips")


def _is_missing(label: Any) -> bool:
    return label is None or label == "" or (isinstance(label, float | np.floating) and np.isnan(label))


def _numbered(column: Sequence, rows: np.ndarray) -> np.ndarray:
    return np.unique([str(column[k]) for k in rows], return_inverse=True)[1]


def deal_folds(strata: np.ndarray, groups: np.ndarray, n_folds: int, seed: int = 0) -> np.ndarray:
    """Deal whole groups into folds so that each fold has its share of every class, int64 [row].

    Args:
        strata: Class number of each row, [row].
        groups: Group number of each row, [row].
        n_folds: How many; at most one for each group, at least two.
        seed: Decides between equals.
    """
    names, owner = np.unique(groups, return_inverse=True)
    n_folds = max(2, min(n_folds, len(names)))
    counts = np.zeros((len(names), int(strata.max()) + 1))
    np.add.at(counts, (owner, strata), 1)
    share = counts / np.maximum(counts.sum(axis=0), 1)  # so that rare classes are dealt as evenly as common ones
    fold, full = np.zeros(len(names), dtype=np.int64), np.zeros((n_folds, counts.shape[1]))
    shuffled = np.random.default_rng(seed).permutation(len(names))
    for group in shuffled[np.argsort(-share[shuffled].sum(axis=1), kind="stable")]:
        fold[group] = np.argmin(((full + share[group]) ** 2).sum(axis=1) - (full**2).sum(axis=1))
        full[fold[group]] += share[group]
    return fold[owner]


def _targets(task: _Task, n_baselines: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what is to be read, [set, row], and how much each row counts; sets: the labels, controls, shuffles."""
    rng = np.random.default_rng(seed)
    controls = [_control(task, rng) for _ in range(n_baselines)]
    shuffles = [rng.permutation(task.y) for _ in range(n_baselines)]
    targets = np.stack([task.y, *controls, *shuffles])
    if task.names is None:
        return targets, np.ones_like(targets)
    counts = np.stack([np.bincount(row.astype(np.int64), minlength=len(task.names)) for row in targets])
    n_present = (counts > 0).sum(axis=1, keepdims=True)
    weights = targets.shape[1] / (n_present * np.take_along_axis(counts, targets.astype(np.int64), axis=1))
    return targets, weights


def _control(task: _Task, rng: np.random.Generator) -> np.ndarray:
    """Give each type a random label, [row]: where types have one label each, theirs dealt anew, else drawn from all."""
    n_types = int(task.types.max()) + 1
    first = np.array([task.y[np.argmax(task.types == k)] for k in range(n_types)])
    constant = (task.y == first[task.types]).all()
    for _ in range(MAX_DRAWS):
        drawn = (rng.permutation(first) if constant else rng.choice(task.y, n_types))[task.types]
        n_names, n_pairs = len(np.unique(task.y)), len(np.unique(np.stack([task.y, drawn]), axis=1).T)
        if n_pairs > n_names and len(np.unique(drawn)) > 1:  # the task itself under other names is no control
            break
    return drawn


def _result(
    task: _Task, sites: Sequence[str], scores: np.ndarray, predicted: np.ndarray, seed: int, folds: int
) -> ProbeResult:
    """Average the scores [site, set, row] and put intervals around them."""
    half = (scores.shape[1] - 1) // 2
    probed = scores[:, 0]
    control, shuffled = (scores[:, part].mean(axis=1) for part in (slice(1, 1 + half), slice(1 + half, None)))
    by_row = np.stack([probed, control, shuffled, probed - control])  # [measure, site, row]
    reached = np.isfinite(by_row).all(axis=(0, 2))
    low, high = np.full((2, 4, len(sites)), np.nan)
    low[:, reached], high[:, reached] = mean_interval(np.moveaxis(by_row[:, reached], 2, 0), task.groups, seed=seed)
    mean, site_axis = by_row.mean(axis=2), Axis("site", labels=sites)
    is_class = task.names is not None
    notes = {
        "kind": "class" if is_class else "number",
        "classes": task.names.tolist() if is_class else [],
        "groups": int(task.groups.max()) + 1,
        "types": int(task.types.max()) + 1,
        "folds": folds,
        "baselines": half,
        "chance": 1 / len(task.names) if is_class else 0.0,
    }
    name = "balanced accuracy" if is_class else "variance explained"
    common = {"unit": "share", "n": len(task.rows), "notes": notes}
    axes = Axis("measure", labels=MEASURES), site_axis
    return ProbeResult(
        scores=Statistic(name, mean[:3], axes, low=low[:3], high=high[:3], **common),
        selectivity=Statistic("selectivity", mean[3], (site_axis,), low=low[3], high=high[3], **common),
        truth=task.names[task.y.astype(int)] if is_class else task.y,
        rows=task.rows,
        predicted=_named(predicted, task.names),
        best_draw=scores[:, 1:].mean(axis=2).max(axis=1, initial=-np.inf),
    )


def _named(predicted: np.ndarray, names: np.ndarray | None) -> np.ndarray:
    """Return class names for class numbers; "" for sites that were not reached."""
    if names is None:
        return predicted
    return np.where(np.isnan(predicted), "", names[np.nan_to_num(predicted).astype(int)])


def _row(result: ProbeResult, measure: str) -> np.ndarray:
    if measure not in MEASURES:
        raise _refusal(f"a measure {measure!r}", f"selectivity or one of {MEASURES}")
    return result.scores.values[MEASURES.index(measure)]


def _refusal(found: str, expected: str) -> TraceError:
    return TraceError("probe a property", found=found, expected=expected, todo="See `analysis.probes.probe`.")
