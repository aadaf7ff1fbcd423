"""How long does each model take to fit and to forecast? Told on a logger, to whoever listens; else nobody hears it."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

FIT, FORECAST = "fit", "forecast"
_LOGGER = logging.getLogger("sequela.costs")


@dataclass(frozen=True)
class Cost:
    """One model was fitted on, or forecast, `rows`; seconds since 1970 by the clock on the wall."""

    model: str
    step: str
    rows: int
    began: float
    ended: float


@contextmanager
def timed(model: str, step: str, rows: int) -> Iterator[None]:
    """Tell what is done inside: `step` is FIT or FORECAST."""
    began = time.time()
    yield
    _LOGGER.debug("%s of %s", step, model, extra={"cost": Cost(model, step, rows, began, time.time())})


@contextmanager
def listening() -> Iterator[list[Cost]]:
    """A list that fills with what is told meanwhile, on whatever thread."""
    heard: list[Cost] = []
    ear, before = _Ear(heard), _LOGGER.level
    _LOGGER.addHandler(ear)
    _LOGGER.setLevel(logging.DEBUG)
    try:
        yield heard
    finally:
        _LOGGER.removeHandler(ear)
        _LOGGER.setLevel(before)


class _Ear(logging.Handler):
    def __init__(self, heard: list[Cost]) -> None:
        super().__init__(logging.DEBUG)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.__dict__["cost"])
