"""Container names."""
