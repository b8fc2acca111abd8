"""The page at `/` of the embedded server: choose a model, ask it, see its answer and what it looked at."""
