"""Contracts, validation with quarantine, and profiles of tables. Runs in DuckDB, knows no Dagster."""
