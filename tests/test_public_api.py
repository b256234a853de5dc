import os
import subprocess
import sys

import pytest

import deocclude

EXPECTED = {
    "PARSING_NAMES",
    "CompletionPrompts",
    "Editing",
    "ConfigError",
    "DeoccludeError",
    "Deoccluder",
    "DeviceError",
    "InputError",
    "MissingExtraError",
    "Person",
    "Result",
    "UsageError",
    "WeightsError",
    "__version__",
    "list_models",
    "load",
    "load_image",
    "load_mask",
    "load_masks",
    "merge_coco",
    "run",
    "save_image",
}


def test_no_public_name_disappears():
    assert set(deocclude.__all__) == EXPECTED
    assert len(deocclude.__all__) == len(EXPECTED)
    for name in deocclude.__all__:
        assert getattr(deocclude, name) is not None
    assert set(dir(deocclude)) == EXPECTED


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        deocclude.nothing  # noqa: B018


def test_importing_is_light():
    heavy = ("numpy", "PIL", "onnxruntime", "torch", "rich", "typer")
    code = f"import deocclude, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_inference_imports_nothing_of_the_training_extra():
    extra = ("torch", "cv2", "scipy", "skimage", "sklearn", "pydantic", "yaml", "onnx")
    code = f"import deocclude.pipeline, sys; print([name for name in {extra} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("DeoccludeError", 1),
        ("InputError", 1),
        ("UsageError", 2),
        ("ConfigError", 2),
        ("WeightsError", 3),
        ("DeviceError", 4),
        ("MissingExtraError", 4),
    ],
)
def test_errors_carry_their_exit_code(name, exit_code):
    error = getattr(deocclude, name)
    assert error.exit_code == exit_code
    assert issubclass(error, deocclude.DeoccludeError)


def test_missing_extra_message_ends_with_the_install_command():
    assert str(deocclude.MissingExtraError("training", "train")).endswith('pip install "deocclude[train]"')


def test_onnx_runtime_sends_no_usage_data_unless_the_user_allows_it() -> None:
    code = "import os, deocclude; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for given, told in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | given
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == told
