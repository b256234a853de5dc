"""Between the studio's messages and the pipeline's types: people as pictures, prompts as masks."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
from PIL import Image

from deocclude.errors import InputError
from deocclude.imaging.arrays import Array, ImageU8, Mask
from deocclude.imaging.crop import Region
from deocclude.inference.completion_prompts import MASK_FIELDS, CompletionPrompts
from deocclude.io.decoder import DecodeError
from deocclude.io.images import load_image, load_mask, stated_size, to_image
from deocclude.people.hypotheses import Hypothesis
from deocclude.serve.studio.errors import TooManyPixelsError
from deocclude.serve.studio.messages import ChangeView, HypothesisView, PersonView, SentPrompts
from deocclude.types import Person, Result

_INVISIBLE, _VISIBLE = 128, 255  # red values of a person's maps


def check_pixels(data: bytes, max_pixels: int) -> None:
    """Refuse an image file of more pixels, before they are decoded; damaged files pass, and fail when they are read.

    Raises:
        TooManyPixelsError: the image has more pixels.
    """
    try:
        width, height = stated_size(data)
    except DecodeError:
        return
    if width * height > max_pixels:
        raise TooManyPixelsError(
            f"the image has {width}x{height} pixels; at most {max_pixels / 1e6:.0f} megapixels are accepted"
        )


def png(pixels: Array, icc_profile: bytes | None = None, palette: ImageU8 | None = None) -> bytes:
    """PNG of pixels as `save_image` takes them."""
    file = io.BytesIO()
    to_image(pixels, palette).save(file, "PNG", compress_level=1, icc_profile=icc_profile)
    return file.getvalue()


def jpeg(pixels: ImageU8, icc_profile: bytes | None) -> bytes:
    """JPEG of (H, W, 3) uint8, for display."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92, subsampling=0, icc_profile=icc_profile)
    return file.getvalue()


def person_view(person: Person, icc_profile: bytes | None) -> PersonView:
    """A person as the page draws it."""
    visible, amodal = person.visible_part, person.amodal_part
    visibility = np.where(visible, _VISIBLE, np.where(amodal, _INVISIBLE, 0)).astype(np.uint8)
    maps = np.dstack([visibility, person.parsing_part, person.amodal_prob_part])
    patch, region = None, person.region
    invisible = amodal & ~visible
    if invisible.any():
        inner = Region.of_mask(invisible)
        region = Region(
            inner.top + person.region.top, inner.left + person.region.left,
            inner.bottom + person.region.top, inner.right + person.region.left,
        )  # fmt: skip
        alpha = invisible[inner.slices].astype(np.uint8) * np.uint8(255)
        patch = _to_base64(png(np.dstack([person.content[region.slices], alpha]), icc_profile))
    return PersonView(
        number=person.id,
        score=float(person.score),
        hidden_fraction=person.hidden_fraction,
        hidden_probability=float(person.hidden_probability),
        box_xyxy=person.box_xyxy,
        region_xyxy=_xyxy(person.region),
        patch_xyxy=_xyxy(region),
        truncated_by=list(person.truncated_by),
        left_alone=person.left_alone,
        maps=_to_base64(png(maps)),
        patch=patch,
    )


def change_view(before: Result | None, after: Result, number: int | None = None) -> ChangeView:
    """The people that a change replaced: an unchanged person is the same object in both results."""
    known = set() if before is None else {id(person) for person in before.people}
    return ChangeView(
        changed=[person_view(person, after.icc_profile) for person in after.people if id(person) not in known],
        back_to_front=[person.id for person in after.back_to_front],
        timings=dict(after.timings),
        number=number,
    )


def hypothesis_view(hypothesis: Hypothesis) -> HypothesisView:
    """A completion as the page draws it."""
    region = Region.of_mask(hypothesis.amodal_mask)
    alpha = hypothesis.amodal_mask[region.slices].astype(np.uint8) * np.uint8(255)
    pixels = np.full((*alpha.shape, 4), 255, np.uint8)
    pixels[..., 3] = alpha
    return HypothesisView(
        probability=float(hypothesis.probability),
        region_xyxy=_xyxy(region),
        mask=_to_base64(png(pixels)),
        prompts=prompts_view(hypothesis.prompts),
    )


def prompts_view(prompts: CompletionPrompts) -> SentPrompts:
    """Prompts in the form in which the page sends them."""
    masks = {name: getattr(prompts, name) for name in MASK_FIELDS}
    extent = prompts.extent_xyxy
    return SentPrompts(
        extent_xyxy=None
        if extent is None
        else (float(extent[0]), float(extent[1]), float(extent[2]), float(extent[3])),
        points=[(float(x), float(y)) for x, y in prompts.points],
        not_points=[(float(x), float(y)) for x, y in prompts.not_points],
        joints={name: (float(x), float(y)) for name, (x, y) in prompts.joints.items()},
        pose=prompts.pose,
        hypothesis=prompts.hypothesis,
        **{name: None if mask is None else _to_base64(png(mask)) for name, mask in masks.items()},
    )


def read_prompts(sent: SentPrompts, size_hw: tuple[int, int]) -> CompletionPrompts | None:
    """The prompts that the page sent; None where nothing is given. An empty mask counts as not given.

    Raises:
        InputError: a mask that cannot be read, or of another size.
    """
    sent_masks = {name: value for name in MASK_FIELDS if (value := getattr(sent, name)) is not None}
    masks = {name: read_mask(value, size_hw, name) for name, value in sent_masks.items()}
    given = {name: mask for name, mask in masks.items() if mask.any()}
    prompts = CompletionPrompts(
        extent_xyxy=sent.extent_xyxy,
        points=tuple(sent.points),
        not_points=tuple(sent.not_points),
        joints=dict(sent.joints),
        pose=sent.pose,
        hypothesis=sent.hypothesis,
        front=given.get("front"),
        keep=given.get("keep"),
        background=given.get("background"),
    )
    return prompts if prompts.for_head or given else None


def read_mask(text: str, size_hw: tuple[int, int], name: str) -> Mask:
    """A mask of base64 PNG.

    Returns:
        (H, W) bool.

    Raises:
        InputError: it cannot be read, or has another size than the photo.
    """
    data = read_base64(text, f"the {name} mask")
    _check_size(data, size_hw, name)
    return load_mask(data, of_full_scale=True)


def read_picture(text: str, max_pixels: int) -> ImageU8:
    """(H, W, 3) uint8 of a base64 picture. Raises InputError; TooManyPixelsError."""
    data = read_base64(text, "the background")
    check_pixels(data, max_pixels)
    return load_image(data)


def read_base64(text: str, name: str) -> bytes:
    """Bytes of base64. Raises InputError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name} is no base64") from error


def _check_size(data: bytes, size_hw: tuple[int, int], name: str) -> None:
    """Refuse a mask of another size before its pixels are decoded. Raises InputError."""
    try:
        width, height = stated_size(data)
    except DecodeError as error:
        raise InputError(f"the {name} mask cannot be read: {error}") from error
    if (height, width) != size_hw:
        raise InputError(
            f"the {name} mask must have the photo's size {size_hw[1]}x{size_hw[0]}, got {width}x{height} pixels"
        )


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _xyxy(region: Region) -> tuple[int, int, int, int]:
    return region.left, region.top, region.right, region.bottom
