"""Tests of the endpoint's process: bundle, prediction, routing, HTTP."""
