"""Results on a screen: in an image viewer, and in a notebook's cell."""

from __future__ import annotations

import io

from PIL import Image, ImageShow

from deocclude.errors import DeoccludeError
from deocclude.io.images import to_image
from deocclude.io.results import picture_of
from deocclude.types import Result

# A notebook keeps the picture in its file.
NOTEBOOK_PX = 1024
"""Longest side of a notebook's picture."""


def show(result: Result, what: str = "content") -> None:
    """See `Result.show`."""
    image = to_image(picture_of(result, what).pixels)
    if not ImageShow.show(image, title=result.name or None):
        raise DeoccludeError("no program that shows images was found: use save, or a notebook")


def to_png(result: Result) -> bytes:
    """PNG of `Result.content`, at most NOTEBOOK_PX pixels wide and high."""
    picture = picture_of(result, "content")
    image = to_image(picture.pixels)
    image.thumbnail((NOTEBOOK_PX, NOTEBOOK_PX), Image.Resampling.BOX)
    with io.BytesIO() as png:
        image.save(png, "PNG", icc_profile=picture.icc_profile)
        return png.getvalue()
