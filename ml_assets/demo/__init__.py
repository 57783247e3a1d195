"""The demonstration, and the processes on this machine that it shares with `ml-assets dev`.

It feeds, starts Dagster with all sensors on, and from then on only watches: everything that happens, the graph does.
"""
