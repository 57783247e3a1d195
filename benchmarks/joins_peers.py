"""Feast's join of the same rows, in an environment that has Feast and nothing of ours: see `joins`."""

import json
import re
import resource
import sys
from datetime import timedelta
from pathlib import Path


def main() -> None:
    import pandas as pd
    from feast import (  # pyright: ignore[reportMissingImports]
        Entity,
        FeatureStore,
        FeatureView,
        Field,
        FileSource,
        RepoConfig,
        ValueType,
    )
    from feast.types import Float64  # pyright: ignore[reportMissingImports]

    kind, folder, rows = sys.argv[1:]
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=f"{folder}/{kind}_registry.db",
        offline_store={"type": kind},
        online_store={"type": "sqlite", "path": f"{folder}/{kind}_online.db"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.INT64)
    view = FeatureView(
        name="v",
        entities=[entity],
        ttl=timedelta(days=1),
        schema=[Field(name="f1", dtype=Float64), Field(name="f2", dtype=Float64)],
        source=FileSource(path=f"{folder}/features.parquet", timestamp_field="feature_timestamp"),
    )
    store.apply([entity, view])
    labels = pd.read_parquet(f"{folder}/labels.parquet").head(int(rows)).rename(columns={"at": "event_timestamp"})
    before = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    found = store.get_historical_features(entity_df=labels, features=["v:f1", "v:f2"]).to_df()
    spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - before
    summed = (found.f1 * 1e6).round().sum()
    facts = {"rows": len(found), "filled": int(found.f1.notna().sum()), "sum": int(summed)}
    Path(folder, f"{kind}.json").write_text(json.dumps(facts))
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    sys.stdout.write("\n" + json.dumps({"cpu": spent, "peak": int(peak[1]) / 2**20 if peak else 0.0}) + "\n")


if __name__ == "__main__":
    main()
