"""The lake's upkeep: replaced files that nobody can need any more are deleted, and what killed writers left."""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta

from ml_assets import clock
from ml_assets.adapters import versions
from ml_assets.adapters.retention import UNFINISHED_HOURS
from ml_assets.errors import shorten
from ml_assets.steps.run import Run

SCRATCH = "scratch/"


@dataclass(frozen=True)
class Maintained:
    """What was deleted, or would be: by table the files, and the objects that nobody reads."""

    files: Mapping[str, tuple[str, ...]]
    objects: tuple[str, ...]
    kept: Mapping[str, tuple[int, ...]]
    dry_run: bool

    def lines(self) -> list[str]:
        """What happened, a line for each table and one for the objects, as a person reads it."""
        deleted = "would be deleted" if self.dry_run else "deleted"
        lines = [
            f"{table}: {len(files)} replaced or unfinished files {deleted}{self._kept(table)}."
            for table, files in self.files.items()
        ]
        objects = f": {shorten(self.objects)}" if self.objects else ""
        return [*lines, f"{len(self.objects)} unfinished objects {deleted}{objects}."]

    def _kept(self, table: str) -> str:
        kept = self.kept.get(table)
        return f"; versions {shorten(kept)} are kept for the models trained on them" if kept else ""


def maintain(
    run: Run,
    pins: Mapping[str, Set[int]],
    *,
    names: Collection[str] | None = None,
    retain_hours: int | None = None,
    dry_run: bool = False,
) -> Maintained:
    """Delete what was replaced more than `retain_hours` ago (`ML_ASSETS_RETAIN_HOURS`), unless a pin needs it.

    `pins` are the versions by table that registered models were trained on. `names` chooses tables by what follows
    the layer: `weather` is `raw/weather`, `tables/weather`, `quarantine/weather` and so on; None: all of them.
    """
    hours = run.settings.retain_hours if retain_hours is None else retain_hours
    tables = [name for name in versions.tables(run.lake) if names is None or name.partition("/")[2] in names]
    files = {}
    for table in tables:
        kept = pins.get(table, ())
        files[table] = tuple(run.lake.maintain(table, retain_hours=hours, keep_versions=kept, dry_run=dry_run))
    done = Maintained(
        files, _swept(run, dry_run=dry_run), {t: tuple(sorted(pins[t])) for t in pins if t in files}, dry_run
    )
    for line in done.lines():
        run.log(line)
    return done


def _swept(run: Run, *, dry_run: bool) -> tuple[str, ...]:
    """Half-written objects, and what sources that gave up meant to go on from."""
    before = clock.now() - timedelta(hours=UNFINISHED_HOURS)
    return tuple(
        run.lake.remove_objects(SCRATCH, before=before, dry_run=dry_run)
        + run.lake.sweep_objects(before=before, dry_run=dry_run)
    )
