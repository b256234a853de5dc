"""The main colours of a body, and a guide pulled towards them. numpy in, numpy out.

A network that cannot tell which of two garments continues behind the occluder predicts the mean of both, a grey that is
on neither. Exemplar synthesis would then copy any grey patch. The guide is therefore moved to the nearest main colour
of the body, the more so the larger that colour's area and the likelier the part that has it.
"""

from __future__ import annotations

import numpy as np

from deocclude.imaging.arrays import Float32, ImageU8, Int, Mask, Probability
from deocclude.imaging.guided_filter import grow
from deocclude.inference.copyable_parts import proportions

_COLOURS = 10  # main colours of a body
_ROUNDS = 6  # of Lloyd's algorithm
_REACH = 30.0  # standard deviation of the distance between a guess and its main colour, of 255
_ANY_PART = 0.3  # added to a colour's agreement with a part, 0 to 1: colours of other parts stay possible
_SHARPNESS = 2.0  # exponent of the probabilities that mix colours; a larger one approaches the likeliest colour alone


def pull_to_palette(
    guess: ImageU8, visible: Mask, amodal: Mask, visible_parsing: Probability, amodal_parsing: Probability
) -> ImageU8:
    """A smooth estimate of a body, its hidden part pulled to the main colours of the visible part.

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
    parts_of_colour = np.zeros((len(colours), len(visible_parsing) - 1), np.float32)  # mean part shares of each colour
    np.add.at(parts_of_colour, nearest, proportions(visible_parsing[:, known])[1:].T)
    parts_of_colour /= np.maximum(shares * len(nearest), 1)[:, None]

    hidden = (amodal & ~visible)[middle, middle]
    squared = _squared_distances(coarse[hidden], colours)
    agreement = np.einsum("pn,kp->nk", proportions(amodal_parsing[:, hidden])[1:], parts_of_colour)
    log_likelihood = np.log(shares + 1e-6) + np.log(agreement + _ANY_PART) - squared / (2 * _REACH**2)
    weights = np.exp(_SHARPNESS * (log_likelihood - log_likelihood.max(axis=1, keepdims=True)))
    weights /= weights.sum(axis=1, keepdims=True)
    moves = np.zeros_like(coarse)
    moves[hidden] = (weights[..., None] * colours).sum(1) - coarse[hidden]
    moved = guess + np.stack([grow(moves[..., c], guess.shape[:2]) for c in range(3)], axis=-1)
    return np.where(visible[..., None], guess, np.rint(moved).clip(0, 255).astype(np.uint8))


def _main_colours(pixels: Float32) -> tuple[Float32, Int]:
    """Main colours by Lloyd's k-means algorithm; each start colour is the pixel farthest from the earlier ones.

    Args:
        pixels: (N, 3) float32.

    Returns:
        (K, 3) float32 colours, and (N,) the nearest colour of each pixel.
    """
    chosen = [len(pixels) // 2]
    squared = np.full(len(pixels), np.inf, np.float32)
    while len(chosen) < _COLOURS:
        squared = np.minimum(squared, ((pixels - pixels[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(squared.argmax()))
    colours = pixels[chosen]
    for _ in range(_ROUNDS):
        nearest = _squared_distances(pixels, colours).argmin(1)
        count = np.bincount(nearest, minlength=_COLOURS)
        sums = np.stack([np.bincount(nearest, pixels[:, c], _COLOURS) for c in range(3)], axis=1)
        colours = np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], colours).astype(np.float32)
    return colours, _squared_distances(pixels, colours).argmin(1)


def _squared_distances(pixels: Float32, colours: Float32) -> Float32:
    """(N, K) squared distances of (N, 3) pixels to (K, 3) colours."""
    squared: Float32 = ((pixels[:, None] - colours) ** 2).sum(-1)
    return squared
