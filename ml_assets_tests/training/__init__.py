"""Tests of ml_assets.training."""
