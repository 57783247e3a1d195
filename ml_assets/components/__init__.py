"""The four nouns that a user declares: Table, FeatureView, Model, Endpoint. Schema and wiring only."""
