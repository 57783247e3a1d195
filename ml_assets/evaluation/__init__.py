"""How good a model is: metrics with intervals, slices, comparison with champion and baseline, gates, report."""
