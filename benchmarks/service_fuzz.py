"""Random requests by the OpenAPI document: `python benchmarks/service_fuzz.py [--examples 200]`

Needs schemathesis (`pip install schemathesis`), which no extra of the package installs. Starts `deocclude serve` with
small limits and lets schemathesis send what the document allows and what it does not, to the service and to the studio.
Most photos and masks are replaced by small pictures, and most ids and numbers by those of an open photo and its person,
so that the other fields reach the pipeline. Exit code 1 where an answer is a 500, or has a
status, media type or JSON that the document does not describe.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from running_service import running_service

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


STUDIO = "/studio/api/photos"
STUDIO_MASKS = ("mask", "front", "keep", "background", "picture")
OPENED: list[str] = []  # the id of the open photo


def with_pictures(_: Any, body: Any) -> Any:
    """A hook of schemathesis: most photos and masks become pictures."""
    if isinstance(body, dict) and random.random() < 0.8:
        if "photo" in body:
            body["photo"] = picture("RGB")
        if isinstance(body.get("masks"), list):
            body["masks"] = [picture("L") for _ in body["masks"]]
    return body


def with_picture_of_studio(context: Any, body: Any) -> Any:
    """A hook: most uploads of the studio are pictures, most masks and former states are real."""
    if context.operation.path == STUDIO and random.random() < 0.8:
        return picture("RGB")
    if isinstance(body, dict) and random.random() < 0.8:
        masks = {name: base64.b64encode(picture("L")).decode() for name in STUDIO_MASKS if body.get(name)}
        body = {**body, **masks}
        if "state" in body:
            body["state"] = "1"
    return body


def with_open_photo(context: Any, parameters: Any) -> Any:
    """A hook: most requests about a photo of the studio are about an open one, with a person of number 1."""
    operation = context.operation
    is_closing = operation.method.upper() == "DELETE" and operation.path.endswith("{photo_id}")
    if not parameters or "photo_id" not in parameters or is_closing or random.random() > 0.9:
        return parameters
    parameters["photo_id"] = open_photo(operation.base_url.rstrip("/"))
    if "number" in parameters and random.random() < 0.8:
        parameters["number"] = 1
    return parameters


def open_photo(url: str) -> str:
    """Id of a photo with one person; it is opened again where the studio has closed it or the person was removed."""
    if OPENED:
        layers = httpx.get(f"{url}{STUDIO}/{OPENED[0]}/layers", timeout=60)
        if layers.is_success and any(one["number"] == 1 for one in layers.json()):
            return OPENED[0]
    answer = httpx.post(f"{url}{STUDIO}", content=picture("RGB"), timeout=60).raise_for_status().json()
    area = {"box_xyxy": [30, 20, 60, 110]}
    httpx.post(f"{url}{STUDIO}/{answer['id']}/people", json=area, timeout=60).raise_for_status()
    OPENED[:] = [answer["id"]]
    return OPENED[0]


def picture(mode: str) -> bytes:
    """A small picture: a bright box on black."""
    image = Image.new(mode, (96, 128))
    image.paste("white", (30, 20, 60, 110))
    with io.BytesIO() as file:
        image.save(file, "PNG")
        return file.getvalue()


if "SCHEMATHESIS_HOOKS" in os.environ:  # this file is imported by schemathesis
    import schemathesis

    schemathesis.hook("map_body")(with_pictures)
    schemathesis.hook("map_body")(with_picture_of_studio)
    schemathesis.hook("map_path_parameters")(with_open_photo)


def main() -> None:
    """Fuzz and exit with what schemathesis says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200, help="for each route")
    parser.add_argument("--routes", default="", help="only routes whose path matches this regular expression")
    options = parser.parse_args()
    with running_service("--timeout", "30") as (url, _):
        fuzz = ["-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", CHECKS]
        here = Path(__file__)
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": here.stem, "PYTHONPATH": _path(here.parent)}
        command = [sys.executable, *fuzz, "--request-timeout", "60", "--max-examples", str(options.examples)]
        command += ["--include-path-regex", options.routes] if options.routes else []
        done = subprocess.run(command, env=environment)
    sys.exit(done.returncode)


def _path(folder: Path) -> str:
    """PYTHONPATH with one folder more."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


if __name__ == "__main__":
    main()
