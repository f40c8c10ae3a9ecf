"""The models behind the ports, on ONNX Runtime."""
