"""People of real photos as samples of stage 1: only the visible mask is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deocclude.data.samples.person_samples import CropConfig, SampleStream
from deocclude.data.samples.real_people import RealPeople
from deocclude.data.sources.layers import Library
from deocclude.data.sources.real_photos import WildPhoto, read_wild
from deocclude.data.synthesis.config import SynthesisConfig
from deocclude.errors import InputError

SIZE = 64


def photo() -> WildPhoto:
    """80 x 120: a bright person of 30 x 60 at (20, 10), another beside, and a tiny one."""
    instances = np.zeros((80, 120), np.uint8)
    instances[10:70, 20:50] = 1
    instances[10:70, 50:80] = 2
    instances[5:15, 100:105] = 7
    rgb = np.full((80, 120, 3), 40, np.uint8)
    rgb[instances == 1] = 240
    boxes = {1: (20.0, 10.0, 50.0, 70.0), 2: (50.0, 10.0, 80.0, 70.0), 7: (100.0, 5.0, 105.0, 15.0)}
    return WildPhoto("wild/x", rgb, instances, np.zeros((80, 120), bool), boxes)


def test_amodal_and_known_masks_equal_the_visible_mask() -> None:
    people = RealPeople([photo()])
    assert people.people == [(0, 1), (0, 2)], "whoever is tiny is no subject"
    people.people = people.people[:1]
    exact = boxes = 0
    for seed in range(60):
        sample = people.draw(np.random.default_rng(seed), CropConfig(p_exact=0.5, p_box=0.3), SIZE)
        visible = sample["visible"]
        for key in ("amodal", "known"):
            np.testing.assert_array_equal(sample[key], visible)
        np.testing.assert_array_equal(sample["parsing"], np.where(visible, 255, 0))
        assert visible.any() and sample["initial"].any()
        inside = sample["photo"][visible].mean()
        others = sample["photo"][~visible & (sample["photo"] != 128).any(-1)]
        assert inside > others.mean() + 60, "the mask lies on the bright person, mirrored or not"
        ys, xs = np.nonzero(sample["initial"])
        is_box = sample["initial"][ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].all()
        boxes += bool(is_box)
        exact += np.array_equal(sample["initial"], visible)
    # this person is a box itself, so that a box is what many a damaged mask is too
    assert boxes > 25 and exact < 20


def test_box_jitter_is_biased_towards_the_neighbour() -> None:
    together = photo()
    ids = together.instances.copy()
    ids[10:70, 45:50] = 2  # the neighbour's arm lies before the person, whose box ends at it
    people = RealPeople([replace(together, instances=ids)])
    people.people = people.people[:1]

    def area(lean: float) -> float:
        crop = CropConfig(p_wide=0.0, p_exact=0.0, p_box=1.0, box_jitter=(0.001, 0.002), box_jitter_bias=lean)
        shares = []
        for seed in range(40):
            sample = people.draw(np.random.default_rng(seed), crop, SIZE)
            shares.append(sample["initial"].sum() / sample["visible"].sum())
        return float(np.mean(shares))

    # boxes that only touch share no pixel: there is nothing to confuse
    assert area(0.5) == pytest.approx(area(0.0), abs=0.05)
    ids[20:30, 40:45] = 2
    people.photos = [replace(together, instances=ids)]
    assert area(0.5) > area(0.0) + 0.1


def test_fraction_of_real_people_matches_p_real(library: Library, data_root: Path) -> None:
    people = RealPeople(list(read_wild(data_root / "wild", "train")))
    streams = {
        share: SampleStream(library, SynthesisConfig(), CropConfig(), seed=2, real=people, p_real=share)
        for share in (0.0, 0.5, 1.0)
    }
    batches = {share: stream.batch(0, 24, SIZE) for share, stream in streams.items()}
    plain = SampleStream(library, SynthesisConfig(), CropConfig(), seed=2).batch(0, 24, SIZE)
    assert all(torch.equal(plain[key], batches[0.0][key]) for key in plain), "runs of before stay as they were"

    def real(batch: dict[str, torch.Tensor]) -> int:
        return sum(torch.equal(k, v) for k, v in zip(batch["known"], batch["visible"], strict=True))

    assert real(batches[0.0]) == 0 and 6 <= real(batches[0.5]) <= 18 and real(batches[1.0]) == 24


def test_photos_without_a_usable_person_are_an_error() -> None:
    empty = replace(photo(), boxes_xyxy={7: (100.0, 5.0, 105.0, 15.0)})
    with pytest.raises(InputError, match="no person of at least 32 px in 1 real photos"):
        RealPeople([empty])
