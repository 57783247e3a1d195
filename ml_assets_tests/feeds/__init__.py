"""The flights of 2013 as a source system."""
