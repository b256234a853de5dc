"""Random requests by the OpenAPI document: `python benchmarks/service_fuzz.py [--examples 200]`

Needs schemathesis (`pip install schemathesis`), which no extra of the package installs. Starts `deocclude serve` with
small limits and lets schemathesis send what the document allows and what it does not; most photos and masks are
replaced by small pictures, so that the other fields reach the pipeline. Exit code 1 where an answer is a 500, or has a
status, media type or JSON that the document does not describe.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from running_service import running_service

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def with_pictures(_: Any, body: Any) -> Any:
    """A hook of schemathesis: most photos and masks become pictures."""
    if isinstance(body, dict) and random.random() < 0.8:
        if "photo" in body:
            body["photo"] = picture("RGB")
        if isinstance(body.get("masks"), list):
            body["masks"] = [picture("L") for _ in body["masks"]]
    return body


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


def main() -> None:
    """Fuzz and exit with what schemathesis says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200, help="for each route")
    options = parser.parse_args()
    with running_service("--timeout", "30") as (url, _):
        fuzz = ["-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", CHECKS]
        here = Path(__file__)
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": here.stem, "PYTHONPATH": _path(here.parent)}
        command = [sys.executable, *fuzz, "--max-examples", str(options.examples)]
        done = subprocess.run(command, env=environment)
    sys.exit(done.returncode)


def _path(folder: Path) -> str:
    """PYTHONPATH with one folder more."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


if __name__ == "__main__":
    main()
