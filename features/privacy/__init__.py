"""De-identification at the door: what passes, under which pseudonym, moved by how much, and the way back."""
