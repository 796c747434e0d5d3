"""Counting of containers."""

from stack.events import RunContainers


def test_a_container_that_ended_makes_room_for_the_next() -> None:
    counted = RunContainers()
    for line in ("start a", "die a", "start b", "start c", "die b", "die c", "start d"):
        counted.hear(line + "\n")
    assert (counted.started, counted.most_at_once) == (4, 2)


def test_a_container_that_died_before_it_was_counted_takes_no_room() -> None:
    counted = RunContainers()
    counted.hear("die x")
    counted.hear("start a")
    assert counted.most_at_once == 1
