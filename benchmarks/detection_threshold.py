"""Recall and precision of found people by score threshold, on photos that no training sees and no page reports.

    python benchmarks/detection_threshold.py DATA [--photos 60] [--weights DIR]

The photos are the ones of coco_people for tuning (`read_boxed_photos(..., "tune")`). People are found by the whole
pipeline without prompts: a person's score is that of the detector times that of stage 1. `min_score` of the detector's
settings is chosen here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import deocclude
from deocclude.data.sources.real_photos import read_boxed_photos
from deocclude.evaluation.detection_protocol import COUNTED_HEIGHT_PX
from deocclude.imaging.boxes import box_to_mask
from deocclude.metrics.detection import Matched, match_boxes, recall_precision

THRESHOLDS = np.arange(0.20, 0.44, 0.02)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--weights", type=Path)
    asked = parser.parse_args()
    pipe = deocclude.load("base", weights_dir=asked.weights)
    outcomes: list[Matched] = []
    for photo in read_boxed_photos(asked.data / "coco_people", "tune")[: asked.photos]:
        rgb = photo.rgb()
        h, w = rgb.shape[:2]
        people = pipe(rgb, min_score=float(THRESHOLDS[0]), complete="never").people
        boxes = np.array([person.box_xyxy for person in people], float).reshape(-1, 4)
        ignore = np.zeros((h, w), bool)
        for crowd in photo.crowds_xyxy * (w, h, w, h):
            ignore |= box_to_mask(crowd, (h, w))
        outcomes.append(
            match_boxes(
                boxes, np.array([person.score for person in people]), photo.boxes_xyxy * (w, h, w, h), ignore=ignore,
                min_height_px=COUNTED_HEIGHT_PX,
            )
        )  # fmt: skip
    print(f"{len(outcomes)} photos, {sum(one.people for one in outcomes)} people of at least {COUNTED_HEIGHT_PX} px")
    print("min_score  recall  precision")
    for threshold in THRESHOLDS:
        recall, precision = recall_precision(outcomes, threshold)
        print(f"{threshold:9.2f}  {recall:6.3f}  {precision:9.3f}")


if __name__ == "__main__":
    main()
