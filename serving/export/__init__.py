"""From a trained model to a SavedModel that any server answers from."""
