"""The REST API of TensorFlow Serving: its dialect of JSON, its verbs, and an ASGI app around them."""
