"""Where and how a request runs: pools of Triton servers."""
