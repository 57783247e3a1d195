"""Tests of ml_assets: the tree mirrors the package."""
