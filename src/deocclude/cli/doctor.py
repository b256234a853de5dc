"""`deocclude doctor`: check that everything `run` needs is installed and works."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import typer

from deocclude._version import __version__
from deocclude.cli.app import EXTRA_OF
from deocclude.cli.options import AsJson, Device, Quiet, Weights, print_json
from deocclude.errors import DeoccludeError


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was checked.
        ok: whether it works.
        detail: the finding as text.
        exit_code: the process's exit code where the check fails; 0 for a missing extra, which is no failure.
    """

    name: str
    ok: bool
    detail: str
    exit_code: int = 0


def app(device: Device = "auto", weights: Weights = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """Check versions, device, weights and optional packages.

    Exits with 3 where weights are missing or damaged, with 4 where the device is not available. Missing optional
    packages are listed with the line that installs them, and are no failure.
    """
    checks = [_versions(), _machine(), *_guarded("device", lambda: _device(device)), *_weights(weights)]
    if all(check.ok for check in checks):
        checks += _guarded("inference", lambda: _inference(device, weights))
    checks += _extras()
    code = max((check.exit_code for check in checks), default=0)
    if json:
        print_json({"ok": code == 0, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            if quiet and not check.exit_code:
                continue
            mark = "ok  " if check.ok else ("FAIL" if check.exit_code else "--  ")
            typer.echo(f"{mark} {check.name:12} {check.detail}")
    if code:
        raise typer.Exit(code)


def _guarded(name: str, check: Callable[[], str]) -> list[Check]:
    """One finding: the text that `check` returns, or a failure with the DeoccludeError that it raises."""
    try:
        return [Check(name, True, check())]
    except DeoccludeError as error:
        return [Check(name, False, str(error), error.exit_code)]


def _versions() -> Check:
    """Versions of the packages that `run` needs."""
    import numpy
    import onnxruntime
    import PIL

    return Check(
        "versions",
        True,
        f"deocclude {__version__}, Python {sys.version.split()[0]}, numpy {numpy.__version__}, "
        f"onnxruntime {onnxruntime.__version__}, pillow {PIL.__version__}",
    )


def _machine() -> Check:
    """Operating system, processor and cores."""
    from deocclude.inference.cores import usable_cores

    cores = f"{os.cpu_count()} CPU cores, {usable_cores()} usable"
    return Check("machine", True, f"{platform.system()} {platform.machine()}, {cores}")


def _device(device: str) -> str:
    """The device that `run` would use."""
    import onnxruntime

    from deocclude.inference.runtime import choose_device

    offered = ", ".join(onnxruntime.get_available_providers())
    return f"{choose_device(device)} (onnxruntime offers {offered})"


def _weights(folder: Path | None) -> list[Check]:
    """One finding for each model: whether it is complete, readable, and as its sha256 in the manifest."""
    from deocclude.inference.runtime import list_models

    try:
        models = list_models(folder)
    except DeoccludeError as error:
        return [Check("weights", False, str(error), error.exit_code)]
    if not models:
        return [Check("weights", False, f"{folder or 'the package'} has a manifest that lists no model", 3)]
    checks = []
    for name in models:
        checks += _guarded("weights", partial(_verify, name, folder))
    return checks


def _verify(name: str, folder: Path | None) -> str:
    """Open all networks of a model. Raises where one is missing or damaged."""
    from deocclude.inference.runtime import find_model, open_networks

    model = find_model(name, folder)  # raises for a model without one of the stages
    # reads each file and compares its sha256 with the manifest's
    open_networks(model, "cpu")
    size_mb = sum(files.onnx_path.stat().st_size for files in model.networks.values()) / 2**20
    return f"{model.name}: {len(model.networks)} networks, {size_mb:.1f} MB, sha256 as in the manifest"


def _inference(device: str, folder: Path | None) -> str:
    """Run the pipeline on a drawn image and time it."""
    import numpy as np

    import deocclude

    photo = np.full((256, 256, 3), 128, np.uint8)
    photo[32:224, 96:160] = (200, 80, 40)
    mask = np.zeros((256, 256), bool)
    mask[32:160, 96:160] = True
    pipe = deocclude.load(next(iter(deocclude.list_models(folder))), device=device, weights_dir=folder)
    pipe(photo, masks=[mask])
    started = time.perf_counter()
    result = pipe(photo, masks=[mask])
    return f"one person, 256x256 px: {(time.perf_counter() - started) * 1000:.0f} ms on {result.device}"


def _extras() -> list[Check]:
    """One finding for each optional extra."""
    from importlib.util import find_spec

    checks = []
    for extra in dict.fromkeys(EXTRA_OF.values()):
        missing = [package for package, owner in EXTRA_OF.items() if owner == extra and find_spec(package) is None]
        detail = "installed" if not missing else f'{", ".join(missing)} missing: pip install "deocclude[{extra}]"'
        checks.append(Check(f"[{extra}]", not missing, detail))
    return checks
