"""Triton Inference Server over gRPC."""
