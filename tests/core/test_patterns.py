"""Host patterns, compared with Ansible's own evaluation of the same inventory."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bootorch.core.errors import InvalidInput
from bootorch.core.inventory import Inventory, members
from bootorch.core.patterns import PatternError, match, select, split

OWN = {
    "web": ["web01", "web02", "web03", "web04", "web05"],
    "web_canary": ["web05"],
    "db": ["db1", "db2.example.net"],
    "east": ["web01", "db1", "web03"],
    "mixed-name": ["10.0.0.7", "2001:db8::7"],
    "empty": [],
}
CHILDREN = {
    "all": ["ungrouped", "web", "db", "east", "web_canary", "mixed-name", "empty", "prod"],
    "prod": ["web", "db"],
}
HOSTS = ["lone", *dict.fromkeys(host for hosts in OWN.values() for host in hosts)]
GROUPS = members(HOSTS, CHILDREN, {**OWN, "ungrouped": ["lone"]})
INVENTORY = Inventory({name: {} for name in GROUPS["all"]}, GROUPS)

PATTERNS = [
    "all", "*", "ungrouped", "web", "web:db", "web,db", "db:web", "prod", "web:&east", "web:!east", "!east", "&east",
    "web:!web_canary", "web:&east:!web01", "all:!web:!db", "web*", "*1", "web0?", "web0[13]", "web0[!13]", "*.example*",
    "~web0[12]", "~(web|db)1", "~^db", "~.*e", "web[0]", "web[-1]", "web[1:3]", "web[2:]", "web[0:0]", "web[3:0]",
    "web[1-2]", "web[9:12]", "web[4:2]", "*[0:2]", "prod[0]", "prod[-1]", "web[0:2]:&east", "!web[0]", "web:!~web0[12]",
    "web01", "web01:web01:web", "db2.example.net", "10.0.0.7", "2001:db8::7", "2001:db8::7,web", "mixed-name", "empty",
    "web ,  db", "web:", ":web", "web::db", "web,,db", "lone:web", "web:lone", "nothing", "web:nothing", "web:!nothing",
    "web:&nothing", "web:80", "web db", "e*", "*e*", "a*", "WEB", "web[0],db[0]", "east[0]:east[-1]", "~web[0]",
]  # fmt: skip

# Prints the inventory in Ansible's own order too, so that positions under a wildcard can be compared as well.
ORACLE = """
import json, sys
from ansible.parsing.dataloader import DataLoader
from ansible.inventory.manager import InventoryManager
manager = InventoryManager(DataLoader(), sources=[sys.argv[1]])
answers = []
for pattern in json.load(sys.stdin):
    try:
        answers.append([host.name for host in manager.get_hosts(pattern)])
    except Exception as error:
        answers.append(str(error))
groups = {name: [host.name for host in group.get_hosts()] for name, group in manager.groups.items()}
print(json.dumps([list(manager.hosts), groups, answers]))
"""

pytest_peer = [
    pytest.mark.peer,
    pytest.mark.skipif(importlib.util.find_spec("ansible") is None, reason="needs ansible-core (PyPI ansible-core)"),
]


def differences(tmp_path: Path, patterns: list[str]) -> list[object]:
    """Patterns for which Ansible's inventory manager (behind ``ansible --list-hosts``) and we disagree."""
    lines = ["lone"]
    for group, names in OWN.items():
        lines += [f"[{group}]", *(f"[{name}]:22" if ":" in name else name for name in names)]
    lines += ["[prod:children]", "web", "db", ""]
    source = tmp_path / "hosts"
    source.write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "-c", ORACLE, str(source)],
        input=json.dumps(patterns),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    hosts, groups, answers = json.loads(done.stdout)
    inventory = Inventory({name: {} for name in hosts}, {name: tuple(members) for name, members in groups.items()})
    found = []
    for pattern, theirs in zip(patterns, answers, strict=True):
        try:
            ours: object = list(match(inventory, pattern).hosts)
        except PatternError as error:
            ours = str(error)
        if not (isinstance(ours, str) if isinstance(theirs, str) else ours == theirs):
            found.append((pattern, ours, theirs))
    return found


class TestAgainstAnsible:
    pytestmark = pytest_peer

    def test_the_same_hosts_in_the_same_order(self, tmp_path: Path) -> None:
        assert differences(tmp_path, PATTERNS) == []

    def test_random_combinations(self, tmp_path: Path) -> None:
        dice = random.Random(20260)
        terms = [term for term in PATTERNS if ":" not in term.split("[")[0] and "," not in term and " " not in term]
        patterns = []
        for _ in range(1000):
            parts = [
                dice.choice(["", "", "!", "&"]) + dice.choice(terms).lstrip("!&") for _ in range(dice.randint(1, 4))
            ]
            patterns.append(dice.choice([":", ","]).join(parts))
        assert differences(tmp_path, patterns) == []


@pytest.mark.parametrize(
    ("pattern", "terms"),
    [
        ("web:&east:!db", ("web", "&east", "!db")),
        ("web[0:2]:db", ("web[0:2]", "db")),
        ("2001:db8::1", ("2001:db8::1",)),
        ("[2001:db8::1]:22", ("[2001:db8::1]:22",)),
        ("a, b ,c:d", ("a", "b", "c:d")),
        ("", ()),
        (" : ", ()),
    ],
)
def test_splitting(pattern: str, terms: tuple[str, ...]) -> None:
    assert split(pattern) == terms


def test_terms_that_match_nothing_are_named() -> None:
    assert match(INVENTORY, "web:!wbe_canary:&eest").unmatched == ("&eest", "!wbe_canary")
    assert match(INVENTORY, "web:!empty").unmatched == ()  # a group that exists and is empty is no mistake


@pytest.mark.parametrize("pattern", ["", "  ", ",", ":", ",,"])
def test_an_empty_limit_never_means_all(pattern: str) -> None:
    with pytest.raises(InvalidInput, match="empty pattern never means all"):
        select(INVENTORY, pattern)


def test_select_refuses_a_misspelt_term_and_suggests() -> None:
    with pytest.raises(InvalidInput) as caught:
        select(INVENTORY, "web:!web_canery")
    (problem,) = caught.value.problems
    assert "'web_canery' matches no group and no host" in problem.message
    assert "did you mean web_canary" in problem.remedy


def test_select_refuses_a_selection_of_nobody() -> None:
    with pytest.raises(InvalidInput, match="selects no host"):
        select(INVENTORY, "web:!web")
    assert select(INVENTORY, "web_canary:db1") == ("web05", "db1")


@pytest.mark.parametrize(
    ("pattern", "said"), [("~(", "no regular expression"), ("web[7]", "5 hosts"), ("web:!", "lone")]
)
def test_wrong_patterns_say_what_is_wrong(pattern: str, said: str) -> None:
    with pytest.raises(PatternError, match=said):
        match(INVENTORY, pattern)
