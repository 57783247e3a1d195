"""Tests of monitoring: drift, performance, the retrain policy."""
