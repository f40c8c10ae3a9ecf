"""The use cases of the gateway: which effects happen, in which order. `one_request` is the way of one request."""
