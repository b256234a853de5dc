"""Coherent copies: neighbouring patches come from neighbouring places of the visible body where that costs little.

Each target patch may take over the source of a neighbour, moved by their distance (Ashikhmin 2001, Synthesizing natural
textures; propagation in PatchMatch, Barnes et al. 2009). The sum of distances and of a fixed penalty for each pair of
neighbours with unrelated sources is lowered by iterated conditional modes (Besag 1986). Alone, nearest patches are the
smoothest ones, and their mean is flat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deocclude.imaging.arrays import Float32, Int

_NEIGHBOURS = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])  # (y, x), in steps of the targets' grid
_LABEL = np.array([1 << 32, 2, 1])  # a source's row, column and mirroring as one number
_ROUNDS = 2  # over all targets
_PENALTY = 0.25  # of neighbours with unrelated sources, over the median distance of targets and their nearest sources


@dataclass(frozen=True)
class SourceTable:
    """Descriptors of all source patches of a level.

    Attributes:
        index: (h, w) int: the row of the patch that is centred at a pixel, -1 where none is wholly known.
        descriptors: (2 N, K) float32 whole numbers: the N patches, followed by their mirror images.
    """

    index: Int
    descriptors: Float32

    def distances(self, targets: Float32, sources: Int) -> Float32:
        """Squared distances of targets and sources.

        Args:
            targets: (..., K) float32 whole numbers.
            sources: (..., 3) int: row and column of the centre, and 1 for the mirror image, else 0.

        Returns:
            (...) float32; infinite where no source patch has that centre.
        """
        y, x, mirrored = np.moveaxis(sources, -1, 0)
        height, width = self.index.shape
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        rows = self.index[np.where(inside, y, 0), np.where(inside, x, 0)]
        usable = inside & (rows >= 0)
        difference = targets - self.descriptors[np.where(usable, rows + mirrored * (len(self.descriptors) // 2), 0)]
        distances: Float32 = np.where(usable, np.einsum("...k,...k->...", difference, difference), np.float32(np.inf))
        return distances


def spread_sources(table: SourceTable, targets: Float32, cells: Int, step: int, sources: Int) -> tuple[Int, Float32]:
    """Let neighbouring targets share sources.

    Equal costs are decided for a target's own source, then for that of its right, left, lower and upper neighbour.

    Args:
        table: the source patches.
        targets: (N, K) float32 whole numbers: descriptors.
        cells: (N, 2) int from 0 on: places of the targets on their grid.
        step: pixels from one place of the grid to the next.
        sources: (N, 3) int: for each target a source of the table: row and column of its centre, and 1 for the mirror
            image, else 0.

    Returns:
        (N, 3) int sources, and (N,) float32 their distances from the targets.
    """
    sources, distances = sources.copy(), table.distances(targets, sources)
    penalty = np.float32(_PENALTY * np.median(distances))
    places = np.full(cells.max(axis=0) + 3, -1)  # with a margin; the target of each place
    places[tuple(cells.T + 1)] = np.arange(len(cells))
    for colour in _ROUNDS * [0, 1]:
        chosen = np.flatnonzero(cells.sum(axis=1) % 2 == colour)  # of a chessboard: their neighbours are the others
        y, x = np.moveaxis(cells[chosen] + 1 + _NEIGHBOURS[:, None], -1, 0)
        neighbours = places[y, x]  # (4, n)
        proposed = sources[neighbours]
        proposed[..., 0] -= step * _NEIGHBOURS[:, :1]
        proposed[..., 1] -= step * _NEIGHBOURS[:, 1:] * (1 - 2 * proposed[..., 2])
        candidates = np.concatenate([sources[chosen][None], proposed])  # (5, n, 3)
        labels = candidates @ _LABEL
        unrelated = (labels[:, None] != labels[1:]) & (neighbours >= 0)  # (5, 4, n)
        is_new = unrelated[0]  # the others have no neighbour, or propose the own source
        candidate_distances = np.full(labels.shape, np.inf, np.float32)
        candidate_distances[0] = distances[chosen]
        candidate_distances[1:][is_new] = table.distances(targets[chosen[np.nonzero(is_new)[1]]], proposed[is_new])
        best = (candidate_distances + penalty * unrelated.sum(axis=1)).argmin(axis=0)
        sources[chosen] = candidates[best, np.arange(len(chosen))]
        distances[chosen] = candidate_distances[best, np.arange(len(chosen))]
    return sources, distances
