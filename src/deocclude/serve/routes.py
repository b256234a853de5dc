"""The routes of the service: `/v1`, health, readiness and metrics."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Form as FormBody
from fastapi.security import HTTPBearer

from deocclude._version import __version__
from deocclude.io.results import FILE_KINDS
from deocclude.serve import schemas
from deocclude.serve.errors import STATUS_OF, ServiceError
from deocclude.serve.service import Service, choose_media_type
from deocclude.serve.work import JSON, PNG, ZIP, Job, MediaType

# The gate checks the token, before the body is read; here the scheme is only described.
BEARER = Depends(HTTPBearer(auto_error=False, description="The server's token."))

router = APIRouter()
guarded = APIRouter()
"""Routes that need the token of a service that has one."""


def _errors(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI descriptions of error codes, by HTTP status."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        row = found.setdefault(STATUS_OF[code], {"model": schemas.Error, "description": ""})
        row["description"] = ", ".join(filter(None, (row["description"], code)))
        if STATUS_OF[code] == 503:
            row["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return found


# codes of errors that every route may answer, and those of every route that needs the token
_FROM_ALL = ("cross_origin", "wrong_host", "too_many_bytes", "internal")
_FROM_GUARDED = ("unauthorized", *_FROM_ALL, "shutting_down")
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ANSWER: dict[str, Any] = {
    "model": schemas.Deoccluded,
    "description": "The people made whole, in the media type that Accept prefers.",
    "content": {ZIP: _BINARY, PNG: _BINARY},
}


def service_of(request: Request) -> Service:
    """The service of a request's application."""
    return cast(Service, request.app.state.service)


ServiceNow = Annotated[Service, Depends(service_of)]


@guarded.post(
    "/v1/deocclude", response_class=Response, responses={
        200: _ANSWER, **_errors(*_FROM_GUARDED, "malformed_body", "not_acceptable", "slow_client", "too_many_pixels",
        "invalid_request", "invalid_input", "worker_lost", "queue_full", "out_of_memory", "timed_out"),
    },
)  # fmt: skip
async def deocclude(
    request: Request, service: ServiceNow, form: Annotated[schemas.Form, FormBody(media_type="multipart/form-data")]
) -> Response:
    """Complete the people of a photo."""
    media_type = choose_media_type(request.headers.getlist("accept"), (JSON, ZIP, PNG))
    answer = await service.run(await read_job(form, cast(MediaType, media_type), service), request)
    return Response(answer.content, media_type=answer.media_type, headers={"Cache-Control": "no-store"})


async def read_job(form: schemas.Form, media_type: MediaType, service: Service) -> Job:
    """The job of a form. Raises ServiceError for fields that do not go together."""
    boxes = form.boxes_xyxy.root if form.boxes_xyxy else []
    prompts = form.prompts.root if form.prompts else {}
    most = service.settings.max_masks
    for name, count in (("masks", len(form.masks)), ("boxes_xyxy", len(boxes)), ("prompts", len(prompts))):
        if count > most:
            raise ServiceError("invalid_request", f"{name}: at most {most} are accepted, got {count}")
    if media_type == PNG and form.save:
        raise ServiceError("invalid_request", "save: image/png is the content alone")
    if media_type == JSON and (files := [kind for kind in FILE_KINDS if kind in form.save]):
        raise ServiceError("invalid_request", f"save: {files[0]} comes with Accept: {ZIP} alone")
    return Job(
        photo=await form.photo.read(),
        masks=tuple([await mask.read() for mask in form.masks]),
        boxes_xyxy=tuple(boxes),
        prompts={number: given.model_dump(exclude_none=True) for number, given in prompts.items()},
        options=form.options,
        media_type=media_type,
        save=tuple(dict.fromkeys(form.save)),
    )


@guarded.get("/v1/models", responses=_errors(*_FROM_GUARDED))
async def models(service: ServiceNow) -> schemas.Models:
    """The models of the server's weights folder."""
    return schemas.Models(
        models=[
            schemas.Model(
                name=name, loaded=name == service.settings.model, licence=info.licence, data=info.data,
                input_size_px=info.input_size,
                networks={network.name: network.onnx_sha256 for network in info.networks.values()},
            )
            for name, info in service.models.items()
        ]
    )  # fmt: skip


@router.get("/healthz", responses=_errors(*_FROM_ALL))
async def healthz() -> schemas.Health:
    """Whether the service runs, even where it takes no requests yet or any more."""
    return schemas.Health(status="ok", version=__version__)


@router.get("/readyz", responses=_errors(*_FROM_ALL, "not_ready", "shutting_down"))
async def readyz(service: ServiceNow) -> schemas.Readiness:
    """Whether the service takes requests: a process has opened the model, and no shutdown has begun."""
    service.check_accepting()
    if not service.pool.ready:
        raise ServiceError("not_ready", "the model is being opened", retry_after_s=1)
    return schemas.Readiness(status="ready", workers=service.pool.ready, waiting=service.pool.waiting)


@guarded.get(
    "/metrics", response_class=Response, responses={
        200: {"description": "Prometheus's text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **_errors("unauthorized", *_FROM_ALL),
    },
)  # fmt: skip
async def metrics(service: ServiceNow) -> Response:
    """Metrics for Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
