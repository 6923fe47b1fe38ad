"""What may stand in an address, an inventory, and known_hosts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from edgepack.errors import FlashError, UsageError
from edgepack.flash.host import parse_host, require_root
from edgepack.flash.inventory import load_inventory
from edgepack.flash.link import answers
from tests.flash.boards import LocalBoard, local_board
from tests.flash.conftest import host_of

INVENTORY = """
defaults:
  user: edge
  root: /srv/edgepack
hosts:
  cam-1: {address: 10.0.0.1, fingerprint: "SHA256:%s"}
  cam-2: {address: 10.0.0.2, port: 2222, user: root, root: /var/lib/edgepack}
  cam-3:
groups:
  hall: [cam-1, cam-3]
""" % ("A" * 43)


@pytest.mark.parametrize(
    ("text", "user", "address", "port"),
    [
        ("board", None, "board", None),
        ("edge@10.0.0.7", "edge", "10.0.0.7", None),
        ("root@board.local:2222", "root", "board.local", 2222),
        ("[fe80::1%eth0]:22", None, "fe80::1%eth0", 22),
        ("edge@[2001:db8::7]", "edge", "2001:db8::7", None),
    ],
)
def test_an_address_is_user_host_and_port(
    text: str, user: str | None, address: str, port: int | None
) -> None:
    host = parse_host(text)
    assert (host.user, host.address, host.port, host.name) == (user, address, port, text)


@pytest.mark.parametrize(
    "text",
    [
        *("board; rm -rf /", "$(touch x)", "`id`", "a b", "a\nb", "a|b", "a&b", "a'b", 'a"b'),
        *("-oProxyCommand=id", "-v@board", "edge;id@board", "@board", "", "board:", "board:0"),
        *(
            "board:99999",
            "board:22x",
            "board:٣",
            "fe80::1",
            "[::1",
            "[::g]",
            "[::1%$(id)]",
            "bo\0ard",
        ),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_host(text)


@pytest.mark.parametrize(
    "root",
    [
        *("/srv/x; rm -rf /", "/srv/$(id)", "/srv/`id`", "srv", "", "/", "/srv/../etc", "/srv//x"),
        *("/srv/x/", "/srv/a b", "/srv/a\nb", "/srv/a'b", "/srv/\0"),
    ],
)
def test_what_is_no_root_is_refused(root: str) -> None:
    with pytest.raises(UsageError):
        require_root(root)


def test_an_inventory_gives_hosts_with_what_they_share(tmp_path: Path) -> None:
    place = tmp_path / "fleet.yaml"
    place.write_text(INVENTORY)
    fleet = load_inventory(place)
    one, two, three = fleet.pick([], [])
    assert (one.address, one.user, one.root, one.fingerprint) == (
        *("10.0.0.1", "edge", "/srv/edgepack"),
        "SHA256:" + "A" * 43,
    )
    assert (two.port, two.user, two.root) == (2222, "root", "/var/lib/edgepack")
    assert (three.name, three.address) == ("cam-3", "cam-3")
    assert [h.name for h in fleet.pick(["hall"], ["cam-3", "root@other"])] == [
        *("cam-1", "cam-3", "root@other"),
    ]
    with pytest.raises(UsageError, match="no group 'attic'"):
        fleet.pick(["attic"], [])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("port: 2222", "porrt: 2222", r"fleet.yaml:7: unknown key hosts.cam-2.porrt.*'port'"),
        ("groups:", "group:", r"fleet.yaml:9: unknown key group.*'groups'"),
        ("port: 2222", "port: 99999", r"fleet.yaml:7: hosts.cam-2.port is 99999"),
        ("10.0.0.2", "'10.0.0.2; id'", r"fleet.yaml:7: hosts.cam-2.address is '10.0.0.2; id'"),
        ("/srv/edgepack", "/srv/$(id)", r"fleet.yaml:4: defaults.root"),
        ("user: root", "user: 'a b'", r"fleet.yaml:7: hosts.cam-2.user"),
        (
            "10.0.0.2, port: 2222",
            "10.0.0.1",
            r"fleet.yaml:7: cam-2 is at 10.0.0.1:22, and so is cam-1",
        ),
        ("[cam-1, cam-3]", "[cam-1, cam-9]", r"fleet.yaml:10: group hall has 'cam-9'"),
        ("cam-3:", "cam-1:", r"fleet.yaml:8: cam-1 is there twice"),
        ("SHA256:A", "MD5:A", r"fleet.yaml:6: hosts.cam-1.fingerprint"),
        ("hosts:", "hosts: &a", r"hosts"),
    ],
)
def test_a_mistake_in_an_inventory_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    place = tmp_path / "fleet.yaml"
    assert old in INVENTORY
    place.write_text(INVENTORY.replace(old, new, 1))
    if new.endswith("&a"):
        place.write_text(place.read_text().replace("cam-3:", "cam-3: *a"))
        says = "aliases"
    with pytest.raises(FlashError, match=f"(?s){says}") as caught:
        load_inventory(place)
    assert caught.value.kind == "inventory"


# Host keys


def reach(board: LocalBoard, **changes: object) -> None:
    asyncio.run(answers(host_of(board, **changes)))


def kind_of(board: LocalBoard, **changes: object) -> str:
    with pytest.raises(FlashError) as caught:
        reach(board, **changes)
    return caught.value.kind


def known_hosts(home: Path) -> Path:
    return home / ".ssh/known_hosts"


def test_an_unknown_host_key_is_refused_and_its_fingerprint_shown(
    board: LocalBoard, home: Path
) -> None:
    known_hosts(home).unlink()
    with pytest.raises(FlashError, match="is not known") as caught:
        reach(board)
    assert caught.value.kind == "host-key-unknown"
    assert f"--host-fingerprint {board.fingerprint}" in caught.value.fix
    assert not known_hosts(home).exists()


def test_a_fingerprint_that_was_read_on_the_board_is_taken_once_and_kept(
    board: LocalBoard, home: Path
) -> None:
    known_hosts(home).write_text("# mine, without a newline at its end")
    reach(board, fingerprint=board.fingerprint)
    assert known_hosts(home).read_text() == f"# mine, without a newline at its end\n{board.known()}"
    reach(board)
    reach(board, fingerprint=board.fingerprint)
    assert known_hosts(home).read_text().count("\n") == 2


def test_a_wrong_fingerprint_is_refused(board: LocalBoard, home: Path) -> None:
    known_hosts(home).unlink()
    assert kind_of(board, fingerprint="SHA256:" + "A" * 43) == "host-key-changed"
    assert not known_hosts(home).exists()


def test_a_changed_host_key_is_refused_whatever_fingerprint_is_given(
    board: LocalBoard, home: Path
) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    text = f"[127.0.0.1]:{board.port} {other}"
    known_hosts(home).write_text(text)
    assert kind_of(board) == "host-key-changed"
    assert kind_of(board, fingerprint=board.fingerprint) == "host-key-changed"
    assert known_hosts(home).read_text() == text


def test_a_revoked_host_key_is_refused(board: LocalBoard, home: Path) -> None:
    with known_hosts(home).open("a") as file:
        file.write(f"@revoked {board.known()}")
    assert kind_of(board, fingerprint=board.fingerprint) == "host-key-changed"


@pytest.mark.parametrize("line", ["UserKnownHostsFile none", "UserKnownHostsFile /dev/null"])
def test_no_ssh_config_turns_the_check_of_host_keys_off(
    board: LocalBoard, home: Path, line: str
) -> None:
    known_hosts(home).unlink()
    (home / ".ssh/config").write_text(f"Host *\n  {line}\n  StrictHostKeyChecking no\n")
    assert kind_of(board) == "host-key-unknown"


def test_an_alias_of_ssh_config_is_a_host(board: LocalBoard, home: Path) -> None:
    os.rename(home / ".ssh/id_ed25519", home / ".ssh/fleet")
    os.rename(known_hosts(home), home / ".ssh/fleet_hosts")
    (home / ".ssh/config").write_text(
        f"Host cam\n  HostName 127.0.0.1\n  Port {board.port}\n  User edge\n"
        "  IdentityFile ~/.ssh/fleet\n  UserKnownHostsFile ~/.ssh/fleet_hosts\n"
    )
    asyncio.run(answers(parse_host("cam")))


def test_a_board_behind_a_jump_host_is_reached_and_both_their_keys_are_checked(
    boards: Callable[[], LocalBoard], home: Path
) -> None:
    board, jump = boards(), boards()
    (home / ".ssh/config").write_text(
        f"Host cam\n  HostName 127.0.0.1\n  Port {board.port}\n  ProxyJump edge@127.0.0.1:{jump.port}\n"
    )
    asyncio.run(answers(parse_host("cam")))
    assert (jump.passed_on, board.passed_on) == (1, 0)
    for known, fix in ((board, "ssh to it once"), (jump, f"host-fingerprint {board.fingerprint}")):
        known_hosts(home).write_text(known.known())
        with pytest.raises(FlashError, match="host key of cam") as caught:
            asyncio.run(answers(parse_host("cam")))
        assert fix in caught.value.fix


def test_a_board_with_an_ipv6_address_is_reached(
    home: Path, tmp_path: Path, user_key: asyncssh.SSHKey
) -> None:
    with local_board(tmp_path, user_key, at="::1") as board:
        known_hosts(home).write_text(board.known().replace("127.0.0.1", "::1"))
        asyncio.run(answers(parse_host(f"[::1]:{board.port}")))
        known_hosts(home).unlink()
        asyncio.run(
            answers(replace(parse_host(f"[::1]:{board.port}"), fingerprint=board.fingerprint))
        )
        assert known_hosts(home).read_text() == board.known().replace("127.0.0.1", "::1")


def test_who_is_not_let_in_is_told_what_to_do(board: LocalBoard) -> None:
    board.lets_in = False
    assert kind_of(board) == "auth"


def test_an_identity_that_is_missing_or_locked_is_named(
    board: LocalBoard, tmp_path: Path, user_key: asyncssh.SSHKey
) -> None:
    assert kind_of(board, identity=tmp_path / "none") == "auth"
    user_key.write_private_key(tmp_path / "locked", "pkcs8-pem", "secret")
    assert kind_of(board, identity=tmp_path / "locked") == "auth"


def test_nobody_there_is_said_at_once(boards: Callable[[], LocalBoard], home: Path) -> None:
    with pytest.raises(FlashError, match="refuses connections") as caught:
        asyncio.run(answers(parse_host("127.0.0.1:1")))
    assert caught.value.kind == "unreachable"
    with pytest.raises(FlashError, match="no address"):
        asyncio.run(answers(replace(parse_host("x"), address="no-such-board.invalid")))
