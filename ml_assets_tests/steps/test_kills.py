"""An ingestion that is killed at random moments while readers look on; a hundred times in `benchmarks/ingestion.py`."""

from benchmarks.ingestion import chaos


def test_killed_ingestions_show_nothing_half_done_lose_nothing_and_end_as_if_undisturbed(tmp_path):
    seen = chaos(tmp_path, kills=8, n_days=3)
    assert seen["kills"] == 8
    assert seen["reads"] > 8
    assert (seen["wrong reads"], seen["lost deliveries"]) == ([], [])
    assert seen["same hashes as undisturbed"]
