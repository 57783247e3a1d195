"""A year of the whole loop in minutes. Planned; nothing is here yet."""
