"""The four nouns that a user declares: Table, FeatureView, Model, Endpoint. Schema and wiring only."""

from ml_assets.components.endpoint import Endpoint as Endpoint
from ml_assets.components.feature_view import FeatureView as FeatureView
from ml_assets.components.model import Model as Model
from ml_assets.components.table import Table as Table
