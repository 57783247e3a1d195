"""One step of the graph each: read from the lake, call the domain, write to the lake. No Dagster.

An asset body calls exactly one function of this package and turns what it returns into events.
"""
