"""The daily upkeep of the lake: one schedule for each use case."""

from collections.abc import Sequence
from dataclasses import replace

import dagster as dg

from ml_assets.orchestration.resources import Platform

CRON = "17 3 * * *"


def maintenance(group: str, names: Sequence[str]) -> dg.ScheduleDefinition:
    """Once a day, deletes what nobody can need any more of the tables with these names; says what it deleted."""

    @dg.op(
        name=f"{group}_maintain_tables",
        description="Merges small files, writes checkpoints, deletes what was replaced longer ago than"
        " `ML_ASSETS_RETAIN_HOURS`, unless a registered model was trained on it.",
    )
    def maintain_tables(context: dg.OpExecutionContext, platform: Platform) -> None:
        from ml_assets.steps.maintain import maintain
        from ml_assets.steps.pins import pinned

        run = replace(platform.look(), log=context.log.info, run_id=context.run_id)
        done = maintain(run, pinned(run.lake), names=names)
        context.add_output_metadata(
            {
                "deleted files": sum(map(len, done.files.values())),
                "by table": dg.MetadataValue.json({table: list(files) for table, files in done.files.items() if files}),
                "kept versions": dg.MetadataValue.json({table: list(found) for table, found in done.kept.items()}),
                "deleted objects": dg.MetadataValue.json(list(done.objects)),
            }
        )

    @dg.job(name=f"{group}_maintenance", description=f"Upkeep of the lake's tables of {group}.")
    def job() -> None:
        maintain_tables()

    return dg.ScheduleDefinition(
        name=f"{group}_maintenance",
        job=job,
        cron_schedule=CRON,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Once a day, deletes what nobody can need any more of the tables of {group}.",
    )
