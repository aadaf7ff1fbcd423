"""Where records come from: choice.py understands `--from`, land.py lands the records, landed.py says what is landed.

`example_patients/` holds the few hand-written people that the project ships.
"""
