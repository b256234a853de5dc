"""Photos of a folder: whatever Pillow opens is one, and every file that is left out is named with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

import deocclude.io.images as images
from deocclude.batch import folder as folder_module
from deocclude.batch.folder import LeftOut, find_photos, left_out_lines
from deocclude.batch.jobs import exit_code
from deocclude.errors import DeoccludeError, MissingExtraError, UsageError
from deocclude.io.images import can_open, load_photo, photo_suffixes

PHOTO = Image.new("RGB", (40, 30), (200, 120, 60))


def save(path: Path, file_format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PHOTO.save(path, format=file_format)


def names(found: folder_module.Found) -> list[str]:
    return [source.relative.as_posix() for source in found.photos]


def reasons(found: folder_module.Found) -> dict[str, str]:
    return {one.path.name: one.reason for one in found.left_out}


def test_every_format_that_pillow_opens_is_a_photo(tmp_path: Path) -> None:
    for name, kind in {
        "1.jpg": "JPEG",
        "3.jfif": "JPEG",
        "4.avif": "AVIF",
        "5.jp2": "JPEG2000",
        "6.ppm": "PPM",
    }.items():
        save(tmp_path / name, kind)
    found = find_photos([str(tmp_path)])
    assert names(found) == ["1.jpg", "3.jfif", "4.avif", "5.jp2", "6.ppm"] and not found.left_out


def test_photo_without_a_known_suffix_is_recognised_by_its_content(tmp_path: Path) -> None:
    save(tmp_path / "download", "PNG")
    save(tmp_path / "photo.jpg_large", "JPEG")
    (tmp_path / "notes").write_text("no photo")
    found = find_photos([str(tmp_path)])
    assert names(found) == ["download", "photo.jpg_large"]
    assert reasons(found) == {"notes": "files that are no photos"}


def test_heic_is_read_with_its_package(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(PHOTO).save(tmp_path / "2.HEIC", quality=90)
    assert names(find_photos([str(tmp_path)])) == ["2.HEIC"]
    assert abs(load_photo(tmp_path / "2.HEIC").pixels[15, 20].astype(int) - (200, 120, 60)).max() < 12


def test_heic_without_its_package_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "1.jpg", "JPEG")
    (tmp_path / "2.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setattr(folder_module, "photo_suffixes", lambda: photo_suffixes() - {".heic", ".heif", ".hif"})
    found = find_photos([str(tmp_path)])
    assert names(found) == ["1.jpg"]
    (left,) = found.left_out
    assert left.is_photo and 'pip install "deocclude[heif]"' in left.reason
    assert exit_code([], 1, found.left_out) == 5

    monkeypatch.setattr(images, "_register_heif", lambda: False)
    monkeypatch.setattr(images.Image, "open", unidentified)
    with pytest.raises(MissingExtraError, match=r"2\.HEIC: HEIC needs the extra \[heif\]"):
        load_photo(tmp_path / "2.HEIC")


def unidentified(*_: object, **__: object) -> None:
    raise UnidentifiedImageError("no reader")


def test_every_file_that_is_left_out_has_its_reason(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", "JPEG")
    save(tmp_path / ".b.jpg", "JPEG")
    save(tmp_path / "x.overlay.png", "PNG")
    for name in ("notes.txt", "raw.NEF", "image.pdf"):
        (tmp_path / name).write_bytes(b"something else")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = find_photos([str(tmp_path)])
    assert names(found) == ["a.jpg"]
    assert reasons(found) == {
        ".b.jpg": "hidden files",
        "x.overlay.png": "files with the name of an output",
        "notes.txt": "files that are no photos",
        "image.pdf": "files that are no photos",
        "raw.NEF": "photos of a kind that Pillow cannot open (convert them to PNG or JPEG)",
        "gone.jpg": "links to nothing",
    }
    assert [one.path.name for one in found.left_out if one.is_photo] == ["raw.NEF"]


def test_file_is_the_photo_and_not_a_link_to_it(tmp_path: Path) -> None:
    save(tmp_path / "x.jpg", "JPEG")
    (tmp_path / "link.jpg").symlink_to("x.jpg")
    (tmp_path / "other.jpg").symlink_to("x.jpg")
    found = find_photos([str(tmp_path)])
    assert names(found) == ["x.jpg"]
    assert sorted(reasons(found)) == ["link.jpg", "other.jpg"]


def test_linked_folder_is_searched_only_when_asked_and_once(tmp_path: Path) -> None:
    save(tmp_path / "real" / "b.jpg", "JPEG")
    save(tmp_path / "in" / "a.jpg", "JPEG")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "in")
    found = find_photos([str(tmp_path / "in")], recursive=True)
    assert names(found) == ["a.jpg"]
    assert reasons(found) == {"linked": "linked folders (--follow-links searches them)"}
    followed = find_photos([str(tmp_path / "in")], recursive=True, follow_links=True)
    assert names(followed) == ["a.jpg", "linked/b.jpg"] and not followed.left_out


def test_folders_that_are_not_searched_are_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/b.jpg", ".cache/c.jpg", "out/d.jpg"):
        save(tmp_path / name, "JPEG")
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    found = find_photos([str(tmp_path)], not_photos=[tmp_path / "out"])
    assert names(found) == ["a.jpg"]
    told = "folders (--recursive searches them)"
    assert reasons(found) == {".cache": "hidden folders", "linked": told, "sub": told}
    recursive = find_photos([str(tmp_path)], recursive=True, not_photos=[tmp_path / "out"])
    assert names(recursive) == ["a.jpg", "sub/b.jpg"] and set(reasons(recursive)) == {".cache", "linked"}


def test_folder_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "locked/b.jpg", "sub/c.jpg"):
        save(tmp_path / name, "JPEG")
    read = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return read(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = find_photos([str(tmp_path)], recursive=True)
    assert names(found) == ["a.jpg", "sub/c.jpg"]
    assert reasons(found) == {"locked": "folders that cannot be read"} and exit_code([], 2, found.left_out) == 5
    with pytest.raises(DeoccludeError, match=r"cannot read the folder .*locked: Permission denied"):
        find_photos([str(tmp_path / "locked")])


def test_folder_without_photos_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "raw.dng").write_bytes(b"raw")
    with pytest.raises(UsageError, match=r"no photos in .*1 files that are no photos: .*a\.txt.*raw\.dng"):
        find_photos([str(tmp_path)])


def test_summary_counts_all_and_names_the_first_five(tmp_path: Path) -> None:
    left = [LeftOut(Path(f"{n}.txt"), "files that are no photos") for n in range(7)]
    assert left_out_lines(left) == [
        "left out: 7 files that are no photos: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more"
    ]
    assert left_out_lines(left, every=True)[0].endswith("5.txt, 6.txt")
    assert left_out_lines([]) == []


def test_file_of_a_program_that_pillow_only_recognises_is_no_photo(tmp_path: Path) -> None:
    (tmp_path / "a.mpg").write_bytes(b"\x00\x00\x01\xb3" + bytes(40))
    assert not can_open(tmp_path / "a.mpg") and not can_open(tmp_path / "none")
    assert ".mpg" not in photo_suffixes() and ".eps" not in photo_suffixes()


def test_exit_code_counts_missed_photos() -> None:
    missed = [LeftOut(Path("a.NEF"), "photos of a kind", is_photo=True)]
    assert exit_code([], 3) == 0 and exit_code([], 3, [LeftOut(Path("a.txt"), "files")]) == 0
    assert exit_code([], 3, missed) == 5


def draw(root: Path, *photos: str) -> None:
    for name in photos:
        save(root / name, "JPEG")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.jpg", ["a.jpg", "b.jpg"]),
        ("in/[a].jpg", ["a.jpg"]),
        ("in/?.jpg", ["a.jpg", "b.jpg"]),
        ("in/*/c.jpg", ["sub/c.jpg"]),
        ("in/**/*.jpg", ["a.jpg", "b.jpg", "sub/c.jpg", "sub/deep/d.jpg"]),
        ("in/**/deep/*", ["sub/deep/d.jpg"]),
        ("in/**", ["a.jpg", "b.jpg", "sub/c.jpg", "sub/deep/d.jpg"]),
    ],
)
def test_pattern_takes_photos_and_their_places_below_its_first_wildcard(
    tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    draw(tmp_path / "in", "a.jpg", "b.jpg", "sub/c.jpg", "sub/deep/d.jpg", ".hidden.jpg", ".trash/e.jpg")
    found = find_photos([str(tmp_path / pattern)])
    assert names(found) == expected and all(source.root == tmp_path / "in" for source in found.photos)


def test_pattern_names_what_it_leaves_out_and_what_it_does_not_find(tmp_path: Path) -> None:
    draw(tmp_path / "in", "a.jpg", "sub/c.jpg", "out/a.jpg")
    (tmp_path / "in" / "notes.md").write_text("no photo")
    draw(tmp_path / "elsewhere", "e.jpg")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = find_photos([str(tmp_path / "in/*")])
    assert names(found) == ["a.jpg"]
    assert set(reasons(found)) == {"sub", "out", "loop", "link", "notes.md"} and "pattern" in reasons(found)["sub"]
    found = find_photos([str(tmp_path / "in/**/*.jpg")], not_photos=[tmp_path / "in/out"])
    assert names(found) == ["a.jpg", "sub/c.jpg"] and "--follow-links" in reasons(found)["link"]
    assert names(find_photos([str(tmp_path / "in/*.jpg")], not_photos=[tmp_path / "in"])) == ["a.jpg"]
    for pattern in ("in/*.png", "none/**/*.jpg"):
        with pytest.raises(UsageError, match=r"no photos: no file is named .*, and none matches it as a pattern"):
            find_photos([str(tmp_path / pattern)])


def test_photo_whose_name_looks_like_a_pattern_is_a_photo(tmp_path: Path) -> None:
    draw(tmp_path, "IMG[1].jpg", "IMG1.jpg")
    assert names(find_photos([str(tmp_path / "IMG[1].jpg")])) == ["IMG[1].jpg"]


def test_list_names_a_photo_a_line_and_mirrors_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path, "p/a.jpg", "p/b c.jpg", "q/a.jpg")
    lines = ["p/a.jpg", "", "  ./p/b c.jpg", "../gone/x.jpg", str(tmp_path / "q/a.jpg"), "p/a.jpg", "-"]
    Path("list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    found = find_photos(["list.txt"])
    assert [source.path for source in found.photos] == [
        "p/a.jpg", "./p/b c.jpg", "../gone/x.jpg", str(tmp_path / "q/a.jpg"), "./-",
    ]  # fmt: skip
    inside = tmp_path.relative_to("/").as_posix()
    assert names(found) == ["p/a.jpg", "p/b c.jpg", "gone/x.jpg", f"{inside}/q/a.jpg", "-"]
    assert reasons(found) == {"a.jpg": "photos given twice, done once"}


def test_list_without_photos_and_list_that_is_no_text_are_refused(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text("\n  \n")
    binary.write_bytes(b"\x00\x01")
    for path, words in ((empty, "the list names no photo"), (binary, "got a file that is no text")):
        with pytest.raises(UsageError, match=words):
            find_photos([str(path)])
