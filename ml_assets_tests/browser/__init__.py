"""The real Dagster UI, in a real browser, over a small real state of the flights example."""
