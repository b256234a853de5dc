"""From a completed body to the Person of a result."""

from __future__ import annotations

from deocclude.inference.body import Body
from deocclude.inference.content_recovery import Recovery, recover_hidden
from deocclude.inference.scene import Scene
from deocclude.types import Person


def recover_person(recover: Recovery, scene: Scene, number: int, body: Body) -> Person:
    """A body of a scene as a person, with the hidden part recovered.

    Args:
        recover: stage 2.
        scene: the image with all bodies.
        number: the person's number.
        body: the body of that number.
    """
    visible, invisible = body.visible, body.amodal & ~body.visible
    box, colours = recover_hidden(recover, scene.photo, body.region, visible, invisible, body.in_crop)
    return Person(
        id=number,
        score=body.score,
        hidden_probability=body.hidden_probability,
        photo=scene.photo,
        region=body.region,
        visible_part=body.visible,
        amodal_part=body.amodal,
        amodal_prob_part=body.amodal_prob,
        parsing_part=body.parsing,
        hidden_region=box,
        hidden_rgb=colours,
        truncating_edges=scene.truncations[number].edges,
        left_alone=body.left_alone,
        sample_probability=body.sample_probability,
    )
