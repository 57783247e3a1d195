"""The endpoint process: request, features, model, prediction, log. No Dagster; stores and logs are handed in."""
