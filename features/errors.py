"""The errors a person can act on. Their messages never carry an identifier or a row's content."""


class SequelaError(Exception):
    """Something a person can put right; the message says what was expected and the next step."""


class SourceError(SequelaError):
    """The folder of records cannot be used: missing, empty, no FHIR, or too much of it malformed."""


class KeyFileError(SequelaError):
    """The key is missing, unreadable, or not the one that the vault was written with."""


class TaskError(SequelaError):
    """A task definition could let the future leak, or cannot be answered from these records."""


class TableError(SequelaError):
    """A table breaks its contract."""


class ModelError(SequelaError):
    """A saved model is missing, or was made for other tables than those at hand."""


class ScoringError(SequelaError):
    """The asked day cannot be scored from these records."""


class CheckError(SequelaError):
    """A fact that must hold of the tables does not."""
