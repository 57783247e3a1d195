"""What the tables of the flights promise; bounds come from what the fields can physically be."""

from datetime import datetime

import pandera.pandas as pa


class FlightSchedules(pa.DataFrameModel):
    """A flight as it is planned; nothing in here is known only after departure."""

    flight_id: str = pa.Field(str_length={"min_value": 10}, description="Carrier, number, origin, local departure.")
    carrier: str = pa.Field(str_length={"min_value": 2, "max_value": 2}, description="IATA code of the airline.")
    carrier_name: str = pa.Field(nullable=True)
    flight_number: int = pa.Field(ge=1, le=9999)
    tailnum: str = pa.Field(nullable=True, description="Registration of the aircraft; joins `aircraft`.")
    origin: str = pa.Field(isin=["EWR", "JFK", "LGA"], description="Airport of departure.")
    destination: str = pa.Field(str_length={"min_value": 3, "max_value": 3}, description="Airport of arrival.")
    scheduled_departure_at: datetime
    scheduled_arrival_at: datetime = pa.Field(nullable=True)
    distance_miles: float = pa.Field(gt=0, le=6000)
    known_at: datetime = pa.Field(description="When the schedule was published.")

    class Config:  # pyright: ignore[reportIncompatibleVariableOverride]  as pandera documents it
        metadata = {
            "rules": {
                "arrival_follows_departure": "scheduled_arrival_at > scheduled_departure_at",
                "published_before_departure": "known_at < scheduled_departure_at",
            }
        }


class FlightOutcomes(pa.DataFrameModel):
    """How a flight ended, once that was known."""

    flight_id: str = pa.Field(str_length={"min_value": 10})
    carrier: str = pa.Field(str_length={"min_value": 2, "max_value": 2})
    tailnum: str = pa.Field(nullable=True)
    origin: str = pa.Field(isin=["EWR", "JFK", "LGA"])
    destination: str = pa.Field(str_length={"min_value": 3, "max_value": 3})
    scheduled_departure_at: datetime
    departed_at: datetime = pa.Field(
        nullable=True, description="Null when cancelled.", metadata={"available": "after_event"}
    )
    arrived_at: datetime = pa.Field(
        nullable=True, description="Null when cancelled or diverted.", metadata={"available": "after_event"}
    )
    departure_delay_minutes: float = pa.Field(nullable=True, ge=-120, le=2880, metadata={"available": "after_event"})
    arrival_delay_minutes: float = pa.Field(
        nullable=True, ge=-180, le=2880, description="The label comes from it.", metadata={"available": "after_event"}
    )
    air_time_minutes: float = pa.Field(nullable=True, gt=0, le=1200, metadata={"available": "after_event"})
    cancelled: bool = pa.Field(metadata={"available": "after_event"})
    diverted: bool = pa.Field(metadata={"available": "after_event"})
    known_at: datetime = pa.Field(description="When the outcome was final and reported.")

    class Config:  # pyright: ignore[reportIncompatibleVariableOverride]  as pandera documents it
        metadata = {"rules": {"arrival_follows_departure": "arrived_at > departed_at"}}


class Weather(pa.DataFrameModel):
    """Hourly observations at the three airports."""

    observed_at: datetime
    origin: str = pa.Field(isin=["EWR", "JFK", "LGA"])
    temperature_f: float = pa.Field(nullable=True, ge=-60, le=130)
    dew_point_f: float = pa.Field(nullable=True, ge=-80, le=100)
    humidity_pct: float = pa.Field(nullable=True, ge=0, le=100)
    wind_direction_deg: float = pa.Field(nullable=True, ge=0, le=360)
    wind_speed_mph: float = pa.Field(nullable=True, ge=0, le=200, description="One row of 2013 says 1,048.")
    wind_gust_mph: float = pa.Field(nullable=True, ge=0, le=250)
    precipitation_in: float = pa.Field(nullable=True, ge=0, le=10)
    pressure_mb: float = pa.Field(nullable=True, ge=870, le=1085)
    visibility_miles: float = pa.Field(nullable=True, ge=0, le=10)
    known_at: datetime


class Aircraft(pa.DataFrameModel):
    """The aircraft register."""

    tailnum: str
    built_year: int = pa.Field(nullable=True, ge=1903, le=2013)
    type: str = pa.Field(nullable=True)
    manufacturer: str = pa.Field(nullable=True)
    model: str = pa.Field(nullable=True)
    engines: int = pa.Field(nullable=True, ge=1, le=8)
    seats: int = pa.Field(nullable=True, ge=1, le=900)
    engine: str = pa.Field(nullable=True)


class Airports(pa.DataFrameModel):
    """Airports of the United States."""

    faa: str = pa.Field(str_length={"min_value": 3, "max_value": 4})
    name: str = pa.Field(nullable=True)
    latitude: float = pa.Field(ge=-90, le=90)
    longitude: float = pa.Field(ge=-180, le=180)
    altitude_ft: int = pa.Field(ge=-1500, le=15000)
    timezone: str = pa.Field(nullable=True)
