"""Pictures put together: hidden content into the photo, cut-outs with a soft edge, overlays. Arrays in and out."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from deocclude.imaging.crop import Region
from deocclude.imaging.masks import dilate, erode

# One colour a body part, in the order of PARSING_NAMES; background is black.
PARSING_PALETTE = np.array(
    [
        (0, 0, 0),
        (148, 103, 189),
        (140, 86, 75),
        (255, 187, 120),
        (255, 127, 14),
        (188, 189, 34),
        (31, 119, 180),
        (23, 190, 207),
        (227, 119, 194),
        (44, 160, 44),
        (214, 39, 40),
        (127, 127, 127),
    ],
    dtype=np.uint8,
)

_VISIBLE_TINT = (60, 170, 255)
_INVISIBLE_TINT = (255, 110, 40)
_OUTLINE = (255, 255, 255)
_NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def soft_edge(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 coverage of an (H, W) bool mask, with an edge about one pixel soft: its mean over 3 x 3 pixels."""
    # Repeating the border keeps the edge of a person whom the photo cuts fully opaque.
    padded = Image.fromarray(np.pad(mask.view(np.uint8) * np.uint8(255), 1, mode="edge"))
    return np.asarray(padded.filter(ImageFilter.BoxBlur(1)))[1:-1, 1:-1]


def extend_colours(rgb: np.ndarray, known: np.ndarray, steps: int = 1) -> np.ndarray:
    """Carry colours `steps` pixels out of a mask: each pixel next to known ones takes their mean.

    `rgb`: (H, W, 3) uint8; `known`: (H, W) bool. Returns a copy; pixels further out are unchanged.
    """
    out = rgb.copy()
    for _ in range(steps):
        (rows, columns), means = neighbour_means(out, known, ~known)
        out[rows, columns] = np.rint(means).astype(np.uint8)
        known = known.copy()
        known[rows, columns] = True
    return out


def neighbour_means(
    values: np.ndarray, known: np.ndarray, wanted: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Pixels of `wanted` with a known one among their eight neighbours: (rows, columns), and (N, C) float32 means of
    the known neighbours.

    `values`: (H, W, C); `known`, `wanted`: (H, W) bool, disjoint.
    """
    rows, columns = np.nonzero(dilate(known, 1) & wanted)
    total = np.zeros((len(rows), values.shape[2]), dtype=np.float32)
    count = np.zeros((len(rows), 1), dtype=np.float32)
    for dy, dx in _NEIGHBOURS:
        y, x = rows + dy, columns + dx
        inside = (y >= 0) & (y < known.shape[0]) & (x >= 0) & (x < known.shape[1])
        y, x = y.clip(0, known.shape[0] - 1), x.clip(0, known.shape[1] - 1)
        weight = (known[y, x] & inside)[:, None]
        total += values[y, x] * weight
        count += weight
    return (rows, columns), total / np.maximum(count, 1)


def paste_hidden(photo: np.ndarray, hidden_rgb: np.ndarray, invisible: np.ndarray, amodal: np.ndarray) -> None:
    """Paint a person's hidden appearance into `photo`, in place. Only pixels of `invisible` change.

    `photo`, `hidden_rgb`: (h, w, 3) uint8; `invisible`, `amodal`: (h, w) bool. At the silhouette's outer edge the
    paint fades into what was there over about a pixel; towards the visible body it does not fade, since the
    occluder is what would show through.
    """
    coverage = soft_edge(amodal)
    edge = np.nonzero(invisible & (coverage < 255))  # places, not a mask: they are few, and a photo is large
    weight = coverage[edge][:, None].astype(np.uint16)
    blend = (hidden_rgb[edge] * weight + photo[edge] * (255 - weight) + 127) // 255
    # written out for the three channels, which copyto takes in a third of the time of a broadcast
    np.copyto(photo, hidden_rgb, where=invisible.repeat(3, axis=1).reshape(*invisible.shape, 3))
    photo[edge] = blend


def paste_hidden_box(
    photo: np.ndarray, box: Region, box_rgb: np.ndarray, invisible: np.ndarray, amodal: np.ndarray
) -> None:
    """`paste_hidden` for appearance that is held for the box of what is hidden alone, (h', w', 3) uint8.

    A pixel more than the box is worked on, so that the soft edge knows what lies beside it. An empty box paints
    nothing.
    """
    if box.is_empty:
        return
    work = box.grow(1, amodal.shape)
    hidden = np.zeros((*work.size_hw, 3), dtype=np.uint8)
    hidden[box.counted_from(work).slices] = box_rgb
    paste_hidden(photo[work.slices], hidden, invisible[work.slices], amodal[work.slices])


def cut_out(photo: np.ndarray, hidden_rgb: np.ndarray, invisible: np.ndarray, amodal: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8: the whole person on nothing, with straight (not premultiplied) alpha.

    `photo`, `hidden_rgb`: (h, w, 3) uint8; `invisible`, `amodal`: (h, w) bool. The person's own colours are carried
    under the soft edge, so that no halo of the old background shows on a new one; where alpha is 0 the colour is 0
    as well.
    """
    rgba = np.zeros((*amodal.shape, 4), dtype=np.uint8)
    rgb = np.where(invisible[..., None], hidden_rgb, photo)
    rgba[..., :3] = extend_colours(rgb, amodal)
    rgba[..., 3] = soft_edge(amodal)
    rgba[rgba[..., 3] == 0] = 0
    return rgba


def tint_person(picture: np.ndarray, visible: np.ndarray, invisible: np.ndarray, outline_px: int = 1) -> None:
    """Tint a person in an (h, w, 3) uint8 picture, in place: blue where seen, orange where hidden, white outline."""
    for mask, tint, share in ((visible, _VISIBLE_TINT, 96), (invisible, _INVISIBLE_TINT, 160)):
        pixels = picture[mask].astype(np.uint16)
        picture[mask] = (pixels * (256 - share) + np.array(tint, dtype=np.uint16) * share) >> 8
    amodal = visible | invisible
    picture[amodal & ~erode(amodal, outline_px)] = _OUTLINE
