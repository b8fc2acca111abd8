"""The gRPC API of TensorFlow Serving: PredictionService and ModelService."""
