"""The four components: YAML in, definitions out."""
