"""Report of an evaluation: scores to one JSON document and to Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np

from deocclude.data.evalsets.persons import OCCLUDER_KINDS
from deocclude.evaluation.appearance import CROP, PERSON, appearance_table
from deocclude.evaluation.scores import WORKING_MARGIN, WORKING_PX, ContentScore, Evaluation, MaskScore, PartScore
from deocclude.evaluation.tables import json_ready, markdown_table, number, percent, with_interval
from deocclude.inference.occlusion_probability import HIDDEN_SHARE
from deocclude.metrics.bootstrap import bootstrap_interval, mean_of_known
from deocclude.metrics.content import PSNR_CAP_DB
from deocclude.metrics.masks import pooled_iou, ratio_bin
from deocclude.types import PARSING_NAMES

FORMAT = 1  # of eval.json
BINS = 10  # of the visible ratio

Score = TypeVar("Score", MaskScore, ContentScore)

PROTOCOL = {
    "masks": (
        "Amodal IoU: IoU of the amodal mask at photo resolution, over occluded people. Invisible IoU: IoU of the "
        "occluded region, both amodal masks minus the true visible mask, for every kind of initial mask. Mean: over "
        "pictures. Pooled: sum of intersections over sum of unions. Visible IoU: the refined visible mask, for "
        "baselines the initial mask."
    ),
    "initial": (
        "exact: the true visible mask. degraded: the visible mask with seeded corruption, the same in every run. box: "
        "the box of the visible mask. photo: no prompt; among the detected people the one whose visible mask has the "
        "highest IoU with the true one is measured, and no detected person counts as an empty mask."
    ),
    "extra": "Over-segmentation ratio: pixels predicted outside the true amodal mask, divided by its area.",
    "false_completion": (
        "False-positive completion: the same ratio, over unoccluded people. Claimed: pixels that the method calls "
        "occluded on these people, inside or outside the true mask, divided by its area."
    ),
    "is_hidden": (
        f"Whether more than {HIDDEN_SHARE:.0%} of a person is occluded, over all pictures, unoccluded ones included; "
        "threshold at a probability of 0.5. Brier score: mean squared difference of probability and truth, 0.25 "
        "for a coin."
    ),
    "intervals": "95 %, percentile bootstrap over whole people.",
    "content": (
        f"Inside the true occluded region, in the square of {WORKING_MARGIN} times the true amodal box at {WORKING_PX} "
        "px, over fully occluded pixels. L1 on the 0-255 scale; PSNR with peak 255, at most "
        f"{PSNR_CAP_DB:.0f} dB; SSIM with a Gaussian 11x11 window, with the same surroundings in both images. "
        "Predicted masks come from the first kind of initial mask; where they do not cover the occluded region, the "
        "photo with its occluder is measured."
    ),
    "KID_x1000": (
        "KID, paired, as under appearance, of the person alone by MobileNetV2's 1280 pooled features (ImageNet weights "
        "that no training of this package uses): the unbiased estimate over all pairs of pictures of different people, "
        "times 1000. Lower is better. It can be slightly below 0."
    ),
    "feature_distance": (
        "Inside the occluded region, of the person alone: MobileNetV2's feature maps at 1/16 (96 channels) and 1/32 "
        "(1280 channels) of 224 px. For each map the L2 distance to the truth over channels, summed over cells by the "
        "occluded fraction of the cell, divided by the same sum of the truth's norm; mean over both maps and over "
        "pictures. 0 is the truth, lower is better."
    ),
    "seam_ratio": (
        "Mean step across the border between occluded and visible body (pairs of neighbouring pixels of the working "
        "crop, one on each side, mean over channels) over the truth's step: the ratio of both means over pictures. "
        "1 is the truth's; the goal is at most 1.3."
    ),
    "gradient_ratio": (
        "Mean gradient magnitude inside the occluded region divided by the truth's: the ratio of both means over "
        "pictures, and the median of the ratios of single pictures. Noise reaches 1 too: the ratio measures the amount "
        "of contrast, not its correctness, and is not a goal."
    ),
    "blurred_recovery": (
        "The method's own recovery from the true outlines, blurred inside the occluded region by a Gaussian of 4 px "
        "of the working crop, from the body alone. A measure that does not get worse by it rewards blur."
    ),
    "body_parts": (
        "IoU of each part's label inside the true occluded region, at photo resolution, from exact masks, over "
        "pictures with a true parsing: sum of intersections over sum of unions. Mean: over the parts with true pixels "
        "there, without background."
    ),
    "appearance": (
        "FID and KID between recovered and true images of the same people, LPIPS of each against its truth, by "
        "the networks whose files are named in eval.json; lower is better. Working crop: the square above, the truth "
        "outside the occluded region. Person alone: the whole body on grey; with predicted masks, the predicted body. "
        "KID, paired, is the U-statistic over all pairs of pictures of different people, not the usual mean over "
        "subsets, and can be slightly below 0. Values compare only with those of the "
        "same network and of equally many pictures."
    ),
}


def summarise(evaluation: Evaluation, *, model: str = "", seed: int = 0) -> dict[str, Any]:
    """Turn the scores of a run into the JSON-ready dictionary of eval.json. NaN becomes None.

    Args:
        evaluation: scores, from `protocol.evaluate`.
        model: the model's name in the title.
        seed: of the bootstrap.

    Returns:
        format, set, model, method (the model's name in the tables), protocol, notes, seconds (median a person by kind
        of initial mask), masks (by initial mask, then method), by_visible_ratio, is_hidden and by_occluder (of the
        model, by initial mask), parts (of the model; None without a true parsing), content (by method),
        content_by_occluder, appearance (fid, kid, lpips by view and method; None without a network), records (every
        score).
    """
    rng = np.random.default_rng(seed)
    content_methods = _unique(score.method for score in evaluation.content)
    summary = {
        "format": FORMAT,
        "set": {
            "name": evaluation.set_name,
            "source": evaluation.set_source,
            "records": evaluation.records,
            "people": evaluation.people,
        },
        "model": model,
        "method": evaluation.method,
        "protocol": PROTOCOL,
        "notes": evaluation.notes,
        "seconds": {
            initial: float(np.median(seconds)) if seconds else math.nan
            for initial, seconds in evaluation.seconds_by_initial.items()
        },
        **_mask_summary(evaluation, rng),
        "parts": _part_figures(evaluation.parts),
        **_content_summary(evaluation, content_methods, rng),
        "appearance": {
            "networks": evaluation.metric_files,
            **evaluation.features.figures(),
            "lpips": _lpips_figures(evaluation, content_methods, rng) if evaluation.metric_files.get("lpips") else None,
        },
        "records": _all_scores(evaluation),
    }
    return json_ready(summary)


def _mask_summary(evaluation: Evaluation, rng: np.random.Generator) -> dict[str, Any]:
    """Keys masks, by_visible_ratio, is_hidden and by_occluder of `summarise`."""
    by_initial = {
        initial: [score for score in evaluation.masks if score.initial == initial]
        for initial in evaluation.initial_kinds
    }
    of_model = {
        initial: [score for score in scores if score.method == evaluation.method]
        for initial, scores in by_initial.items()
    }
    return {
        "masks": {
            initial: {
                method: _mask_figures([score for score in scores if score.method == method], rng)
                for method in _unique(score.method for score in scores)
            }
            for initial, scores in by_initial.items()
        },
        "by_visible_ratio": {initial: _by_visible_ratio(scores) for initial, scores in of_model.items()},
        "is_hidden": {
            initial: _decision_figures(scores)
            for initial, scores in of_model.items()
            if not all(math.isnan(score.hidden_probability) for score in scores)
        },
        "by_occluder": {
            initial: {kind: _mask_means(part) for kind, part in _by_occluder(_occluded(scores)).items()}
            for initial, scores in of_model.items()
        },
    }


def _content_summary(evaluation: Evaluation, methods: Sequence[str], rng: np.random.Generator) -> dict[str, Any]:
    """Keys content and content_by_occluder of `summarise`."""
    by_method = {method: [score for score in evaluation.content if score.method == method] for method in methods}
    return {
        "content": {
            method: _content_figures(scores, rng) | {"kid_x1000": 1000 * evaluation.mobilenet.kid(PERSON, method)}
            for method, scores in by_method.items()
        },
        "content_by_occluder": {
            method: {kind: _content_means(part) for kind, part in _by_occluder(scores).items()}
            for method, scores in by_method.items()
        },
    }


def _all_scores(evaluation: Evaluation) -> dict[str, list[dict[str, Any]]]:
    """What `summarise` has below "records": every single score, with its derived values."""
    return {
        "masks": [
            {**asdict(s), "full_iou": s.full_iou, "invisible_iou": s.invisible_iou, "visible_iou": s.visible_iou}
            for s in evaluation.masks
        ],
        "content": [
            {**asdict(s), "gradient_ratio": s.gradient_ratio, "seam_ratio": s.seam_ratio} for s in evaluation.content
        ],
        "parts": [asdict(score) for score in evaluation.parts],
    }


# --- masks ---------------------------------------------------------------------------------------------------------


def _occluded(scores: Iterable[MaskScore]) -> list[MaskScore]:
    """The scores of occluded people."""
    return [score for score in scores if score.visible_ratio < 1.0]


def _mask_means(scores: Sequence[MaskScore]) -> dict[str, float]:
    """Number of pictures and mean IoUs; NaN without pictures."""
    return {
        "pictures": len(scores),
        "full_iou": mean_of_known(score.full_iou for score in scores),
        "invisible_iou": mean_of_known(score.invisible_iou for score in scores),
    }


def _mask_figures(scores: Sequence[MaskScore], rng: np.random.Generator) -> dict[str, Any]:
    """All figures of one method's masks, from one kind of initial mask."""
    occluded = _occluded(scores)
    whole = [score for score in scores if score.visible_ratio == 1.0]
    return {
        **_mask_means(occluded),
        "full_iou_interval": _interval(occluded, lambda score: score.full_iou, rng),
        "invisible_iou_interval": _interval(occluded, lambda score: score.invisible_iou, rng),
        "full_iou_pooled": pooled_iou(score.full for score in occluded),
        "invisible_iou_pooled": pooled_iou(score.invisible for score in occluded),
        "visible_iou": mean_of_known(score.visible_iou for score in occluded),
        "extra": mean_of_known(score.extra_share for score in occluded),
        "unoccluded_pictures": len(whole),
        "false_completion": mean_of_known(score.extra_share for score in whole),
        "false_completion_interval": _interval(whole, lambda score: score.extra_share, rng),
        "claimed_hidden": mean_of_known(score.claimed_hidden for score in whole),
    }


def _decision_figures(scores: Sequence[MaskScore]) -> dict[str, float]:
    """Precision and recall of calling a person occluded, and the Brier score of the probabilities."""
    probability = np.array([score.hidden_probability for score in scores])
    truth = np.array([1 - score.visible_ratio > HIDDEN_SHARE for score in scores])
    called = probability >= 0.5
    right = np.count_nonzero(called & truth)
    return {
        "pictures": len(scores),
        "hidden": int(truth.sum()),
        "precision": right / called.sum() if called.any() else math.nan,
        "recall": right / truth.sum() if truth.any() else math.nan,
        "brier": float(np.mean((probability - truth) ** 2)) if len(scores) else math.nan,
    }


def _by_visible_ratio(scores: Sequence[MaskScore]) -> list[dict[str, Any]]:
    """Mean IoUs of occluded people in BINS equal bins of the visible ratio, from the least visible on."""
    bins: list[list[MaskScore]] = [[] for _ in range(BINS)]
    for score in _occluded(scores):
        bins[ratio_bin(score.visible_ratio, BINS)].append(score)
    return [
        {"visible_from": number / BINS, "visible_to": (number + 1) / BINS, **_mask_means(part)}
        for number, part in enumerate(bins)
    ]


def _part_figures(scores: Sequence[PartScore]) -> dict[str, Any] | None:
    """IoU of each body part pooled over occluded pixels, and the part's share of them; None without scores."""
    if not scores:
        return None
    counts = {
        name: np.sum([score.counts.get(name, (0, 0, 0)) for score in scores], axis=0).tolist() for name in PARSING_NAMES
    }
    occurring = {name: row for name, row in counts.items() if row[2]}  # labels with true pixels
    hidden_px = sum(true for *_, true in occurring.values())
    by_part = {
        name: {"iou": intersection / union, "share": true / hidden_px}
        for name, (intersection, union, true) in occurring.items()
        if name != PARSING_NAMES[0]
    }
    return {
        "pictures": len(scores),
        "people": len({score.person_id for score in scores}),
        "mean_iou": mean_of_known(figures["iou"] for figures in by_part.values()),
        "by_part": by_part,
    }


# --- recovered appearance ------------------------------------------------------------------------------------------


def _content_means(scores: Sequence[ContentScore]) -> dict[str, float]:
    """Number of pictures and mean scores; NaN without known scores."""
    ratios = [score.gradient_ratio for score in scores if not math.isnan(score.gradient_ratio)]
    return {
        "pictures": len(scores),
        "l1": mean_of_known(score.l1 for score in scores),
        "psnr_db": mean_of_known(score.psnr_db for score in scores),
        "ssim": mean_of_known(score.ssim for score in scores),
        "feature_distance": mean_of_known(score.feature_distance for score in scores),
        "seam_ratio": _ratio_of_means((score.seam, score.true_seam) for score in scores),
        "gradient_ratio": _ratio_of_means((score.gradient, score.true_gradient) for score in scores),
        "gradient_ratio_median": float(np.median(ratios)) if ratios else math.nan,
    }


def _ratio_of_means(pairs: Iterable[tuple[float, float]]) -> float:
    """Sum of the first numbers over the sum of the second, without pairs with NaN; NaN where the second is 0."""
    known = [pair for pair in pairs if not math.isnan(pair[0] + pair[1])]
    truth = sum(true for _, true in known)
    return sum(predicted for predicted, _ in known) / truth if truth > 0 else math.nan


def _content_figures(scores: Sequence[ContentScore], rng: np.random.Generator) -> dict[str, Any]:
    """Means and intervals of one method's recovered appearance."""
    return {
        **_content_means(scores),
        "l1_interval": _interval(scores, lambda score: score.l1, rng),
        "psnr_db_interval": _interval(scores, lambda score: score.psnr_db, rng),
        "ssim_interval": _interval(scores, lambda score: score.ssim, rng),
        "feature_distance_interval": _interval(scores, lambda score: score.feature_distance, rng),
    }


def _lpips_figures(evaluation: Evaluation, methods: Sequence[str], rng: np.random.Generator) -> dict[str, Any]:
    """LPIPS: {view: {method: {"mean": ..., "interval": [low, high]}}}."""
    values: dict[str, Callable[[ContentScore], float]] = {CROP: lambda s: s.lpips, PERSON: lambda s: s.lpips_person}
    by_method = {method: [s for s in evaluation.content if s.method == method] for method in methods}
    return {
        view: {
            method: {"mean": mean_of_known(map(value, scores)), "interval": _interval(scores, value, rng)}
            for method, scores in by_method.items()
        }
        for view, value in values.items()
    }


# --- masks and recovered appearance --------------------------------------------------------------------------------


def _by_occluder(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """The scores by kind of occluder, without empty kinds."""
    groups = {kind: [score for score in scores if score.occluder_kind == kind] for kind in OCCLUDER_KINDS}
    return {kind: group for kind, group in groups.items() if group}


def _interval(scores: Sequence[Score], value: Callable[[Score], float], rng: np.random.Generator) -> list[float]:
    """[low, high], the 95 % bootstrap interval of the mean of a value of the scores, over whole people."""
    return list(bootstrap_interval([value(s) for s in scores], [s.person_id for s in scores], rng))


def _unique(names: Iterable[str]) -> list[str]:
    """Each name once, in the order of first occurrence."""
    return list(dict.fromkeys(names))


# --- Markdown ------------------------------------------------------------------------------------------------------


def to_markdown(summary: dict[str, Any]) -> str:
    """The summary of `summarise` as Markdown, with a final line break."""
    about = summary["set"]
    parts = [
        f"# {summary['model'] or 'Model'} on {about['name']}: {about['people']} people, {about['records']} pictures"
    ]
    parts.append("## Amodal masks\n\n" + _mask_table(summary))
    if summary["is_hidden"]:
        parts.append("## Occlusion decision\n\n" + _decision_table(summary))
    parts.append("## By visible fraction\n\n" + _visible_ratio_table(summary))
    parts.append("## By occluder\n\n" + _occluder_table(summary))
    if summary["parts"]:
        parts.append("## Body parts inside the occluded region\n\n" + _part_table(summary["parts"]))
    if summary["content"]:
        parts.append("## Recovered appearance\n\n" + _content_table(summary))
        parts.append("## Perceptual metrics\n\n" + _appearance_text(summary))
    lines = [f"- {name.replace('_', ' ')}: {text}" for name, text in summary["protocol"].items()]
    lines += [f"- note: {text}" for text in summary["notes"]]
    parts.append("## Protocol\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _mask_table(summary: dict[str, Any]) -> str:
    rows = [
        [
            initial,
            method,
            with_interval(figures["full_iou"], figures["full_iou_interval"]),
            with_interval(figures["invisible_iou"], figures["invisible_iou_interval"]),
            f"{number(figures['full_iou_pooled'])} / {number(figures['invisible_iou_pooled'])}",
            number(figures["visible_iou"]),
            percent(figures["extra"]),
            f"{percent(figures['false_completion'])} / {percent(figures['claimed_hidden'])}",
        ]
        for initial, methods in summary["masks"].items()
        for method, figures in methods.items()
    ]
    header = [
        "initial",
        "method",
        "amodal IoU",
        "invisible IoU",
        "pooled amodal / inv.",
        "visible IoU",
        "extra",
        "false-positive completion / claimed",
    ]
    seconds = ", ".join(f"{initial} {value:.2f}" for initial, value in summary["seconds"].items() if value is not None)
    table = markdown_table(header, rows)
    return f"{table}\n\nSeconds per person, median, both stages: {seconds}." if seconds else table


def _decision_table(summary: dict[str, Any]) -> str:
    rows = [
        [initial, f"{row['hidden']} of {row['pictures']}", *(number(row[k]) for k in ("precision", "recall", "brier"))]
        for initial, row in summary["is_hidden"].items()
    ]
    return markdown_table(["initial", "occluded", "precision", "recall", "Brier score"], rows)


def _visible_ratio_table(summary: dict[str, Any]) -> str:
    initials = list(summary["by_visible_ratio"])
    rows = []
    for parts in zip(*summary["by_visible_ratio"].values(), strict=True):
        first = parts[0]
        cells = [f"{100 * first['visible_from']:.0f}-{100 * first['visible_to']:.0f} %", str(first["pictures"])]
        for part in parts:
            cells.append(f"{number(part['full_iou'])} / {number(part['invisible_iou'])}")
        rows.append(cells)
    return markdown_table(["visible", "pictures", *(f"{initial}: amodal / inv." for initial in initials)], rows)


def _occluder_table(summary: dict[str, Any]) -> str:
    initials = summary["by_occluder"]
    rows = []
    for kind in _unique(kind for parts in initials.values() for kind in parts):
        parts = [by_kind[kind] for by_kind in initials.values()]
        cells = [kind, str(parts[0]["pictures"])]
        cells += [f"{number(part['full_iou'])} / {number(part['invisible_iou'])}" for part in parts]
        rows.append(cells)
    return markdown_table(["occluder", "pictures", *(f"{initial}: amodal / inv." for initial in initials)], rows)


def _part_table(parts: dict[str, Any]) -> str:
    rows = [[name, percent(row["share"]), number(row["iou"])] for name, row in parts["by_part"].items()]
    rows.append(["mean over parts", "", number(parts["mean_iou"])])
    table = markdown_table(["part", "of the occluded pixels", "IoU"], rows)
    return f"{table}\n\nOver {parts['pictures']} pictures of {parts['people']} people, from exact masks."


def _content_table(summary: dict[str, Any]) -> str:
    rows = [
        [
            method,
            with_interval(figures["l1"], figures["l1_interval"], digits=1),
            with_interval(figures["psnr_db"], figures["psnr_db_interval"], digits=2),
            with_interval(figures["ssim"], figures["ssim_interval"]),
            number(figures["kid_x1000"], 2),
            with_interval(figures["feature_distance"], figures["feature_distance_interval"]),
            number(figures["seam_ratio"], 2),
            f"{number(figures['gradient_ratio'], 2)} / {number(figures['gradient_ratio_median'], 2)}",
        ]
        for method, figures in summary["content"].items()
    ]
    header = ["method", "L1", "PSNR dB", "SSIM", "KID x1000", "feature distance", "seam ratio"]
    table = markdown_table([*header, "gradient ratio mean / median"], rows)
    remark = (
        "Noise also reaches a gradient ratio of 1: the ratio is not a goal. The goal of the seam ratio is at most 1.3."
    )
    return f"{table}\n\n{remark}"


def _appearance_text(summary: dict[str, Any]) -> str:
    """The table of perceptual metrics, and the options that give the missing ones."""
    table = appearance_table(summary["appearance"], list(summary["content"]))
    options = {"inception": "FID and KID need --inception FILE", "lpips": "LPIPS needs --lpips FILE"}
    hints = [hint for name, hint in options.items() if summary["appearance"]["networks"].get(name) is None]
    return f"{table}\n\n{'; '.join(hints)}." if hints else table
