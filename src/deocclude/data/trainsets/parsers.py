"""Parsers that label the body parts of a built set: the bundled stage 1, or a user's SegFormer."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from deocclude.data.sources.cutting import PersonCrop
from deocclude.errors import UsageError
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.runtime import find_model, open_networks

Parser = Callable[[PersonCrop], np.ndarray]
"""From a person crop to (h, w) uint8 labels into PARSING_NAMES: 0 outside the mask, 255 = unknown."""

HF_PREFIX = "hf:"  # before the name of a parser on the Hugging Face hub


def check_parser(spec: str) -> str:
    """The spec, unchanged. Raises UsageError unless it is own, none or hf:MODEL."""
    if spec not in ("own", "none") and not (spec.startswith(HF_PREFIX) and len(spec) > len(HF_PREFIX)):
        raise UsageError(f"--parser must be own, none or hf:MODEL, got {spec!r}")
    return spec


def open_parser(spec: str) -> Parser | None:
    """The parser of a spec, with its network loaded on one CPU thread; None for "none".

    Raises UsageError for an invalid spec, and the errors of loading the network.
    """
    check_parser(spec)
    if spec == "none":
        return None
    if spec == "own":
        networks, _ = open_networks(find_model("base"), "cpu", threads=1)
        return OwnParser(MaskCompletion(networks["mask_completion"], average="never"))
    from deocclude.data.trainsets.hf_parser import HfParser

    parser = HfParser(spec.removeprefix(HF_PREFIX), device="cpu", threads=1)
    parser.load()
    return lambda cut: parser(cut.rgb, cut.mask)


class OwnParser:
    """Parsing of the visible mask by the bundled stage 1, which is given the true mask.

    Test-time augmentation is off, which is 4 times faster.
    """

    def __init__(self, completion: MaskCompletion) -> None:
        self._completion = completion

    def __call__(self, cut: PersonCrop) -> np.ndarray:
        """(h, w) uint8 labels into PARSING_NAMES: the most probable part of each pixel of the mask, 0 outside it."""
        parsed = self._completion.parse(cut.rgb, cut.mask, cut.mask)
        crop, parts = parsed.crop, parsed.visible_parsing
        cells = parts.shape[1]
        scale = cells / crop.side_px
        left, top = crop.left_top
        # pixel i covers [i, i + 1) of the photo, and cell k [k, k + 1) of the grid
        to_grid = np.array([[scale, 0, (0.5 - left) * scale - 0.5], [0, scale, (0.5 - top) * scale - 0.5]])
        size_wh = cut.mask.shape[::-1]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        best, labels = np.full(cut.mask.shape, -1, np.float32), np.ones(cut.mask.shape, np.uint8)
        for label, part in enumerate(parts[1:], start=1):
            resized = cv2.warpAffine(part, to_grid, size_wh, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            labels[resized > best] = label
            np.maximum(best, resized, out=best)
        return np.where(cut.mask, labels, np.uint8(0))
