"""The codes that MEDS itself gives a meaning, and one of ours about the person rather than the care."""

BIRTH = "MEDS_BIRTH"
DEATH = "MEDS_DEATH"
MOVED = "MOVED_AWAY"
