"""A bundle's trial in a throw-away process: `python -m ml_assets.serving.trial FOLDER`.

Damaged LightGBM text aborts or crashes the process that parses it two times in three, and loads silently with other
scores one time in four (facts/serving.md 6). Here that harms nobody: the caller looks at the exit code.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ml_assets.errors import MlAssetsError
from ml_assets.serving import bundle
from ml_assets.serving.predictor import Predictor


class _NoStore:
    """Golden rows are encoded already: nothing is looked up."""

    def lookup_many(self, _: str, keys: Sequence[tuple], __: Sequence[int]) -> list[None]:
        return [None] * len(keys)

    def schema(self, _: str) -> None:
        return None

    def newest(self, _: str) -> None:
        return None


def main(folder: Path) -> None:
    """Parse the bundle and check its golden predictions; raises ArtefactError, or does not return at all."""
    Predictor(bundle.read(folder), _NoStore()).check_golden()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except MlAssetsError as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
