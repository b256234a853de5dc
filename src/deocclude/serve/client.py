"""A typed client of the service.

with Client("http://127.0.0.1:7860") as client:
    result = client.deocclude("photo.jpg", save=["rgba"])
    result.people[0].amodal_mask
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from deocclude.errors import DeoccludeError, InputError, MissingExtraError
from deocclude.imaging.arrays import ImageU8, Mask
from deocclude.imaging.boxes import BoxXyxy
from deocclude.imaging.depth_order import Occlusion
from deocclude.imaging.rle import decode_rle, encode_rle
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.io.images import MaskSource, load_mask, load_photo, to_image

try:
    import httpx
except ModuleNotFoundError as error:
    raise MissingExtraError("the client of the service", "serve") from error

PhotoSource = str | os.PathLike[str] | bytes | Image.Image | ImageU8
"""A photo's path, the bytes of its file, a Pillow image, or an (H, W, 3) uint8 RGB array."""

_JSON, _ZIP, _PNG = "application/json", "application/zip", "image/png"


class ServerError(DeoccludeError):
    """The service refused a request or could not be reached.

    Attributes:
        status: HTTP status; 0 where no answer came.
        code: the service's code, such as "queue_full"; "no_answer" where none came.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.status, self.code, self.message = status, code, message

    def __reduce__(self) -> tuple[type[ServerError], tuple[Any, ...]]:
        """Pickle the constructor's arguments."""
        return type(self), (self.status, self.code, self.message)


@dataclass(frozen=True, eq=False)
class ClientPerson:
    """One person of an answer; fields are those of `deocclude.Person`.

    Attributes:
        depth: 0 is the furthest person.
        amodal_mask: (H, W) bool.
        visible_mask: (H, W) bool, a subset of `amodal_mask`.
        images: requested pictures by kind, such as "rgba": (H, W, 4) uint8.
    """

    id: int
    score: float
    box_xyxy: tuple[int, int, int, int]
    visible_box_xyxy: tuple[int, int, int, int]
    hidden_fraction: float
    hidden_probability: float
    truncated_by: tuple[str, ...]
    left_alone: str | None
    depth: int
    amodal_mask: Mask = field(repr=False)
    visible_mask: Mask = field(repr=False)
    images: Mapping[str, ImageU8] = field(repr=False)

    @property
    def invisible_mask(self) -> Mask:
        """(H, W) bool: the hidden part."""
        hidden: Mask = self.amodal_mask & ~self.visible_mask
        return hidden


@dataclass(frozen=True, eq=False)
class ClientResult:
    """An answer.

    Attributes:
        size_hw: size of the masks: the upright photo's, or that of its canvas with `uncrop`.
        photo_box_xyxy: the photo's place on that canvas; None without one.
        images: requested pictures of the whole photo by kind, such as "content": (H, W, 3) uint8.
    """

    model: str
    device: str
    size_hw: tuple[int, int]
    photo_box_xyxy: tuple[int, int, int, int] | None
    people: tuple[ClientPerson, ...]
    occlusions: tuple[Occlusion, ...]
    timings_s: Mapping[str, float]
    images: Mapping[str, ImageU8] = field(repr=False)


class Client:
    """A connection to a service. Threads may share it; close it, or use it as a context."""

    def __init__(
        self, url: str = "http://127.0.0.1:7860", *, token: str | None = None, timeout_s: float = 180.0,
        retries: int = 5, max_wait_s: float = 60.0, transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        """A client of one service.

        Args:
            url: where it listens.
            token: the service's token, where it needs one.
            timeout_s: longest time without a byte from the service.
            retries: how often a request that got 503 is sent again, each time after the wait that the service names.
            max_wait_s: longest time of all waits of a request together.
            transport: httpx's transport in place of the network, such as an application in this process.
        """
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)
        self._retries, self._max_wait_s = retries, max_wait_s

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def deocclude(
        self, photo: PhotoSource, *, masks: Sequence[MaskSource] = (), boxes_xyxy: Sequence[BoxXyxy] = (),
        prompts: Mapping[int, CompletionPrompts] | None = None, save: Sequence[str] = (), **options: Any,
    ) -> ClientResult:  # fmt: skip
        """Complete the people of a photo.

        Args:
            photo: a PhotoSource.
            masks: rough visible masks of the upright photo's size, one a person: (H, W) bool, or as a photo.
            boxes_xyxy: boxes around the visible part of people, in pixels.
            prompts: by the number of the person, as in an answer.
            save: pictures to get with the answer: kinds of `Result.save` without layers and json.
            options: complete, person, min_score, min_height_px, min_hidden_probability and uncrop, as in a call of
                the Deoccluder.

        Raises:
            InputError: a photo or mask that is no source, or a file that cannot be read.
            ServerError: the service refused the request, or could not be reached.
        """
        answer = self._post(_JSON, photo, masks, boxes_xyxy, prompts, save, options)
        return _read_result(answer.json())

    def content(
        self, photo: PhotoSource, *, masks: Sequence[MaskSource] = (), boxes_xyxy: Sequence[BoxXyxy] = (),
        prompts: Mapping[int, CompletionPrompts] | None = None, **options: Any,
    ) -> ImageU8:  # fmt: skip
        """The recovered photo alone, (H, W, 3) uint8; with `uncrop` (H, W, 4). Arguments and errors: `deocclude`."""
        answer = self._post(_PNG, photo, masks, boxes_xyxy, prompts, (), options)
        return _pixels(answer.content)

    def archive(
        self, photo: PhotoSource, *, masks: Sequence[MaskSource] = (), boxes_xyxy: Sequence[BoxXyxy] = (),
        prompts: Mapping[int, CompletionPrompts] | None = None, save: Sequence[str] = ("content", "rgba"),
        **options: Any,
    ) -> bytes:  # fmt: skip
        """A zip archive of the files of `Result.save`. Arguments and errors: `deocclude`; `save` takes any kind."""
        return self._post(_ZIP, photo, masks, boxes_xyxy, prompts, save, options).content

    def models(self) -> list[dict[str, Any]]:
        """The models of the service: name, licence, data, networks. Raises ServerError."""
        return cast(list[dict[str, Any]], self._send("GET", "/v1/models").json()["models"])

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until the service takes requests. Raises ServerError after `timeout_s`."""
        end_s = time.monotonic() + timeout_s
        while True:
            try:
                self._once("GET", "/readyz")
                return
            except ServerError as error:
                if error.status not in (0, 503) or time.monotonic() >= end_s:
                    raise
            time.sleep(0.2)

    def _post(
        self, accept: str, photo: PhotoSource, masks: Sequence[MaskSource], boxes_xyxy: Sequence[BoxXyxy],
        prompts: Mapping[int, CompletionPrompts] | None, save: Sequence[str], options: Mapping[str, Any],
    ) -> httpx.Response:  # fmt: skip
        """Send a photo with its prompts and options; `accept` is the media type of the answer."""
        files = [("photo", ("photo", _photo_file(photo)))]
        files += [("masks", (f"mask{number}", _mask_file(mask))) for number, mask in enumerate(masks, 1)]
        fields: dict[str, Any] = {name: _field_text(value) for name, value in options.items() if value is not None}
        if len(boxes_xyxy):
            fields["boxes_xyxy"] = json.dumps([[float(edge) for edge in box] for box in boxes_xyxy])
        if prompts:
            fields["prompts"] = json.dumps({str(number): _prompt_fields(given) for number, given in prompts.items()})
        if save:
            fields["save"] = list(save)
        return self._send("POST", "/v1/deocclude", files=files, data=fields, headers={"Accept": accept})

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request, and again after a 503 that says when, within the limits. Raises ServerError."""
        waited_s, tries = 0.0, 0
        while True:
            try:
                return self._once(method, path, **request)
            except _BusyError as error:
                tries += 1
                wait_s = max(0.1, error.retry_after_s)
                if tries > self._retries or waited_s + wait_s > self._max_wait_s:
                    raise
                waited_s += wait_s
                time.sleep(wait_s)

    def _once(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request once. Raises ServerError; _BusyError for a 503 that says when to try again."""
        try:
            answer = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise ServerError(0, "no_answer", f"{self._http.base_url}: {error or type(error).__name__}") from error
        if answer.is_success:
            return answer
        code, message = _read_error(answer)
        if answer.status_code == 503 and "retry-after" in answer.headers:
            raise _BusyError(code, message, answer.headers["retry-after"])
        raise ServerError(answer.status_code, code, message)


class _BusyError(ServerError):
    """503 with the time after which the request may succeed."""

    def __init__(self, code: str, message: str, retry_after: str) -> None:
        super().__init__(503, code, message)
        self._retry_after = retry_after
        self.retry_after_s = float(retry_after) if retry_after.isdecimal() else 1.0  # a proxy may send a date

    def __reduce__(self) -> tuple[type[_BusyError], tuple[Any, ...]]:
        """Pickle the constructor's arguments."""
        return type(self), (self.code, self.message, self._retry_after)


def _read_error(answer: httpx.Response) -> tuple[str, str]:
    """Code and message of an error, also of one that a proxy sends."""
    try:
        error = answer.json()["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "http_error", f"HTTP status {answer.status_code}"


def _read_result(document: Mapping[str, Any]) -> ClientResult:
    """The result of the service's JSON answer."""
    people = tuple(
        ClientPerson(
            **{name: person[name] for name in (
                "id", "score", "hidden_fraction", "hidden_probability", "left_alone", "depth",
            )},
            box_xyxy=tuple(person["box_xyxy"]), visible_box_xyxy=tuple(person["visible_box_xyxy"]),
            truncated_by=tuple(person["truncated_by"]), amodal_mask=decode_rle(person["amodal_mask"]),
            visible_mask=decode_rle(person["visible_mask"]), images=_decode_images(person["images"]),
        )
        for person in document["people"]
    )  # fmt: skip
    photo_box = document["photo_box_xyxy"]
    return ClientResult(
        document["model"], document["device"], tuple(document["size_hw"]), photo_box and tuple(photo_box), people,
        tuple(Occlusion(**pair) for pair in document["occlusions"]), document["timings_s"],
        _decode_images(document["images"]),
    )  # fmt: skip


def _decode_images(given: Mapping[str, str]) -> dict[str, ImageU8]:
    """The pictures of an answer, base64 PNG, by kind."""
    return {kind: _pixels(base64.b64decode(text)) for kind, text in given.items()}


def _pixels(png: bytes) -> ImageU8:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def _photo_file(photo: PhotoSource) -> bytes:
    """The bytes of a photo's file. Raises InputError."""
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, (str, os.PathLike)):
        try:
            return Path(photo).read_bytes()
        except OSError as error:
            raise InputError(f"{photo}: {error.strerror or error}") from error
    if isinstance(photo, np.ndarray):
        return _png(to_image(photo))
    if isinstance(photo, Image.Image):
        loaded = load_photo(photo)  # upright: a PNG would lose the rotation of EXIF; RGB: PNG has no CMYK
        return _png(to_image(loaded.pixels), loaded.icc_profile)
    raise InputError(f"a photo must be a path, bytes, a Pillow image or an array, got {type(photo).__name__}")


def _mask_file(mask: MaskSource) -> bytes:
    """The bytes of a mask's file; arrays and Pillow images become PNG. Raises InputError."""
    if isinstance(mask, np.ndarray):
        return _png(to_image(mask))
    if isinstance(mask, Image.Image):
        return _png(to_image(load_mask(mask)))
    return _photo_file(cast(PhotoSource, mask))


def _png(image: Image.Image, icc_profile: bytes | None = None) -> bytes:
    with io.BytesIO() as file:
        image.save(file, "PNG", compress_level=1, icc_profile=icc_profile)
        return file.getvalue()


def _prompt_fields(prompts: CompletionPrompts) -> dict[str, Any]:
    """A person's completion prompts as JSON."""
    fields: dict[str, Any] = {
        "extent_xyxy": prompts.extent_xyxy and [float(edge) for edge in prompts.extent_xyxy],
        "points": [[float(x), float(y)] for x, y in prompts.points],
        "not_points": [[float(x), float(y)] for x, y in prompts.not_points],
        "joints": {name: [float(x), float(y)] for name, (x, y) in prompts.joints.items()},
        "pose": prompts.pose,
        "hypothesis": prompts.hypothesis,
    }
    for name in ("front", "keep", "background"):
        mask: MaskSource | None = getattr(prompts, name)
        if mask is not None:
            is_bool = isinstance(mask, np.ndarray) and mask.dtype == bool
            source = _mask_file(mask) if isinstance(mask, np.ndarray) else mask
            array = mask if is_bool else load_mask(source, of_full_scale=True)
            fields[name] = encode_rle(cast(Mask, array))
    return {name: value for name, value in fields.items() if value not in (None, [], {})}


def _field_text(value: Any) -> str:
    """An option as the text of a form's field: true and false in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)
