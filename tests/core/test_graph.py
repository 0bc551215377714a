"""Levels and cycles of the dependency graph."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.graph import Edge, cut, cycles, knots, levels, waves

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


def without(graph: dict[str, list[str]], edges: tuple[Edge, ...]) -> dict[str, list[str]]:
    return {node: [parent for parent in parents if (node, parent) not in edges] for node, parents in graph.items()}


@given(graphs, st.dictionaries(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES)), st.integers(0, 2)))
def test_the_suggested_cut_leaves_no_cycle_and_needs_every_edge(
    graph: dict[str, list[str]], ranks: dict[Edge, int]
) -> None:
    edges = cut(graph, lambda edge: ranks.get(edge, 1))
    assert all(parent in graph[node] for node, parent in edges)
    left = without(graph, edges)
    assert cycles(left) == ()
    waves(left)  # raises ValueError where there is a cycle
    for edge in edges:
        others = tuple(other for other in edges if other != edge)
        assert cycles(without(graph, others)), f"{edge} is cut for nothing"


@pytest.mark.parametrize(
    ("graph", "ranks", "expected"),
    [
        ({"a": ["b"], "b": ["a"]}, {("b", "a"): 0}, (("b", "a"),)),
        ({"a": ["b"], "b": ["a"]}, {("a", "b"): 0}, (("a", "b"),)),
        # One edge is in all three cycles: it is cut, although the others would be given up more readily.
        (
            {"a": ["b"], "b": ["c", "d", "e"], "c": ["a"], "d": ["a"], "e": ["a"]},
            {("c", "a"): 0, ("d", "a"): 0, ("e", "a"): 0},
            (("a", "b"),),
        ),
        ({"a": ["a"], "b": ["c"], "c": ["b"]}, {}, (("a", "a"), ("b", "c"))),
        ({"a": ["b"], "b": []}, {}, ()),
    ],
)
def test_what_is_cut(graph: dict[str, list[str]], ranks: dict[Edge, int], expected: tuple[Edge, ...]) -> None:
    assert cut(graph, lambda edge: ranks.get(edge, 1)) == expected


@given(graphs)
def test_levels_are_waves_where_there_are_any_and_keep_knots_together(graph: dict[str, list[str]]) -> None:
    found = levels(graph)
    if not cycles(graph):
        assert found == waves(graph)
    level_of = {node: index for index, level in enumerate(found) for node in level}
    assert sorted(level_of) == sorted(graph)
    tied = {node: knot for knot in knots(graph) for node in knot}
    for node, parents in graph.items():
        for parent in parents:
            if parent in tied.get(node, ()):
                assert level_of[node] == level_of[parent]
            else:
                assert level_of[node] > level_of[parent]


def test_a_long_chain_and_a_long_cycle_take_no_recursion() -> None:
    chain = {f"n{i}": [f"n{i + 1}"] for i in range(5000)} | {"n5000": []}
    assert knots(chain) == ()
    assert len(levels(chain)) == 5001
    (knot,) = knots({**chain, "n5000": ["n0"]})
    assert len(knot) == 5001
