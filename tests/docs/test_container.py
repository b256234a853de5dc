"""The Dockerfile's promises, as far as its text shows them; docs/container.md says what was run."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
STEPS = [line.split(None, 1) for line in LINES if line and not line.startswith("#")]


def test_image_runs_the_command_without_root() -> None:
    last = max(number for number, (word, _) in enumerate(STEPS) if word == "FROM")
    final = dict(STEPS[last:])
    user, _ = final["USER"].split(":")
    assert int(user) > 0, "a number: Kubernetes cannot tell that a name is not root"
    assert final["ENTRYPOINT"] == '["deocclude"]'
    assert final["COPY"] == "--from=build /opt/deocclude /opt/deocclude"


def test_install_is_pinned_and_has_no_torch() -> None:
    (install,) = [rest for word, rest in STEPS if word == "RUN" and "pip install" in rest]
    assert "-c constraints.txt" in install and re.findall(r"\.\[([a-z,]+)\]", install) == ["heif,serve"]
    assert "torch" not in install


def test_everything_that_is_copied_is_sent_and_nothing_else() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    sent = {line[1:] for line in ignored if line[0] == "!"}
    copied = [rest.split()[:-1] for word, rest in STEPS if word == "COPY" and not rest.startswith("--from")]
    assert sent == {name for names in copied for name in names} and all((ROOT / name).exists() for name in sent)
    weights = [path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("*.safetensors")]
    assert weights and all(any(fnmatch.fnmatch(name, line) for line in ignored[1:]) for name in weights)
