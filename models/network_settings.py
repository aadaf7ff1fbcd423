"""What is chosen for every network with hazard heads: how it is fitted, and how much is hidden from it meanwhile."""

from pydantic import BaseModel, Field


class NetworkSettings(BaseModel, frozen=True, extra="forbid"):
    """Size and training that all networks share; saved beside the weights."""

    width: int = Field(default=64, gt=0, description="Numbers that describe a visit.")
    value_knots: int = Field(default=12, ge=2, description="Soft bins of a code's values, between which is a line.")
    intervals_per_horizon: int = Field(default=4, gt=0, description="Follow-up intervals up to each horizon.")
    dropout: float = Field(default=0.25, ge=0, lt=1, description="Share of inner numbers hidden in training.")
    event_dropout: float = Field(default=0.15, ge=0, lt=1, description="Share of events hidden in training.")
    epochs: int = Field(default=8, gt=0, description="Passes over the labels; the best one's weights are kept.")
    patience: int = Field(default=3, gt=0, description="Training ends after so many passes without a better one.")
    places_per_batch: int = Field(default=1024, gt=0, description="Visits and prediction times, padding included.")
    learning_rate: float = Field(
        default=1.5e-3, gt=0, description="The highest; it rises first, then falls to nothing."
    )
    weight_decay: float = Field(default=0.1, ge=0)
    plain_precision: float = Field(
        default=300.0, ge=0, description="How much weights of plain numbers are held near 0: of a normal prior on each."
    )
    rare_task_power: float = Field(
        default=0.4, ge=0, description="A task weighs (outcomes + 20) to minus this power: 0 weighs answers alike."
    )
    mean_share: float = Field(
        default=0.99, ge=0, lt=1, description="The weights kept are a moving mean, which keeps this share each step."
    )
