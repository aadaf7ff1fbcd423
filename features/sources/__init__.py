"""Where records come from. `example_patients/` holds the few hand-written people that the project ships."""
