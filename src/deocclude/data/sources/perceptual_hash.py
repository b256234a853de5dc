"""Near-duplicate photos, by a perceptual hash: one photo in two splits, at another size or quality."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from PIL import Image

MAX_DISTANCE = 3  # differing bits, of 64, between copies of one photo; other photos differ in about 20 to 40
_BANDS = MAX_DISTANCE + 1  # parts of a hash; near hashes agree in at least one (pigeonhole principle)
_BAND_BITS = 64 // _BANDS  # of a hash of 64 bits
_MIN_SPREAD = 2.0  # least standard deviation of the grey levels: a uniform image has no gradients


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
    """Index of photo hashes by band (a part of the bits), so that a new hash is compared with few others."""

    def __init__(self) -> None:
        self._photos: list[tuple[int, str, str | None]] = []  # hash, name and split of each
        self._by_band: dict[tuple[int, int], list[int]] = defaultdict(list)  # indices of photos by (band, its bits)

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
        for index in sorted({index for band in bands for index in self._by_band[band]}):
            other_code, other, other_split = self._photos[index]
            distance = (code ^ other_code).bit_count()
            if distance <= MAX_DISTANCE and other != name and (split is None or split != other_split):
                found = other
                break
        for band in bands:
            self._by_band[band].append(len(self._photos))
        self._photos.append((code, name, split))
        return found
