"""The routing table: whole or not at all, and shares as declared."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.errors import ArtefactError, RequestError
from ml_assets.serving.routing import Arm, Router, RoutingTable
from ml_assets_tests.serving import world


def offer(router: Router, generation: int, weights: dict) -> bool:
    return router.offer(msgspec.json.encode({"generation": generation, "weights": weights}))


@pytest.fixture
def loaded() -> list[str]:
    return []


@pytest.fixture
def router(loaded: list[str]) -> Router:
    one = world.predictor()

    def load(version: str):
        if version == "broken":
            raise ArtefactError("it is broken")
        loaded.append(version)
        return one

    return Router(load)


def test_a_version_is_loaded_once(router: Router, loaded: list[str]):
    offer(router, 1, {"1": 1})
    offer(router, 2, {"1": 0.5, "2": 0.5})
    offer(router, 3, {"2": 1})
    assert loaded == ["1", "2"]
    assert router.status() | {"digests": None} == {
        "generation": 3,
        "weights": {"2": 1.0},
        "digests": None,
        "refused": None,
    }


def test_a_table_with_one_broken_version_changes_nothing(router: Router):
    offer(router, 1, {"1": 1})
    before = router.table
    assert not offer(router, 2, {"1": 0.5, "broken": 0.5})
    assert router.table is before
    assert router.status()["refused"] == {"generation": 2, "reason": "ArtefactError: it is broken"}


def test_the_next_good_table_clears_the_refusal(router: Router):
    assert not offer(router, 1, {"broken": 1})
    assert offer(router, 2, {"1": 1})
    assert router.refusal is None


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b'{"generation": 1, "weights": {}}', b'{"generation": 1, "weights": {"1": -1}}']
)
def test_a_file_that_is_no_table_is_refused(router: Router, content: bytes):
    assert not router.offer(content)
    assert router.refusal


def test_negative_weights_are_refused(router: Router):
    assert not offer(router, 1, {"1": 2, "2": -1})


def test_a_version_of_weight_zero_is_only_reached_by_its_name(router: Router):
    offer(router, 1, {"1": 1, "2": 0})
    assert {router.table.pick(number).version for number in np.linspace(0, 0.999999, 50)} == {"1"}
    assert router.table.pinned("2").version == "2"


def test_without_any_weight_nothing_is_picked_and_each_version_is_reached_by_its_name(router: Router):
    offer(router, 1, {"1": 0, "2": 0})
    with pytest.raises(RequestError, match="version 1, 2 is loaded and takes no traffic until its parity") as caught:
        router.table.pick(0.5)
    assert (caught.value.status, router.table.takes_traffic) == (503, False)
    assert router.table.pinned("1").share == 0
    assert router.status()["weights"] == {"1": 0, "2": 0}


def test_a_version_that_is_not_loaded_is_404(router: Router):
    offer(router, 1, {"1": 1})
    with pytest.raises(RequestError) as caught:
        router.table.pinned("9")
    assert caught.value.status == 404


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(any), st.floats(0, 1, exclude_max=True))
def test_every_number_picks_an_arm_with_a_share(weights: list[int], number: float):
    shares = [weight / sum(weights) for weight in weights]
    table = RoutingTable.of(1, [Arm(str(n), share, PREDICTOR) for n, share in enumerate(shares)])
    assert table.pick(number).share > 0


PREDICTOR = world.predictor()


def test_an_even_grid_of_numbers_is_split_by_the_weights():
    table = RoutingTable.of(1, [Arm("1", 0.25, PREDICTOR), Arm("2", 0.75, PREDICTOR)])
    picked = [table.pick(number).version for number in np.arange(1000) / 1000]
    assert (picked.count("1"), picked.count("2")) == (250, 750)
