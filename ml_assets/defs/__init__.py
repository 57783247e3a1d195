"""What exists: one folder per use case with its YAML, SQL and contracts. Never imported by the rest of the package."""
