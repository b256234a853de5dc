"""HTML pages with embedded images: their number, their people, and their captions."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from deocclude.data.inspection.html_page import show_page
from deocclude.data.trainsets.build import build, open_records
from deocclude.data.trainsets.photo import BuildSettings
from deocclude.errors import InputError
from drawn_photos import draw_photos


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(content))) for content in found]


def test_html_page_of_photos(tmp_path: Path) -> None:
    folder = draw_photos(tmp_path / "a<b", 5)
    page, count = show_page(str(folder), skip=3, limit=10)
    assert count == len(pictures(page)) == 2
    assert pictures(page)[0].size == (320, 180)
    assert re.findall(r"<figcaption>([^<]+)", page) == [f"masks/photo{n:02d} · 1 people · no licence" for n in (3, 4)]
    assert "a&lt;b: 4 to 5" in page and "a<b" not in page
    with pytest.raises(InputError, match="nothing from number 5 on"):
        show_page(str(folder), skip=5)


def test_html_page_of_a_built_set(tmp_path: Path) -> None:
    folder = draw_photos(tmp_path / "photos", 2)
    settings = BuildSettings(parser="own", licence="CC BY 4.0")
    build(open_records(str(folder), "masks"), str(tmp_path / "set"), settings, source=str(folder))
    page, count = show_page(str(tmp_path / "set"), limit=3)
    captions = re.findall(r"<figcaption>([^<]+)", page)
    assert count == 3 and captions == [
        "person · masks/photo00/1 · train · CC BY 4.0",
        "background · masks/photo00/background · train · CC BY 4.0",
        "person · masks/photo01/1 · train · CC BY 4.0",
    ]
    first, place, _ = pictures(page)
    assert first.width > place.width, "the person's parts are beside the person"
