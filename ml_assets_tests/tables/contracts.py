"""Contracts that the tests of this folder share."""

from datetime import datetime
from typing import ClassVar

import pandera.pandas as pa


class Flights(pa.DataFrameModel):
    """Flights with every type that a contract offers."""

    flight_id: str = pa.Field(str_length={"min_value": 1}, description="Unique id")
    carrier: str = pa.Field(isin=["UA", "B6"])
    departed_at: datetime = pa.Field(nullable=True)
    arrived_at: datetime
    delay: float = pa.Field(in_range={"min_value": -120, "max_value": 2000}, nullable=True)
    seats: int = pa.Field(gt=0, nullable=False)
    cancelled: bool

    class Config:
        """Rules over a row."""

        metadata: ClassVar = {"rules": {"arrives after departure": "arrived_at >= departed_at"}}
