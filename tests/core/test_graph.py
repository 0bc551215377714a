"""Levels and cycles of the dependency graph."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.graph import cycles, waves

NODES = [f"g{index}" for index in range(7)]
graphs = st.lists(
    st.lists(st.sampled_from(NODES), unique=True, max_size=4), min_size=len(NODES), max_size=len(NODES)
).map(lambda links: dict(zip(NODES, links, strict=True)))


def test_a_group_stands_one_level_above_the_highest_that_it_waits_for() -> None:
    graph = {"web": ["db", "dns"], "mail": ["dns"], "db": ["store"], "store": ["dns"], "dns": [], "ntp": []}
    assert waves(graph) == (("dns", "ntp"), ("mail", "store"), ("db",), ("web",))


def test_a_dependency_written_twice_counts_once() -> None:
    assert waves({"a": ["b", "b"], "b": []}) == (("b",), ("a",))


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": ["a"]}, (("a", "a"),)),
        ({"a": ["b"], "b": ["a"]}, (("a", "b", "a"),)),
        ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, (("a", "b", "c", "a"),)),
        ({"a": ["b", "c"], "b": ["c"], "c": ["a"]}, (("a", "c", "a"), ("a", "b", "c", "a"))),
        ({"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"]}, (("a", "b", "a"), ("c", "d", "c"))),
        ({"a": ["b"], "b": []}, ()),
    ],
)
def test_cycles_by_their_shortest_path(graph: dict[str, list[str]], expected: tuple[tuple[str, ...], ...]) -> None:
    assert cycles(graph) == expected


@given(graphs)
def test_either_there_are_waves_or_there_are_cycles(graph: dict[str, list[str]]) -> None:
    found = cycles(graph)
    if not found:
        levels = waves(graph)
        level_of = {node: index for index, level in enumerate(levels) for node in level}
        assert sorted(level_of) == sorted(graph)
        for node, parents in graph.items():
            assert level_of[node] == max((level_of[parent] + 1 for parent in parents), default=0)
        return
    with pytest.raises(ValueError, match="cycle"):
        waves(graph)
    for path in found:
        assert path[0] == path[-1]
        assert len(set(path)) == len(path) - 1
        assert all(parent in graph[node] for node, parent in pairwise(path))
    in_cycles = {node for node in graph if reaches(graph, node, node)}
    assert {node for path in found for node in path} == in_cycles


def reaches(graph: dict[str, list[str]], start: str, goal: str) -> bool:
    seen: set[str] = set()
    open_nodes = list(graph[start])
    while open_nodes:
        node = open_nodes.pop()
        if node == goal:
            return True
        if node not in seen:
            seen.add(node)
            open_nodes.extend(graph[node])
    return False
