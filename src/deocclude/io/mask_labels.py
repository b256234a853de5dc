"""Mask files: whether an image marks one person or several, and each person's mask. Pillow images in, bool masks out.

A soft mask differs from labels by its areas: grey levels and colours between the background and the person fill no area
in a soft mask, since they lie on the contour alone. `people_of` has the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from deocclude.errors import InputError
from deocclude.imaging.arrays import Array, Mask
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.masks import erode

MAX_LABELS = 32
"""Most labels or colours of a file, without the background, that can be people."""
_TOP_LABEL = 63  # largest label of a person or class; larger grey values are brightness
_TOP_INTEGER = 2**31  # of floats that are labels; larger ones may not fit into an integer
_VOID = 255  # the rim between objects in PASCAL VOC's label files
_VOID_RGB = (224, 224, 192)  # its colour there
_MAX_SHADES = 1024  # of a soft mask in one colour
# A grey level between background and person is an area with at least this share of the pixels and a block of 5x5.
_MIN_AREA_SHARE = 0.05
_AREA_RADIUS_PX = 2
_SHOWN_LABELS = 8  # in an error message
_GREY_SPREAD = 16  # largest difference of the channels of a grey pixel in lossy images

Rgb = tuple[int, int, int]


def people_of(image: Image.Image, name: str, label: int | None = None) -> list[Mask]:
    """The masks of the people that an image marks.

    Transparency: the alpha channel is one mask, unless what is opaque has several flat colours, as below.

    Grey: one value besides 0, or soft grey levels, is one mask; a pixel is True from half of the highest value on.
    Labels up to 63 that are mostly consecutive (the largest is at most twice their number) are people in the order of
    the labels. 255 beside smaller labels is PASCAL VOC's void rim, and is ignored.

    Palette with colours: as grey labels, by palette index; the background is black or transparent.

    RGB: grey pixels, or shades of one colour on black, are grey. Flat colours on black are one person each, numbered
    from left to right.

    Args:
        image: an upright image.
        name: how error messages call it.
        label: the one label that is the person: a grey value, a palette index, or the number of a flat colour.

    Returns:
        (H, W) bool masks, one a person. An image without any person gives one empty mask.

    Raises:
        InputError: the image is a class map, a photo, or has no background; or it lacks `label`.
    """
    if image.mode == "P":
        colours = _palette_of(image)
        if any(not _is_grey(rgb) for rgb, _ in colours.values()):
            indices = np.asarray(image)
            if label is not None:
                return [_mask_of_label(indices, label, name)]
            if _is_indexed(colours):
                return _split_indices(indices, colours, name)
    if has_alpha(image):
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() < 255:
            return _split_cutout(image, alpha, name, label)
    if image.mode == "1":
        # Pillow's bool array holds 255 for True, which breaks arithmetic on its bytes.
        return _split_grey((np.asarray(image.convert("L")) > 0).astype(np.uint8), name, label)
    if image.mode in ("L", "I", "F") or image.mode.startswith("I;16"):
        return _split_grey(np.asarray(image), name, label)
    return _split_rgb(image.convert("RGB"), name, label)


def has_alpha(image: Image.Image) -> bool:
    """Whether an image has transparency, in a channel or a palette."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info


def upper_half(values: Array, of_full_scale: bool = False) -> Mask:
    """(H, W) bool: values from half of the highest one on, or of the full scale (`io.images.load_mask`)."""
    top = values.max()
    if top <= 0:
        return np.zeros(values.shape, dtype=bool)
    if of_full_scale and top > 1:
        top = 255 if top <= 255 else 65535
    upper: Mask = values >= (top / 2 if values.dtype.kind == "f" else (int(top) + 1) // 2)
    return upper


def _split_grey(values: Array, name: str, label: int | None) -> list[Mask]:
    """The masks of (H, W) grey values."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)  # NaN is what some tools write where nothing is
        if np.abs(values).max() < _TOP_INTEGER and np.array_equal(values, np.rint(values)):
            values = values.astype(np.int64)
    if label is not None:
        return [_mask_of_label(values, label, name)]
    if values.dtype.kind == "f":
        return [upper_half(values)]
    counts = _counts(values)
    labels = {value: count for value, count in counts.items() if value != 0}
    label_px = sum(count for value, count in labels.items() if value <= _TOP_LABEL)
    if label_px > labels.get(_VOID, 0) and all(value <= _TOP_LABEL or value == _VOID for value in labels):
        labels.pop(_VOID, None)
        if len(labels) == 1:
            return [values == next(iter(labels))]
    if len(labels) <= 1:
        return [upper_half(values)]
    if max(labels) > _TOP_LABEL or min(labels) < 0 or len(labels) > MAX_LABELS:
        _refuse_grey_areas(values, labels, name)
        return [upper_half(values)]
    masks = {value: values == value for value in labels}
    if sum(map(_has_area, masks.values())) <= 1:
        return [upper_half(values)]  # shades on the contour
    return _as_people(masks, labels, 0 in counts, name)


def _refuse_grey_areas(values: Array, labels: Mapping[int, int], name: str) -> None:
    """Raise InputError where a grey level between background and person fills an area, as in labels and trimaps."""
    top = max(labels)
    has_few = len(labels) <= MAX_LABELS
    # Lossy soft masks have areas just above 0: many values, of which the lowest tenth is left out.
    least = 0.0 if has_few else 0.1 * top
    # The person of a soft mask is about white. Few other levels are ids, however near to each other: 24000 and 24001.
    is_white = 0.98 <= top / (255 if top <= 255 else 65535) <= 1
    most = top if has_few and not is_white else 0.9 * top
    marked_px = sum(count for value, count in labels.items() if value > least)
    for value, count in labels.items():
        if not least < value < most or count < _MIN_AREA_SHARE * marked_px:
            continue
        if _has_area(values == value, _AREA_RADIUS_PX):
            raise _refusal(name, "grey levels that fill areas may be people, classes or uncertain pixels", labels)


def _split_indices(indices: Array, colours: Mapping[int, tuple[Rgb, int]], name: str) -> list[Mask]:
    """The masks of (H, W) palette indices. colours: RGB and alpha of each used index."""
    counts = _counts(indices)
    labels = {index: count for index, count in counts.items() if not _is_background(*colours[index])}
    if len(labels) > 1:
        labels.pop(_VOID, None)
    if len(labels) == 1:
        return [indices == next(iter(labels))]
    return _as_people({index: indices == index for index in labels}, labels, len(labels) < len(counts), name)


def _as_people(masks: Mapping[int, Mask], labels: Mapping[int, int], has_background: bool, name: str) -> list[Mask]:
    """The masks in the order of their labels. Raises InputError where the labels may be other things than people."""
    if not has_background:
        raise _refusal(name, "expected a background of 0 or black", labels)
    if 2 * sum(map(_has_area, masks.values())) <= len(masks):
        raise _refusal(name, "most labels fill no area, as blended contours do", labels)
    if max(labels) > 2 * len(labels):
        raise _refusal(name, "labels with gaps may be classes, expected people 1, 2, 3, ...", labels)
    return [masks[label] for label in sorted(labels)]


def _split_cutout(image: Image.Image, alpha: Array, name: str, label: int | None) -> list[Mask]:
    """The masks of a partly transparent image: one, or one for each flat colour of the opaque pixels."""
    if np.isin(alpha, (0, 255)).all():
        opaque = np.where(alpha[..., None] == 255, np.asarray(image.convert("RGBA"))[..., :3], np.uint8(0))
        people = _flat_colours(Image.fromarray(opaque))
        if people is not None and len(people) > 1:
            return people if label is None else [_mask_of_number(people, label, name)]
    if label is not None:
        raise InputError(f"{name}: expected labels to pick {label} from, got a cut-out with transparency")
    return [upper_half(alpha)]


def _split_rgb(rgb: Image.Image, name: str, label: int | None) -> list[Mask]:
    """The masks of an RGB image."""
    red, green, blue = (np.asarray(channel) for channel in rgb.split())  # much faster than along an axis of three
    brightness = np.maximum(np.maximum(red, green), blue)
    spread = int((brightness - np.minimum(np.minimum(red, green), blue)).max())
    shades = rgb.getcolors(_MAX_SHADES)
    colours = None if shades is None else [colour for _, colour in shades if isinstance(colour, tuple)]
    few = colours is not None and len(colours) <= MAX_LABELS + 1
    # dark colours may be labels: (1, 0, 0) is another person than (0, 1, 0)
    near_grey = spread <= _GREY_SPREAD and (not few or brightness.max() > _TOP_LABEL)
    if spread == 0 or near_grey or (colours is not None and _are_shades(colours)):
        return _split_grey(brightness, name, label)
    people = _flat_colours(rgb)
    if people is not None:
        return people if label is None else [_mask_of_number(people, label, name)]
    lowest, highest = int(brightness.min()), int(brightness.max())
    if colours is not None and len(colours) == 2 and label is None and 2 * lowest < highest:
        return [upper_half(brightness)]
    found = f"more than {_MAX_SHADES} colours" if colours is None else f"{len(colours)} colours"
    raise InputError(
        f"{name}: expected a mask, white on black, or one flat colour a person on black without blended contours, "
        f"got {found}"
    )


def _flat_colours(rgb: Image.Image) -> list[Mask] | None:
    """The mask of each colour of an RGB image on black, from left to right; None for other images."""
    counts = rgb.getcolors(MAX_LABELS + 1)
    if counts is None or (0, 0, 0) not in (colour for _, colour in counts):
        return None
    colours = [colour for _, colour in counts if isinstance(colour, tuple) and any(colour)]
    if _are_shades(colours):
        return None
    if _VOID_RGB in colours and len(colours) > 1:
        colours.remove(_VOID_RGB)
    red, green, blue = (np.asarray(channel) for channel in rgb.split())
    masks = [(red == r) & (green == g) & (blue == b) for r, g, b in colours]
    if 2 * sum(map(_has_area, masks)) <= len(masks):
        return None
    return sorted(masks, key=_left_to_right_key)


def _left_to_right_key(mask: Mask) -> tuple[int, ...]:
    """Sort key from left to right, as for detected people: the centre of the mask's box, then its left and top edge."""
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    return x0 + x1, y0 + y1, x0, y0


def _are_shades(colours: Sequence[tuple[int, ...]]) -> bool:
    """Whether RGB colours are shades of one, from black on: those of a soft mask in one colour."""
    if len(colours) == 0:
        return True
    rgb = np.array(colours, np.float64)
    brightness = rgb.max(axis=1)
    if brightness.max() == 0:
        return True
    full = rgb[brightness.argmax()]
    difference = np.abs(rgb - brightness[:, None] / brightness.max() * full).max()
    # a few colours differ by rounding alone; many are of a lossy image
    return bool(difference < 1 if len(colours) <= MAX_LABELS + 1 else difference <= _GREY_SPREAD)


def _palette_of(image: Image.Image) -> dict[int, tuple[Rgb, int]]:
    """RGB and alpha of each used index of a palette image; indices behind the palette's end are black."""
    plain = image.copy()
    plain.apply_transparency()
    stored = plain.getpalette("RGBA") or []
    rgba = np.zeros((256, 4), np.uint8)
    rgba[:, 3] = 255
    rgba[: len(stored) // 4] = np.array(stored, np.uint8).reshape(-1, 4)
    used = (int(index) for index in np.flatnonzero(image.histogram()))
    return {i: ((int(rgba[i, 0]), int(rgba[i, 1]), int(rgba[i, 2])), int(rgba[i, 3])) for i in used}


def _is_indexed(colours: Mapping[int, tuple[Rgb, int]]) -> bool:
    """Whether the palette indices are labels: few colours, no shades of one, nothing translucent."""
    if any(0 < alpha < 255 for _, alpha in colours.values()):
        return False
    marked = [rgb for rgb, alpha in colours.values() if not _is_background(rgb, alpha)]
    if len(marked) == len(colours) == 2:
        return False  # two colours without black: the brighter one is the person
    if all(_TOP_LABEL < max(rgb) <= min(rgb) + _GREY_SPREAD for rgb in marked):
        return False  # soft, not quite grey
    return len(marked) <= MAX_LABELS + 1 and (len(marked) == 1 or not _are_shades(marked))


def _is_background(rgb: Rgb, alpha: int) -> bool:
    return alpha == 0 or rgb == (0, 0, 0)


def _is_grey(rgb: Rgb) -> bool:
    return rgb[0] == rgb[1] == rgb[2]


def _has_area(mask: Mask, radius_px: int = 1) -> bool:
    """Whether a mask holds a block of 3x3 pixels, or larger with the radius."""
    return bool(erode(mask, radius_px).any())


def _counts(values: Array) -> dict[int, int]:
    """Pixels of each value of an integer array, in the order of the values."""
    if values.dtype == np.uint8:
        pixels = np.bincount(values.ravel(), minlength=256)
        return {int(value): int(pixels[value]) for value in np.flatnonzero(pixels)}
    found, pixels = np.unique(values, return_counts=True)
    return {int(value): int(count) for value, count in zip(found, pixels, strict=True)}


def _mask_of_label(values: Array, label: int, name: str) -> Mask:
    """The mask of one label. Raises InputError where no pixel has it."""
    mask: Mask = values == label
    if not mask.any():
        found = "values that are no whole numbers" if values.dtype.kind == "f" else listed(_counts(values))
        raise InputError(f"{name}: expected pixels of label {label}, found {found}")
    return mask


def _mask_of_number(people: Sequence[Mask], label: int, name: str) -> Mask:
    """The mask of one of several people by the number from the left, from 1. Raises InputError."""
    if not 1 <= label <= len(people):
        raise InputError(f"{name}: expected colour {label} from the left, found {len(people)} colours")
    return people[label - 1]


def _refusal(name: str, reason: str, labels: Mapping[int, int]) -> InputError:
    """The error for a file whose labels may be other things than people."""
    return InputError(f"{name}: {reason}, found {listed(labels)}: pick one with --mask-label N (label=N in Python)")


def listed(labels: Mapping[int, int]) -> str:
    """Labels and their pixels as text, the largest ones where there are many."""
    largest = sorted(sorted(labels, key=lambda value: -labels[value])[:_SHOWN_LABELS])
    more = f" and {len(labels) - len(largest)} more" if len(labels) > len(largest) else ""
    return "labels " + ", ".join(f"{value} ({labels[value]} px)" for value in largest) + more
