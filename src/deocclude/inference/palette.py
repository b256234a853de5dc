"""The colours a body is known by, and a guess drawn towards them. numpy in, numpy out.

A network that does not know which of two garments goes on behind the occluder answers with the mean of both, a grey
that nobody wears, and the search would take whatever is grey. A guess is therefore moved to the nearest of the body's
main colours, the more so the larger these are and the likelier the part that wears them.
"""

from __future__ import annotations

import numpy as np

from deocclude.imaging.guided_filter import grow
from deocclude.inference.copyable_parts import proportions

_COLOURS = 10
_ROUNDS = 6  # of Lloyd's algorithm
_REACH = 30.0  # standard deviation, of 255, of how far a guess is off its colour
_ANY_PART = 0.3  # how likely a colour is on a part that does not wear it, against one that only that part wears
_SHARPNESS = 2.0  # the power of the probabilities by which colours are mixed; more is nearer to the likeliest alone


def draw_to_palette(
    guess: ImageU8, visible: Mask, amodal: Mask, visible_parsing: Probability, amodal_parsing: Probability
) -> np.ndarray:
    """A smooth guess of a body whose hidden part has the colours of its visible one.

    guess: (S, S, 3) uint8, right where visible. visible, amodal: (S, S) bool. visible_parsing, amodal_parsing:
    (12, h, w) float32 probabilities; h and w divide S. Returns (S, S, 3) uint8, the guess itself where visible, and
    everywhere when fewer places are visible than there are colours.
    """
    step = guess.shape[0] // visible_parsing.shape[1]
    middle = slice(step // 2, None, step)
    coarse, seen = guess[middle, middle].astype(np.float32), visible[middle, middle]
    if np.count_nonzero(seen) < _COLOURS:
        return guess
    colours, nearest = _main_colours(coarse[seen])
    shares = np.bincount(nearest, minlength=len(colours)) / np.float32(len(nearest))
    worn = np.zeros((len(colours), len(visible_parsing) - 1), np.float32)  # the parts that each colour is on
    np.add.at(worn, nearest, proportions(visible_parsing[:, seen])[1:].T)
    worn /= np.maximum(shares * len(nearest), 1)[:, None]

    hidden = (amodal & ~visible)[middle, middle]
    off = _squares(coarse[hidden], colours)
    agree = np.einsum("pn,kp->nk", proportions(amodal_parsing[:, hidden])[1:], worn)
    likely = np.log(shares + 1e-6) + np.log(agree + _ANY_PART) - off / (2 * _REACH**2)
    weights = np.exp(_SHARPNESS * (likely - likely.max(axis=1, keepdims=True)))
    weights /= weights.sum(axis=1, keepdims=True)
    moves = np.zeros_like(coarse)
    moves[hidden] = (weights[..., None] * colours).sum(1) - coarse[hidden]
    moved = guess + np.stack([grow(moves[..., c], guess.shape[:2]) for c in range(3)], axis=-1)
    return np.where(visible[..., None], guess, np.rint(moved).clip(0, 255).astype(np.uint8))


def _main_colours(pixels: ImageU8) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's k-means from the farthest points: (K, 3) float32 colours, and (N,) which of them each pixel is nearest
    to. pixels: (N, 3) float32."""
    chosen = [len(pixels) // 2]
    off = np.full(len(pixels), np.inf, np.float32)
    while len(chosen) < _COLOURS:
        off = np.minimum(off, ((pixels - pixels[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(off.argmax()))
    colours = pixels[chosen]
    for _ in range(_ROUNDS):
        nearest = _squares(pixels, colours).argmin(1)
        count = np.bincount(nearest, minlength=_COLOURS)
        sums = np.stack([np.bincount(nearest, pixels[:, c], _COLOURS) for c in range(3)], axis=1)
        colours = np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], colours).astype(np.float32)
    return colours, _squares(pixels, colours).argmin(1)


def _squares(pixels: ImageU8, colours: Float32) -> np.ndarray:
    """(N, K) squared distances of (N, 3) pixels to (K, 3) colours."""
    return ((pixels[:, None] - colours) ** 2).sum(-1)
