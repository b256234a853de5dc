"""The ASGI application: routes, gate and errors around one service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from deocclude._version import __version__
from deocclude.serve.errors import STATUS_OF, ServiceError
from deocclude.serve.gate import Gate, refusal
from deocclude.serve.pool import Start
from deocclude.serve.routes import BEARER, guarded, router
from deocclude.serve.service import Service
from deocclude.serve.settings import ServeSettings
from deocclude.serve.studio.routes import router as studio_router
from deocclude.serve.work import Answer, Job, Refusal


def create_app(
    settings: ServeSettings = ServeSettings(), start: Start[Job, Answer | Refusal] | None = None
) -> FastAPI:  # fmt: skip
    """The application of a new service, which is `app.state.service`. Its processes start with the server.

    Args:
        settings: limits and model.
        start: opens the work of a process; None: the model of the settings.

    Raises:
        WeightsError: the manifest of the weights cannot be read.
    """
    service = Service(settings, start)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.pool.open()
        yield
        if (studio := getattr(app.state, "studio", None)) is not None:
            studio.close()
        await service.pool.close()

    app = FastAPI(
        title="deocclude", version=__version__, lifespan=lifespan, redirect_slashes=False,
        docs_url=None, redoc_url=None,  # these pages would load files from other sites
        summary="A photo goes in, every partly hidden person comes out whole.",
    )  # fmt: skip
    app.state.service = service
    app.include_router(router)
    app.include_router(guarded, dependencies=[BEARER] if settings.token else [])
    app.include_router(studio_router)
    app.add_middleware(Gate, service=service)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_bug)
    return app


async def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    """The answer to a ServiceError, or to an HTTP error of the framework such as an unknown path."""
    if isinstance(error, ServiceError):
        return refusal(error)
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "malformed_body")
    answer = refusal(ServiceError(code, error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    """The answer to a request whose fields do not fit the schema: the first problem with its place."""
    first: Mapping[str, Any] = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    place = ".".join(str(part) for part in first.get("loc", ())[1:])
    problem = str(first.get("msg", "not valid"))
    if "Expected UploadFile" in problem:
        problem = "expected a file, got text"
    return refusal(ServiceError("invalid_request", f"{place or 'the request'}: {problem}"))


async def _on_bug(_: Request, error: Exception) -> JSONResponse:
    """The answer to any other exception, which tells the client nothing of it."""
    # the framework logs the traceback, and raises the error again after this answer
    return JSONResponse({"error": {"code": "internal", "message": "the service failed"}}, STATUS_OF["internal"])
