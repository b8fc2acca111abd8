"""Asks model servers, ours and TensorFlow Serving itself."""
