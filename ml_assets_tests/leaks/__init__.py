"""Leaks that were planted into the flights example, and the checks that find them."""
