"""The border to Docker: the engine's HTTP API on one side, our types on the other."""
