"""The dependency graph of groups: levels for people, cycles by name. Edges point from a group to what it waits for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

Graph = Mapping[str, Sequence[str]]
Edge = tuple[str, str]  # a group, and one that it waits for

# Shortest cycles are counted from so many nodes of a knot at most: enough to rank its edges, and bounded in time.
_MOST_COUNTED = 64


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
    knotted = {node for knot in knots(graph) for node in knot}
    for node in graph:
        if node in knotted and (path := shortest_cycle(graph, node)):
            start = min(range(len(path)), key=lambda index: order[path[index]])
            found.setdefault((*path[start:], *path[:start]))
    return tuple((*path, path[0]) for path in found)


def levels(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """As :func:`waves`, for any graph: nodes that wait for each other in a circle stand on one level.

    >>> levels({"tor": ["tor"], "dns": ["tor", "dhcp"], "dhcp": ["dns"], "web": ["dns"]})
    (('tor',), ('dns', 'dhcp'), ('web',))
    """
    head = {node: node for node in graph}
    for knot in knots(graph):
        head.update(dict.fromkeys(knot, knot[0]))
    merged: dict[str, list[str]] = {node: [] for node in graph if head[node] == node}
    for node, parents in graph.items():
        merged[head[node]] += [head[parent] for parent in parents if head[parent] != head[node]]
    level_of = {node: number for number, level in enumerate(waves(merged)) for node in level}
    found: list[list[str]] = [[] for _ in range(1 + max(level_of.values(), default=-1))]
    for node in graph:
        found[level_of[head[node]]].append(node)
    return tuple(map(tuple, found))


def knots(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Strongly connected components that hold a cycle: nodes that wait for each other, or for themselves.

    In the graph's order, each in the graph's order. (Tarjan 1972, without recursion: a chain may be longer than
    Python's stack.)
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    order = {node: number for number, node in enumerate(graph)}
    found: list[list[str]] = []
    for root in graph:
        if root in index:
            continue
        todo = [(root, iter(graph[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while todo:
            node, parents = todo[-1]
            for parent in parents:
                if parent not in index:
                    index[parent] = low[parent] = len(index)
                    stack.append(parent)
                    on_stack.add(parent)
                    todo.append((parent, iter(graph.get(parent, ()))))
                    break
                if parent in on_stack:
                    low[node] = min(low[node], index[parent])
            else:
                todo.pop()
                if todo:
                    low[todo[-1][0]] = min(low[todo[-1][0]], low[node])
                if low[node] == index[node]:
                    knot = [stack.pop()]
                    while knot[-1] != node:
                        knot.append(stack.pop())
                    on_stack.difference_update(knot)
                    if len(knot) > 1 or node in graph[node]:
                        found.append(sorted(knot, key=order.__getitem__))
    return tuple(tuple(knot) for knot in sorted(found, key=lambda knot: order[knot[0]]))


def cut(graph: Graph, rank: Callable[[Edge], int] = lambda edge: 0) -> tuple[Edge, ...]:
    """A small set of edges whose removal leaves no cycle: every one of them is needed for that.

    ``rank``: edges of a lower rank are given up more readily. The smallest set would take exponential time (feedback
    arc set is NP-hard), so two greedy ways are tried: lowest rank first, and the edge in most cycles first; the
    smaller result counts, the first where they are equal.

    >>> cut({"web": ["db"], "db": ["cache", "web"], "cache": ["web"], "ntp": []})
    (('web', 'db'),)
    """
    order = {node: index for index, node in enumerate(graph)}

    def place(edge: Edge) -> tuple[int, int]:
        return order[edge[0]], order[edge[1]]

    by_rank = _greedy(graph, lambda edge, count: (rank(edge), -count, *place(edge)))
    by_count = _greedy(graph, lambda edge, count: (-count, rank(edge), *place(edge)))
    return tuple(sorted(by_count if len(by_count) < len(by_rank) else by_rank, key=place))


def _greedy(graph: Graph, key: Callable[[Edge, int], tuple[int, ...]]) -> list[Edge]:
    left = {node: list(dict.fromkeys(parents)) for node, parents in graph.items()}
    removed: list[Edge] = []
    while found := knots(left):
        for knot in found:
            inside = set(knot)
            paths = [shortest_cycle(left, node) for node in knot[:_MOST_COUNTED]]
            counted = [tuple(pairwise((*path, path[0]))) for path in paths]
            counts = Counter(edge for cycle in counted for edge in cycle)
            edges = [(node, parent) for node in knot for parent in left[node] if parent in inside]
            worst = [min(edges, key=lambda edge: key(edge, counts[edge]))]
            if len(knot) > _MOST_COUNTED:  # no plan has such a knot but by accident: every cycle that was found is cut
                for cycle in counted:
                    if not any(edge in worst for edge in cycle):
                        worst.append(min(cycle, key=lambda edge: key(edge, counts[edge])))
            for edge in worst:
                left[edge[0]].remove(edge[1])
            removed += worst
    # What a later removal has made needless is given back, the dearest first.
    for edge in sorted(removed, key=lambda edge: key(edge, 0), reverse=True):
        if not _reaches(left, edge[1], edge[0]):
            left[edge[0]].append(edge[1])
            removed.remove(edge)
    return removed


def _reaches(graph: Graph, start: str, goal: str) -> bool:
    seen, todo = {start}, [start]
    while todo:
        node = todo.pop()
        if node == goal:
            return True
        new = [parent for parent in graph[node] if parent not in seen]
        seen.update(new)
        todo += new
    return False


def shortest_cycle(graph: Graph, start: str) -> tuple[str, ...]:
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
