"""A segmenter of your own in place of the people detector. `python examples/own_segmenter.py [FOLDER]`"""

import sys

import numpy as np

import deocclude
from deocclude.evaluation.demo_scene import make_crossing

out = sys.argv[1] if len(sys.argv) > 1 else "examples-out"
photo, (left, right) = make_crossing()


def segment(image: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """(H, W, 3) uint8 RGB -> a (visible mask, score) pair for each person. Put your network here."""
    return [(left.visible, 0.9), (right.visible, 0.8)]


result = deocclude.load("base", segmenter=segment)(photo)
print(f"{len(result.people)} people: {', '.join(f'{person.hidden_fraction:.0%} hidden' for person in result.people)}")
result.save(out, what=("content", "amodal"), stem="own_segmenter")
