"""Typical poses: k-means centres of training silhouettes, as (visible, amodal) pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deocclude.data.sources.layers import Library
from deocclude.data.sources.person_frame import frame_affine, into_frame
from deocclude.data.synthesis.config import SynthesisConfig
from deocclude.data.synthesis.rendering import render
from deocclude.data.synthesis.single_person import plan_scene
from deocclude.imaging.arrays import Float32
from deocclude.io.files import write_whole
from deocclude.io.typical_poses import FRAME_CELLS


def typical_poses(
    library: Library, rng: np.random.Generator, config: SynthesisConfig, *, count: int = 64, samples: int = 6000
) -> Float32:
    """Cluster centres (count, 2, 32, 32) float32 in [0, 1] of synthetically occluded people.

    [:, 0] is the visible mask, [:, 1] the amodal mask, both in the person frame of the visible mask.
    MiniBatchKMeans with k-means++ initialisation, as Zhou et al. (CVPR 2021) compute their 64 centres.

    Args:
        library: people and occluders.
        rng: draws the scenes and seeds k-means.
        config: how scenes are composed.
        count: number of centres.
        samples: number of clustered scenes.
    """
    from sklearn.cluster import MiniBatchKMeans

    size, reach = 128, 1.2  # scenes are rendered for [-1.2, 1.2]^2 in person coordinates
    s = size / (2 * reach)
    to_frame = np.array([[s, 0, size / 2 - 0.5], [0, s, size / 2 - 0.5]])
    pairs: list[Float32] = []
    while len(pairs) < samples:
        scene = render(plan_scene(library, rng, config), to_frame, (size, size))
        if scene.visible.sum() < 30:
            continue
        affine = frame_affine(scene.visible)
        pairs.append(np.stack([into_frame(scene.visible, affine), into_frame(scene.amodal, affine)]))
    vectors = np.stack(pairs).reshape(len(pairs), -1)
    kmeans = MiniBatchKMeans(count, init="k-means++", n_init=3, batch_size=1024, random_state=int(rng.integers(2**31)))
    centres = kmeans.fit(vectors).cluster_centers_.reshape(count, 2, FRAME_CELLS, FRAME_CELLS)
    poses: Float32 = centres.clip(0, 1).astype(np.float32)
    return poses


def write_poses(path: Path, centres: np.ndarray) -> None:
    """Write centres, (K, 2, 32, 32), as .npz; an existing file is replaced only by a complete one.

    Raises DeoccludeError where the file cannot be written.
    """
    write_whole(path, lambda file: np.savez_compressed(file, centres=centres))
