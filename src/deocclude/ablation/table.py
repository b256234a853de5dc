"""From the eval.json of many rows to one table: figures with intervals, and differences to the first row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from deocclude.evaluation.comparison import compare
from deocclude.evaluation.scores import BLURRED, OURS, TRUE_MASKS
from deocclude.evaluation.tables import markdown_table, number, with_interval

FORMAT = 1  # of the stored rows
_MASK_FIGURES = ("full_iou", "invisible_iou")  # of a row's JSON
_CONTENT_FIGURES = ("l1", "psnr_db", "ssim")  # of a row's JSON
_DIGITS = {"l1": 1, "psnr_db": 2, "ssim": 3, "L1": 2, "PSNR dB": 2, "SSIM": 3}
# Columns that are compared with the row of reference.
_COMPARED = ("amodal IoU", "invisible IoU", "visible IoU", "L1", "PSNR dB", "SSIM")


def summarise_rows(rows: Sequence[tuple[Mapping[str, Any], Path]]) -> dict[str, Any]:
    """Summarise rows as a JSON-ready dictionary.

    Args:
        rows: row.json (name, stage, parameters, steps, seconds, ..., or error) and path of eval.json of each row.

    Returns:
        format, set, reference (name of the first row with masks and with content), rows (row.json with masks by initial
        mask, content, and `against`: differences to the reference), no_network (the same figures of baselines without
        a network).
    """
    measured = [(row, path) for row, path in rows if "error" not in row]
    references = {
        what: next(((row["name"], path) for row, path in measured if row["stage"] == stage), None)
        for what, stage in (("masks", "mask"), ("content", "content"))
    }
    table: dict[str, Any] = {
        "format": FORMAT,
        "set": None,
        "reference": {what: found and found[0] for what, found in references.items()},
        "rows": [],
        "no_network": {"masks": {}, "content": {}},
    }
    for row, path in rows:
        known = {key: value for key, value in row.items() if key != "key"}
        if "error" not in row:
            summary = json.loads(path.read_text(encoding="utf-8"))
            table["set"] = summary["set"]
            known |= {"masks": {}, "content": None, "against": []}
            if row["stage"] != "content":
                known["masks"] = {kind: methods[OURS] for kind, methods in summary["masks"].items()}
                table["no_network"]["masks"] = _mask_baselines(summary["masks"])
            if row["stage"] != "mask":
                known["content"] = summary["content"].get(f"{OURS}{TRUE_MASKS}")
                table["no_network"]["content"] = {
                    method: figures
                    for method, figures in summary["content"].items()
                    if not method.startswith(OURS) and method != BLURRED  # the blurred recovery depends on the row
                }
            for what, found in references.items():
                if found and found[1] != path and (known["masks"] if what == "masks" else known["content"]):
                    known["against"] += _differences(found[1], path, what)
        table["rows"].append(known)
    return table


def _mask_baselines(masks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{method: {initial mask: figures}} of the baselines. masks: {initial mask: {method: figures}}."""
    methods = dict.fromkeys(method for by_method in masks.values() for method in by_method if method != OURS)
    return {method: {kind: found[method] for kind, found in masks.items() if method in found} for method in methods}


def _differences(reference: Path, path: Path, what: str) -> list[dict[str, Any]]:
    """Rows of `compare` of two eval.json. what: "masks", or "content" from true masks."""
    times_ns = path.stat().st_mtime_ns, reference.stat().st_mtime_ns
    rows = _compare_once(reference, path, times_ns)
    of_content = TRUE_MASKS.removeprefix(", ")
    shown = [row for row in rows if row["measure"] in _COMPARED]
    if what == "content":
        return [row for row in shown if row["from"] == of_content]
    return [row for row in shown if row["measure"].endswith("IoU")]


@lru_cache(maxsize=256)  # the table is written after every row, and the bootstrap is slow
def _compare_once(reference: Path, path: Path, times_ns: tuple[int, int]) -> list[dict[str, Any]]:
    """Rows of `compare`, cached. times_ns: when the files were written, so that a new file is compared anew."""
    return compare(reference, path)["rows"]


def to_markdown(table: Mapping[str, Any]) -> str:
    """The table as Markdown: figures, differences and explanations, with a final line break."""
    rows = table["rows"]
    about = table["set"]
    title = "# Ablations and baselines"
    parts = [title + (f" on {about['name']}: {about['people']} people, {about['records']} pictures" if about else "")]
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.get("masks", {})))
    if kinds:
        parts.append("## Masks\n\n" + _mask_table(table, kinds))
        parts.append(_difference_table(rows, "masks", table["reference"]["masks"]))
    if any(row.get("content") for row in rows):
        parts.append("## Recovered appearance\n\n" + _content_table(table))
        parts.append(_difference_table(rows, "content", table["reference"]["content"]))
    lines = [
        "- Trained: steps x batch at crop size, the same data, seed and schedule for all rows of a stage; s: "
        "seconds of the steps alone, a dash for a run that was interrupted. Best of the validations, averaged weights.",
        "- Measured as `deocclude eval` does (docs/evaluation.md), with one prediction per crop at the size of "
        "training; everyone is completed. In brackets 95 % bootstrap intervals over whole people.",
        "- Appearance: from true masks, with parts from the same stage 1 for all rows. A one-stage network gets the "
        "visible mask only.",
        "- Differences: row minus reference, paired by picture; *: p-value of the paired bootstrap below 0.05, which "
        "one of twenty rows without a difference reaches by chance. The interval does not include the variation "
        "between training runs: each row has one seed.",
    ]
    lines += [f"- failed: {row['name']}: {row['error']}" for row in rows if "error" in row]
    if table.get("missing"):
        lines.append(f"- not run yet: {', '.join(table['missing'])}")
    parts.append("## Protocol\n\n" + "\n".join(lines))
    return "\n\n".join(part for part in parts if part) + "\n"


def _mask_table(table: Mapping[str, Any], kinds: Sequence[str]) -> str:
    figures = (f"{kind}: {what}" for kind in kinds for what in ("amodal IoU", "invisible IoU"))
    header = ["row", *_training_header(), *figures, f"{kinds[0]}: visible IoU"]

    def cells(masks: Mapping[str, Any]) -> list[str]:
        """One row's figures. masks: by initial mask."""
        found = [
            with_interval(masks[kind][name], masks[kind][f"{name}_interval"]) if kind in masks else "-"
            for kind in kinds
            for name in _MASK_FIGURES
        ]
        return [*found, number(masks[kinds[0]]["visible_iou"]) if kinds[0] in masks else "-"]

    rows = [[row["name"], *_training_cells(row), *cells(row["masks"])] for row in table["rows"] if row.get("masks")]
    rows += [[method, "-", "-", "-", *cells(masks)] for method, masks in table["no_network"]["masks"].items()]
    return markdown_table(header, rows)


def _content_table(table: Mapping[str, Any]) -> str:
    def cells(figures: Mapping[str, Any]) -> list[str]:
        """The formatted figures of one row."""
        found = [with_interval(figures[name], figures[f"{name}_interval"], _DIGITS[name]) for name in _CONTENT_FIGURES]
        # an eval.json of an earlier version calls the gradient ratio sharpness
        return [*found, number(figures.get("gradient_ratio", figures.get("sharpness")), 2)]

    rows = [[row["name"], *_training_cells(row), *cells(row["content"])] for row in table["rows"] if row.get("content")]
    rows += [[method, "-", "-", "-", *cells(figures)] for method, figures in table["no_network"]["content"].items()]
    return markdown_table(["row", *_training_header(), "L1", "PSNR dB", "SSIM", "gradient ratio"], rows)


def _training_header() -> tuple[str, ...]:
    """Columns that say how a row was trained."""
    return "parameters", "trained", "s"


def _training_cells(row: Mapping[str, Any]) -> list[str]:
    """The cells below `_training_header`."""
    trained = f"{row['steps']} x {row['batch_size']} at {row['size_px']} px"
    return [f"{row['parameters'] / 1e6:.2f} M", trained, number(row["seconds"], 0)]


def _difference_table(rows: Sequence[Mapping[str, Any]], what: str, reference: str | None) -> str:
    """The differences to the reference as a Markdown table; empty without any. what: "masks" or "content"."""
    of_content = TRUE_MASKS.removeprefix(", ")
    lines, columns = {}, {}
    for row in rows:
        for found in row.get("against", []):
            if (found["from"] == of_content) == (what == "content"):
                column = found["measure"] if what == "content" else f"{found['from']}: {found['measure']}"
                columns[column] = None
                lines.setdefault(row["name"], {})[column] = found
    if not lines:
        return ""
    body = [[name, *(_difference_cell(found.get(column)) for column in columns)] for name, found in lines.items()]
    return f"Minus {reference}:\n\n" + markdown_table(["row", *columns], body)


def _difference_cell(found: Mapping[str, Any] | None) -> str:
    """A difference with its interval, and * if it is significant; a dash without one."""
    if found is None or found["difference"] is None:
        return "-"
    digits = _DIGITS.get(found["measure"], 3)
    mark = "*" if found["better"] else ""
    if found["interval"][0] is None:
        return f"{found['difference']:+.{digits}f}"
    low, high = found["interval"]
    return f"{found['difference']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]{mark}"
