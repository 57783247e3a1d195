"""Splits, search and estimators: from a training set to a model, with the same bits every time."""
