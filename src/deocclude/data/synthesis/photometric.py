"""Photometric augmentation of rendered scenes: light, colour, noise and compression."""

from __future__ import annotations

import cv2
import numpy as np

Rng = np.random.Generator


def photometric(images: list[np.ndarray], rng: Rng) -> list[np.ndarray]:
    """The same random light, colour and grey treatment for every (H, W, 3) uint8 image of the list."""
    contrast, gamma = rng.uniform(0.7, 1.3), np.exp(rng.uniform(-0.35, 0.35))
    gains = contrast * rng.uniform(0.9, 1.1, 3)
    shift = rng.uniform(-20, 20)
    levels = np.arange(256) / 255.0
    table = np.stack([((levels**gamma) * 255 - 128) * g + 128 + shift for g in gains], axis=1)
    table = table.clip(0, 255).astype(np.uint8).reshape(1, 256, 3)
    grey = rng.random() < 0.06
    saturation = rng.uniform(0.6, 1.3)
    out = []
    for image in images:
        image = cv2.LUT(image, table)
        grey_image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        out.append(grey_image if grey else cv2.addWeighted(image, saturation, grey_image, 1 - saturation, 0))
    return out


def camera(images: list[np.ndarray], rng: Rng) -> list[np.ndarray]:
    """The same blur, noise and JPEG artefacts, each now and then, on every (H, W, 3) uint8 image of the list.

    It conceals the seams of pasting. Photo and ground truth get the same augmentation.
    """
    if rng.random() < 0.25:
        sigma = rng.uniform(0.4, 1.1)
        images = [cv2.GaussianBlur(image, (0, 0), sigma) for image in images]
    if rng.random() < 0.15:
        noise = rng.normal(0, rng.uniform(2, 8), images[0].shape).astype(np.float32)
        images = [(image + noise).clip(0, 255).astype(np.uint8) for image in images]
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 92))]
        images = [_compressed(image, quality) for image in images]
    return images


def _compressed(image: np.ndarray, quality: list[int]) -> np.ndarray:
    """The image after JPEG compression. quality: encoder settings of OpenCV."""
    decoded = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV cannot decode a JPEG that it has encoded")
    return decoded
