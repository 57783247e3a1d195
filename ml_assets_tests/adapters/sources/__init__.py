"""Tests of ml_assets.adapters."""
