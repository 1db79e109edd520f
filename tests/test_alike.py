"""Equal steps of a graph: one is read, and the others are matched with it."""

from __future__ import annotations

import pytest
from builders import const, fixed32, meta_graph, node, number, tensor

from lstmstate.cells.from_graph.alike_steps import Reading, StepKind, StepKinds
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import Graph

FLOAT = 1
ONE, TWO = 0x3F800000, 0x40000000


def place(at: str, **others: bytes) -> list[bytes]:
    """A sum over a weight and an element of a sequence, and its consumer; some nodes changed."""
    nodes = {
        "part": node(f"{at}/part", "Split", ["axis", "fed"], num_split=number(3, 2)),
        "one": const(f"{at}/one", tensor(FLOAT, [], fixed32(5, ONE))),
        "product": node(f"{at}/product", "Mul", [f"{at}/part:1", "weight/read"]),
        "element": node(f"{at}/element", "Mul", [f"xs:{at}", f"{at}/one"]),
        "sum": node(f"{at}/sum", "Add", [f"{at}/product", f"{at}/element"]),
        "user": node(f"{at}/user", "Tanh", [f"{at}/sum"]),
    }
    return list((nodes | others).values())


def shared() -> list[bytes]:
    return [
        node("x", "Placeholder"),
        node("fed", "Placeholder"),
        node("xs", "Unpack", ["x"], num=number(3, 9)),
        const("axis", tensor(3, [], number(7, 1))),
        *(node(name, "VariableV2") for name in ("weight", "other")),
        *(node(f"{name}/read", "Identity", [name]) for name in ("weight", "other")),
        node("all", "Pack", ["1/user", "2/user"]),
    ]


def read(graph: Graph, at: str) -> StepKind[str]:
    """Read a place: all inputs of the sum, its constants, and its activation."""
    start = graph.nodes[f"{at}/sum"]
    reading = Reading(graph, start)
    for one in walk.backward(reading, [start], lambda node: node.op != "Unpack"):
        one.constant()
        one.number("num_split")
    walk.consumers(reading, start, frozenset({"Tanh"}))
    return StepKind(reading, at, whole={f"{at}/part"})


def test_a_match_maps_each_node_to_its_counterpart() -> None:
    graph = Graph(meta_graph(*shared(), *place("1"), *place("2")))
    found = read(graph, "1").at(graph, graph.nodes["2/sum"])
    assert found is not None
    assert {name: at.name for name, at in found.items() if name != at.name} == {
        f"1/{name}": f"2/{name}" for name in ("sum", "product", "element", "part", "one", "user")
    }


OTHERS = {
    "another operation": {"user": node("2/user", "Sigmoid", ["2/sum"])},
    "another constant": {"one": const("2/one", tensor(FLOAT, [], fixed32(5, TWO)))},
    "another attribute": {"part": node("2/part", "Split", ["axis", "fed"], num_split=number(3, 3))},
    "another weight": {"product": node("2/product", "Mul", ["2/part:1", "other/read"])},
    "another output": {"product": node("2/product", "Mul", ["2/part", "weight/read"])},
    "another order": {"sum": node("2/sum", "Add", ["2/element", "2/product"])},
    "one operand twice": {"sum": node("2/sum", "Add", ["2/product", "2/product"])},
    "one operand more": {"sum": node("2/sum", "Add", ["2/product", "2/element", "2/one"])},
    "one user more": {"more": node("2/more", "Tanh", ["2/sum"])},
    "no user": {"user": node("2/user", "Tanh", ["2/product"])},
    "an operation between": {
        "between": node("2/between", "Identity", ["2/element"]),
        "sum": node("2/sum", "Add", ["2/product", "2/between"]),
    },
}


@pytest.mark.parametrize("others", OTHERS.values(), ids=OTHERS)
def test_different_places_do_not_match(others: dict[str, bytes]) -> None:
    graph = Graph(meta_graph(*shared(), *place("1"), *place("2", **others)))
    assert read(graph, "1").at(graph, graph.nodes["2/sum"]) is None


@pytest.mark.parametrize(("taken", "other"), [((1, 1), (2, 3)), ((1, 2), (3, 3))])
def test_shared_nodes_are_shared_in_every_match(
    taken: tuple[int, int], other: tuple[int, int]
) -> None:
    def squared(at: str, elements: tuple[int, int]) -> list[bytes]:
        given = [f"xs:{element}" for element in elements]
        return place(at, element=node(f"{at}/element", "Mul", given))

    graph = Graph(meta_graph(*shared(), *squared("1", taken), *squared("2", other)))
    assert read(graph, "1").at(graph, graph.nodes["2/sum"]) is None
    graph = Graph(meta_graph(*shared(), *squared("1", taken), *squared("2", taken)))
    assert read(graph, "1").at(graph, graph.nodes["2/sum"]) is not None


def test_unread_properties_do_not_matter() -> None:
    others = {
        "user": node("2/user", "Tanh", ["2/sum"], T=number(6, 2)),
        "more": node("2/more", "Relu", ["2/sum"]),
    }
    graph = Graph(meta_graph(*shared(), *place("1"), *place("2", **others)))
    assert read(graph, "1").at(graph, graph.nodes["2/sum"]) is not None


def test_a_kind_is_searched_only_among_places_with_the_same_start() -> None:
    graph = Graph(meta_graph(*shared(), *place("1"), *place("2")))
    kinds: StepKinds[str] = StepKinds(graph)
    assert kinds.find(graph.nodes["1/sum"]) is None
    kinds.add(graph.nodes["1/sum"], read(graph, "1"))
    assert kinds.find(graph.nodes["2/user"]) is None
    found = kinds.find(graph.nodes["2/sum"])
    assert found is not None
    assert found[0] == "1"
    assert kinds.find(graph.nodes["2/sum"], lambda result, places: False) is None
