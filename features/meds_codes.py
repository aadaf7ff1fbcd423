"""The codes that MEDS itself gives a meaning, and two words of ours."""

BIRTH = "MEDS_BIRTH"
DEATH = "MEDS_DEATH"
MOVED = "MOVED_AWAY"
ENCOUNTER_START = r"^ENCOUNTER//.*//start$"  # a pattern
