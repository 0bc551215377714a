"""Folded names and addresses: what people write, what they get wrong, and that folding loses nothing."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from ClusterShell.NodeSet import NodeSet
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.nodesets import MOST, NodeSetError, expand, expand_addresses, fold, split


def test_several_brackets_multiply_the_last_one_fastest() -> None:
    found = expand_addresses("127.0.[0-3].[1-250]")
    assert len(found) == 1000
    assert found[:2] == ["127.0.0.1", "127.0.0.2"]
    assert found[250] == "127.0.1.1"
    assert found[-1] == "127.0.3.250"


def test_terms_keep_their_order_and_each_address_comes_once() -> None:
    found = expand_addresses("10.0.0.9, 10.0.0.[7-9],10.0.0.[1,3] ,2001:DB8::1")
    assert found == ["10.0.0.9", "10.0.0.7", "10.0.0.8", "10.0.0.1", "10.0.0.3", "2001:db8::1"]


@pytest.mark.parametrize("text", ["10.1.2.0/29", "10.1.2.8/31", "10.1.2.9/32", "2001:db8::/126"])
def test_a_network_is_its_usable_addresses(text: str) -> None:
    assert expand_addresses(text) == [str(address) for address in ip_network(text).hosts()]


def test_a_bracket_inside_a_number() -> None:
    assert expand_addresses("10.1[0-2].0.2[5]") == ["10.10.0.25", "10.11.0.25", "10.12.0.25"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        "10.0.0.1,",
        "10.0.0.[1-",
        "10.0.0.1-9]",
        "10.0.0.[]",
        "10.0.0.[1,,2]",
        "10.0.0.[1-2-3]",
        "10.0.0.[a-f]",
        "10.0.0.[9-1]",
        "10.0.0.[1-256]",
        "10.0.0.[01-10]",
        "10.0.0.[[1]]",
        "10.0.[1-2]",
        "10..0.[1-2]",
        "10.0.0.0.[1-2]",
        "10.0.0.[-1]",
        "10.0.0.[²]",
        "10.0.0.5/24",
        "10.0.0.[0-4]/30",
        "10.0.0.0/33",
        "web[1-3]",
        "bmc.example.net",
        "10.0.0.1 10.0.0.2",
    ],
)
def test_what_is_malformed_or_empty_is_an_error_and_never_nothing(text: str) -> None:
    with pytest.raises(NodeSetError):
        expand_addresses(text)


@pytest.mark.parametrize(
    "text", ["[0-9].0.[0-255].[0-255]", "10.0.0.0/8", "10.[0-255].0.[0-255],11.0.0.0/16,12.0.0.0/16"]
)
def test_a_slip_that_means_too_many_is_refused_before_it_fills_the_memory(text: str) -> None:
    with pytest.raises(NodeSetError, match=f"more than {MOST:,}"):
        expand_addresses(text)
    with pytest.raises(NodeSetError, match="more than"):
        expand("web[0-99999999999]")


def test_names_keep_their_zeros() -> None:
    assert expand("web[098-101]") == ["web098", "web099", "web100", "web101"]
    assert expand("100%[1-2]%s") == ["100%1%s", "100%2%s"]
    with pytest.raises(NodeSetError, match="width"):
        expand("web[01-100]")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["web1"], "web1"),
        (["web3", "web1", "web2"], "web[1-3]"),
        (["web098", "web099", "web100"], "web[098-100]"),
        (["web8", "web9", "web10"], "web[8-10]"),
        (["x9", "x10", "x09"], "x9,x[09-10]"),
        (["db", "db1"], "db,db1"),
        (["r1n1", "r1n2", "r2n1", "r2n2", "r3n1"], "r[1-2]n[1-2],r3n1"),
        (["10.0.0.1", "10.0.0.3"], "10.0.0.[1,3]"),
        (["2001:db8::1", "2001:db8::2"], "2001:db8::[1-2]"),
        (["odd,name", "a[b"], "odd,name,a[b"),
        ([], ""),
    ],
)
def test_folding(names: list[str], text: str) -> None:
    assert fold(names) == text


def test_a_thousand_addresses_fold_to_what_was_written() -> None:
    assert fold(reversed(expand_addresses("127.0.[0-3].[1-250]"))) == "127.0.[0-3].[1-250]"


_NAMES = st.lists(st.from_regex(r"[a-c]{0,2}[0-9]{1,3}(-[0-9]{1,2})?", fullmatch=True), max_size=40)


@given(_NAMES)
def test_folding_loses_and_invents_nothing(names: list[str]) -> None:
    text = fold(names)
    found = [name for term in split(text) if term for name in expand(term)]
    assert sorted(found) == sorted(set(names))


@given(st.lists(st.builds("web{:03d}".format, st.integers(0, 400)), min_size=1, max_size=60))
def test_the_library_reads_it_alike(names: list[str]) -> None:
    assert NodeSet(fold(names)) == NodeSet.fromlist(names)
