import dagster as dg
import pytest

from ml_assets.demo.recovery import close_left_runs


@dg.job
def work():
    pass


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "dagster.yaml").write_text(
        "run_retries: {enabled: true, max_retries: 1}\ntelemetry: {enabled: false}\n"
    )
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def test_runs_that_were_under_way_fail_and_may_be_retried_the_others_stay(home):
    status = dg.DagsterRunStatus
    with dg.DagsterInstance.get() as instance:
        run_ids = {
            each: instance.create_run_for_job(work, status=each).run_id
            for each in (status.NOT_STARTED, status.STARTING, status.STARTED, status.SUCCESS)
        }
    assert close_left_runs(home) == 2
    with dg.DagsterInstance.get() as instance:
        found = {each: instance.get_run_by_id(run_id) for each, run_id in run_ids.items()}
    assert found[status.STARTED].status is found[status.STARTING].status is status.FAILURE
    assert found[status.STARTED].tags["dagster/will_retry"] == "true"
    assert found[status.NOT_STARTED].status is status.NOT_STARTED
    assert found[status.SUCCESS].status is status.SUCCESS
    assert close_left_runs(home) == 0


def test_a_first_session_has_nothing_to_close(home):
    assert close_left_runs(home) == 0
