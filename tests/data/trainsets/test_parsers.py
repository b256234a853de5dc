"""Labels of body parts by our own stage 1 and by a SegFormer: on the mask, in the project's groups, in place."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.data.sources.cutting import PersonCrop
from deocclude.data.trainsets.parsers import OwnParser, check_parser, open_parser
from deocclude.errors import UsageError
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.runtime import Network


class LeftAndRight:
    """A stand-in for stage 1's network: face on the left half of a crop, leg on the right one."""

    input_size = fine_size = 64

    def __call__(self, image: np.ndarray, initial: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.zeros((len(image), 12, 16, 16), np.float32)
        parts[:, 3, :, :8], parts[:, 5, :, 8:] = 1, 1
        return {"visible": initial, "amodal": initial, "visible_parsing": parts, "amodal_parsing": parts}


def test_own_parser_labels_the_mask_in_place() -> None:
    network: Network = LeftAndRight()  # type: ignore[assignment]
    mask = np.zeros((90, 120), bool)
    mask[20:60, 50:90] = True
    labels = OwnParser(MaskCompletion(network, average="never"))(PersonCrop(np.zeros((90, 120, 3), np.uint8), mask))
    expected = np.zeros_like(labels)
    expected[20:60, 50:70], expected[20:60, 70:90] = 3, 5
    np.testing.assert_array_equal(labels, expected)


def test_shipped_network_labels_every_mask_pixel() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((120, 100), bool)
    mask[10:110, 35:65] = True
    labels = open_parser("own")(PersonCrop(rng.integers(0, 256, (120, 100, 3), dtype=np.uint8), mask))
    np.testing.assert_array_equal(labels > 0, mask)
    assert labels.max() <= 11


def test_parser_spec_is_validated() -> None:
    assert open_parser("none") is None
    for wrong in ("ours", "hf:", ""):
        with pytest.raises(UsageError, match="--parser must be own, none or hf:MODEL"):
            check_parser(wrong)
