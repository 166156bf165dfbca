from __future__ import annotations

import pytest

from scalable_prefect.routing import AmbiguousTags, Guide, Signposts

SIGNPOSTS = Signposts(
    {"simulate": ("simulate",), "rank": ("rank",), "heavy": ("simulate", "rank"), "big": ("rank", "other")}
)


@pytest.mark.parametrize(
    ("tags", "chosen"),
    [
        ({"simulate"}, "simulate"),
        ({"simulate", "team-a", "nightly"}, "simulate"),
        ({"heavy"}, "heavy"),
        ({"heavy", "rank"}, "rank"),
        ({"heavy", "big"}, "rank"),
        ({"team-a"}, None),
        (set(), None),
    ],
)
def test_tags_that_name_a_pool_decide_and_all_others_are_prefects_alone(tags: set[str], chosen: str | None) -> None:
    assert SIGNPOSTS.choose(tags, "energy") == chosen


def test_tags_that_name_different_pools_are_refused_with_a_sentence_that_helps() -> None:
    with pytest.raises(AmbiguousTags) as refused:
        SIGNPOSTS.choose({"simulate", "rank", "team-a"}, "energy")
    assert str(refused.value) == (
        "task 'energy' cannot tell where to run: of its tags, 'rank' names rank, 'simulate' names simulate; "
        "leave one, for instance with task.with_options(tags=[...])"
    )


def test_inside_a_task_the_guide_knows_what_the_next_task_takes() -> None:
    guide = Guide(SIGNPOSTS, {"heavy": {"heavy": 1.0}}, {"energy": {"simulate": 1.0}}, {"default": 1.0})
    assert guide.resources("heavy", "energy") == {"heavy": 1.0}
    assert guide.resources(None, "energy") == {"simulate": 1.0}
    assert guide.resources(None, "whatever") == {"default": 1.0}
    assert guide.resources(None, "whatever", {"gpu": 2.0}) == {"gpu": 2.0}
    assert guide.resources(None, "energy", {"gpu": 2.0}) == {"simulate": 1.0, "gpu": 2.0}
