"""Photos that look alike, by a hash of their brightness: one photo in two splits, at another size or quality."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from PIL import Image

MAX_DISTANCE = 3  # of 64 bits, between copies of one photo; two photos differ in some 20 to 40
_BANDS = MAX_DISTANCE + 1  # hashes at most so far apart agree in one of as many parts
_BAND_BITS = 64 // _BANDS
_MIN_SPREAD = 2.0  # of 255: a picture of one colour has no gradient to tell it by


def dhash(image: Image.Image) -> int | None:
    """64 bits: whether each of 8 x 8 cells is brighter than the one to its left. None for a picture of one colour.

    The "difference hash" of Neal Krawetz: the picture in grey at 9 x 8, neighbours in a row compared.
    """
    image.draft("L", (72, 64))  # of a JPEG, decode no more than is needed
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    if grey.std() < _MIN_SPREAD:
        return None
    bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


class Lookalikes:
    """Photos met so far, by parts of their hashes, so that few are compared with each new one."""

    def __init__(self) -> None:
        self._met: list[tuple[int, str, str | None]] = []
        self._by_band: dict[tuple[int, int], list[int]] = defaultdict(list)

    def add(self, code: int, name: str, split: str | None) -> str | None:
        """Take in a photo. Returns the name of an earlier one that looks alike and is, or may end, in another split.

        split: None where the photo has none yet; then it may end in any.
        """
        bands = [(band, code >> (band * _BAND_BITS) & (2**_BAND_BITS - 1)) for band in range(_BANDS)]
        found = None
        for place in sorted({place for band in bands for place in self._by_band[band]}):
            other_code, other, other_split = self._met[place]
            apart = (code ^ other_code).bit_count()
            if apart <= MAX_DISTANCE and other != name and (split is None or split != other_split):
                found = other
                break
        for band in bands:
            self._by_band[band].append(len(self._met))
        self._met.append((code, name, split))
        return found
