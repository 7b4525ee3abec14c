"""What becomes of a stream when stages die: the tables, and the messages that carry them out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.bus.members import Members
from pingap.stages import recovery as recovery_module
from pingap.stages.fate import Fate, after_recall, crews, fate
from pingap.stages.messages import ANSWER_LOST, NOT_BEGUN, WILL_ANSWER, WINDOW, Affinity, Cancel, Recall, Request, Stranded
from pingap.stages.recovery import RECALL_WAIT, WAIT
from pingap.stages.stream_states import StreamState
from tests.accept.playbook import ACCEPT, CREW, PLUGINS, ROUTING, UPSTREAM, Play, get, post

ALL = {ROUTING, PLUGINS, UPSTREAM}
OTHER = 99
AFFINITY = Affinity(ROUTING, PLUGINS, UPSTREAM)
LONG = 100_000

subsets = [frozenset(gone) for size in range(5) for gone in itertools.combinations((ROUTING, PLUGINS, UPSTREAM, OTHER), size)]


# -- the tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("gone", subsets, ids=str)
@pytest.mark.parametrize("resent", [False, True])
@pytest.mark.parametrize("replayable", [False, True])
def test_before_an_answer_fate_depends_on_who_died_and_on_what_may_be_repeated(
    gone: frozenset[int], replayable: bool, resent: bool
) -> None:
    for state in (StreamState.ASKED, StreamState.RECALLING):
        verdict = fate(state, AFFINITY, 0, gone, replayable, resent)
        if not gone & ALL:
            assert verdict is Fate.KEEP
        elif UPSTREAM in gone:
            assert verdict is (Fate.RESEND if replayable and not resent else Fate.ANSWER)
        else:
            assert verdict is Fate.RECALL
    assert fate(StreamState.WAITING, Affinity(0, 0, 0), 0, gone, replayable, resent) is Fate.KEEP


@pytest.mark.parametrize("gone", subsets, ids=str)
@pytest.mark.parametrize("source", [ROUTING, PLUGINS, UPSTREAM])
def test_after_an_answer_only_the_death_of_its_sender_matters(gone: frozenset[int], source: int) -> None:
    for replayable, resent in itertools.product((False, True), repeat=2):
        verdict = fate(StreamState.ANSWERING, AFFINITY, source, gone, replayable, resent)
        assert verdict is (Fate.CUT if source in gone else Fate.KEEP)
        assert fate(StreamState.WHOLE, AFFINITY, source, gone, replayable, resent) is Fate.KEEP, "nothing more is to come"


states = (NOT_BEGUN, WILL_ANSWER, ANSWER_LOST)


@pytest.mark.parametrize("answers", [(one,) for one in states] + list(itertools.product(states, states)), ids=str)
@pytest.mark.parametrize("resent", [False, True])
@pytest.mark.parametrize("replayable", [False, True])
def test_after_recall_a_living_answer_wins_and_a_lost_one_is_repeated_only_without_harm(
    answers: tuple[int, ...], replayable: bool, resent: bool
) -> None:
    verdict = after_recall(dict(enumerate(answers)), replayable, resent)
    if WILL_ANSWER in answers:
        assert verdict is Fate.KEEP
    elif resent:
        assert verdict is Fate.ANSWER
    elif ANSWER_LOST in answers:
        assert verdict is (Fate.RESEND if replayable else Fate.ANSWER)
    else:
        assert verdict is Fate.RESEND


def table(*rows: tuple[int, str, str]) -> Members:
    return Members.of(1, 100, [(i, stage, 0, "", state) for i, stage, state in rows])


def test_crews_pair_the_ready_replicas_of_each_stage() -> None:
    assert crews(table((1, "routing", "ready"), (2, "plugins", "ready"), (3, "upstream", "ready")), None) == [Affinity(1, 2, 3)]
    uneven = table(
        (1, "routing", "ready"), (2, "plugins", "ready"), (3, "upstream", "ready"), (4, "upstream", "ready"), (5, "upstream", "draining")
    )
    assert crews(uneven, None) == [Affinity(1, 2, 3), Affinity(1, 2, 4)]
    assert crews(table((1, "routing", "ready"), (2, "plugins", "starting"), (3, "upstream", "ready")), None) == [Affinity(1, 0, 3)]
    assert crews(table((1, "routing", "ready"), (2, "plugins", "ready"), (3, "upstream", "starting")), None) == []
    assert crews(table(), {"routing": 7, "plugins": 8, "upstream": 9}) == [Affinity(7, 8, 9)]


@given(st.lists(st.tuples(st.sampled_from(["routing", "plugins", "upstream"]), st.sampled_from(["ready", "draining"])), max_size=9))
def test_every_ready_replica_is_in_some_crew_and_no_other_is(rows: list[tuple[str, str]]) -> None:
    members = table(*((number, stage, state) for number, (stage, state) in enumerate(rows, 1)))
    found = crews(members, None)
    ready = {number for number, (_, state) in enumerate(rows, 1) if state == "ready"}
    if {rows[number - 1][0] for number in ready} >= {"routing", "upstream"}:
        assert set(itertools.chain.from_iterable(found)) - {0} == ready
        assert all(crew.routing and crew.upstream for crew in found)
        assert {bool(crew.plugins) for crew in found} == {any(rows[number - 1][0] == "plugins" for number in ready)}
    else:
        assert found == []


# -- the messages ----------------------------------------------------------------------------

SPARE = ((21, "routing"), (22, "plugins"), (23, "upstream"))


def heard(play: Play) -> tuple[set[int], set[int], list[Request]]:
    """(who was cancelled, who was recalled, requests) since the last time."""
    messages = play.stages_hear()
    return (
        {to for to, envelope in messages if isinstance(envelope, Cancel)},
        {to for to, envelope in messages if isinstance(envelope, Recall)},
        [envelope for _, envelope in messages if isinstance(envelope, Request)],
    )


async def test_when_upstream_dies_a_request_that_may_be_repeated_is_sent_once_more_under_another_sid(play: Play) -> None:
    client = play.connects()
    client.says(get(b"/x"))
    request = play.hears_request()
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (23, "upstream"))
    cancelled, recalled, (again,) = heard(play)
    assert cancelled == ALL
    assert recalled == set()
    assert again.sid != request.sid
    assert again.affinity == Affinity(ROUTING, PLUGINS, 23)
    assert again.target == b"/x"
    play.answers(request, body=b"old")
    assert client.hears() == b""
    play.answers(again, body=b"new")
    assert client.hears().endswith(b"new")
    assert not client.is_closed
    assert play.event.sid == again.sid


async def test_when_upstream_dies_a_second_time_the_answer_is_502_and_the_connection_stays(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.hears_request()
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (23, "upstream"))
    play.stages_hear()
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (33, "upstream"))
    cancelled, _, requests = heard(play)
    assert requests == []
    assert cancelled == {ROUTING, PLUGINS, 23}
    assert client.hears().startswith(b"HTTP/1.1 502 ")
    assert not client.is_closed
    assert play.event.error == "stage_lost"


async def test_when_upstream_dies_a_post_is_not_repeated(play: Play) -> None:
    client = play.connects()
    client.says(post(b"Content-Length: 5", body=b"hello"))
    play.hears_request()
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (23, "upstream"))
    assert heard(play)[2] == []
    assert client.hears().startswith(b"HTTP/1.1 502 ")


async def test_a_put_with_its_body_inside_is_repeated_but_not_one_that_streams(play: Play) -> None:
    client, other = play.connects(), play.connects()
    client.says(b"PUT" + post(b"Content-Length: 5", body=b"hello")[4:])
    other.says(b"PUT" + post(b"Content-Length: %d" % LONG, body=b"x")[4:])
    (_, _), (_, streaming) = play.stages_hear()
    play.grants(streaming, WINDOW)
    play.stages_hear()
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (23, "upstream"))
    _, _, (again,) = heard(play)
    assert again.body == b"hello"
    play.answers(again)
    assert other.hears().startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("dead", [ROUTING, PLUGINS])
async def test_when_routing_or_plugins_die_the_survivors_are_asked_and_nothing_is_sent_before_they_answer(play: Play, dead: int) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    survivors = {PLUGINS, UPSTREAM} - {dead}
    play.members(*SPARE, *((i, stage) for i, stage in CREW if i != dead))
    cancelled, recalled, requests = heard(play)
    assert (cancelled, recalled, requests) == (set(), survivors, [])
    for actor in survivors:
        assert heard(play)[2] == []
        play.recalled(request, actor, NOT_BEGUN)
    cancelled, _, (again,) = heard(play)
    assert cancelled == ALL
    assert dead not in again.affinity
    play.answers(again, body=b"fine")
    assert client.hears().endswith(b"fine")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_request_that_upstream_will_answer_goes_on(play: Play, method: bytes) -> None:
    client = play.connects()
    client.says(method + get()[3:])
    request = play.hears_request()
    play.members((21, "routing"), (PLUGINS, "plugins"), (UPSTREAM, "upstream"))
    play.stages_hear()
    play.recalled(request, PLUGINS, NOT_BEGUN)
    play.recalled(request, UPSTREAM, WILL_ANSWER)
    assert heard(play) == (set(), set(), [])
    play.answers(request, body=b"fine")
    assert client.hears().endswith(b"fine")


async def test_an_answer_that_comes_while_the_survivors_are_asked_is_the_answer(play: Play) -> None:
    client = play.connects()
    client.says(post(b"Content-Length: 1", body=b"x"))
    request = play.hears_request()
    play.members((21, "routing"), (PLUGINS, "plugins"), (UPSTREAM, "upstream"))
    play.stages_hear()
    play.answers(request, body=b"fine")
    play.recalled(request, PLUGINS, NOT_BEGUN)
    play.recalled(request, UPSTREAM, NOT_BEGUN)
    assert client.hears().endswith(b"fine")
    assert heard(play) == (set(), set(), [])
    await play.passes(RECALL_WAIT + 1)
    assert client.hears() == b""


@pytest.mark.parametrize(("method", "repeated"), [(b"GET", True), (b"DELETE", True), (b"POST", False), (b"PATCH", False)])
async def test_a_lost_answer_is_asked_for_again_only_without_harm(play: Play, method: bytes, repeated: bool) -> None:
    client = play.connects()
    client.says(method + get()[3:])
    request = play.hears_request()
    play.members((ROUTING, "routing"), (22, "plugins"), (UPSTREAM, "upstream"))
    play.stages_hear()
    play.recalled(request, UPSTREAM, ANSWER_LOST)
    _, _, requests = heard(play)
    assert bool(requests) == repeated
    if repeated:
        play.answers(requests[0], body=b"fine")
        assert client.hears().endswith(b"fine")
    else:
        assert client.hears().startswith(b"HTTP/1.1 502 ")


async def test_a_post_that_nobody_has_begun_is_sent_again(play: Play) -> None:
    client = play.connects()
    client.says(post(b"Content-Length: 5", body=b"hello"))
    request = play.hears_request()
    play.members((21, "routing"), (PLUGINS, "plugins"), (UPSTREAM, "upstream"))
    play.stages_hear()
    play.recalled(request, PLUGINS, NOT_BEGUN)
    play.recalled(request, UPSTREAM, NOT_BEGUN)
    _, _, (again,) = heard(play)
    assert again.body == b"hello"
    play.answers(again)


@pytest.mark.parametrize("granted", [False, True])
async def test_a_streamed_upload_is_sent_again_only_if_none_of_it_had_flowed(play: Play, granted: bool) -> None:
    client = play.connects()
    client.says(post(b"Content-Length: %d" % LONG, body=b"x" * 1000))
    request = play.hears_request()
    if granted:
        play.grants(request, 100)
        play.stages_hear()
    play.members((21, "routing"), (PLUGINS, "plugins"), (UPSTREAM, "upstream"))
    play.stages_hear()
    play.recalled(request, PLUGINS, NOT_BEGUN)
    play.recalled(request, UPSTREAM, NOT_BEGUN)
    _, _, requests = heard(play)
    assert bool(requests) != granted
    if requests:
        client.says(b"x" * (LONG - 1000))
        play.grants(requests[0], 10 * WINDOW)
        await play.turn()
        assert b"".join(payload for payload, _ in play.hears_data(requests[0])) == b"x" * LONG
        play.answers(requests[0], body=b"fine")
        assert client.hears().endswith(b"fine")
    else:
        assert client.hears().startswith(b"HTTP/1.1 502 ")


async def test_survivors_that_do_not_answer_in_time_cost_the_request(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.hears_request()
    play.members((21, "routing"), (PLUGINS, "plugins"), (UPSTREAM, "upstream"))
    await play.passes(RECALL_WAIT + 1)
    assert client.hears().startswith(b"HTTP/1.1 502 ")
    assert not client.is_closed


async def test_one_death_after_another_leaves_nobody_waiting_for_the_dead(play: Play) -> None:
    """Plugins dies, then routing: only upstream is left to answer for the stream."""
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.members((ROUTING, "routing"), (22, "plugins"), (UPSTREAM, "upstream"))
    assert heard(play)[1] == {UPSTREAM}
    play.members((21, "routing"), (22, "plugins"), (UPSTREAM, "upstream"))
    assert heard(play)[1] == {UPSTREAM}
    play.recalled(request, UPSTREAM, NOT_BEGUN)
    _, _, (again,) = heard(play)
    play.answers(again, body=b"fine")
    assert client.hears().endswith(b"fine")


async def test_upstream_dies_while_it_is_asked(play: Play) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.members((21, "routing"), (PLUGINS, "plugins"), (UPSTREAM, "upstream"))
    play.stages_hear()
    play.members((21, "routing"), (PLUGINS, "plugins"), (23, "upstream"))
    _, _, (again,) = heard(play)
    play.recalled(request, PLUGINS, NOT_BEGUN)
    play.recalled(request, UPSTREAM, NOT_BEGUN)
    assert heard(play) == (set(), set(), [])
    play.answers(again, body=b"fine")
    assert client.hears().endswith(b"fine")


async def test_a_request_that_was_sent_again_is_still_answered_when_upstream_survives_the_next_death(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.hears_request()
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (23, "upstream"))
    _, _, (again,) = heard(play)
    play.members((23, "upstream"), (31, "routing"), (32, "plugins"))
    assert heard(play)[1] == {23}
    play.recalled(again, 23, WILL_ANSWER)
    play.answers(again, body=b"fine", source=23)
    assert client.hears().endswith(b"fine")


async def test_a_client_that_leaves_while_the_survivors_are_asked_leaves_nothing(play: Play) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.members((21, "routing"), (PLUGINS, "plugins"), (UPSTREAM, "upstream"))
    play.stages_hear()
    client.resets()
    await play.turn()
    assert heard(play)[0] == ALL
    play.recalled(request, PLUGINS, NOT_BEGUN)
    play.recalled(request, UPSTREAM, NOT_BEGUN)
    await play.passes(RECALL_WAIT + 1)
    assert heard(play) == (set(), set(), [])


async def test_a_half_sent_answer_is_cut_when_its_sender_dies_and_goes_on_when_another_does(play: Play) -> None:
    cut, fine = play.connects(), play.connects()
    for client in (cut, fine):
        client.says(get())
    (_, first), (_, second) = play.stages_hear()
    play.answers(first, ended=False, source=PLUGINS, watchers=(ROUTING,))
    play.answers(second, ended=False, source=UPSTREAM)
    play.streams(first, b"abc")
    play.members((ROUTING, "routing"), (UPSTREAM, "upstream"), (22, "plugins"))
    assert cut.hears().endswith(b"3\r\nabc\r\n")
    assert cut.is_closed
    assert play.event.error == "stage_lost"
    play.streams(second, b"def", ended=True)
    assert fine.hears().endswith(b"3\r\ndef\r\n0\r\n\r\n")


async def test_the_death_of_others_and_of_draining_replicas_touches_nobody(play: Play) -> None:
    play.members(*CREW, *SPARE, draining=(21, 22, 23))
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    assert request.affinity == AFFINITY
    play.members(*CREW)
    assert play.hears_nothing()
    play.answers(request)


async def test_streams_of_draining_replicas_go_on_and_new_ones_go_elsewhere(play: Play) -> None:
    client, other = play.connects(), play.connects()
    client.says(get())
    request = play.hears_request()
    play.members(*CREW, *SPARE, draining=(ROUTING, PLUGINS, UPSTREAM))
    assert play.hears_nothing()
    other.says(get())
    second = play.hears_request()
    assert second.affinity == Affinity(21, 22, 23)
    play.answers(request, body=b"fine")
    assert client.hears().endswith(b"fine")
    play.answers(second)


# -- waiting for a crew ------------------------------------------------------------------------


async def test_a_request_without_a_crew_waits_and_is_sent_when_there_is_one(play: Play) -> None:
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"))
    client = play.connects()
    client.says(get(b"/a"))
    assert play.hears_nothing()
    await play.passes(WAIT - 1)
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (23, "upstream"))
    request = play.hears_request()
    assert request.affinity == Affinity(ROUTING, PLUGINS, 23)
    play.answers(request, body=b"fine")
    assert client.hears().endswith(b"fine")
    await play.passes(WAIT + 1)
    assert client.hears() == b""


def stranded(play: Play, request: Request) -> None:
    play.tell(Stranded(request.sid))


async def test_without_plugins_only_those_wait_that_need_them(play: Play) -> None:
    play.members((ROUTING, "routing"), (UPSTREAM, "upstream"))
    plain, needy = play.connects(), play.connects()
    plain.says(get(b"/plain"))
    request = play.hears_request()
    assert request.affinity == Affinity(ROUTING, 0, UPSTREAM)
    play.answers(request, body=b"fine")
    assert plain.hears().endswith(b"fine")
    needy.says(post(b"Content-Length: %d" % LONG, body=b"x" * LONG))
    stranded(play, play.hears_request())
    await play.passes(WAIT - 1)
    play.members((21, "routing"), (UPSTREAM, "upstream"))
    assert heard(play)[2] == []
    play.members((21, "routing"), (UPSTREAM, "upstream"), (22, "plugins"))
    request = play.hears_request()
    assert request.affinity == Affinity(21, 22, UPSTREAM)
    play.grants(request, WINDOW, wanter=22)
    assert play.hears_data(request) == [(b"x" * LONG, True)]
    play.answers(request, body=b"guarded")
    assert needy.hears().endswith(b"guarded")
    await play.passes(WAIT + 1)
    assert needy.hears() == b""


async def test_for_plugins_too_a_request_waits_only_so_long(play: Play) -> None:
    play.members((ROUTING, "routing"), (UPSTREAM, "upstream"))
    client = play.connects()
    client.says(get())
    stranded(play, play.hears_request())
    await play.passes(WAIT + 1)
    assert client.hears().startswith(b"HTTP/1.1 503 ")
    assert not client.is_closed


async def test_a_request_that_is_stranded_as_plugins_come_up_is_sent_again_at_once(play: Play) -> None:
    play.members((ROUTING, "routing"), (UPSTREAM, "upstream"))
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.members(*CREW)
    stranded(play, request)
    again = play.hears_request()
    assert again.affinity == Affinity(ROUTING, PLUGINS, UPSTREAM) and again.sid != request.sid
    stranded(play, request)  # of the old sid: nobody's any more
    play.answers(again, body=b"fine")
    assert client.hears().endswith(b"fine")


async def test_a_request_whose_plugins_died_waits_for_others_when_it_turns_out_to_need_them(play: Play) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.members((ROUTING, "routing"), (UPSTREAM, "upstream"))
    assert heard(play)[1] == {UPSTREAM}
    play.recalled(request, UPSTREAM, NOT_BEGUN)
    _, _, (again,) = heard(play)
    stranded(play, again)
    play.members((ROUTING, "routing"), (22, "plugins"), (UPSTREAM, "upstream"))
    last = play.hears_request()
    assert last.affinity.plugins == 22
    play.answers(last, body=b"fine")
    assert client.hears().endswith(b"fine")


async def test_it_waits_only_so_long(play: Play) -> None:
    play.members((ROUTING, "routing"))
    client = play.connects()
    client.says(get() + get(b"/next"))
    await play.passes(WAIT + 1)
    assert client.hears().startswith(b"HTTP/1.1 503 ")
    assert not client.is_closed
    assert play.hears_nothing()
    await play.passes(WAIT + 1)
    assert client.hears().startswith(b"HTTP/1.1 503 ")


async def test_a_client_that_leaves_while_it_waits_is_told_to_nobody(play: Play) -> None:
    play.members()
    client = play.connects()
    client.says(get())
    client.resets()
    await play.turn()
    play.members(*SPARE)
    assert play.hears_nothing()
    assert play.event.status == 499


async def test_a_request_that_lost_its_upstream_waits_for_another(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.hears_request()
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"))
    assert heard(play)[2] == []
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (23, "upstream"))
    _, _, (again,) = heard(play)
    play.answers(again, body=b"fine")
    assert client.hears().endswith(b"fine")


async def test_uploads_wait_for_a_crew_too(play: Play) -> None:
    play.members()
    client = play.connects()
    client.says(post(b"Content-Length: %d" % LONG, body=b"x" * LONG))
    play.members(*SPARE)
    request = play.hears_request()
    play.grants(request, WINDOW, wanter=23)
    assert play.hears_data(request) == [(b"x" * LONG, True)]
    play.answers(request)


@pytest.mark.interpreted
async def test_more_than_may_wait_are_shed_at_once(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery_module, "MAX_WAITING", 2)
    play.members()
    clients = [play.connects() for _ in range(3)]
    for client in clients:
        client.says(get())
    await play.turn()
    assert [client.hears()[:12] for client in clients] == [b"", b"", b"HTTP/1.1 503"]


async def test_a_stream_that_is_shed_is_not_sent_again_by_a_table_in_the_same_turn(play: Play) -> None:
    client = play.connects()
    play.context.stuck.add(ROUTING)
    client.says(get())
    play.members((ROUTING, "routing"), (PLUGINS, "plugins"), (23, "upstream"))
    await play.turn()
    _, _, requests = heard(play)
    assert len(requests) + client.hears().count(b"HTTP/1.1 503") == 1
    for request in requests:
        play.answers(request)


# -- everything at once ---------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from([b"GET", b"POST"])),
        st.tuples(st.just("die"), st.sampled_from(["routing", "plugins", "upstream"])),
        st.tuples(st.just("recalled"), st.sampled_from([NOT_BEGUN, WILL_ANSWER, ANSWER_LOST])),
        st.tuples(st.just("answer"), st.booleans()),
        st.tuples(st.just("end"), st.none()),
        st.tuples(st.just("leave"), st.none()),
        st.tuples(st.just("time"), st.sampled_from([0.5, RECALL_WAIT + 1, WAIT + 1])),
        st.tuples(st.just("born"), st.sampled_from(["routing", "plugins", "upstream"])),
    ),
    max_size=25,
)


@given(steps)
@settings(max_examples=300, deadline=None)
async def test_no_stream_is_sent_more_than_twice_nor_repeated_with_harm_nor_left_behind(script: list[tuple[str, object]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        play = Play(patch)
        await play.begin()
        alive = dict(CREW)
        newest = 100
        sent: dict[bytes, list[Request]] = {}
        asked: list[Request] = []
        upstream_died_with: set[bytes] = set()
        clients = []

        def listen() -> None:
            for _, envelope in play.stages_hear():
                if isinstance(envelope, Request):
                    sent.setdefault(envelope.target, []).append(envelope)
                    asked.append(envelope)

        for number, (what, how) in enumerate(script):
            if what == "ask":
                client = play.connects()
                clients.append(client)
                assert isinstance(how, bytes)
                client.says(b"%b /%d HTTP/1.1\r\nHost: a\r\n\r\n" % (how, number))
            elif what == "die":
                dead = next((i for i, stage in alive.items() if stage == how), 0)
                alive.pop(dead, None)
                if how == "upstream":
                    held = (r for r in asked if r.affinity.upstream == dead and r.sid in play.actor.streams.by_sid)
                    upstream_died_with |= {r.target for r in held if len(sent[r.target]) == 1}  # the second is the last anyhow
                play.members(*alive.items())
            elif what == "born":
                newest += 1
                alive[newest] = str(how)
                play.members(*alive.items())
            elif what == "recalled" and asked:
                for actor in asked[-1].affinity[1:]:
                    play.recalled(asked[-1], actor, int(how))  # type: ignore[call-overload]
            elif what == "answer" and asked:
                play.answers(asked[-1], body=b"x", ended=bool(how), source=asked[-1].affinity.upstream)
            elif what == "end" and asked:
                play.streams(asked[-1], b"", ended=True)
            elif what == "leave" and clients:
                clients[-1].resets()
            elif what == "time":
                await play.passes(float(how))  # type: ignore[arg-type]
            await play.turn()
            listen()
        await play.passes(WAIT + RECALL_WAIT + 1)
        listen()
        for target, requests in sent.items():
            assert len(requests) <= 2
            assert len({request.sid for request in requests}) == len(requests)
            if len(requests) == 2 and requests[0].method == b"POST" and not requests[0].ended:
                raise AssertionError("a body was sent twice")
            if len(requests) == 2 and requests[0].method == b"POST":
                assert target not in upstream_died_with
        for client in clients:
            assert client.transport.out.count(b"HTTP/1.1 ") <= 1
        await play.end()
        assert play.context.members.is_dead(ACCEPT) is False
