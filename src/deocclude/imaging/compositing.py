"""Compositing: hidden content into the image, cut-outs with a soft edge, overlays. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageFilter

from deocclude.imaging.arrays import Array, Float32, ImageU8, Int, Mask, ProbabilityU8
from deocclude.imaging.boxes import BoxXyxy
from deocclude.imaging.crop import Region
from deocclude.imaging.masks import dilate, erode

# One colour for each body part, in the order of PARSING_NAMES; background is black.
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
_LABEL_TEXT, _LABEL_BACKGROUND = (255, 255, 255), (24, 24, 24)
_LABEL_TEXT_PX = 11  # least height: smaller text of Pillow's font is hard to read
_NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def soft_edge(mask: Mask) -> ProbabilityU8:
    """Coverage of a mask with an edge about one pixel soft: the mean over 3 x 3 pixels.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) uint8, 255 = fully covered.
    """
    # Repeating the border keeps a body that the image border truncates fully opaque there.
    padded = Image.fromarray(np.pad(mask.view(np.uint8) * np.uint8(255), 1, mode="edge"))
    return np.asarray(padded.filter(ImageFilter.BoxBlur(1)))[1:-1, 1:-1]


def extend_colours(rgb: ImageU8, known: Mask, steps: int = 1) -> ImageU8:
    """Extend colours beyond a mask: each pixel beside known pixels takes their mean.

    Args:
        rgb: (H, W, 3) uint8.
        known: (H, W) bool: pixels with a colour.
        steps: reach in pixels.

    Returns:
        (H, W, 3) uint8: a copy; pixels further out are unchanged.
    """
    out: ImageU8 = rgb.copy()
    for _ in range(steps):
        (rows, columns), means = neighbour_means(out, known, ~known)
        out[rows, columns] = np.rint(means).astype(np.uint8)
        known = known.copy()
        known[rows, columns] = True
    return out


def neighbour_means(values: Array, known: Mask, wanted: Mask) -> tuple[tuple[Int, Int], Float32]:
    """Means of the known neighbours of pixels, over the eight neighbours of each.

    Args:
        values: (H, W, C).
        known: (H, W) bool.
        wanted: (H, W) bool, disjoint from `known`.

    Returns:
        (rows, columns) of the N pixels of `wanted` with a known neighbour, and (N, C) float32 means.
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
    means: Float32 = np.divide(total, np.maximum(count, 1))
    return (rows, columns), means


def spread_outwards(values: Float32, known: Mask, wanted: Mask, steps: int) -> Iterator[tuple[Int, Int]]:
    """Spread values in place, ring by ring: each pixel takes the mean of its neighbours in the ring before.

    Args:
        values: (H, W, C) float32. A value that is changed between two rings spreads as changed.
        known: (H, W) bool: where the values come from.
        wanted: (H, W) bool, disjoint from `known`.
        steps: number of rings.

    Yields:
        (rows, columns) of each ring.
    """
    ring, left = known, wanted.copy()
    for _ in range(steps):
        (rows, columns), means = neighbour_means(values, ring, left)
        values[rows, columns] = means
        yield rows, columns
        ring = np.zeros_like(known)
        ring[rows, columns] = True
        left[rows, columns] = False


def paste_hidden(photo: ImageU8, hidden_rgb: ImageU8, invisible: Mask, amodal: Mask) -> None:
    """Paste a person's hidden appearance into an image, in place. Only pixels of `invisible` change.

    At the silhouette's outer edge the pasted colours fade into the image over about a pixel. Towards the visible body
    they do not fade: the occluder would show through.

    Args:
        photo: (h, w, 3) uint8.
        hidden_rgb: (h, w, 3) uint8.
        invisible: (h, w) bool.
        amodal: (h, w) bool.
    """
    coverage = soft_edge(amodal)
    edge = np.nonzero(invisible & (coverage < 255))  # indices, not a mask: they are few, and an image is large
    weight = coverage[edge][:, None].astype(np.uint16)
    blend = (hidden_rgb[edge] * weight + photo[edge] * (255 - weight) + 127) // 255
    # the mask is repeated for the three channels: copyto then takes a third of the time of a broadcast
    np.copyto(photo, hidden_rgb, where=invisible.repeat(3, axis=1).reshape(*invisible.shape, 3))
    photo[edge] = blend


def paste_hidden_box(photo: ImageU8, box: Region, box_rgb: ImageU8, invisible: Mask, amodal: Mask) -> None:
    """`paste_hidden` with colours of the hidden part's box alone. An empty box changes nothing.

    One pixel more than the box is processed, so that the soft edge sees the pixels beside it.

    Args:
        photo: (h, w, 3) uint8, changed in place.
        box: the box of the hidden part, in pixels of `photo`.
        box_rgb: (h', w', 3) uint8: colours of the box.
        invisible: (h, w) bool.
        amodal: (h, w) bool.
    """
    if box.is_empty:
        return
    work = box.grow(1, amodal.shape)
    hidden = np.zeros((*work.size_hw, 3), dtype=np.uint8)
    hidden[box.counted_from(work).slices] = box_rgb
    paste_hidden(photo[work.slices], hidden, invisible[work.slices], amodal[work.slices])


def cut_out(photo: ImageU8, hidden_rgb: ImageU8, invisible: Mask, amodal: Mask) -> ImageU8:
    """The whole person on a transparent background, with straight (not premultiplied) alpha.

    The person's own colours extend under the soft edge: no halo of the old background appears on a new one. Where alpha
    is 0, the colour is 0 too.

    Args:
        photo: (h, w, 3) uint8.
        hidden_rgb: (h, w, 3) uint8.
        invisible: (h, w) bool.
        amodal: (h, w) bool.

    Returns:
        (h, w, 4) uint8.
    """
    rgba = np.zeros((*amodal.shape, 4), dtype=np.uint8)
    rgb = np.where(invisible[..., None], hidden_rgb, photo)
    rgba[..., :3] = extend_colours(rgb, amodal)
    rgba[..., 3] = soft_edge(amodal)
    rgba[rgba[..., 3] == 0] = 0
    return rgba


def tint_person(picture: ImageU8, visible: Mask, invisible: Mask, outline_px: int = 1) -> None:
    """Tint a person in an image, in place: visible blue, hidden orange, with a white outline.

    Args:
        picture: (h, w, 3) uint8.
        visible: (h, w) bool.
        invisible: (h, w) bool.
        outline_px: width of the outline.
    """
    for mask, tint, share in ((visible, _VISIBLE_TINT, 96), (invisible, _INVISIBLE_TINT, 160)):
        pixels = picture[mask].astype(np.uint16)
        picture[mask] = (pixels * (256 - share) + np.array(tint, dtype=np.uint16) * share) >> 8
    amodal = visible | invisible
    picture[amodal & ~erode(amodal, outline_px)] = _OUTLINE


def draw_labels(picture: ImageU8, texts: Sequence[str], boxes_xyxy: Sequence[BoxXyxy]) -> None:
    """Draw a label at each box of an image, in place: white on dark, above the box where the image has room there.

    The text is a 60th of the image's longer side high, at least 11 px. A label that would cover an earlier one moves
    down. A label that is larger than the image is not drawn.

    Args:
        picture: (H, W, 3) uint8.
        texts: N texts of one line.
        boxes_xyxy: N boxes in pixels.
    """
    from PIL import ImageDraw, ImageFont  # only overlays need them: `run` starts without Pillow's font

    height, width = picture.shape[:2]
    text_px = max(_LABEL_TEXT_PX, round(max(height, width) / 60))
    font, margin = ImageFont.load_default(text_px), max(2, text_px // 4)
    drawn: list[Region] = []
    for text, (x0, y0, x1, _) in zip(texts, boxes_xyxy, strict=True):
        left, top, right, bottom = font.getbbox(text)
        label_hw = round(bottom - top) + 2 * margin, round(right - left) + 2 * margin
        if label_hw[0] > height or label_hw[1] > width:
            continue
        place = _free_place(
            label_hw, (round((x0 + x1 - label_hw[1]) / 2), round(y0) - label_hw[0]), drawn, (height, width)
        )
        label = Image.new("RGB", place.size_hw[::-1], _LABEL_BACKGROUND)
        ImageDraw.Draw(label).text((margin - left, margin - top), text, fill=_LABEL_TEXT, font=font)
        picture[place.slices] = np.asarray(label)
        drawn.append(place)


def _free_place(
    label_hw: tuple[int, int], left_top: tuple[int, int], drawn: Sequence[Region], size_hw: tuple[int, int]
) -> Region:
    """Where a label goes: to `left_top`, or below the drawn labels that it would cover, inside an image of `size_hw`.

    Where no place is free, the label goes to `left_top` all the same.
    """
    height, width = label_hw
    left = min(max(left_top[0], 0), size_hw[1] - width)
    first = top = min(max(left_top[1], 0), size_hw[0] - height)
    while top + height <= size_hw[0]:
        place = Region(top, left, top + height, left + width)
        covered = [other for other in drawn if not place.intersect(other).is_empty]
        if not covered:
            return place
        top = max(other.bottom for other in covered)
    return Region(first, left, first + height, left + width)
