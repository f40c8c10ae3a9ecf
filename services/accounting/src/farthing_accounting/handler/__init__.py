"""The gRPC services: validate, translate, call one use case, translate back."""
