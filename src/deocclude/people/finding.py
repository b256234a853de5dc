"""Detection of the people of an image: prompts from a segmenter's masks or from the detector's boxes."""

from __future__ import annotations

from deocclude.imaging.arrays import ImageU8
from deocclude.inference.settings import DeduplicationSettings
from deocclude.people.deduplicate import suppress_duplicates
from deocclude.people.detector import PeopleFinder
from deocclude.people.instances import Segmenter, as_instances
from deocclude.people.prompts import Prompt
from deocclude.people.request import Request


def segmented_prompts(segmenter: Segmenter, photo: ImageU8, settings: DeduplicationSettings) -> list[Prompt]:
    """The masks of a segmenter without duplicates, as prompts.

    Args:
        segmenter: any callable from an image to masks.
        photo: (H, W, 3) uint8 RGB.
        settings: what counts as a duplicate.

    Raises:
        InputError: the segmenter returned something else.
    """
    found = as_instances(segmenter(photo), photo.shape[:2])
    return [Prompt(one.mask, one.score) for one in suppress_duplicates(found, settings)]


def detected_prompts(detector: PeopleFinder, photo: ImageU8, request: Request) -> list[Prompt]:
    """The boxes of the detector, as prompts.

    Args:
        detector: the model's own detector.
        photo: (H, W, 3) uint8 RGB.
        request: a least score below the detector's applies. A higher one filters later (`Request.pick`): it changes
            neither numbers nor masks of the others.
    """
    least = detector.min_score if request.min_score is None else min(request.min_score, detector.min_score)
    detections = detector(photo, min_score=least)
    return [Prompt(one.box_xyxy, one.score, from_detector=True, least_score=least) for one in detections]
