"""`deocclude demo`: one command from nothing to a picture and an honest score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deocclude.cli.options import AsJson, Device, Model, Offline, Quiet, Seed, Weights, print_json


def app(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where the pictures go.")] = Path(
        "demo-out"
    ),
    model: Model = "base",
    device: Device = "auto",
    seed: Seed = 0,
    json: AsJson = False,
    offline: Offline = False,
    weights: Weights = None,
    quiet: Quiet = False,
) -> None:
    """Hide part of a bundled photo, recover it, and score that.

    A potted plant is drawn over part of a NASA portrait. The model gets the photo and the mask of what is still seen;
    what it recovers is compared with what the plant hides. Then two people crossing, found without a mask, where the
    model can find people. Pictures are written anew each time.
    """
    import deocclude
    from deocclude.evaluation.demo_scene import (
        make_crossing,
        make_scene,
        mean_colour_baseline,
        on_checkerboard,
        score,
        side_by_side,
    )
    from deocclude.io.images import save_image

    scene = make_scene()
    pipe = deocclude.load(model, device=device, weights_dir=weights)
    result = pipe(scene.photo, masks=[scene.visible], seed=seed)
    person = result.people[0]
    content, overlay, rgba = result.content, result.overlay(), person.rgba
    recovered, baseline = score(scene, person.amodal_mask, content), mean_colour_baseline(scene)

    panels = {"photo": scene.photo, "overlay": overlay, "cut-out": on_checkerboard(rgba), "recovered": content}
    pictures = {
        "demo.png": side_by_side(panels),
        "photo.png": scene.photo,
        "mask.png": scene.visible,
        "overlay.png": overlay,
        "cutout.png": rgba,
        "recovered.png": content,
        "original.png": scene.original,
    }
    crossing = None
    if pipe.finds_people:
        photo, _ = make_crossing()
        crossing = pipe(photo, seed=seed)
        shown = {"photo": photo, "overlay": crossing.overlay()}
        shown |= {f"person {one.id}": on_checkerboard(one.rgba) for one in crossing.back_to_front}
        pictures["crossing.png"] = side_by_side(shown)
    for name, pixels in pictures.items():
        save_image(pixels, output / name)

    seconds = result.timings["total"]
    if json:
        print_json(
            {
                "hidden_fraction": scene.hidden_fraction,
                "found_hidden_fraction": person.hidden_fraction,
                "score": recovered.as_dict(),
                "mean_colour_baseline": baseline.as_dict(),
                "found_crossing": None if crossing is None else len(crossing.people),
                "seconds": seconds,
                "device": result.device,
                "model": result.model,
                "pictures": [str(output / name) for name in pictures],
            }
        )
        return
    if quiet:
        return
    typer.echo("Photo: portrait of Eileen Collins, NASA, public domain; the plant is drawn by this program.")
    typer.echo(
        f"The plant hides {scene.hidden_fraction:.0%} of her. What her helmet hides is not known and not scored."
    )
    typer.echo(
        f"Found: person {person.id}, {person.hidden_fraction:.0%} hidden, {seconds:.2f} s on {result.device}, "
        f"model {result.model}."
    )
    typer.echo("")
    typer.echo(f"{'':34}{'full IoU':>9}{'invisible IoU':>15}{'L1 (0-255)':>12}{'PSNR (dB)':>11}")
    for name, row in (("recovered", recovered), ("given mask, mean visible colour", baseline)):
        typer.echo(f"{name:34}{row.full_iou:9.3f}{row.invisible_iou:15.3f}{row.l1:12.1f}{row.psnr_db:11.1f}")
    if crossing is not None:
        behind = "; ".join(f"person {pair.behind} behind person {pair.front}" for pair in crossing.order)
        typer.echo("")
        typer.echo(
            f"Two people crossing, no mask given: {len(crossing.people)} found{f': {behind}' if behind else ''}."
        )
    typer.echo("")
    typer.echo(f"Pictures: {output / 'demo.png'} shows all, side by side.")
    typer.echo(f"One by one in {output}/: {', '.join(list(pictures)[1:])}")
