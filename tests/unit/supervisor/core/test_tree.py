"""Several services under one supervisor: the order of start and stop, failures, reloads, scaling."""

from __future__ import annotations

import pytest
from support.grove import Grove, begun, growing, lines, of_all, told
from support.play import ENDED, KILLED, POLICY
from support.said import said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import Phase
from hybrid.supervisor.core.machine import Machine
from hybrid.supervisor.core.policy import Intensity, Policy, Restart
from hybrid.supervisor.core.tree import ALL, Deed, OnFailure, Rules, Stage
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed

FREE = {"web": Rules(), "chat": Rules()}
CHAIN = {"web": Rules(("api",)), "api": Rules(("db",)), "db": Rules()}
GOES_ON = Rules(on_failure=OnFailure.STOP)
STRICT = {"web": Policy(intensity=Intensity(0, 10.0))}
ONCE = {"job": Policy(restart=Restart.TRANSIENT)}


# --- start


def test_services_that_depend_on_none_start_at_once() -> None:
    assert begun(Grove(FREE).step(ev.Started())) == ["web", "chat"]


def test_a_service_starts_once_all_that_it_depends_on_have_started() -> None:
    grove = Grove(CHAIN)
    assert begun(grove.step(ev.Started())) == ["db"]
    assert grove.tree.stage("api") is Stage.WAITING
    assert begun(grove.ready(1)) == ["api"]
    assert begun(grove.ready(2)) == ["web"]


def test_a_service_waits_for_all_workers_of_the_one_that_it_depends_on() -> None:
    grove = Grove({"web": Rules(("db",)), "db": Rules()}, workers=2)
    grove.step(ev.Started())
    assert begun(grove.ready(1)) == []
    assert begun(grove.ready(2)) == ["web", "web"]


def test_the_whole_has_started_once_every_service_has() -> None:
    grove = Grove(CHAIN)
    assert grove.tree.phase is Phase.NEW
    grove.step(ev.Started())
    grove.ready(1)
    grove.ready(2)
    assert not grove.tree.has_started
    assert grove.tree.phase is Phase.STARTING
    grove.ready(3)
    assert grove.tree.has_started
    assert grove.tree.phase is Phase.SERVING
    assert grove.tree.is_settled()


def test_a_worker_that_dies_later_does_not_undo_the_start() -> None:
    grove = growing(FREE)
    assert begun(grove.dies(1, KILLED)) == ["web"]
    assert grove.tree.has_started


def test_a_service_that_waits_for_a_failed_one_starts_without_it() -> None:
    grove = Grove({"web": Rules(("db",)), "db": GOES_ON})
    grove.step(ev.Started())
    grove.step(said(1, BootFailed(Exit.TARGET, "no module db")), "db")
    assert grove.tree.stage("web") is Stage.WAITING
    assert begun(grove.dies(1, ev.How(code=3))) == ["web"]
    grove.ready(2)
    assert grove.tree.has_started


def test_a_service_that_waits_for_one_that_was_stopped_starts_without_it() -> None:
    grove = Grove({"web": Rules(("db",)), "db": Rules()})
    grove.step(ev.Started())
    grove.step(ev.StopAsked(graceful=True), "db")
    assert begun(grove.dies(1, ENDED)) == ["web"]


def test_a_service_that_waits_for_a_job_that_is_done_starts() -> None:
    grove = Grove({"web": Rules(("job",)), "job": Rules()}, policies=ONCE)
    grove.step(ev.Started())
    assert begun(grove.ready(1)) == ["web"]
    grove.dies(1, ENDED)
    assert grove.tree.stage("job") is Stage.ENDED
    grove.ready(2)
    assert grove.tree.has_started


def test_the_whole_can_take_over_once_it_has_started() -> None:
    grove = Grove(FREE)
    grove.step(ev.Started())
    grove.ready(1)
    assert not grove.tree.can_take_over
    grove.ready(2)
    assert grove.tree.can_take_over


def test_what_is_left_of_a_failed_start_may_not_take_over() -> None:
    grove = Grove(FREE)
    grove.step(ev.Started())
    grove.ready(2)
    grove.step(said(1, BootFailed(Exit.TARGET, "no module shop")), "web")
    grove.dies(1, ev.How(code=3))
    assert grove.tree.stage("chat") is Stage.RUNNING
    assert not grove.tree.can_take_over


def test_a_service_that_is_added_later_starts_with_the_next_step() -> None:
    grove = growing(FREE)
    grove.tree.add("news", Machine(POLICY, 1), Rules(("web",)))
    assert begun(grove.step(ev.Tick())) == ["news"]


def test_a_service_that_is_removed_is_forgotten_once_it_has_ended() -> None:
    grove = growing(FREE)
    assert told(grove.tree.remove("web", 0.0)) == ["web"]
    assert "web" in grove.tree
    assert ("web", ev.Finish(Exit.OK)) in grove.dies(1, ENDED)
    assert grove.tree.names == ("chat",)
    assert grove.tree.phase is Phase.SERVING


def test_a_service_that_has_ended_is_removed_at_once() -> None:
    grove = growing({"web": Rules(), "job": Rules()}, policies=ONCE)
    grove.dies(2, ENDED)
    assert grove.tree.remove("job", 0.0) == []
    assert grove.tree.names == ("web",)


def test_an_event_of_a_service_that_is_unknown_or_has_ended_changes_nothing() -> None:
    grove = growing({"web": Rules(), "job": Rules()}, policies=ONCE)
    grove.dies(2, ENDED)
    assert grove.step(ev.Exited(2, ENDED), "job") == []
    assert grove.step(ev.ReloadAsked(), "nobody") == []


# --- stop


def test_all_stop_in_the_reverse_order() -> None:
    grove = growing(CHAIN)  # db is pid 1, api 2, web 3
    assert told(grove.step(ev.StopAsked(graceful=True))) == ["web"]
    assert grove.tree.phase is Phase.STOPPING
    assert told(grove.dies(3, ENDED)) == ["api"]
    assert told(grove.dies(2, ENDED)) == ["db"]
    assert of_all(grove.dies(1, ENDED)) == [ev.Finish(Exit.OK)]
    assert grove.tree.phase is Phase.ENDED


def test_services_that_none_depends_on_stop_at_the_same_time() -> None:
    assert told(growing(FREE).step(ev.StopAsked(graceful=True))) == ["web", "chat"]


def test_a_service_that_has_not_begun_never_does_after_a_stop() -> None:
    grove = Grove(CHAIN)
    grove.step(ev.Started())
    grove.step(ev.StopAsked(graceful=True))
    assert of_all(grove.dies(1, ENDED)) == [ev.Finish(Exit.OK)]
    assert begun(grove.ready(1)) == []


def test_the_first_interrupt_drains_in_order_and_the_second_kills_all() -> None:
    grove = growing(CHAIN)
    first = grove.step(ev.Interrupted())
    assert ("web", ev.TellStop((3,), at_a_terminal=True)) in first
    assert told(first) == ["web"]
    second = grove.step(ev.Interrupted())
    assert {(name, action) for name, action in second if isinstance(action, ev.Kill)} == {
        ("db", ev.Kill(1)),
        ("api", ev.Kill(2)),
        ("web", ev.Kill(3)),
    }
    for pid in (1, 2, 3):
        last = grove.dies(pid, KILLED)
    assert of_all(last) == [ev.Finish(Exit.KILLED)]


def test_a_stop_at_once_keeps_no_order() -> None:
    deeds = growing(CHAIN).step(ev.StopAsked(graceful=False))
    assert sorted(name for name, action in deeds if isinstance(action, ev.Kill)) == ["api", "db", "web"]


def test_a_single_service_stops_and_the_others_go_on() -> None:
    grove = growing(CHAIN)
    assert told(grove.step(ev.StopAsked(graceful=True), "api")) == ["api"]
    assert of_all(grove.dies(2, ENDED)) == []
    assert grove.tree.stage("api") is Stage.ENDED
    assert grove.tree.stage("web") is Stage.RUNNING


def test_the_first_interrupt_does_not_hurry_a_service_that_stops_already() -> None:
    grove = growing(FREE)
    grove.step(ev.StopAsked(graceful=True), "web")
    deeds = grove.step(ev.Interrupted())
    assert told(deeds) == ["chat"]
    assert not any(isinstance(action, ev.Kill) for _, action in deeds)


def test_the_last_service_that_stops_ends_the_whole() -> None:
    grove = growing(FREE)
    for pid, name in enumerate(FREE, 1):
        grove.step(ev.StopAsked(graceful=True), name)
        deeds = grove.dies(pid, ENDED)
    assert of_all(deeds) == [ev.Finish(Exit.OK)]


def test_after_the_end_nothing_happens() -> None:
    grove = growing({"web": Rules()})
    grove.step(ev.StopAsked(graceful=True))
    grove.dies(1, ENDED)
    assert grove.step(ev.ReloadAsked()) == []


# --- failure


def failing(rules: Rules, **others: Rules) -> tuple[Grove, list[Deed]]:
    """Return a grove whose `web` exceeds its limit by the death of pid 1, and the deeds; pid 2 and so on serve."""
    grove = growing({"web": rules, **(others or {"chat": Rules()})}, policies=STRICT)
    return grove, grove.dies(1, ev.How(code=1))


def test_by_default_a_failure_stops_all() -> None:
    grove, deeds = failing(Rules())
    assert told(deeds) == ["chat"]
    assert of_all(grove.dies(2, ENDED)) == [ev.Finish(Exit.RESTARTS)]


def test_the_others_stop_in_their_order_after_a_failure() -> None:
    grove, deeds = failing(Rules(), db=Rules(), api=Rules(("db",)))
    assert told(deeds) == ["api"]
    assert told(grove.dies(3, ENDED)) == ["db"]


def test_the_others_go_on_if_the_service_says_so() -> None:
    grove, deeds = failing(GOES_ON)
    assert told(deeds) == []
    assert lines(deeds)[-1] == "the service has failed; the other services go on (on-failure = stop)"
    assert ("web", ev.Finish(Exit.RESTARTS)) in deeds
    assert grove.tree.has_failed("web")
    assert grove.tree.phase is Phase.SERVING
    assert grove.tree.has_started


def test_a_failed_service_is_told_of_once() -> None:
    grove, _ = failing(GOES_ON)
    assert lines(grove.step(ev.Tick())) == []


def test_after_a_stop_as_asked_the_exit_code_forgives_a_failure_that_the_others_survived() -> None:
    grove, _ = failing(GOES_ON)
    grove.step(ev.StopAsked(graceful=True))
    assert of_all(grove.dies(2, ENDED)) == [ev.Finish(Exit.OK)]


def test_a_supervisor_that_ends_by_itself_after_a_failure_has_its_exit_code() -> None:
    grove = growing({"job": Rules(), "web": GOES_ON}, policies={**STRICT, **ONCE})
    grove.dies(1, ENDED)
    assert of_all(grove.dies(2, ev.How(code=1))) == [ev.Finish(Exit.RESTARTS)]


def test_jobs_that_are_done_end_the_supervisor_with_code_0() -> None:
    grove = growing({"job": Rules()}, policies=ONCE)
    assert of_all(grove.dies(1, ENDED)) == [ev.Finish(Exit.OK)]


def test_the_exit_code_is_that_of_the_first_failure() -> None:
    grove, _ = failing(Rules())
    grove.step(said(2, BootFailed(Exit.TARGET, "late")), "chat")
    assert of_all(grove.dies(2, KILLED)) == [ev.Finish(Exit.RESTARTS)]


def test_a_worker_that_had_to_be_killed_at_the_stop_is_in_the_exit_code() -> None:
    grove = growing(FREE)
    grove.step(ev.StopAsked(graceful=True))
    grove.dies(1, ENDED)
    grove.later(POLICY.graceful_timeout)
    assert of_all(grove.dies(2, KILLED)) == [ev.Finish(Exit.KILLED)]


def test_the_only_service_stops_the_whole_whatever_it_says() -> None:
    grove = growing({"web": GOES_ON}, policies=STRICT)
    assert of_all(grove.dies(1, ev.How(code=1))) == [ev.Finish(Exit.RESTARTS)]


def test_the_death_of_a_worker_concerns_its_own_service_only() -> None:
    deeds = growing(CHAIN, workers=1).dies(2, KILLED)
    assert {name for name, _ in deeds} == {"api"}


# --- reloads


def test_a_reload_takes_one_service_after_the_other() -> None:
    grove = growing(FREE)  # web is pid 1, chat 2
    assert begun(grove.step(ev.ReloadAsked())) == ["web"]
    assert grove.tree.is_reloading
    assert begun(grove.ready(3)) == ["chat"]
    assert begun(grove.ready(4)) == []
    assert not grove.tree.is_reloading
    assert grove.tree.machine("web").summary() == "1 of 1 worker ready, generation 2"


def test_a_second_reload_restarts_the_turn_and_queues_those_that_had_theirs() -> None:
    grove = growing({"a": Rules(), "b": Rules(), "c": Rules()})
    grove.step(ev.ReloadAsked())
    grove.ready(4)  # a is done, b tries pid 5
    deeds = grove.step(ev.ReloadAsked())
    assert lines(deeds)[0] == "reload asked for anew: giving up generation 2"
    assert begun(deeds) == ["b"]
    assert begun(grove.ready(6)) == ["c"]
    assert begun(grove.ready(7)) == ["a"]
    grove.ready(8)
    assert not grove.tree.is_reloading


def test_a_reload_that_fails_in_one_service_goes_on_in_the_next() -> None:
    grove = growing(FREE)
    grove.step(ev.ReloadAsked())
    assert begun(grove.step(said(3, BootFailed(Exit.TARGET, "a typo")), "web")) == ["chat"]


def test_a_service_that_ends_during_its_turn_passes_it_on() -> None:
    grove = growing(FREE)
    grove.step(ev.ReloadAsked())
    assert begun(grove.step(ev.StopAsked(graceful=False), "web")) == []
    grove.dies(1, KILLED)
    assert begun(grove.dies(3, KILLED)) == ["chat"]


def test_a_service_that_was_added_just_now_is_not_reloaded() -> None:
    """A HUP adds it, and then reloads the services that ran before."""
    grove = growing({"web": Rules()})
    grove.tree.add("chat", Machine(POLICY, 1), Rules())
    assert begun(grove.step(ev.Tick())) == ["chat"]
    assert grove.tree.is_new("chat")
    assert begun(grove.step(ev.ReloadAsked())) == ["web"]
    grove.ready(2)
    assert not grove.tree.is_new("chat")
    assert begun(grove.ready(3)) == []


def test_a_reload_of_one_service_leaves_the_others_alone() -> None:
    assert begun(growing(FREE).step(ev.ReloadAsked(), "chat")) == ["chat"]


def test_while_stopping_a_reload_is_refused_once() -> None:
    grove = growing(FREE)
    grove.step(ev.StopAsked(graceful=True))
    assert lines(grove.step(ev.ReloadAsked())) == ["stopping: not reloading"]
    assert not grove.tree.is_reloading


def test_a_stop_ends_the_turns() -> None:
    grove = growing(FREE)
    grove.step(ev.ReloadAsked())
    grove.step(ev.StopAsked(graceful=True))
    assert begun(grove.ready(3)) == []


# --- scaling


def test_a_signal_scales_the_first_service() -> None:
    grove = growing(FREE)
    assert begun(grove.step(ev.ScaleByAsked(1))) == ["web"]
    assert begun(grove.step(ev.ScaleAsked(3))) == ["web"]


def test_a_request_scales_the_service_that_it_names() -> None:
    assert begun(growing(FREE).step(ev.ScaleAsked(2), "chat")) == ["chat"]


# --- the whole


def test_a_tick_reaches_those_whose_deadline_has_passed_only() -> None:
    grove = growing(FREE)
    grove.step(ev.StopAsked(graceful=True), "web")
    assert grove.tree.deadline() == 0.25
    assert {name for name, _ in grove.later(0.25)} == {"web"}


def test_an_event_of_one_service_must_name_it() -> None:
    with pytest.raises(TypeError, match="Exited is about one service"):
        growing(FREE).step(ev.Exited(1, ENDED))


def test_a_summary_names_each_service() -> None:
    grove = Grove(CHAIN)
    grove.step(ev.Started())
    assert grove.tree.summary() == "web: waiting, api: waiting, db: 0 of 1 worker ready, generation 1"


def test_a_loop_that_turns_anywhere_is_enough() -> None:
    grove = growing(FREE)
    grove.step(ev.Looked((ev.Stalled(1, 0.0),)), "web")
    assert grove.tree.has_turned_since(1.0)
    grove.step(ev.Looked((ev.Stalled(2, 0.0),)), "chat")
    assert not grove.tree.has_turned_since(1.0)


def test_the_rules_of_a_service_can_change() -> None:
    grove = growing(FREE)
    grove.tree.rule("web", Rules(("chat",)))
    assert grove.tree.rules("web") == Rules(("chat",))
    assert told(grove.step(ev.StopAsked(graceful=True))) == ["web"]


def test_finish_of_the_whole_is_the_last_deed() -> None:
    grove = growing(FREE)
    grove.step(ev.StopAsked(graceful=False))
    grove.dies(1, KILLED)
    assert grove.dies(2, KILLED)[-1] == (ALL, ev.Finish(Exit.KILLED))
