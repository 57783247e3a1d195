"""Dagster words that the components share: checks, freshness, automation, partitions, sensors, metadata."""
