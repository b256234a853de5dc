"""The page's own files and the bundled samples: names listed once, from the package; no client's path is opened."""

from __future__ import annotations

from functools import cache
from importlib import resources

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SAMPLES = ("street", "astronaut")  # photos that the page offers
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def page_files() -> dict[str, tuple[bytes, str]]:
    """Content and media type of each file of the page, by its name."""
    folder = resources.files("deocclude.serve.studio").joinpath("static")
    files = {}
    for entry in folder.iterdir():
        suffix = f".{entry.name.rpartition('.')[2]}"
        if suffix in _TYPES:
            files[entry.name] = (entry.read_bytes(), _TYPES[suffix])
    return files


@cache
def sample(name: str) -> bytes:
    """The bytes of a photo of SAMPLES."""
    if name not in SAMPLES:
        raise ValueError(f"no sample {name!r}")
    return resources.files("deocclude").joinpath("assets").joinpath(f"{name}.jpg").read_bytes()
