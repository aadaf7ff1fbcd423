"""A simulated population with known truth: people, their illnesses, their care, and the records of it as FHIR R4."""

from features.sources.simulation.simulate import VERSION as VERSION
from features.sources.simulation.simulate import simulate as simulate
