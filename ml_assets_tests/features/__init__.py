"""Tests of views, windows, the point-in-time join, the leak proof and the encoding, against plain Python oracles."""
