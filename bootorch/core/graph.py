"""The dependency graph of groups: levels for people, cycles by name. Edges point from a group to what it waits for."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

Graph = Mapping[str, Sequence[str]]


def waves(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Levels: a group stands one level above the highest group that it waits for; order within a level is the graph's.

    Raises ValueError when there is a cycle (see :func:`cycles`).

    >>> waves({"web": ["db", "dns"], "db": ["dns"], "dns": [], "ntp": []})
    (('dns', 'ntp'), ('db',), ('web',))
    """
    waiting = {node: len(dict.fromkeys(parents)) for node, parents in graph.items()}
    children: dict[str, list[str]] = {node: [] for node in graph}
    for node, parents in graph.items():
        for parent in dict.fromkeys(parents):
            children[parent].append(node)
    order = {node: index for index, node in enumerate(graph)}
    levels: list[tuple[str, ...]] = []
    level = [node for node, count in waiting.items() if count == 0]
    done = 0
    while level:
        levels.append(tuple(level))
        done += len(level)
        following: list[str] = []
        for node in level:
            for child in children[node]:
                waiting[child] -= 1
                if waiting[child] == 0:
                    following.append(child)
        level = sorted(following, key=order.__getitem__)
    if done != len(graph):
        raise ValueError("the graph has a cycle")
    return tuple(levels)


def cycles(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Cycles, each by its shortest path: ``("web", "db", "web")`` says that web waits for db and db for web.

    Every group that stands in a cycle is named in at least one of them; equal cycles are given once, first group first.

    >>> cycles({"web": ["db"], "db": ["cache", "web"], "cache": ["web"], "ntp": []})
    (('web', 'db', 'web'), ('web', 'db', 'cache', 'web'))
    """
    found: dict[tuple[str, ...], None] = {}
    order = {node: index for index, node in enumerate(graph)}
    for node in graph:
        if path := _shortest_cycle(graph, node):
            start = min(range(len(path)), key=lambda index: order[path[index]])
            found.setdefault((*path[start:], *path[:start]))
    return tuple((*path, path[0]) for path in found)


def _shortest_cycle(graph: Graph, start: str) -> tuple[str, ...]:
    """The shortest way from ``start`` back to itself, without the repeated end; empty where there is none."""
    came_from: dict[str, str] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for parent in graph.get(node, ()):
            if parent == start:
                path = [node]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return tuple(reversed(path))
            if parent not in came_from:
                came_from[parent] = node
                queue.append(parent)
    return ()
