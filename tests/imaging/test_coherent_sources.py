"""Neighbouring targets share sources where that costs little."""

from __future__ import annotations

import numpy as np
import pytest

import deocclude.imaging.exemplar_synthesis as exemplar
from cloth import cloth
from deocclude.imaging.coherent_sources import SourceTable, spread_sources


def table(height: int = 4, width: int = 9, unusable: tuple[tuple[int, int], ...] = ()) -> SourceTable:
    """A source at every pixel but the unusable ones; the descriptor of row y, column x is (10 y, x)."""
    index = np.full((height, width), -1)
    usable = np.ones((height, width), bool)
    for y, x in unusable:
        usable[y, x] = False
    y, x = np.nonzero(usable)
    index[usable] = np.arange(len(y))
    descriptors = np.stack([10 * y, x], axis=1).astype(np.float32)
    return SourceTable(index, np.concatenate([descriptors, descriptors + 100]))


# from a cell to the one on its left, the source moves one to the left, in a mirror image one to the right
@pytest.mark.parametrize(("mirrored", "expected"), [(0, [1, 3, 0]), (1, [1, 5, 1])])
def test_a_target_takes_over_the_moved_source_of_its_neighbour(mirrored: int, expected: list[int]) -> None:
    # The targets lie one step of a pixel apart. The right one's source is row 1, column 4; it fits the left one nearly.
    cells = np.array([(0, 1), (0, 0)])
    sources = np.array([(1, 4, mirrored), (0, 0, 0)])
    targets = np.array([(10 + 100 * mirrored, 4 + 100 * mirrored)] * 2, np.float32)
    targets[0, 0] += 3
    found, distances = spread_sources(table(), targets, cells, 1, sources)
    assert found.tolist() == [[1, 4, mirrored], expected]
    assert distances[1] == 1


def test_a_source_that_is_not_wholly_known_is_never_taken_over() -> None:
    cells, sources = np.array([(0, 1), (0, 0)]), np.array([(1, 4, 0), (0, 0, 0)])
    targets = np.array([(13, 4), (10, 4)], np.float32)
    found, _ = spread_sources(table(unusable=((1, 3),)), targets, cells, 1, sources)
    assert found.tolist() == sources.tolist()
    at_the_edge = np.array([(1, 0, 0), (0, 0, 0)])
    found, _ = spread_sources(table(), targets, cells, 1, at_the_edge)
    assert found.tolist() == at_the_edge.tolist()


def test_a_much_better_own_source_stays() -> None:
    cells, sources = np.array([(0, 1), (0, 0)]), np.array([(1, 4, 0), (2, 8, 0)])
    targets = np.array([(13, 4), (20, 8)], np.float32)
    found, distances = spread_sources(table(), targets, cells, 1, sources)
    assert found.tolist() == sources.tolist() and distances.tolist() == [9, 0]


def related_share(found: exemplar.Composed) -> float:
    """The share of neighbouring copied pixels, left and right, whose sources are neighbours too."""
    y, x = np.moveaxis(found.source_yx, -1, 0)
    both = (y[:, 1:] >= 0) & (y[:, :-1] >= 0)
    step = np.where(found.mirrored[:, 1:], -1, 1)
    related = (y[:, 1:] == y[:, :-1]) & (x[:, 1:] - x[:, :-1] == step)
    return float(related[both].mean())


def test_copies_are_coherent(monkeypatch: pytest.MonkeyPatch) -> None:
    image, known, region, guide = cloth()
    together = exemplar.compose(image, known, region, guide)
    monkeypatch.setattr(
        exemplar, "spread_sources", lambda table, targets, _, __, own: (own, table.distances(targets, own))
    )
    alone = exemplar.compose(image, known, region, guide)
    assert together is not None and alone is not None
    assert related_share(together) > related_share(alone) + 0.1
    hidden = region & ~known
    assert together.rgb[hidden].std() > alone.rgb[hidden].std(), "less is averaged away"


def test_mirrored_descriptors_are_those_of_mirrored_patches() -> None:
    patches = np.random.default_rng(0).integers(0, 256, (20, 49, 3), np.uint8)
    plain, mirrored = exemplar._patch_descriptors(patches), exemplar._patch_descriptors(exemplar._mirrored(patches))
    assert np.array_equal(plain * exemplar._mirror_signs(), mirrored)
