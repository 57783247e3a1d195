"""Costs as ratios; run with `make bench`."""
