from __future__ import annotations

import math

import pytest

from scalable.errors import TaskError, UnknownTag
from scalable.pools.routing import Router
from scalable.pools.shape import UNLIMITED, PoolShape
from scalable.spec import ComponentSpec, ResourceRequest, TaskSpec

SMALL = ComponentSpec("small", ResourceRequest(1), tags=("io-bound", "any"))
BIG = ComponentSpec(
    "big", ResourceRequest(4, gpus=2), tags=("any",), capabilities={"scratch": math.inf, "licence": 1.0}
)


def router(*components: ComponentSpec, threads: int | None = None) -> Router:
    tasks = {"simulate": TaskSpec("simulate", "big")}
    return Router([PoolShape.of(one, threads) for one in components or (SMALL, BIG)], tasks)


def test_a_worker_has_a_thread_for_each_whole_cpu_of_its_component() -> None:
    assert PoolShape.of(BIG).threads == 4
    assert PoolShape.of(ComponentSpec("half", ResourceRequest(0.5))).threads == 1
    assert PoolShape.of(ComponentSpec("odd", ResourceRequest(2.9))).threads == 2


def test_threads_per_worker_of_the_target_goes_before_the_cpus() -> None:
    assert PoolShape.of(BIG, 2).threads == 2


def test_a_worker_advertises_its_name_tags_gpus_and_capabilities() -> None:
    labels = PoolShape.of(BIG).labels
    assert {name for name, amount in labels.items() if amount == UNLIMITED} == {"big", "any", "scratch"}
    assert {name: amount for name, amount in labels.items() if amount != UNLIMITED} == {
        "gpu": 2,
        "licence": 1,
        "threads": 4,
    }


def test_a_capability_without_an_amount_does_not_multiply_devices() -> None:
    card = ComponentSpec("card", ResourceRequest(4, gpus=1), capabilities={"gpu": math.inf})
    assert PoolShape.of(card).labels["gpu"] == 1


def test_a_worker_runs_as_many_tasks_as_its_threads_and_amounts_admit() -> None:
    shape = PoolShape.of(BIG)
    assert shape.slots({}) == shape.slots({"big": 1}) == 4
    assert shape.slots({"big": 1, "gpu": 1}) == 2
    assert shape.slots({"licence": 1}) == 1
    assert shape.slots({"threads": 3}) == 1
    assert shape.slots({"unheard-of": 1}) == 0


def test_a_tag_is_a_component_then_a_label_then_a_task() -> None:
    assert router().route("small").pools == ("small",)
    assert router().route("any").pools == ("small", "big")
    assert router().route("simulate").pools == ("big",)


def test_a_task_without_tag_goes_by_its_name() -> None:
    assert router().route(None, "simulate").pools == ("big",)


def test_a_tag_goes_before_the_name() -> None:
    assert router().route("small", "simulate").pools == ("small",)


def test_what_asks_for_nothing_goes_to_the_first_component_or_to_the_one_called_default() -> None:
    assert router().route(None, "unheard-of").pools == ("small",)
    assert router(SMALL, ComponentSpec("default")).route().pools == ("default",)


def test_capabilities_alone_admit_every_pool_that_offers_them_all() -> None:
    assert router().route(capabilities={"scratch": 1}).pools == ("big",)
    assert router().route(capabilities={"gpu": 1}).resources == {"gpu": 1}


def test_capabilities_narrow_what_a_tag_admits() -> None:
    route = router().route("any", capabilities={"gpu": 1})
    assert route.pools == ("big",)
    assert route.resources == {"gpu": 1, "any": 1}


def test_an_unknown_tag_is_refused_with_those_that_exist() -> None:
    with pytest.raises(
        UnknownTag, match=r"tag 'smal'; known: small, io-bound, any, big, simulate; did you mean 'small'"
    ):
        router().route("smal")


def test_capabilities_that_no_pool_can_ever_offer_are_refused_with_the_offers() -> None:
    with pytest.raises(UnknownTag, match=r"gpu: 3.*known: small \{.*big \{.*gpu: 2"):
        router().route(capabilities={"gpu": 3})
    with pytest.raises(UnknownTag, match="gpu: 1 together with tag 'small'"):
        router().route("small", capabilities={"gpu": 1})


def test_an_amount_that_is_not_positive_is_refused() -> None:
    with pytest.raises(TaskError, match="cannot require 0 of 'gpu'"):
        router().route(capabilities={"gpu": 0})
    with pytest.raises(TaskError, match="cannot require 'x' of 'gpu'; amounts are numbers"):
        router().route(capabilities={"gpu": "x"})  # type: ignore[dict-item]


def test_a_tag_that_is_no_text_is_refused() -> None:
    with pytest.raises(TaskError, match="a tag is a text, not 5"):
        router().route(5)  # type: ignore[arg-type]
