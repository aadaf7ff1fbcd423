"""The real days that can be asked for: one partition each of what is made day by day."""

from datetime import date

import dagster as dg

DAYS = dg.DailyPartitionsDefinition(start_date="2000-01-01", end_offset=1)


def last_day_to_ask_for() -> date:
    """Today."""
    return date.fromisoformat(DAYS.get_partition_keys()[-1])
