"""Property tests: the core against a model of it."""
