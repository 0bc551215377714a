"""Our console against our BMC in virtual time: the ways a session can go, and what the console makes of each."""

from __future__ import annotations

from collections import Counter

import pytest

from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.ipmi import handshake as hs
from bootorch.ipmi import messages as msg
from bootorch.ipmi.bmc import Bmc
from bootorch.ipmi.bmc_session import Behaviour
from bootorch.ipmi.chassis import MemoryChassis
from bootorch.ipmi.client import Script, Verdict
from bootorch.ipmi.crypto import suite
from bootorch.ipmi.login import Credentials
from bootorch.ipmi.messages import Action, Completion, Privilege
from bootorch.ipmi.packet import Payload, decode_v15, encode_clear, encode_v15
from bootorch.ipmi.wire import decode_request, encode_response

from .network import PASSWORD, PEER, USER, Network, Server, kinds, make_bmc, make_exchange, server, talk

ON = msg.chassis_control(Action.ON)
STATUS = msg.CHASSIS_STATUS


def dropping(serve: Server, *payloads: int, times: int = 1_000_000) -> Server:
    """A server that never gets these payload types (-1: IPMI 1.5 framing), for the first ``times`` of them."""
    left = times

    def wrapped(data: bytes, now: float) -> list[bytes]:
        nonlocal left
        if kinds([data])[0] in payloads and left > 0:
            left -= 1
            return []
        return serve(data, now)

    return wrapped


@pytest.mark.parametrize("ident", [17, 3])
def test_status_on_status(ident: int) -> None:
    seen: list[tuple[str, int]] = []
    chassis = MemoryChassis()
    bmc = make_bmc(chassis, suites=(ident,), observe=lambda name, peer, code: seen.append((name, code)))
    result, network = talk(make_exchange(STATUS, ON, STATUS), server(bmc))
    assert result.reason is Reason.OK
    assert result.detail == ""
    assert (result.suite, result.privilege) == (ident, Privilege.ADMIN)
    power = [msg.parse_chassis_status(answer.data) for answer in (result.answers[0], result.answers[2])]
    assert [status.power_on for status in power if status] == [False, True]
    assert chassis.controls == [Action.ON]
    assert [name for name, _ in seen] == [
        "chassis status",
        "set session privilege",
        "chassis control on",
        "chassis status",
        "close session",
    ]
    assert all(code == 0 for _, code in seen)
    assert bmc.session_count == 0
    in_session = [packet for packet in network.sent if packet[4:6] == b"\x06\xc0"]
    assert len(in_session) == 5


def test_suite_17_is_proposed_first_and_3_only_after_a_refusal() -> None:
    result, network = talk(make_exchange(STATUS), server(make_bmc(suites=(3,))))
    assert (result.reason, result.suite) == (Reason.OK, 3)
    opens = [packet for packet in network.sent if packet[5] == Payload.OPEN_REQUEST]
    proposals = [hs.parse_algorithms(packet[24:48]) for packet in opens]
    assert proposals == [(3, 4, 1), (1, 1, 1)]
    assert len({packet[20:24] for packet in opens}) == 2  # a fresh console id each


@pytest.mark.parametrize("status", [0x04, 0x06, 0x07, 0x0A, 0x10, 0x11, 0x12])
def test_any_refusal_of_the_suite_in_two_bytes_steps_to_the_next(status: int) -> None:
    serve = server(make_bmc(suites=(3,)))

    def picky(data: bytes, now: float) -> list[bytes]:
        if data[5] == Payload.OPEN_REQUEST and hs.parse_algorithms(data[24:48]) == (3, 4, 1):
            return [encode_clear(Payload.OPEN_RESPONSE, bytes((data[16], status)))]
        return serve(data, now)

    result, _ = talk(make_exchange(STATUS), picky)
    assert (result.reason, result.suite) == (Reason.OK, 3)


def test_no_suite_in_common() -> None:
    result, network = talk(make_exchange(STATUS, suites=(17,)), server(make_bmc(suites=(3,))))
    assert result.reason is Reason.BMC_NO_SUITE
    assert "17" in result.detail
    assert Payload.RAKP1 not in kinds(network.sent)


@pytest.mark.parametrize(("suites", "reason"), [((17, 3), Reason.OK), ((17,), Reason.BMC_NO_SUITE)])
def test_an_echo_of_other_algorithms_is_not_taken(suites: tuple[int, ...], reason: Reason) -> None:
    """Some servers answer status 0 with suite 3 whatever was proposed."""
    serve = server(make_bmc(suites=(3,)))
    suite_3 = hs.encode_open_request(0, 0, 1, suite(3))[8:]

    def echo(data: bytes, now: float) -> list[bytes]:
        return serve(data[:24] + suite_3 if data[5] == Payload.OPEN_REQUEST else data, now)

    result, network = talk(make_exchange(STATUS, suites=suites), echo)
    assert result.reason is reason
    assert kinds(network.sent).count(Payload.RAKP1) == (1 if reason is Reason.OK else 0)


def test_the_same_explicit_privilege_in_open_session_and_rakp1() -> None:
    _, network = talk(make_exchange(STATUS), server(make_bmc()))
    by_kind = {kind: packet[16:] for kind, packet in zip(kinds(network.sent), network.sent, strict=True)}
    assert by_kind[Payload.OPEN_REQUEST][1] == Privilege.ADMIN
    assert by_kind[Payload.RAKP1][24] == 0x10 | Privilege.ADMIN


# Passwords and proofs


@pytest.mark.parametrize("ident", [17, 3])
def test_a_rogue_bmc_gets_no_rakp3(ident: int) -> None:
    rogue = make_bmc(suites=(ident,), users={USER: Secret("guess")})
    result, network = talk(make_exchange(STATUS, ON), server(rogue))
    assert result.reason is Reason.BMC_AUTH_FAILED
    assert result.unproven
    sent = kinds(network.sent)
    assert Payload.RAKP3 not in sent
    assert Payload.IPMI not in sent
    assert sent.count(Payload.RAKP1) == 2  # once more, and never again: accounts lock


def test_a_password_refused_at_rakp4_is_tried_twice_at_most() -> None:
    serve = server(make_bmc())

    def refuse(data: bytes, now: float) -> list[bytes]:
        if data[5] == Payload.RAKP3:
            return [encode_clear(Payload.RAKP4, hs.encode_error(data[16], 0x0F, 0))]
        return serve(data, now)

    result, network = talk(make_exchange(STATUS), refuse)
    assert result.reason is Reason.BMC_AUTH_FAILED
    assert kinds(network.sent).count(Payload.RAKP3) == 2


def test_unknown_user() -> None:
    result, network = talk(make_exchange(STATUS, user=b"nobody"), server(make_bmc()))
    assert result.reason is Reason.BMC_AUTH_FAILED
    assert "unauthorized name" in result.detail
    # ADMIN, then OPERATOR: some BMCs say "name" and mean "privilege".
    assert [packet[40] & 0x0F for packet in network.sent if packet[5] == Payload.RAKP1] == [4, 3]


def test_k_g() -> None:
    k_g = Secret("bmc key")
    bmc = make_bmc(k_g=k_g)
    assert talk(make_exchange(STATUS), server(bmc))[0].reason is Reason.BMC_AUTH_FAILED
    assert talk(make_exchange(STATUS, seed=5, k_g=k_g), server(bmc))[0].reason is Reason.OK


def test_a_wrong_integrity_value_in_rakp4_is_refused() -> None:
    """Once more, for the packet may have been damaged; then no more. The session that may have begun is closed."""
    chassis = MemoryChassis()
    serve = server(make_bmc(chassis))

    def forge(data: bytes, now: float) -> list[bytes]:
        answers = serve(data, now)
        if data[5] == Payload.RAKP3:
            return [answer[:-1] + bytes((answer[-1] ^ 1,)) for answer in answers]
        return answers

    result, network = talk(make_exchange(ON), forge)
    assert result.reason is Reason.BMC_AUTH_FAILED
    assert kinds(network.sent).count(Payload.RAKP3) == 2
    assert kinds(network.sent).count(Payload.IPMI) == 1  # Close Session
    assert chassis.controls == []


def test_one_damaged_rakp4_is_no_refusal() -> None:
    bmc = make_bmc()
    serve = server(bmc)
    damaged = []

    def damage(data: bytes, now: float) -> list[bytes]:
        answers = serve(data, now)
        if data[5] == Payload.RAKP3 and not damaged:
            damaged.append(data)
            return [answer[:-1] + bytes((answer[-1] ^ 1,)) for answer in answers]
        return answers

    assert talk(make_exchange(STATUS), damage)[0].reason is Reason.OK
    assert bmc.session_count == 0


@pytest.mark.parametrize("ident", [0, 1, 2])
def test_the_console_cannot_be_told_to_use_weak_suites(ident: int) -> None:
    with pytest.raises(ValueError, match="refused"):
        make_exchange(STATUS, suites=(17, ident))


def test_what_ipmi_cannot_carry_is_refused_and_not_cut() -> None:
    long = Secret("x" * 21)
    with pytest.raises(ValueError, match="20 bytes") as caught:
        Credentials(USER, long)
    assert "x" * 5 not in str(caught.value)
    with pytest.raises(ValueError, match="17 bytes"):
        Credentials(b"u" * 17, PASSWORD)
    with pytest.raises(ValueError, match="K_g"):
        Credentials(USER, PASSWORD, long)
    assert Credentials(b"u" * 16, Secret("x" * 20)).user == b"u" * 16


# Privilege


def test_operator_when_rakp2_refuses_administrator() -> None:
    bmc = make_bmc(privileges={USER: Privilege.OPERATOR})
    result, _ = talk(make_exchange(ON), server(bmc))
    assert (result.reason, result.privilege) == (Reason.OK, Privilege.OPERATOR)


@pytest.mark.parametrize("status", [0x09, 0x0D])
def test_operator_when_rakp2_has_other_words_for_it(status: int) -> None:
    serve = server(make_bmc())

    def xyratex(data: bytes, now: float) -> list[bytes]:
        if data[5] == Payload.RAKP1 and data[40] & 0x0F == Privilege.ADMIN:
            return [encode_clear(Payload.RAKP2, hs.encode_error(data[16], status, 0))]
        return serve(data, now)

    result, _ = talk(make_exchange(ON), xyratex)
    assert (result.reason, result.privilege) == (Reason.OK, Privilege.OPERATOR)


def test_operator_when_set_session_privilege_refuses_administrator() -> None:
    result, _ = talk(make_exchange(ON), server(make_bmc(channel_limit=Privilege.OPERATOR)))
    assert (result.reason, result.privilege) == (Reason.OK, Privilege.OPERATOR)


def test_a_mere_user_may_read_but_not_switch() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis, channel_limit=Privilege.USER)
    assert talk(make_exchange(STATUS), server(bmc))[0].reason is Reason.OK
    result, _ = talk(make_exchange(ON, seed=2), server(bmc))
    assert result.reason is Reason.BMC_REFUSED
    assert "OPERATOR" in result.detail
    assert chassis.controls == []
    assert bmc.session_count == 0


# Silence


def test_nothing_answers() -> None:
    result, network = talk(make_exchange(STATUS), lambda data, now: [])
    assert result.reason is Reason.BMC_UNREACHABLE
    assert network.now == 60.0  # its own deadline
    assert 20 < len(network.sent) < 60  # less and less often: a dark network is full of such
    assert -1 in kinds(network.sent)
    assert Payload.OPEN_REQUEST in kinds(network.sent)


def test_answers_but_not_to_open_session() -> None:
    result, _ = talk(make_exchange(STATUS), dropping(server(make_bmc()), Payload.OPEN_REQUEST))
    assert result.reason is Reason.BMC_NO_SESSION


@pytest.mark.parametrize("payload", [Payload.RAKP1, Payload.RAKP3])
def test_silence_once_credentials_are_used(payload: Payload) -> None:
    result, network = talk(make_exchange(STATUS), dropping(server(make_bmc()), payload))
    assert result.reason is Reason.BMC_SILENT_AUTH
    assert payload.name in result.detail
    opens = [packet[20:24] for packet in network.sent if packet[5] == Payload.OPEN_REQUEST]
    assert len(opens) == len(set(opens)) > 1  # every handshake has a console id of its own


def test_a_bmc_without_discovery() -> None:
    result, _ = talk(make_exchange(STATUS), dropping(server(make_bmc()), -1))
    assert result.reason is Reason.OK


def test_a_bmc_that_refuses_the_extended_bit() -> None:
    serve = dropping(server(make_bmc()), Payload.OPEN_REQUEST, times=1)  # silence is what discovery follows
    channels = []

    def old(data: bytes, now: float) -> list[bytes]:
        message = decode_v15(data)
        request = decode_request(message) if message is not None else None
        if request is None:
            return serve(data, now)
        channels.append(request.data[0])
        refused = Completion.INVALID_FIELD if request.data[0] & 0x80 else Completion.OK
        return [encode_v15(encode_response(request, refused, b"" if refused else b"\x01\x14\x04\x00\0\0\0\0"))]

    result, _ = talk(make_exchange(STATUS), old)
    assert result.reason is Reason.OK
    assert channels == [0x8E, 0x0E]


def test_the_deadline_ends_it_at_every_stage() -> None:
    for payload, reason in (
        (Payload.OPEN_REQUEST, Reason.BMC_NO_SESSION),
        (Payload.RAKP1, Reason.BMC_SILENT_AUTH),
        (Payload.RAKP3, Reason.BMC_SILENT_AUTH),
        (Payload.IPMI, Reason.BMC_LOST),
    ):
        result, network = talk(make_exchange(STATUS, deadline=0.7), dropping(server(make_bmc()), payload))
        assert (result.reason, network.now) == (reason, 0.7)
    result, network = talk(make_exchange(STATUS, deadline=0.7), lambda data, now: [])
    assert (result.reason, network.now) == (Reason.BMC_UNREACHABLE, 0.7)


def test_a_lost_rakp4_leaves_no_session_behind() -> None:
    bmc = make_bmc()
    serve = server(bmc)
    first = True

    def lossy(data: bytes, now: float) -> list[bytes]:
        nonlocal first
        answers = serve(data, now)
        if data[5] == Payload.RAKP3 and first:
            first = False
            assert bmc.session_count == 1
            return []
        return answers

    result, _ = talk(make_exchange(STATUS), lossy)
    assert result.reason is Reason.OK
    assert bmc.session_count == 0


# Commands


def test_a_lost_answer_to_power_on_is_never_sent_again() -> None:
    chassis = MemoryChassis()
    serve = server(make_bmc(chassis))

    def mute(data: bytes, now: float) -> list[bytes]:
        answers = serve(data, now)
        return [] if chassis.controls else answers

    result, network = talk(make_exchange(STATUS, ON), mute)
    assert result.reason is Reason.BMC_LOST
    assert "may have had effect" in result.detail
    assert chassis.controls == [Action.ON]
    assert len(result.answers) == 1
    assert network.now > 5


def test_a_read_is_repeated_in_new_packets() -> None:
    requests = []
    serve = server(make_bmc(observe=lambda name, peer, code: requests.append(name)))
    swallowed = 0

    def lossy(data: bytes, now: float) -> list[bytes]:
        nonlocal swallowed
        answers = serve(data, now)
        if data[4:6] == b"\x06\xc0" and swallowed < 3:
            swallowed += 1
            return []
        return answers

    result, network = talk(make_exchange(STATUS), lossy)
    assert result.reason is Reason.OK
    assert requests == ["chassis status"] * 4 + ["close session"]
    sealed = [packet for packet in network.sent if packet[4:6] == b"\x06\xc0"]
    numbers = [int.from_bytes(packet[10:14], "little") for packet in sealed]
    assert numbers == sorted(set(numbers))
    assert len(set(sealed)) == len(sealed)


def test_a_session_that_dies_is_lost() -> None:
    bmc = make_bmc()
    serve = server(bmc)

    def reboot(data: bytes, now: float) -> list[bytes]:
        if data[4:6] == b"\x06\xc0":
            bmc.reset()
        return serve(data, now)

    result, _ = talk(make_exchange(STATUS), reboot)
    assert result.reason is Reason.BMC_LOST
    assert "effect" not in result.detail


class Moody(MemoryChassis):
    """Answers boot options and controls with these completion codes first."""

    def __init__(self, *codes: int) -> None:
        super().__init__()
        self.codes = list(codes)
        self.asked = 0

    def control(self, action: Action, now: float) -> int:
        self.asked += 1
        return self.codes.pop(0) if self.codes else super().control(action, now)

    def set_boot_option(self, parameter: int, value: bytes, now: float) -> int:
        self.asked += 1
        return self.codes.pop(0) if self.codes else super().set_boot_option(parameter, value, now)


FLAGS = msg.set_boot_option(5, msg.boot_flags(msg.BootSource.PXE))


@pytest.mark.parametrize("code", [0xC0, 0xC3, 0xC4, 0xD2])
def test_busy_is_asked_again_after_a_pause(code: int) -> None:
    chassis = Moody(code, code)
    result, network = talk(make_exchange(FLAGS), server(make_bmc(chassis)))
    assert result.reason is Reason.OK
    assert chassis.asked == 3
    assert network.now > 2


def test_busy_for_long_gives_the_slot_back() -> None:
    chassis = Moody(*[0xC0] * 50)
    bmc = make_bmc(chassis)
    result, _ = talk(make_exchange(FLAGS), server(bmc))
    assert result.reason is Reason.BMC_BUSY
    assert chassis.asked == 4
    assert bmc.session_count == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0xC0, Reason.BMC_BUSY),
        (0xD2, Reason.BMC_BUSY),
        (0xC3, Reason.BMC_LOST),
        (0xD5, Reason.BMC_REFUSED),
        (0xC1, Reason.BMC_UNSUPPORTED),
        (0xFF, Reason.BMC_REFUSED),
    ],
)
def test_chassis_control_is_sent_once_whatever_the_answer(code: int, reason: Reason) -> None:
    chassis = Moody(code)
    result, _ = talk(make_exchange(ON, STATUS), server(make_bmc(chassis)))
    assert result.reason is reason
    assert f"0x{code:02x}" in result.detail
    assert chassis.asked == 1
    assert result.answers == ((code, b""),)


def test_duplicate_request_means_keep_waiting() -> None:
    chassis = Moody(0xCF)
    result, _ = talk(make_exchange(FLAGS), server(make_bmc(chassis)))
    assert result.reason is Reason.OK
    assert chassis.asked == 2


def test_a_tolerated_refusal_does_not_end_the_exchange() -> None:
    chassis = MemoryChassis()
    commands = msg.set_boot_option(100, b"\x08", tolerate=True), FLAGS, ON
    result, _ = talk(make_exchange(*commands), server(make_bmc(chassis)))
    assert result.reason is Reason.OK
    assert [answer.completion for answer in result.answers] == [0x80, 0, 0]
    assert chassis.booted_from == msg.BootSource.PXE


def test_not_implemented() -> None:
    result, _ = talk(make_exchange(msg.set_boot_option(100, b"\x08")), server(make_bmc()))
    assert result.reason is Reason.BMC_UNSUPPORTED
    result, _ = talk(make_exchange(msg.Command("FRU", msg.NetFn.STORAGE, 0x10, b"\x00")), server(make_bmc()))
    assert result.reason is Reason.BMC_UNSUPPORTED


def test_the_other_commands() -> None:
    chassis = MemoryChassis()
    commands = (
        msg.GET_DEVICE_ID,
        msg.GET_SYSTEM_GUID,
        msg.GET_SESSION_INFO,
        msg.RESTART_CAUSE,
        msg.identify(30),
        msg.set_restore_policy(msg.Policy.PREVIOUS),
        FLAGS,
        msg.get_boot_option(5),
    )
    result, _ = talk(make_exchange(*commands), server(make_bmc(chassis)))
    assert result.reason is Reason.OK
    data = [answer.data for answer in result.answers]
    device = msg.parse_device_id(data[0])
    assert device is not None
    assert device.firmware == "1.00"
    assert data[1] == bytes(range(16))
    assert data[2][1:3] == b"\x0f\x01"
    assert chassis.identify_s == 30
    assert chassis.policy is msg.Policy.PREVIOUS
    flags = msg.parse_boot_flags(data[7])
    assert flags == (True, False, True, msg.BootSource.PXE)


def test_supermicro_x9_checksums_do_not_matter_under_a_valid_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootorch.ipmi.bmc.encode_response", lambda *a: encode_response(*a)[:-1] + b"\x00")
    result, _ = talk(make_exchange(STATUS), server(make_bmc()))
    assert result.reason is Reason.OK


def test_abort_closes_the_session_and_is_final() -> None:
    bmc = make_bmc()
    exchange = make_exchange(STATUS)
    exchange.start(0.0)
    for _ in range(3):  # Open Session, RAKP1, RAKP3
        answers = [answer for d in exchange.datagrams_to_send() for answer in bmc.receive_datagram(d, PEER, 0.0)]
        for answer in answers:
            exchange.receive_datagram(answer, 0.0)
    assert bmc.session_count == 1
    exchange.abort()
    assert exchange.result is not None
    assert exchange.result.reason is Reason.INTERRUPTED
    for data in exchange.datagrams_to_send():
        bmc.receive_datagram(data, PEER, 0.0)
    assert bmc.session_count == 0
    assert exchange.next_timer() is None
    exchange.handle_timer(1e6)
    exchange.abort()
    assert exchange.datagrams_to_send() == []


# Slots


def test_no_free_session_and_again_after_idle_ones_expired() -> None:
    bmc = make_bmc(max_sessions=1)
    open_and_vanish(bmc, now=0.0)
    result, _ = talk(make_exchange(STATUS, deadline=90.0), server(bmc), start=30.0)
    assert result.reason is Reason.BMC_NO_SESSION
    assert bmc.session_count == 1
    result, _ = talk(make_exchange(STATUS, seed=3, deadline=120.0), server(bmc), start=61.0)
    assert result.reason is Reason.OK


def test_half_open_handshakes_free_their_slots_within_seconds() -> None:
    bmc = make_bmc(max_sessions=4)
    for ident in range(1, 200):
        request = hs.encode_open_request(0, 4, ident, suite(17))
        bmc.receive_datagram(encode_clear(Payload.OPEN_REQUEST, request), ("127.0.0.9", ident), 0.0)
    assert bmc.session_count == 4
    assert talk(make_exchange(STATUS), server(bmc), start=0.5)[0].reason is Reason.BMC_NO_SESSION
    assert talk(make_exchange(STATUS, seed=9), server(bmc), start=1.5)[0].reason is Reason.OK


def open_and_vanish(bmc: Bmc, now: float) -> None:
    """A console that logs in and is never heard of again."""
    exchange = make_exchange(STATUS, seed=77)
    exchange.start(now)
    for _ in range(4):
        answers = [answer for d in exchange.datagrams_to_send() for answer in bmc.receive_datagram(d, PEER, now)]
        for answer in answers:
            exchange.receive_datagram(answer, now)


# Bad networks


def test_stale_packets_of_old_sessions_are_ignored() -> None:
    bmc = make_bmc()
    _, old = talk(make_exchange(STATUS, ON, seed=1), server(bmc))
    exchange, replay = make_exchange(STATUS, seed=2), server(bmc)

    def noisy(data: bytes, now: float) -> list[bytes]:
        return [*old.received, *replay(data, now), *old.received]

    result, network = talk(exchange, noisy)
    assert result.reason is Reason.OK
    assert len(result.answers) == 1
    assert len(network.sent) == 5


def test_a_recorded_power_on_cannot_be_replayed() -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis)
    _, network = talk(make_exchange(ON), server(bmc))
    for packet in network.sent * 3:
        bmc.receive_datagram(packet, PEER, network.now)
    assert chassis.controls == [Action.ON]


@pytest.mark.parametrize("seed", range(60))
def test_lossy_network(seed: int) -> None:
    """10 % lost and 10 % repeated each way, delays of up to 300 ms: no wrong accusation, no second power-on."""
    chassis = MemoryChassis()
    bmc = make_bmc(chassis, seed=seed)
    network = Network(seed, loss=0.1, repeat=0.1, delay_s=0.3)
    result = network.run(make_exchange(STATUS, ON, seed=seed), server(bmc))
    assert result.reason in (Reason.OK, Reason.BMC_LOST, Reason.BMC_NO_SESSION, Reason.BMC_SILENT_AUTH)
    assert len(chassis.controls) <= 1
    if result.reason is Reason.OK:
        assert chassis.controls == [Action.ON]
        assert len(result.answers) == 2


def test_most_exchanges_survive_a_lossy_network() -> None:
    reasons: Counter[Reason] = Counter()
    for seed in range(200):
        bmc = make_bmc(seed=seed)
        network = Network(1000 + seed, loss=0.05, repeat=0.05, delay_s=0.2)
        reasons[network.run(make_exchange(STATUS, seed=seed), server(bmc)).reason] += 1
    assert reasons[Reason.OK] >= 199


def test_the_same_seed_gives_the_same_conversation() -> None:
    runs = []
    for _ in range(2):
        network = Network(5, loss=0.2, repeat=0.2, delay_s=0.3)
        network.run(make_exchange(STATUS, seed=4), server(make_bmc(seed=6)))
        runs.append((network.sent, network.received, network.now))
    assert runs[0] == runs[1]


def test_a_script_decides_by_answers_and_returns_a_value() -> None:
    chassis = MemoryChassis()

    def turn_on_if_off() -> Script:
        status = yield msg.CHASSIS_STATUS
        if not status.data[0] & 1:
            yield msg.chassis_control(msg.Action.ON)
        status = yield msg.CHASSIS_STATUS
        return status.data[0] & 1

    result, _ = talk(make_exchange(script=turn_on_if_off()), server(make_bmc(chassis)))
    assert (result.reason, result.value, result.acted) == (Reason.OK, 1, True)
    assert chassis.controls == [msg.Action.ON]
    result, _ = talk(make_exchange(script=turn_on_if_off(), seed=2), server(make_bmc(chassis)))
    assert (result.value, result.acted) == (1, False)


def test_a_script_ends_with_a_verdict_of_its_own_and_the_session_is_closed() -> None:
    def give_up() -> Script:
        yield msg.CHASSIS_STATUS
        return Verdict(Reason.BMC_UNSUPPORTED, "not this one", 7)

    bmc = make_bmc()
    result, _ = talk(make_exchange(script=give_up()), server(bmc))
    assert (result.reason, result.detail, result.value) == (Reason.BMC_UNSUPPORTED, "not this one", 7)
    assert bmc.session_count == 0


@pytest.mark.parametrize(("refusals", "reason"), [(2, Reason.OK), (99, Reason.BMC_BUSY)])
def test_busy_when_asked_for_a_privilege(refusals: int, reason: Reason) -> None:
    chassis = MemoryChassis()
    bmc = make_bmc(chassis, behaviour=Behaviour(busy=refusals))
    result, _ = talk(make_exchange(ON), server(bmc))
    assert result.reason is reason
    assert chassis.controls == ([Action.ON] if reason is Reason.OK else [])
    assert bmc.session_count == 0 or reason is Reason.BMC_BUSY  # that BMC is busy for Close Session too
