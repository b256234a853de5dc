"""Detection of the people of an image: prompts from a segmenter's masks or from the detector's boxes."""

from __future__ import annotations

from deocclude.imaging.arrays import ImageU8
from deocclude.inference.settings import DeduplicationSettings
from deocclude.people.choice import keep
from deocclude.people.deduplicate import suppress_duplicates
from deocclude.people.detector import PeopleFinder
from deocclude.people.instances import Segmenter, as_instances
from deocclude.people.prompts import Prompt
from deocclude.people.request import Request


def segmented_prompts(
    segmenter: Segmenter, photo: ImageU8, request: Request, settings: DeduplicationSettings
) -> list[Prompt]:
    """The masks of a segmenter without duplicates, as prompts.

    Args:
        segmenter: any callable from an image to masks.
        photo: (H, W, 3) uint8 RGB.
        request: its least score and height apply; the least score is 0 unless given.
        settings: what counts as a duplicate.

    Raises:
        InputError: the segmenter returned something else.
    """
    least = request.min_score or 0.0
    found = keep(as_instances(segmenter(photo), photo.shape[:2]), least, request.min_height_px or 0.0)
    return [Prompt(one.mask, one.score, least_score=least) for one in suppress_duplicates(found, settings)]


def detected_prompts(detector: PeopleFinder, photo: ImageU8, request: Request) -> list[Prompt]:
    """The boxes of the detector, as prompts.

    Args:
        detector: the model's own detector.
        photo: (H, W, 3) uint8 RGB.
        request: its least score and height apply; the least score is the detector's unless given.
    """
    least = detector.min_score if request.min_score is None else request.min_score
    detections = detector(photo, min_score=least, min_height_px=request.min_height_px or 0.0)
    return [Prompt(one.box_xyxy, one.score, from_detector=True, least_score=least) for one in detections]
