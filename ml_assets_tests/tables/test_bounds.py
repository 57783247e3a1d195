"""Bounds as the source text of a contract states them."""

from ml_assets.tables.bounds import bounds

CONTRACT = """\
from datetime import datetime

import pandera.pandas as pa

MOST = 9


class Orders(pa.DataFrameModel):
    items: int = pa.Field(gt=0, lt=30)
    weight: float = pa.Field(gt=0, le=30.5, ge=0)
    share: float = pa.Field(in_range={"min_value": 0, "max_value": 1, "include_max": False}, nullable=True)
    channel: str = pa.Field(isin=["web", "app"])
    size: int = pa.Field(isin=[10, 9])
    named: int = pa.Field(le=MOST)
    country: str = pa.Field(isin=["UA", None, "DE"], nullable=True)
    rate: float = pa.Field(isin=[1.0, None, 0.5], nullable=True)
    code: str = pa.Field(str_length={"min_value": 2})
    ordered_at: datetime
"""


def test_limits_and_choices_are_read_whole_numbers_without_exclusion_and_choices_without_null(tmp_path, monkeypatch):
    (tmp_path / "bounded_contracts.py").write_text(CONTRACT)
    monkeypatch.syspath_prepend(tmp_path)
    assert bounds("bounded_contracts.Orders") == {
        "items": {"minimum": 1, "maximum": 29},
        "weight": {"above": 0, "maximum": 30.5},
        "share": {"minimum": 0, "below": 1},
        "channel": {"choices": ("app", "web")},
        "size": {"choices": (9, 10)},
        "named": {},
        "country": {"choices": ("DE", "UA")},
        "rate": {"choices": (0.5, 1.0)},
        "code": {},
        "ordered_at": {},
    }
