"""Tests of the demonstration and of the processes it starts."""
