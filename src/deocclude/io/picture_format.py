"""File format of the pictures that are made of a whole photo: content and overlay."""

from __future__ import annotations

from dataclasses import dataclass

from deocclude.errors import UsageError

FORMATS: dict[str, tuple[str, ...]] = {"png": (".png",), "jpeg": (".jpg", ".jpeg"), "webp": (".webp",)}
"""Format: its suffixes, that of new names first."""

FORMAT_KINDS: tuple[str, ...] = ("content", "overlay")
"""Kinds of outputs that have a format; cut-outs, masks and labels are PNG."""

_LOSSY = ("jpeg", "webp")


@dataclass(frozen=True)
class PictureFormat:
    """What `--format` and `--quality` say.

    Attributes:
        name: a format of FORMATS; None: not stated, which is PNG, or what the suffix of a named file says.
        quality: 1 to 100 of JPEG and WebP; None: 95.
    """

    name: str | None = None
    quality: int | None = None

    @classmethod
    def parse(cls, name: str | None, quality: int | None) -> PictureFormat:
        """Read a user's options. Raises UsageError for an unknown format, or a quality of PNG."""
        name = "jpeg" if name == "jpg" else name
        if name is not None and name not in FORMATS:
            raise UsageError(f"--format takes {', '.join(FORMATS)}, got {name}")
        if quality is not None and not 1 <= quality <= 100:
            raise UsageError(f"--quality takes 1 to 100, got {quality}")
        if quality is not None and name == "png":
            raise UsageError("--quality is for --format jpeg and webp: PNG loses nothing")
        return cls(name, quality)

    @property
    def suffix(self) -> str:
        """The suffix of new names."""
        return FORMATS[self.name or "png"][0]

    def check(self, kinds: list[str], file_suffix: str | None, *, transparent: bool) -> None:
        """Check the format against the rest of a request.

        Args:
            kinds: kinds of outputs, the first of which a named file has.
            file_suffix: of the named file in lower case; None: files have new names.
            transparent: content and overlay have transparent surroundings (`--uncrop`).

        Raises:
            UsageError: a JPEG of a transparent picture, a file of another format, or an option without effect.
        """
        # the suffix that states a format: that of a named content or overlay
        stated_suffix = file_suffix if kinds[0] in FORMAT_KINDS else None
        chosen = [kind for kind in kinds if kind in FORMAT_KINDS]
        if self.name is not None and stated_suffix is not None and stated_suffix not in FORMATS[self.name]:
            raise UsageError(f"-o names a {stated_suffix} file, but --format is {self.name}: leave one of them out")
        if self.name not in (None, "png") and not chosen:
            raise UsageError(
                f"--format {self.name} is for content and overlay, not for {', '.join(kinds)}: masks and labels would "
                "lose their edges, and JPEG cannot hold the transparency of a cut-out"
            )
        if transparent and chosen and (self.name == "jpeg" or stated_suffix in FORMATS["jpeg"]):
            raise UsageError("--uncrop leaves transparent surroundings, which JPEG cannot hold: use png or webp")
        lossy = self.name in _LOSSY or any(stated_suffix in FORMATS[name] for name in _LOSSY)
        if self.quality is not None and not lossy:
            raise UsageError("--quality goes with --format jpeg or webp, or with -o NAME.jpg")
