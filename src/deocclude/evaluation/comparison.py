"""Paired comparison of two models on one evaluation set: from two eval.json to differences with intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from deocclude.errors import InputError
from deocclude.evaluation.scores import OURS, PREDICTED_MASKS, TRUE_MASKS
from deocclude.evaluation.tables import json_ready, markdown_table, number
from deocclude.metrics.significance import paired_bootstrap

Row = Mapping[str, Any]  # one score in eval.json
# (part, record id) of a score; part: the kind of initial mask, or for content TRUE_MASKS or PREDICTED_MASKS
Key = tuple[str, str]

SIGNIFICANCE_LEVEL = 0.05  # a p-value below it names a better model
FEW_PEOPLE = 20  # a rule of thumb: below it a percentile interval is clearly too narrow


@dataclass(frozen=True)
class Measure:
    """A measure of the comparison.

    Attributes:
        name: in the table.
        key: of the value in a score of eval.json.
        lower_is_better: else higher is.
        hidden: mean over occluded people; False: over unoccluded ones.
        digits: after the decimal point in the table.
    """

    name: str
    key: str
    lower_is_better: bool = False
    hidden: bool = True
    digits: int = 3


MASK_MEASURES = (
    Measure("amodal IoU", "full_iou"),
    Measure("invisible IoU", "invisible_iou"),
    Measure("visible IoU", "visible_iou"),
    Measure("extra", "extra_share", lower_is_better=True),
    Measure("false-positive completion", "extra_share", lower_is_better=True, hidden=False),
)
CONTENT_MEASURES = (
    Measure("L1", "l1", lower_is_better=True, digits=2),
    Measure("PSNR dB", "psnr_db", digits=2),
    Measure("SSIM", "ssim"),
)
# by the name of their network in eval.json: values compare only for the same network
NETWORK_MEASURES = {
    "mobilenet": (Measure("feature distance", "feature_distance", lower_is_better=True),),
    "lpips": (
        Measure("LPIPS, working crop", "lpips", lower_is_better=True),
        Measure("LPIPS, person alone", "lpips_person", lower_is_better=True),
    ),
}
_MEASURE_OF = {"mobilenet": "the feature distance", "lpips": "LPIPS"}


@dataclass(frozen=True)
class ReadEvaluation:
    """The compared part of an eval.json.

    Attributes:
        name: of the model.
        set_name: of the evaluation set.
        first_initial: kind of initial mask of content from predicted masks.
        masks: the model's scores by (initial mask, record id).
        content: the model's scores by (TRUE_MASKS or PREDICTED_MASKS, record id).
        networks: hash of each network of NETWORK_MEASURES; None if it was missing.
    """

    name: str
    set_name: str
    first_initial: str
    masks: Mapping[Key, Row]
    content: Mapping[Key, Row]
    networks: Mapping[str, str | None]

    @classmethod
    def read(cls, path: str | Path) -> ReadEvaluation:
        """Read an eval.json of a set of people.

        Raises:
            InputError: the file cannot be read or is not an eval.json of a set of people.
        """
        path = Path(path)
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:  # neither JSON nor text
            raise InputError(f"{path}: cannot be read as JSON: {error}") from error
        try:
            return cls._of_summary(summary)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(f"{path}: expected an eval.json of a set of people, of `deocclude eval -o`") from error

    @classmethod
    def _of_summary(cls, summary: Mapping[str, Any]) -> ReadEvaluation:
        """The evaluation of a parsed eval.json. Raises KeyError, TypeError and the like for another layout."""
        method = summary.get("method", OURS)
        masks = {
            (row["initial"], row["record_id"]): row for row in summary["records"]["masks"] if row["method"] == method
        }
        content = {
            (row["method"].removeprefix(method), row["record_id"]): row
            for row in summary["records"]["content"]
            if row["method"] in (f"{method}{TRUE_MASKS}", f"{method}{PREDICTED_MASKS}")
        }
        initials = list(summary["masks"])
        networks = summary.get("appearance", {}).get("networks", {})
        return cls(
            name=summary["model"] or method,
            set_name=summary["set"]["name"],
            first_initial=initials[0],
            masks=masks,
            content=content,
            networks={name: (networks.get(name) or {}).get("sha256") for name in NETWORK_MEASURES},
        )


def compare(path_a: str | Path, path_b: str | Path, *, seed: int = 0) -> dict[str, Any]:
    """Differences B - A of two eval.json of the same set, over the scores that both have.

    Args:
        path_a: eval.json of A.
        path_b: eval.json of B.
        seed: of the bootstrap.

    Returns:
        JSON-ready: set, a and b (file and model), rows (measure, from: initial mask or masks, both means, difference,
        interval, p_value, pictures, people, better: "A", "B", or None for a p-value of at least 0.05), notes.

    Raises:
        InputError: a file is not an eval.json, or sets, pictures or kinds of initial masks differ.
    """
    a, b = ReadEvaluation.read(path_a), ReadEvaluation.read(path_b)
    _check_same_set(a, b, path_a, path_b)
    rng = np.random.default_rng(seed)
    notes = []
    rows = [
        _comparison_row(measure, initial, _rows_of_part(a.masks, initial), _rows_of_part(b.masks, initial), rng)
        for initial in _shared_parts(a.masks, b.masks)
        for measure in MASK_MEASURES
    ]
    measures = CONTENT_MEASURES
    for network, of_network in NETWORK_MEASURES.items():
        if a.networks[network] is not None and a.networks[network] == b.networks[network]:
            measures += of_network
        elif a.networks[network] or b.networks[network]:
            notes.append(f"{_MEASURE_OF[network]} is left out: A and B used different networks")
    for part in _shared_parts(a.content, b.content):
        if part == PREDICTED_MASKS and a.first_initial != b.first_initial:
            notes.append(
                f"the appearance with predicted masks is left out: they start from {a.first_initial} in A and "
                f"{b.first_initial} in B"
            )
            continue
        content_a, content_b = _rows_of_part(a.content, part), _rows_of_part(b.content, part)
        rows += [_comparison_row(measure, part.removeprefix(", "), content_a, content_b, rng) for measure in measures]
    rows = [row for row in rows if row["pictures"]]
    if any(row["people"] < FEW_PEOPLE for row in rows):
        notes.append(f"with fewer than {FEW_PEOPLE} people intervals are too narrow and p-values too small")
    return json_ready(
        {
            "set": a.set_name,
            "a": {"file": str(path_a), "model": a.name},
            "b": {"file": str(path_b), "model": b.name},
            "rows": rows,
            "notes": notes,
        }
    )


def comparison_to_markdown(comparison: Mapping[str, Any]) -> str:
    """The comparison as a Markdown table with explanations and a final line break."""
    of_networks = chain.from_iterable(NETWORK_MEASURES.values())
    digits = {measure.name: measure.digits for measure in (*MASK_MEASURES, *CONTENT_MEASURES, *of_networks)}
    rows = [
        [
            row["from"],
            row["measure"],
            number(row["mean_a"], digits[row["measure"]]),
            number(row["mean_b"], digits[row["measure"]]),
            _signed_difference(row["difference"], row["interval"], digits[row["measure"]]),
            _p_value_text(row["p_value"]),
            row["better"] or "-",
            f"{row['pictures']} / {row['people']}",
        ]
        for row in comparison["rows"]
    ]
    header = ["from", "measure", "A", "B", "B - A, 95 % interval", "p", "better", "pictures / people"]
    lines = [
        "- Means: over the pictures of both. Lower is better: extra, false-positive completion, L1, "
        "feature distance, LPIPS.",
        "- Interval and p-value: paired bootstrap of the mean difference over whole people. Better: p is below "
        f"{SIGNIFICANCE_LEVEL}; of twenty rows without a difference one is expected to be so by chance.",
        *(f"- note: {note}" for note in comparison["notes"]),
    ]
    head = f"# A and B on {comparison['set']}"
    names = "\n".join(f"- {key.upper()}: {comparison[key]['model']} ({comparison[key]['file']})" for key in ("a", "b"))
    return "\n\n".join([head, names, markdown_table(header, rows), "\n".join(lines)]) + "\n"


def _comparison_row(
    measure: Measure, source: str, a: Mapping[str, Row], b: Mapping[str, Row], rng: np.random.Generator
) -> dict[str, Any]:
    """One row of the comparison, from the scores of A and B by record id. source: the row's `from`."""
    pairs = [
        (a[record].get(measure.key), b[record].get(measure.key), a[record]["person_id"])  # None: not measured
        for record in a
        if record in b and (a[record]["visible_ratio"] < 1.0) == measure.hidden
    ]
    known = [(one, other, person) for one, other, person in pairs if one is not None and other is not None]
    found = paired_bootstrap([other - one for one, other, _ in known], [person for *_, person in known], rng)
    better = None
    if found.p_value < SIGNIFICANCE_LEVEL:
        better = "B" if (found.mean < 0) == measure.lower_is_better else "A"
    return {
        "measure": measure.name,
        "from": source,
        "mean_a": float(np.mean([one for one, *_ in known])) if known else math.nan,
        "mean_b": float(np.mean([other for _, other, _ in known])) if known else math.nan,
        "difference": found.mean,
        "interval": [found.low, found.high],
        "p_value": found.p_value,
        "better": better,
        "pictures": found.pairs,
        "people": found.people,
    }


def _check_same_set(a: ReadEvaluation, b: ReadEvaluation, path_a: str | Path, path_b: str | Path) -> None:
    """Raise InputError unless both have the same pictures of the same set and a common kind of initial mask."""
    if a.set_name != b.set_name:
        raise InputError(f"not of the same set: {path_a} is of {a.set_name}, {path_b} of {b.set_name}")
    shared = _shared_parts(a.masks, b.masks)
    if not shared:
        kinds = [", ".join(dict.fromkeys(initial for initial, _ in one.masks)) for one in (a, b)]
        raise InputError(f"no initial mask in common: {path_a} has {kinds[0]}, {path_b} has {kinds[1]}")
    rows_a, rows_b = _rows_of_part(a.masks, shared[0]), _rows_of_part(b.masks, shared[0])
    differing = sorted(rows_a.keys() ^ rows_b.keys())
    if differing:
        only = path_a if differing[0] in rows_a else path_b
        raise InputError(
            f"not of the same pictures: {path_a} has {len(rows_a)} and {path_b} {len(rows_b)}; {differing[0]} is in "
            f"{only} alone"
        )
    for record, row in rows_a.items():
        for key in ("person_id", "visible_ratio"):
            if row[key] != rows_b[record][key]:
                raise InputError(
                    f"not of the same set: {key} of {record} is {row[key]} in {path_a} and {rows_b[record][key]} in "
                    f"{path_b}"
                )


def _shared_parts(a: Mapping[Key, Row], b: Mapping[Key, Row]) -> list[str]:
    """The parts that both A and B have, in the order of A."""
    in_b = {part for part, _ in b}
    return [part for part in dict.fromkeys(part for part, _ in a) if part in in_b]


def _rows_of_part(rows: Mapping[Key, Row], part: str) -> dict[str, Row]:
    """The scores of one part by record id."""
    return {record: row for (its_part, record), row in rows.items() if its_part == part}


def _signed_difference(value: float | None, interval: list[float | None], digits: int) -> str:
    """A difference with sign and interval as text; a dash for None."""
    if value is None:
        return "-"
    if interval[0] is None:
        return f"{value:+.{digits}f}"
    return f"{value:+.{digits}f} [{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"


def _p_value_text(p: float | None) -> str:
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
