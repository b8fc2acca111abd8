"""Plain NumPy loops, written from the papers: what the layers are compared with. One row and one step at a time."""
