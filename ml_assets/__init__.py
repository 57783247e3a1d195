"""The dbt of models, on Dagster: declared tables, feature views, models and endpoints as one asset graph."""
