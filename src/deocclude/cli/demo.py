"""`deocclude demo`: recover bundled photos, and measure the result where the hidden part is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deocclude.cli.options import AsJson, Device, Model, Quiet, Seed, Weights, print_json

if TYPE_CHECKING:
    from deocclude.evaluation.demo_scene import Scene, Score
    from deocclude.imaging.arrays import Array
    from deocclude.types import Result


def app(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the images.")] = Path(
        "demo-out"
    ),
    model: Model = "base",
    device: Device = "auto",
    seed: Seed = 0,
    json: AsJson = False,
    weights: Weights = None,
    quiet: Quiet = False,
) -> None:
    """Recover bundled photos, and measure the result.

    A potted plant is drawn over part of a NASA portrait. The model gets the photo and the visible mask; the recovered
    part is compared with what the plant hides. A second photo shows one person in front of another, detected without a
    mask, where the model has a detector. The images are written again each time.
    """
    import deocclude
    from deocclude.evaluation.demo_scene import make_scene, mean_colour_baseline, score, street_photo
    from deocclude.io.images import save_image

    scene = make_scene()
    pipe = deocclude.load(model, device=device, weights_dir=weights)
    result = pipe(scene.photo, masks=[scene.visible], seed=seed)
    recovered = score(scene, result.people[0].amodal_mask, result.content)
    baseline = mean_colour_baseline(scene)
    street = pipe(street_photo(), seed=seed) if pipe.finds_people else None
    pictures = _pictures(scene, result, street)
    for name, pixels in pictures.items():
        save_image(pixels, output / name)
    if json:
        print_json(
            {
                "hidden_fraction": scene.hidden_fraction,
                "found_hidden_fraction": result.people[0].hidden_fraction,
                "score": recovered.as_dict(),
                "mean_colour_baseline": baseline.as_dict(),
                "found_street": None if street is None else len(street.people),
                "seconds": result.timings["total"],
                "device": result.device,
                "model": result.model,
                "pictures": [str(output / name) for name in pictures],
            }
        )
    elif not quiet:
        _print_report(scene, result, street, recovered, baseline)
        typer.echo("")
        typer.echo(f"Images: {output / 'demo.png'} shows the portrait, side by side.")
        typer.echo(f"Single images in {output}/: {', '.join(list(pictures)[1:])}")


def _pictures(scene: Scene, result: Result, street: Result | None) -> dict[str, Array]:
    """The images to save, by file name; street: the result of the street photo."""
    from deocclude.evaluation.demo_scene import on_checkerboard, side_by_side

    content, overlay, rgba = result.content, result.overlay(), result.people[0].rgba
    panels = {"photo": scene.photo, "overlay": overlay, "cut-out": on_checkerboard(rgba), "recovered": content}
    pictures: dict[str, Array] = {
        "demo.png": side_by_side(panels),
        "photo.png": scene.photo,
        "mask.png": scene.visible,
        "overlay.png": overlay,
        "cutout.png": rgba,
        "recovered.png": content,
        "original.png": scene.original,
    }
    if street is not None:
        panels = {"photo": street.image, "overlay": street.overlay()}
        panels |= {f"person {person.id}": on_checkerboard(person.rgba) for person in street.back_to_front}
        pictures["street.png"] = side_by_side(panels)
    return pictures


def _print_report(scene: Scene, result: Result, street: Result | None, recovered: Score, baseline: Score) -> None:
    """Print the measurement as a table."""
    person = result.people[0]
    typer.echo("Photo: portrait of Eileen Collins, NASA, public domain; the plant is drawn by this program.")
    typer.echo(
        f"The plant hides {scene.hidden_fraction:.0%} of her. What her helmet hides is not known and not measured."
    )
    typer.echo(
        f"Found: person {person.id}, {person.hidden_fraction:.0%} of the body hidden, score {person.score:.2f}, "
        f"{result.timings['total']:.2f} s on {result.device}, model {result.model}."
    )
    typer.echo("")
    typer.echo(f"{'':34}{'amodal IoU':>11}{'invisible IoU':>15}{'L1 (0-255)':>12}{'PSNR (dB)':>11}")
    for name, row in (("recovered", recovered), ("given mask, mean visible colour", baseline)):
        typer.echo(f"{name:34}{row.full_iou:11.3f}{row.invisible_iou:15.3f}{row.l1:12.1f}{row.psnr_db:11.1f}")
    if street is not None:
        behind = "; ".join(f"person {pair.behind} behind person {pair.front}" for pair in street.order)
        typer.echo("")
        typer.echo(f"Photo of two people, no mask given: {len(street.people)} found{f': {behind}' if behind else ''}.")
