"""Conditions, sensors and events as Dagster sees them."""
