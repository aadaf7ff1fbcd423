"""Reading FHIR: from files of bundles or NDJSON to de-identified rows, one path for every shape."""
