"""Transparent mode on the host: a helper with root's rights, and the pump with its user's."""
