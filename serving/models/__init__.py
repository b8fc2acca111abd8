"""Which models are served: versions found, loaded, lent to requests, batched, and unloaded."""
