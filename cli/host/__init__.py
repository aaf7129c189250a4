"""What changes the host itself: detected and planned by pure functions, written to a journal, and undone from it."""
