"""What runs inside Triton's Python backend: language models that speak the tensors of Triton's vLLM backend."""
