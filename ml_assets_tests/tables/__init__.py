"""Tests of contracts, validation and profiles."""
