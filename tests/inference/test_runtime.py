import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from deocclude.errors import DeviceError, UsageError, WeightsError
from deocclude.inference import runtime
from deocclude.inference.runtime import choose_device, find_model, list_models, open_networks


@pytest.fixture
def folder(weights_dir, tmp_path):
    """A copy of the tiny weights that a test may damage."""
    return shutil.copytree(weights_dir, tmp_path / "weights")


def test_models_are_listed_with_their_networks(weights_dir):
    models = list_models(weights_dir)
    assert list(models) == ["base"]
    assert models["base"].input_size == 256
    assert set(models["base"].networks) == {"mask_completion", "content_recovery"}
    assert models["base"].networks["mask_completion"].onnx_path == weights_dir / "mask_completion_base.onnx"


def test_an_unknown_model_is_a_usage_error(weights_dir):
    with pytest.raises(UsageError, match="no model 'huge': choose from base"):
        find_model("huge", weights_dir)


def test_error_names_missing_or_damaged_weights(folder):
    model = find_model("base", folder)
    path = folder / "content_recovery_base.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"content_recovery_base\.onnx: damaged weights: expected sha256"):
        open_networks(model, "cpu")
    path.unlink()
    with pytest.raises(WeightsError, match=r"content_recovery_base\.onnx: cannot read the weights: No such file"):
        open_networks(model, "cpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a weights manifest"),
        ("[]", "not a weights manifest"),
        ('{"format": 1, "models": {"base": {}}}', "KeyError"),
        ('{"format": 9}', "expected manifest format 1, got 9"),
    ],
)
def test_invalid_manifest_is_rejected(tmp_path, text, words):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(WeightsError, match=words) as caught:
        list_models(tmp_path)
    assert str(tmp_path / "manifest.json") in str(caught.value)


def test_missing_manifest_is_reported(tmp_path):
    with pytest.raises(WeightsError, match=r"manifest\.json: cannot read"):
        list_models(tmp_path)


def test_file_that_is_not_onnx_is_rejected(folder):
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "mask_completion_base.onnx").write_bytes(b"not onnx")
    digest = hashlib.sha256(b"not onnx").hexdigest()
    manifest["models"]["base"]["networks"]["mask_completion"]["sha256"]["onnx"] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match="ONNX Runtime cannot load"):
        open_networks(find_model("base", folder), "cpu")


def test_device_choice(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(DeviceError, match="cuda is not available"):
        choose_device("cuda")
    with pytest.raises(UsageError, match="auto, cpu or cuda, got 'tpu'"):
        choose_device("tpu")
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    assert choose_device("auto") == choose_device("cuda") == "cuda"
    assert choose_device("cpu") == "cpu"


def test_cuda_failure_is_never_silently_replaced_by_cpu(weights_dir, monkeypatch, caplog):
    monkeypatch.setattr(runtime, "choose_device", lambda device: "cpu" if device == "cpu" else "cuda")
    real_session = onnxruntime.InferenceSession

    def start(content, options, providers):
        # What ONNX Runtime does when CUDA's libraries are missing: it goes on without it.
        return real_session(content, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    model = find_model("base", weights_dir)
    with pytest.raises(DeviceError, match="fell back to CPUExecutionProvider"):
        open_networks(model, "cuda")
    _, device = open_networks(model, "auto")
    assert device == "cpu"
    assert "using the CPU" in caplog.text


def test_threads_must_be_positive(weights_dir):
    with pytest.raises(UsageError, match="threads must be a whole number from 1 to 1024, got 0"):
        open_networks(find_model("base", weights_dir), "cpu", threads=0)


def test_network_takes_and_returns_named_arrays(weights_dir):
    networks, device = open_networks(find_model("base", weights_dir), "cpu", threads=1)
    assert device == "cpu"
    initial = np.zeros((2, 1, 256, 256))
    initial[1, 0, 100, 100] = 1
    outputs = networks["mask_completion"](image=np.zeros((2, 3, 256, 256)), initial=initial)
    assert set(outputs) == {"visible", "amodal", "visible_parsing", "amodal_parsing"}
    assert outputs["amodal"][0].max() == 0
    assert (outputs["amodal"][1] > 0.5).sum() == 41 * 41
    assert outputs["visible_parsing"].shape == (2, 12, 64, 64)


def test_threads_may_share_a_network(weights_dir):
    networks, _ = open_networks(find_model("base", weights_dir), "cpu", threads=1)

    def run(level):
        ones = np.ones((1, 1, 256, 256))
        parsing = np.zeros((1, 12, 64, 64))
        image = np.full((1, 3, 256, 256), level)
        named = {"visible": ones, "amodal": ones, "visible_parsing": parsing, "amodal_parsing": parsing}
        return networks["content_recovery"](image=image, **named)["content"].mean()

    levels = [i / 20 for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        assert np.allclose(list(pool.map(run, levels)), levels, atol=1e-4)


def test_incomplete_model_is_rejected_without_affecting_others(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    half = json.loads(json.dumps(manifest["models"]["base"]))
    del half["networks"]["content_recovery"]
    path.write_text(json.dumps(manifest | {"models": manifest["models"] | {"mine": half}}))
    assert list(list_models(folder)["mine"].networks) == ["mask_completion"]
    assert set(find_model("base", folder).networks) == {"mask_completion", "content_recovery"}
    with pytest.raises(WeightsError, match="model 'mine' is not complete: content_recovery has not been exported yet"):
        find_model("mine", folder)


def test_digest_covers_weights_and_calibration(weights_dir, folder):
    assert find_model("base", folder).digest == find_model("base", weights_dir).digest, "wherever the files lie"
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    digests = {find_model("base", folder).digest}
    for change in ({"sha256": {"onnx": "0" * 64}}, {"hidden_calibration": [1.0, 2.0, 3.0]}):
        manifest["models"]["base"]["networks"]["mask_completion"] |= change
        path.write_text(json.dumps(manifest))
        digests.add(find_model("base", folder).digest)
    assert len(digests) == 3
