"""What ``bootorch plan`` tells of playbooks that want what will not be there."""

from __future__ import annotations

import textwrap
from ipaddress import ip_network
from pathlib import Path

import pytest

from bootorch.core.errors import Problem
from bootorch.core.model import Site
from bootorch.runtime.playbookcheck import check_playbooks

SITE = Site((ip_network("10.0.0.0/24"),), (ip_network("10.0.0.0/16"),))
HOSTS = {"web-1": "10.0.1.1", "bastion": "192.0.2.7"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ANSIBLE_ROLES_PATH", "ANSIBLE_COLLECTIONS_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def look(directory: Path, tasks: str, head: str = "") -> tuple[Problem, ...]:
    body = textwrap.indent(textwrap.dedent(tasks), "    ")
    (directory / "play.yml").write_text(f"- hosts: all\n{head}  tasks:\n{body}")
    return check_playbooks([str(directory / "play.yml")], SITE, HOSTS)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (
            "ansible.builtin.get_url: {url: 'https://download.example.org/x.tgz', dest: /x}",
            "get_url wants download.example.org",
        ),
        ("uri: {url: 'http://192.0.2.1/health'}", "uri wants 192.0.2.1"),
        ("unarchive: {src: 'https://github.com/a/b.tgz', dest: /x, remote_src: true}", "unarchive wants github.com"),
        ("git: {repo: 'https://github.com/a/b.git', dest: /x}", "git wants github.com"),
        (
            "apt_repository: {repo: 'deb https://deb.debian.org/debian stable main'}",
            "apt_repository wants deb.debian.org",
        ),
        ("dnf: {name: ['https://rpm.example.net/x.rpm']}", "dnf wants rpm.example.net"),
        ("ansible.builtin.pip: {name: flask}", "pip asks pypi.org"),
        ("ansible.builtin.pip: {name: flask, extra_args: '--index-url https://pypi.org/simple'}", "pip wants pypi.org"),
        ("npm: {name: left-pad}", "npm asks registry.npmjs.org"),
        ("shell: 'cd /x && curl -fsSL https://get.docker.com | sh'", "curl wants get.docker.com"),
        ("command: git clone https://github.com/a/b", "git clone wants github.com"),
        ("docker_image: {name: nginx, source: pull}", "image nginx comes from docker.io"),
        ("docker_container: {name: web, image: 'quay.io/x/y:1'}", "image quay.io/x/y:1 comes from quay.io"),
        ("delegate_to: bastion\n  command: 'true'", "delegate_to bastion is outside the site's host networks"),
        ("delegate_to: 192.0.2.9\n  command: 'true'", "delegate_to 192.0.2.9 is outside"),
        ("delegate_to: web-1\n  command: 'true'", "a slice knows the variables of its own hosts only"),
        ("no.such.thing: {}", "collection no.such is not on this machine"),
        ("import_role: {name: nowhere}", "role nowhere is not on this machine"),
        ("block:\n    - get_url: {url: 'http://8.8.8.8/x', dest: /x}", "get_url wants 8.8.8.8"),
    ],
)
def test_what_is_told(tmp_path: Path, task: str, said: str) -> None:
    found = look(tmp_path, f"- {task}\n")
    assert [problem for problem in found if said in problem.message], found
    assert all(problem.where.startswith("play.yml:") and problem.remedy for problem in found)


@pytest.mark.parametrize(
    "task",
    [
        "get_url: {url: 'http://10.0.3.4/x', dest: /x}",
        "get_url: {url: 'https://{{ mirror }}/x', dest: /x}",
        "get_url: {url: 'https://artefacts.internal/x', dest: /x}",
        "get_url: {url: 'http://web-1/x', dest: /x}",
        "uri: {url: 'http://127.0.0.1:8080/health'}",
        "copy: {content: 'see https://example.org', dest: /etc/motd}",
        "template: {src: https.j2, dest: /x}",
        "pip: {name: flask, extra_args: '--no-index --find-links /srv/wheels'}",
        "pip: {name: /srv/wheels/x.whl}",
        "docker_image: {name: nginx, source: load, load_path: /srv/nginx.tar}",
        "docker_container: {name: web, image: nginx, pull: never}",
        "docker_image: {name: '10.0.9.9:5000/nginx', source: pull}",
        "apt: {name: nginx}",
        "delegate_to: localhost\n  command: 'true'",
        "delegate_to: '{{ inventory_hostname }}'\n  command: 'true'",
        "command: echo https://example.org",
        "vars: {url: 'https://example.org'}\n  debug: {msg: x}",
        "password: !vault |\n    $ANSIBLE_VAULT;1.1;AES256\n    61\n  debug: {}",
    ],
)
def test_what_is_no_reason_to_worry(tmp_path: Path, task: str) -> None:
    assert look(tmp_path, f"- {task}\n") == ()


def test_roles_includes_and_requirements_are_followed(tmp_path: Path) -> None:
    role = tmp_path / "roles/app"
    (role / "tasks").mkdir(parents=True)
    (role / "meta").mkdir()
    (role / "tasks/main.yml").write_text("- include_tasks: more.yml\n- include_tasks: '{{ os }}.yml'\n")
    (role / "tasks/more.yml").write_text("\n- git: {repo: 'ssh://git@github.com/a/b', dest: /x}\n")
    (role / "meta/main.yml").write_text("dependencies:\n  - role: base\n")
    (tmp_path / "requirements.yml").write_text(
        "roles:\n  - src: https://x.org/geerlingguy.ntp.git\n    name: ntp\ncollections:\n  - community.general\n"
    )
    (tmp_path / "other.yml").write_text("- hosts: all\n  roles: [{role: gone}]\n")
    (tmp_path / "play.yml").write_text("- import_playbook: other.yml\n- hosts: all\n  roles: [app]\n")
    found = {problem.where: problem.message for problem in check_playbooks([str(tmp_path / "play.yml")], SITE, HOSTS)}
    assert found == {
        "other.yml:2": "role gone is not on this machine",
        "roles/app/tasks/more.yml:2": "git wants github.com, which is not in the site",
        "roles/app/meta/main.yml:2": "role base is not on this machine",
        "requirements.yml:2": "role ntp is required and not on this machine",
        "requirements.yml:5": "collection community.general is not on this machine",
    }


def test_roles_and_collections_of_an_ansible_cfg_are_found(tmp_path: Path) -> None:
    (tmp_path / "shared/base").mkdir(parents=True)
    (tmp_path / "lib/ansible_collections/site/tools/roles/x/tasks").mkdir(parents=True)
    (tmp_path / "lib/ansible_collections/site/tools/roles/x/tasks/main.yml").write_text("- pip: {name: a}\n")
    (tmp_path / "ansible.cfg").write_text("[defaults]\nroles_path = shared\ncollections_path = lib\n")
    found = look(tmp_path, "- site.tools.thing: {}\n", head="  roles: [base, site.tools.x]\n")
    assert [problem.message for problem in found] == ["pip asks pypi.org unless the host is set up otherwise"]


def test_a_playbook_that_is_no_yaml_is_told(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text("- hosts: [\n")
    found = check_playbooks([str(tmp_path / "play.yml")], SITE, HOSTS)
    assert "not valid YAML" in found[0].message


def test_a_playbook_that_includes_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text("- import_playbook: play.yml\n- hosts: all\n")
    assert check_playbooks([str(tmp_path / "play.yml")], SITE, HOSTS) == ()


def test_the_playbooks_of_this_repository_want_nothing() -> None:
    playbooks = sorted(str(path) for path in (Path(__file__).parents[2] / "playbooks").glob("*.yml"))
    assert len(playbooks) >= 7
    assert check_playbooks(playbooks, SITE, HOSTS) == ()
