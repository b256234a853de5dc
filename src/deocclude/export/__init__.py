"""From a training checkpoint to the ONNX files that run time loads."""
