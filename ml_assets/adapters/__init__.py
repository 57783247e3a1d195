"""Input and output without Dagster: lake, landing files, online store, registry, prediction log, deployment targets."""
