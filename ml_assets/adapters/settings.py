"""Where things are: read once from the environment, with defaults that need nothing but a folder."""

import os
from dataclasses import dataclass
from pathlib import Path

from ml_assets.errors import DeclarationError


@dataclass(frozen=True)
class Settings:
    """Places of one installation. Every field has its variable; the defaults live below `ML_ASSETS_HOME`."""

    home: Path
    landing_uri: str
    lake_uri: str
    mlflow_uri: str
    online_store: str
    endpoints: Path
    reports: Path
    retain_hours: int = 24 * 30

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read `ML_ASSETS_HOME` (default `var` in the working directory) and the variable of each place.

        `ML_ASSETS_RETAIN_HOURS` (default 30 days) is how long replaced rows can be read.
        """
        home = Path(os.environ.get("ML_ASSETS_HOME", "var")).resolve()

        def place(variable: str, default: Path | str) -> str:
            return os.environ.get(f"ML_ASSETS_{variable}") or str(default)

        return cls(
            home=home,
            landing_uri=place("LANDING_URI", home / "landing"),
            lake_uri=place("LAKE_URI", home / "lake"),
            mlflow_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
            online_store=place("ONLINE_STORE", home / "online" / "features.db"),
            endpoints=Path(place("ENDPOINTS", home / "endpoints")),
            reports=Path(place("REPORTS", home / "reports")),
            retain_hours=_hours("ML_ASSETS_RETAIN_HOURS", cls.retain_hours),
        )


def _hours(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal():
        raise DeclarationError(f"{variable} is '{text}', which is no whole number of hours. Set it to {default}, say.")
    return int(text)
