"""The codes that MEDS itself gives a meaning."""

BIRTH = "MEDS_BIRTH"
DEATH = "MEDS_DEATH"
