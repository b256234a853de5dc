"""Near-duplicate photos, by a perceptual hash: one photo in two splits, at another size or quality."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from PIL import Image

MAX_DISTANCE = 3  # of 64 bits, between copies of one photo; different photos differ in about 20 to 40
_BANDS = MAX_DISTANCE + 1  # hashes within MAX_DISTANCE agree in at least one of so many parts (pigeonhole principle)
_BAND_BITS = 64 // _BANDS
_MIN_SPREAD = 2.0  # of 255, standard deviation: a uniform image has no gradients


def dhash(image: Image.Image) -> int | None:
    """64 bits: whether each of 8 x 8 cells is brighter than its left neighbour. None for a uniform image.

    The "difference hash" of Neal Krawetz: the grey image at 9 x 8, neighbours in a row compared.
    """
    image.draft("L", (72, 64))  # a JPEG is decoded at reduced size
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    if grey.std() < _MIN_SPREAD:
        return None
    bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


class NearDuplicates:
    """Index of photo hashes by their parts, so that few are compared with each new one."""

    def __init__(self) -> None:
        self._met: list[tuple[int, str, str | None]] = []
        self._by_band: dict[tuple[int, int], list[int]] = defaultdict(list)

    def add(self, code: int, name: str, split: str | None) -> str | None:
        """Add a photo.

        Args:
            code: its 64-bit hash.
            name: its name.
            split: its split, or None where it has none yet and may end in any.

        Returns:
            The name of an earlier near-duplicate that is, or may end, in another split; else None.
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
