"""Drift, performance and staleness of what serves, and the retrain policy that weighs them."""
