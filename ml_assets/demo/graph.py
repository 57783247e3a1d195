"""What the Dagster of a session says about its graph, through the GraphQL that its UI uses too."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx

from ml_assets.errors import MlAssetsError

_TELLING = ("ExecutionStepFailureEvent", "EngineEvent", "RunFailureEvent")  # the first says most
_OVER = {"SUCCESS", "FAILURE", "CANCELED"}
_KEYS = "assetKey { path }"
_CHECKS = """
assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization {
  status evaluation { success severity description } } } } }
"""
_ASSETS = f"query Assets {{ assetNodes {{ {_KEYS} isPartitioned isMaterializable }} }}"
_STATES = f"""
query States($keys: [AssetKeyInput!]) {{ assetNodes(assetKeys: $keys) {{
  {_KEYS}
  assetMaterializations(limit: 1) {{ timestamp runId }}
  partitionStats {{ numMaterialized numPartitions }}
  assetPartitionStatuses {{ ... on TimePartitionStatuses {{ ranges {{ status endKey }} }} }}
  {_CHECKS}
}} }}
"""
_LATEST = """
query Latest($keys: [AssetKeyInput!]!) { assetsLatestInfo(assetKeys: $keys) {
  assetKey { path } latestMaterialization { timestamp runId } } }
"""
_RUNS = """
query Runs($since: Float) {
  active: runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING]}) { ...Found }
  recent: runsOrError(filter: {updatedAfter: $since}, limit: 100) { ...Found }
  partitionBackfillsOrError(status: REQUESTED) { ... on PartitionBackfills { results { id } } }
}
fragment Found on RunsOrError { ... on Runs { results {
  runId status startTime endTime assetSelection { path } tags { key value } } } }
"""
_TICKS = """
query Ticks($where: RepositorySelector!) { sensorsOrError(repositorySelector: $where) { ... on Sensors { results {
  name sensorState { status ticks(limit: 1) { timestamp status skipReason error { message } } } } } } }
"""
_MATERIALIZATIONS = """
query Materializations($keys: [AssetKeyInput!], $limit: Int) { assetNodes(assetKeys: $keys) {
  assetKey { path }
  assetMaterializations(limit: $limit) { runId timestamp metadataEntries { ...Value } } } }
fragment Value on MetadataEntry { label
  ... on BoolMetadataEntry { boolValue } ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue }
  ... on TextMetadataEntry { text } ... on UrlMetadataEntry { url } ... on JsonMetadataEntry { jsonString } }
"""
_FAILURE = """
query Failure($run: ID!) { logsForRun(runId: $run, limit: 1000) { ... on EventConnection { events { __typename
  ... on ExecutionStepFailureEvent { stepKey failureMetadata { description } error { message causes { message } } }
  ... on EngineEvent { error { message causes { message } } }
  ... on RunFailureEvent { message error { message } } } } } }
"""


@dataclass(frozen=True)
class CheckState:
    """The latest outcome of a check; `passed` is None while there is none."""

    name: str
    passed: bool | None
    warns: bool = False
    sentence: str = ""


@dataclass(frozen=True)
class AssetState:
    """What has been materialized of one asset. `newest` is its newest partition, "" where there are none."""

    key: str
    partitioned: bool
    materialized_at: float | None = None
    n_partitions: int = 0
    newest: str = ""
    checks: tuple[CheckState, ...] = ()

    @property
    def layer(self) -> str:
        """The first part of the key."""
        return self.key.partition("/")[0]


@dataclass(frozen=True)
class RunState:
    """A run. Times are seconds since 1970, None while they have not come."""

    run_id: str
    status: str
    assets: tuple[str, ...] = ()
    started_at: float | None = None
    ended_at: float | None = None
    partitions: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.status in _OVER


@dataclass(frozen=True)
class Tick:
    """The latest look of a sensor that is on; `at` is None before its first."""

    sensor: str
    at: float | None
    status: str = ""
    said: str = ""


@dataclass(frozen=True)
class Snapshot:
    """The graph at one moment."""

    assets: Mapping[str, AssetState]
    runs: Sequence[RunState] = ()
    n_backfills: int = 0
    ticks: Sequence[Tick] = ()


@dataclass
class Graph:
    """Reads one Dagster; cheap to poll: asset states are asked for again only where a run has been at work."""

    address: str
    location: str
    since: float
    _known: dict[str, AssetState] = field(default_factory=dict)
    _latest: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=60.0)

    @cached_property
    def _partitioned(self) -> dict[str, bool]:
        nodes = self._ask(_ASSETS)["assetNodes"]
        return {_name(node["assetKey"]): node["isPartitioned"] for node in nodes if node["isMaterializable"]}

    def snapshot(self) -> Snapshot:
        """Look at everything once; at the sensors only while nothing runs, since a run settles that it is not over."""
        answer = self._ask(_RUNS, since=self.since)
        found = [*answer["active"]["results"], *answer["recent"]["results"]]
        runs = {run["runId"]: _run(run) for run in found}
        self._refresh()
        backfills = answer["partitionBackfillsOrError"].get("results", [])
        at_rest = not answer["active"]["results"] and not backfills
        return Snapshot(dict(self._known), list(runs.values()), len(backfills), self._ticks() if at_rest else ())

    def failure(self, run_id: str) -> str:
        """Why a run failed, as its log says it."""
        found = self._ask(_FAILURE, run=run_id)["logsForRun"].get("events", [])
        said = {event["__typename"]: text for event in reversed(found) if (text := _reason(event))}
        nothing = "its log says nothing; the process may have been killed"
        return next((said[kind] for kind in _TELLING if kind in said), nothing)

    def materializations(self, layer: str, *, limit: int = 100) -> dict[str, list[dict]]:
        """The newest materializations of a layer's assets, newest first: metadata by label, with `run_id` and `at`."""
        keys = _keys(key for key in self._partitioned if key.startswith(f"{layer}/"))
        nodes = self._ask(_MATERIALIZATIONS, keys=keys, limit=limit)["assetNodes"] if keys else []
        return {_name(node["assetKey"]): [_metadata(each) for each in node["assetMaterializations"]] for node in nodes}

    def _refresh(self) -> None:
        """Ask for the states of the assets whose latest materialization is another one than before."""
        keys = list(self._partitioned)
        for key in keys:
            self._known.setdefault(key, AssetState(key, self._partitioned[key]))
        info = self._ask(_LATEST, keys=_keys(keys))["assetsLatestInfo"]
        latest = {_name(each["assetKey"]): each["latestMaterialization"] for each in info}
        changed = [key for key in keys if latest.get(key) != self._latest.get(key)]
        # A check can come after its materialization: the assets that lack an outcome are looked at again.
        waiting = [key for key, state in self._known.items() if state.materialized_at and _lacks_outcome(state)]
        if due := sorted({*changed, *waiting}):
            nodes = self._ask(_STATES, keys=_keys(due))["assetNodes"]
            self._known |= {state.key: state for state in map(self._state, nodes)}
        self._latest = latest

    def _state(self, node: dict) -> AssetState:
        key, latest = _name(node["assetKey"]), node["assetMaterializations"]
        ranges = (node["assetPartitionStatuses"] or {}).get("ranges", [])
        ends = [each["endKey"] for each in ranges if each["status"] == "MATERIALIZED"]
        return AssetState(
            key,
            self._partitioned[key],
            float(latest[0]["timestamp"]) / 1000 if latest else None,
            (node["partitionStats"] or {}).get("numMaterialized", 0),
            max(ends, default=""),
            tuple(_check(each) for each in node["assetChecksOrError"].get("checks", [])),
        )

    def _ticks(self) -> list[Tick]:
        where = {"repositoryLocationName": self.location, "repositoryName": "__repository__"}
        sensors = self._ask(_TICKS, where=where)["sensorsOrError"].get("results", [])
        return [_tick(each) for each in sensors if each["sensorState"]["status"] == "RUNNING"]

    def _ask(self, query: str, **variables: Any) -> dict:
        try:
            answer = self._client.post("/graphql", json={"query": query, "variables": variables}).json()
        except (httpx.HTTPError, ValueError) as error:
            raise MlAssetsError(f"Dagster at {self.address} does not answer: {type(error).__name__}.") from error
        if answer.get("errors"):
            raise MlAssetsError(f"Dagster at {self.address} refuses a question: {answer['errors'][0]['message']}")
        return answer["data"]


def _name(key: Mapping) -> str:
    return "/".join(key["path"])


def _keys(names: Iterable[str]) -> list[dict]:
    return [{"path": name.split("/")} for name in names]


def _lacks_outcome(state: AssetState) -> bool:
    return any(check.passed is None for check in state.checks)


def _check(found: Mapping) -> CheckState:
    execution = found["executionForLatestMaterialization"] or {}
    evaluation = execution.get("evaluation")
    if not evaluation:
        return CheckState(found["name"], None)
    return CheckState(
        found["name"], evaluation["success"], evaluation["severity"] == "WARN", evaluation["description"] or ""
    )


def _run(found: Mapping) -> RunState:
    tags = {tag["key"]: tag["value"] for tag in found["tags"]}
    first, last = tags.get("dagster/asset_partition_range_start"), tags.get("dagster/asset_partition_range_end")
    span = tags.get("dagster/partition", "") if not first else first if first == last else f"{first}..{last}"
    assets = tuple(_name(key) for key in found["assetSelection"] or ())
    return RunState(found["runId"], found["status"], assets, found["startTime"], found["endTime"], span)


def _tick(found: Mapping) -> Tick:
    ticks = found["sensorState"]["ticks"]
    if not ticks:
        return Tick(found["name"], None)
    error = (ticks[0]["error"] or {}).get("message", "")
    return Tick(found["name"], ticks[0]["timestamp"], ticks[0]["status"], error or ticks[0]["skipReason"] or "")


def _metadata(found: Mapping) -> dict:
    values = {entry["label"]: _value(entry) for entry in found["metadataEntries"]}
    return {**values, "run_id": found["runId"], "at": float(found["timestamp"]) / 1000}


def _value(entry: Mapping) -> Any:
    names = ("boolValue", "intValue", "floatValue", "text", "url", "jsonString")
    return next((entry[name] for name in names if entry.get(name) is not None), None)


def _reason(event: Mapping) -> str:
    described = (event.get("failureMetadata") or {}).get("description")
    error = event.get("error") or {}
    causes = [cause["message"] for cause in error.get("causes") or ()]
    said = described or (causes[-1] if causes else error.get("message")) or event.get("message") or ""
    step = f"{event['stepKey']}: " if event.get("stepKey") else ""
    return step + said.strip() if said else ""
