"""The studio's routes: the page at /, and what it asks for below /studio/api.

An application includes `router`; it may set `app.state.studio` before, else one is made of the service's settings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, HTTPException, Query, Request, Response

from deocclude.errors import InputError
from deocclude.imaging.compositing import PARSING_PALETTE
from deocclude.imaging.crop import Region
from deocclude.inference.completion_prompts import JOINTS
from deocclude.serve.schemas import Error
from deocclude.serve.service import watched
from deocclude.serve.studio import conversion, downloads, page, steps
from deocclude.serve.studio.guarding import GuardedRoute
from deocclude.serve.studio.messages import (
    AboutView,
    ChangeView,
    HypothesisView,
    LayerView,
    PhotoView,
    PlaceView,
    SentArrangement,
    SentPerson,
    SentPrompts,
    SentSample,
    SentState,
)
from deocclude.serve.studio.poses import pose_sheet, typical_poses
from deocclude.serve.studio.sessions import Session
from deocclude.serve.studio.studio import Studio, studio_of
from deocclude.serve.studio.work_queue import Caller
from deocclude.types import PARSING_NAMES

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error, "description": description}
    for status, description in (
        (400, "a body that cannot be read"),
        (401, "the token is missing"),
        (403, "a request of another site"),
        (404, "no such open photo"),
        (408, "the body came too slowly"),
        (410, "a former state that is no longer kept"),
        (413, "too many bytes or pixels"),
        (422, "input that cannot be used"),
        (500, "a fault of the server"),
        (503, "too many requests wait"),
        (504, "the step took too long: everything is as it was before"),
    )
}
router = APIRouter(route_class=GuardedRoute, tags=["studio"], responses=_ERRORS)

TheStudio = Annotated[Studio, Depends(studio_of)]
Ticket = Annotated[str, Query(max_length=64, description="name of the request, to ask for its place in the queue")]


async def _caller(request: Request, ticket: Ticket = "") -> AsyncIterator[Caller]:
    """Who sent a request, and whether it has gone: a connection's end comes after the body's."""
    await request.body()
    with watched(request) as gone:
        yield Caller(ticket, gone)


TheCaller = Annotated[Caller, Depends(_caller)]

_API = "/studio/api"
_PHOTO = f"{_API}/photos/{{photo_id}}"
_PERSON = f"{_PHOTO}/people/{{number}}"


def _of_type(media_type: str) -> dict[str, Any]:
    """Options of a route that answers with a file. A JSON file is described as an object, others as bytes."""
    is_json = media_type == "application/json"
    schema = {"type": "object"} if is_json else {"type": "string", "format": "binary"}
    content = {media_type: {"schema": schema}}
    return {"response_class": Response, "responses": {200: {"description": "the file", "content": content}}}


# The page, its files and what it needs once.


@router.get("/", include_in_schema=False)
def index() -> Response:
    """The page."""
    return _page_file("index.html")


@router.get("/studio/static/{name}", include_in_schema=False)
def static(name: str) -> Response:
    """A file of the page."""
    if name not in page.page_files():
        raise HTTPException(404, "no such file")
    return _page_file(name)


@router.get("/studio/samples/{name}.jpg", include_in_schema=False)
def sample(name: str) -> Response:
    """A bundled photo, for its button."""
    if name not in page.SAMPLES:
        raise HTTPException(404, "no such sample")
    return _image(page.sample(name), "image/jpeg")


@router.get(f"{_API}/poses.png", **_of_type("image/png"))
def poses() -> Response:
    """The typical poses side by side, 32 pixels each: white, the silhouette as alpha."""
    return _image(pose_sheet(), "image/png")


@router.get(f"{_API}/about")
def about(studio: TheStudio, background: BackgroundTasks) -> AboutView:
    """Samples, names and limits. The model is opened meanwhile."""
    background.add_task(studio.prepare)
    return AboutView(
        samples=list(page.SAMPLES),
        joints=list(JOINTS),
        parsing_names=list(PARSING_NAMES),
        parsing_palette=PARSING_PALETTE.tolist(),
        poses=len(typical_poses()),
        max_bytes=studio.limits.max_bytes,
        max_pixels=studio.limits.max_pixels,
    )


@router.get(f"{_API}/queue/{{ticket}}")
def place(ticket: str, studio: TheStudio) -> PlaceView:
    """The place of a request in the queue."""
    return PlaceView(position=studio.queue.position(ticket))


# Opening, showing and closing photos.

_BODY = {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}


@router.post(f"{_API}/photos", openapi_extra={"requestBody": _BODY})
async def upload(
    request: Request, studio: TheStudio, caller: TheCaller, name: Annotated[str, Query(max_length=300)] = "photo"
) -> PhotoView:
    """Open the photo of the body. Its people are found and completed."""
    return await studio.open(await request.body(), name, caller)


@router.post(f"{_API}/samples")
async def open_sample(sent: SentSample, studio: TheStudio, caller: TheCaller) -> PhotoView:
    """Open a bundled photo."""
    if sent.sample not in page.SAMPLES:
        raise InputError(f"there is no sample {sent.sample!r}")
    return await studio.open(page.sample(sent.sample), f"{sent.sample}.jpg", caller)


@router.get(f"{_PHOTO}/photo.jpg", **_of_type("image/jpeg"))
def photo(photo_id: str, studio: TheStudio) -> Response:
    """The upright photo, for display."""
    result = studio.result(photo_id)
    return _image(conversion.jpeg(result.image, result.icc_profile), "image/jpeg")


@router.delete(_PHOTO, status_code=204)
def close(photo_id: str, studio: TheStudio, background: BackgroundTasks) -> None:
    """Close a photo: nothing of it is kept."""
    studio.sessions.close(photo_id)
    background.add_task(studio.forget_closed)


# Changing people. Every answer has the people that changed.


@router.put(f"{_PERSON}/prompts")
async def prompt(photo_id: str, number: int, sent: SentPrompts, studio: TheStudio, caller: TheCaller) -> ChangeView:
    """Complete a person with these prompts, in place of all former ones; without any as found."""
    return await studio.change(photo_id, caller, partial(steps.complete, number, sent))


@router.post(f"{_PHOTO}/people")
async def add(photo_id: str, sent: SentPerson, studio: TheStudio, caller: TheCaller) -> ChangeView:
    """Add a person by a box or a visible mask."""
    return await studio.change(photo_id, caller, partial(steps.add, sent))


@router.put(f"{_PERSON}/visible")
async def replace(photo_id: str, number: int, sent: SentPerson, studio: TheStudio, caller: TheCaller) -> ChangeView:
    """Give a person another visible mask, or a box to find it in."""
    return await studio.change(photo_id, caller, partial(steps.replace, number, sent))


@router.delete(_PERSON)
async def remove(photo_id: str, number: int, studio: TheStudio, caller: TheCaller) -> ChangeView:
    """Take a person out."""
    return await studio.change(photo_id, caller, partial(steps.remove, number))


@router.put(f"{_PHOTO}/state")
async def restore(photo_id: str, sent: SentState, studio: TheStudio, caller: TheCaller) -> ChangeView:
    """Return to a former state: everyone is exactly as they were."""
    return await studio.restore(photo_id, caller, sent.state)


@router.get(f"{_PERSON}/hypotheses")
async def hypotheses(photo_id: str, number: int, studio: TheStudio, caller: TheCaller) -> list[HypothesisView]:
    """At most four completions of a person, the most probable first."""
    return await studio.compute(photo_id, caller, partial(steps.hypotheses, number))


# The scene as layers.


@router.get(f"{_PHOTO}/layers")
def layers(photo_id: str, studio: TheStudio) -> list[LayerView]:
    """The background and every whole person, bottom to top."""
    result = studio.result(photo_id)
    height, width = result.image.shape[:2]
    places = [(0, Region(0, 0, height, width)), *((person.id, person.region) for person in result.back_to_front)]
    return [
        LayerView(number=number, left=place.left, top=place.top, width=place.size_hw[1], height=place.size_hw[0])
        for number, place in places
    ]


@router.get(f"{_PHOTO}/layers/0.png", **_of_type("image/png"))
async def filled(photo_id: str, studio: TheStudio, caller: TheCaller) -> Response:
    """The scene without people, filled. This takes seconds, once after each change."""
    return _image(await studio.compute(photo_id, caller, steps.background), "image/png")


@router.get(f"{_PHOTO}/layers/{{number}}.png", **_of_type("image/png"))
def layer(photo_id: str, number: int, studio: TheStudio) -> Response:
    """A person's layer."""
    return _image(downloads.person_png(studio.result(photo_id), number, "rgba"), "image/png")


@router.post(f"{_PHOTO}/arranged.ora", **_of_type("image/openraster"))
async def arranged(photo_id: str, sent: SentArrangement, studio: TheStudio, caller: TheCaller) -> Response:
    """An OpenRaster file of the layers as arranged."""
    session = studio.sessions.get(photo_id)
    data = await studio.compute(photo_id, caller, partial(steps.arranged, sent, 2 * studio.limits.max_pixels))
    return _download(data, "image/openraster", session, "layers.ora")


# Files of a photo and of its people. They read a finished result: nothing waits for the queue.


@router.get(f"{_PERSON}/{{kind}}.png", **_of_type("image/png"))
def person_file(photo_id: str, number: int, kind: downloads.PersonFile, studio: TheStudio) -> Response:
    """A person's cut-out, the hidden part of it alone, or a mask."""
    session = studio.sessions.get(photo_id)
    data = downloads.person_png(session.result, number, kind)
    return _download(data, "image/png", session, f"person{number}.{kind}.png")


@router.get(f"{_PHOTO}/recovered.png", **_of_type("image/png"))
def recovered(photo_id: str, studio: TheStudio) -> Response:
    """The photo with every hidden part recovered."""
    session = studio.sessions.get(photo_id)
    result = session.result
    return _download(conversion.png(result.content, result.icc_profile), "image/png", session, "deoccluded.png")


@router.get(f"{_PHOTO}/masks.zip", **_of_type("application/zip"))
def masks(photo_id: str, studio: TheStudio) -> Response:
    """Every mask of every person."""
    session = studio.sessions.get(photo_id)
    data = downloads.masks_zip(session.result, downloads.file_stem(session.name))
    return _download(data, "application/zip", session, "masks.zip")


@router.get(f"{_PHOTO}/result.json", **_of_type("application/json"))
def document(photo_id: str, studio: TheStudio) -> Response:
    """The result as COCO JSON."""
    session = studio.sessions.get(photo_id)
    return _download(downloads.coco_json(session.result, session.name), "application/json", session, "deoccluded.json")


def _page_file(name: str) -> Response:
    """The answer with a file of the page, and its security headers."""
    content, media_type = page.page_files()[name]
    headers = {
        "Content-Security-Policy": page.CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return Response(content, media_type=media_type, headers=headers)


def _image(data: bytes, media_type: str) -> Response:
    """The answer with a picture, which browsers do not keep."""
    return Response(data, media_type=media_type, headers={"Cache-Control": "no-store"})


def _download(data: bytes, media_type: str, session: Session, ending: str) -> Response:
    """The answer with a file that the browser saves under the photo's name with an ending."""
    name = f"{downloads.file_stem(session.name)}.{ending}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(data, media_type=media_type, headers=headers)
