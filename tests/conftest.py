"""What all tests share: property tests are about what holds, not about how busy the machine is."""

from hypothesis import settings

settings.register_profile("sequela", deadline=None)
settings.load_profile("sequela")
