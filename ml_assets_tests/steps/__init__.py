"""Steps against the real lake, without Dagster."""
