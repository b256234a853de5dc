"""The main colours of a body, and a guide drawn towards them. numpy in, numpy out.

A network that cannot tell which of two garments continues behind the occluder predicts the mean of both, a grey that is
on neither. Exemplar synthesis would then copy any grey patch. The guide is therefore moved to the nearest main colour
of the body, the more so the larger that colour's area and the likelier the part that has it.
"""

from __future__ import annotations

import numpy as np

from deocclude.imaging.arrays import Float32, ImageU8, Int, Mask, Probability
from deocclude.imaging.guided_filter import grow
from deocclude.inference.copyable_parts import proportions

_COLOURS = 10
_ROUNDS = 6  # of Lloyd's algorithm
_REACH = 30.0  # standard deviation of the distance between a guess and its colour, of 255
_ANY_PART = 0.3  # likelihood of a colour on a part that does not have it, relative to one that only that part has
_SHARPNESS = 2.0  # exponent of the probabilities that mix colours; a larger one approaches the likeliest colour alone


def draw_to_palette(
    guess: ImageU8, visible: Mask, amodal: Mask, visible_parsing: Probability, amodal_parsing: Probability
) -> ImageU8:
    """A smooth estimate of a body, its hidden part drawn to the colours of the visible part.

    Args:
        guess: (S, S, 3) uint8, correct where visible.
        visible: (S, S) bool.
        amodal: (S, S) bool.
        visible_parsing: (12, h, w) float32 probabilities; h and w divide S.
        amodal_parsing: (12, h, w) float32 probabilities.

    Returns:
        (S, S, 3) uint8: `guess` itself where visible, and everywhere where fewer places are visible than there are
        colours.
    """
    step = guess.shape[0] // visible_parsing.shape[1]
    middle = slice(step // 2, None, step)
    coarse: Float32 = guess[middle, middle].astype(np.float32)
    known = visible[middle, middle]
    if np.count_nonzero(known) < _COLOURS:
        return guess
    colours, nearest = _main_colours(coarse[known])
    shares = np.bincount(nearest, minlength=len(colours)) / np.float32(len(nearest))
    worn = np.zeros((len(colours), len(visible_parsing) - 1), np.float32)  # the parts that have each colour
    np.add.at(worn, nearest, proportions(visible_parsing[:, known])[1:].T)
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


def _main_colours(pixels: Float32) -> tuple[Float32, Int]:
    """Main colours by Lloyd's k-means algorithm, started from the farthest points.

    Args:
        pixels: (N, 3) float32.

    Returns:
        (K, 3) float32 colours, and (N,) the nearest colour of each pixel.
    """
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


def _squares(pixels: Float32, colours: Float32) -> Float32:
    """(N, K) squared distances of (N, 3) pixels to (K, 3) colours."""
    squares: Float32 = ((pixels[:, None] - colours) ** 2).sum(-1)
    return squares
