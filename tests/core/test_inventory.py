"""Inventories as values: groups flattened, references followed, nothing invented."""

from __future__ import annotations

import pytest

from bootorch.core.inventory import Inventory, Unresolved, digest_of, is_vaulted, members, resolve

VAULTED = {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6131\n"}


def test_groups_are_flattened_own_hosts_first_then_children_level_by_level() -> None:
    children = {"all": ["ungrouped", "prod"], "prod": ["web", "db"], "web": ["canary"]}
    own = {"prod": ["gw"], "web": ["w1", "w2"], "db": ["d1", "w1"], "canary": ["w3"]}
    assert members(["w1", "lone"], children, own) == {
        "all": ("gw", "w1", "w2", "d1", "w3", "lone"),
        "ungrouped": (),
        "prod": ("gw", "w1", "w2", "d1", "w3"),
        "web": ("w1", "w2", "w3"),
        "canary": ("w3",),
        "db": ("d1", "w1"),
    }


def test_a_group_inside_itself_is_an_error() -> None:
    with pytest.raises(ValueError, match="group a contains itself"):
        members([], {"a": ["b"], "b": ["a"]}, {})


def test_all_and_ungrouped_are_always_there_and_empty_groups_are_kept() -> None:
    inventory = Inventory({"a": {}, "b": {}}, {"empty": (), "g": ("a",)})
    assert inventory.groups == {"all": ("a", "b"), "ungrouped": ("b",), "empty": (), "g": ("a",)}


def test_a_group_naming_an_unknown_host_is_a_wrong_call() -> None:
    with pytest.raises(ValueError, match="does not have: ghost"):
        Inventory({"a": {}}, {"g": ("ghost",)})


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"x": "plain"}, "plain"),
        ({"x": 5}, 5),
        ({}, None),
        ({"x": "{{ y }}", "y": 7}, 7),
        ({"x": "{{y}}", "y": "{{ z }}", "z": VAULTED}, VAULTED),
        ({"x": "10.0.{{ row }}.{{ slot }}", "row": 3, "slot": "4"}, "10.0.3.4"),
        ({"x": "{{ inventory_hostname }}-bmc"}, "web-1.example-bmc"),
        ({"x": "{{ inventory_hostname_short }}"}, "web-1"),
        ({"x": "a { brace }"}, "a { brace }"),
    ],
)
def test_simple_references_are_followed(variables: dict[str, object], expected: object) -> None:
    assert resolve("web-1.example", variables, "x") == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{{ missing }}", "refers to missing, which is not set"),
        ("{{ lookup('env', 'X') }}", "only Ansible can render"),
        ("{{ y | default('a') }}", "only Ansible can render"),
        ("{% if y %}a{% endif %}", "only Ansible can render"),
        ("{{ x }}", "refers to itself"),
        ("pre-{{ secret }}", "puts the vaulted secret inside other text"),
    ],
)
def test_other_templates_are_named_and_not_guessed(value: str, said: str) -> None:
    with pytest.raises(Unresolved, match=said.replace("(", r"\(")):
        resolve("h", {"x": value, "y": "1", "secret": VAULTED}, "x")


def test_the_digest_depends_on_content_and_not_on_the_order_of_keys() -> None:
    one = Inventory({"a": {"x": 1, "y": 2}}, {})
    assert one.digest == Inventory({"a": {"y": 2, "x": 1}}, {}).digest
    assert one.digest != Inventory({"a": {"x": 1, "y": 3}}, {}).digest
    assert digest_of("a") != digest_of("b")


def test_only_the_mark_of_ansible_makes_a_value_vaulted() -> None:
    assert is_vaulted(VAULTED)
    assert not any(is_vaulted(value) for value in ("text", 5, None, {"other": "x"}, {"__ansible_vault": 3}))
