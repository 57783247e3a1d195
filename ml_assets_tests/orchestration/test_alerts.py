"""One message when a run gives up, and none before; taken by a real HTTP server."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from ml_assets import clock
from ml_assets.errors import DeliveryError, SourceUnavailableError
from ml_assets.orchestration.alerts import alert_sensor
from ml_assets.orchestration.events import advice
from ml_assets_tests.adapters.sink import sink

DAYS = dg.DailyPartitionsDefinition(start_date="2013-01-01", end_date="2013-01-10")
AWAY = "The weather service at http://weather answered 503. It is asked again."


class Weather:
    """A table whose source fails as often as it is told to, and an instance on disk that runs it."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.cursor = instance, None
        self.fails, self.error, self.attempts, self.passes = 0, SourceUnavailableError(AWAY), 0, True
        self.asset = self._asset()

    def _asset(self) -> dg.AssetsDefinition:
        @dg.asset(
            key=["tables", "weather"],
            partitions_def=DAYS,
            retry_policy=dg.RetryPolicy(max_retries=2),
            check_specs=[dg.AssetCheckSpec("few_rows_are_invalid", asset=["tables", "weather"], blocking=True)],
        )
        def weather():
            self.attempts += 1
            if self.attempts <= self.fails:
                with advice():
                    raise self.error
            check = dg.AssetCheckResult(
                passed=self.passes, description="More than 5.0% of the rows break the contract."
            )
            return dg.MaterializeResult(check_results=[check])

        return weather

    def run(self, day: str = "2013-01-05", *, fails: int = 0) -> dg.ExecuteInProcessResult:
        self.fails, self.attempts = fails, 0
        return dg.materialize([self.asset], partition_key=day, instance=self.instance, raise_on_error=False)

    def tick(self) -> list[str]:
        """Let the sensor look until it has seen everything, as the daemon does; gives what the ticks say."""
        said = []
        while True:
            with dg.build_sensor_context(self.instance, cursor=self.cursor) as context:
                result = alert_sensor().evaluate_tick(context)
            seen, self.cursor = self.cursor, result.cursor
            if seen == self.cursor or not result.skip_message:
                return said
            said.append(result.skip_message)


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    """An instance on disk, which takes two seconds to make."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("instance"))) as instance:
        yield instance


@pytest.fixture
def weather(instance, monkeypatch):
    monkeypatch.delenv("ML_ASSETS_ALERT_URLS", raising=False)
    instance.wipe()
    found = Weather(instance)
    found.tick()  # sets the cursor
    return found


@pytest.fixture
def received(monkeypatch):
    with sink() as (address, received):
        monkeypatch.setenv("ML_ASSETS_ALERT_URLS", f"json://{address}/token")
        yield received


def test_a_source_that_answers_at_the_third_attempt_alerts_nobody(weather, received):
    assert weather.run(fails=2).success
    assert weather.attempts == 3
    assert (weather.tick(), received) == ([], [])


def test_a_source_that_does_not_answer_three_times_alerts_once(weather, received):
    run = weather.run(fails=3)
    assert (run.success, weather.attempts) == (False, 3)
    [said] = weather.tick()
    [message] = received
    assert message["title"] == "tables/weather 2013-01-05 gave up"
    assert message["message"].splitlines() == [
        f"tables/weather: {AWAY}",
        "Next: See that the source answers; it is asked again within the hour.",
        "",
        f"Run: http://127.0.0.1:3000/runs/{run.run_id}",
    ]
    assert said == f"tables/weather 2013-01-05 gave up. Sent to json://…. {AWAY}"
    assert (weather.tick(), len(received)) == ([], 1)


def test_an_error_that_cannot_pass_by_itself_alerts_after_one_attempt(weather, received):
    weather.error = DeliveryError("2013-01-05.csv, line 7: 3 fields, where the header has 4. Deliver it again.")
    weather.run(fails=3)
    assert weather.attempts == 1
    weather.tick()
    [message] = received
    assert "2013-01-05.csv, line 7: 3 fields" in message["message"]
    assert "Ask the source for a corrected delivery" in message["message"]


def test_a_blocking_check_is_told_by_name_and_sentence(weather, received):
    weather.passes = False
    weather.run()
    weather.tick()
    [message] = received
    assert message["message"].startswith(
        "tables/weather: check few_rows_are_invalid of tables/weather: More than 5.0% of the rows break the contract.\n"
    )


def test_any_other_error_is_told_too(weather, received):
    weather.error = ZeroDivisionError("division by zero")
    weather.run(fails=3)
    weather.tick()
    assert received[0]["message"].startswith(
        "tables/weather: ZeroDivisionError: division by zero\nNext: Read the run's"
    )


def test_the_same_failure_is_told_once_a_day_however_often_it_is_asked_for(weather, received):
    for _ in range(3):
        weather.run(fails=3)
    first, *others = weather.tick()
    assert "Sent to" in first
    assert len(others) == 2
    assert all("people were told of the same at" in said for said in others)
    assert len(received) == 1
    with clock.frozen(datetime.now(UTC) + timedelta(hours=25)):
        weather.run(fails=3)
        weather.tick()
    assert len(received) == 2


def test_a_failure_after_a_success_is_news_and_so_is_another_error(weather, received):
    weather.run(fails=3)
    weather.tick()
    weather.run("2013-01-06")  # another day says nothing about this one
    weather.run(fails=3)
    weather.tick()
    assert len(received) == 1
    weather.run()
    weather.run(fails=3)
    weather.tick()
    assert len(received) == 2
    weather.error = SourceUnavailableError("The weather service at http://weather answered 429.")
    weather.run(fails=3)
    weather.tick()
    assert len(received) == 3


def test_days_that_stand_in_a_run_that_fails_again_are_no_success(weather, received):
    weather.passes = False  # the row is materialized, and then the check fails
    for _ in range(2):
        weather.run()
        weather.tick()
    assert len(received) == 1


def test_a_message_that_nobody_took_is_sent_again_at_the_next_failure(weather, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_ALERT_URLS", "json://127.0.0.1:9/token")
    weather.run(fails=3)
    assert "Sent to nobody. Not taken by json://…" in weather.tick()[0]
    with sink() as (address, received):
        monkeypatch.setenv("ML_ASSETS_ALERT_URLS", f"json://{address}")
        weather.run(fails=3)
        weather.tick()
        assert len(received) == 1


def test_without_an_address_the_tick_says_so(weather):
    weather.run(fails=3)
    [said] = weather.tick()
    assert said.startswith("tables/weather 2013-01-05 gave up. No address is configured (ML_ASSETS_ALERT_URLS)")
    assert AWAY in said


def test_a_job_without_assets_is_told_by_its_name(weather, received):
    @dg.op
    def sweep():
        raise OSError("disk full")

    @dg.job(name="flights_maintenance")
    def job():
        sweep()

    job.execute_in_process(instance=weather.instance, raise_on_error=False)
    weather.tick()
    assert received[0]["title"] == "flights_maintenance gave up"
    assert received[0]["message"].startswith("flights_maintenance: OSError: disk full\n")


def test_a_run_that_is_run_again_by_itself_alerts_nobody(weather, received):
    run = weather.run(fails=3)
    weather.instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})
    assert "is run again by itself" in weather.tick()[0]
    assert received == []
