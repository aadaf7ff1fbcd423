"""Published clinical scores at every prediction time, each with the inputs it was computed from."""
