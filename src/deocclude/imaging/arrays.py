"""Names for the array types that the package passes around. Shapes and ranges stand in each function's docstring.

H, W is the size of the whole image, h, w that of a region of it, S the side of a square crop. RGB images and masks are
stored row by row, channels last; network inputs and outputs are (B, C, H, W).
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

ImageU8 = NDArray[np.uint8]
"""Colours, 0 to 255: (H, W, 3) RGB, or (H, W, 4) RGB with straight alpha."""

Mask = NDArray[np.bool_]
"""(H, W), True = the pixel belongs to the object."""

Probability = NDArray[np.float32]
"""0 to 1, one value a pixel, or (parts, h, w)."""

ProbabilityU8 = NDArray[np.uint8]
"""A probability in steps of 1/255: 255 = certain."""

Labels = NDArray[np.uint8]
"""(H, W), an index into `PARSING_NAMES` for each pixel."""

Float32 = NDArray[np.float32]
"""Any other 32-bit numbers: colours before rounding, network inputs, descriptors."""

Float = NDArray[np.floating[Any]]
"""Numbers whose precision does not matter, such as box coordinates."""

Int = NDArray[np.integer[Any]]
"""Indices, counts and pixel coordinates."""

Array = NDArray[Any]
"""An array of any type."""

Scalar = TypeVar("Scalar", bound=np.generic)
"""The element type of an array whose type a function keeps."""


def size_hw(image: Array) -> tuple[int, int]:
    """Height and width, in pixels, of an image, mask or map whose first two axes are rows and columns."""
    return image.shape[0], image.shape[1]
