"""What runs on every loop in the short set, and why the rest may wait for the loop matrix.

Without HYBRID_TEST_LOOP every test runs on epoll, but for variants that ask nothing new (`REPEATED`). On gevent,
asyncio and uvloop run the tests that are named in `KINDS`: for each kind of behaviour in which the drivers of the loops
could differ, tests that go through all of its layers. The other tests of the same files ask for details that are
decided in code which all loops share. On select and poll run those of them in which the poller matters (`POLLED`). Of a
chosen test one variant runs, unless `EVERY_VARIANT` has a reason for all. The tox matrix runs every test on every loop.

`pytest --left-out` lists the functions that the short set leaves out on the other loops. `tests/test_short_set.py`
checks the table: every name exists and runs on every loop, and every file with tests on several loops has a kind.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import NamedTuple

from support.loops import ALL_LOOPS, DEFAULT, HUB_LOOPS, LOOPS

POLLERS = tuple(loop for loop in HUB_LOOPS if loop != DEFAULT)


class Kind(NamedTuple):
    """A kind of behaviour, the tests of it that run on every loop, and the files whose other tests do not."""

    behaviour: str
    chosen: tuple[str, ...]  # FILE::FUNCTION, below `tests`; [A+B] where the variant has these words in its id
    stands_for: tuple[str, ...]  # files below `tests`
    because: str  # the reason why the rest of these files may wait


KINDS = (
    Kind(
        "a stream handler, sync and async: data, ends, large data both ways",
        (
            "integration/test_handlers.py::test_a_client_that_shuts_its_half_down_is_still_answered",
            "integration/test_handlers.py::test_a_client_that_resets_is_one_line_in_the_log[coroutines]",
            "integration/test_handlers.py::test_a_handler_that_raises_is_one_record_with_file_and_line",
            "integration/test_handlers.py::test_handlers_run_greenlets_and_coroutines",
        ),
        (
            "integration/test_handlers.py",
            "integration/test_documented_handlers.py",
            "integration/test_examples.py",
        ),
        "the chosen ones read, write, end, fail and wait; the rest differ in what the peer or the handler does then",
    ),
    Kind(
        "a connection that ends with unread input, or whose client is always fast",
        (
            "integration/test_closing.py::test_unread_input_does_not_truncate_the_response[coroutines+tcp+close+1000000]",
            "integration/test_last_answers.py::test_the_response_is_complete_and_followed_by_the_end[asgi+tcp+3000000]",
            "integration/test_fairness.py::test_a_fast_client_leaves_the_worker_to_others_too[asgi]",
        ),
        (
            "integration/test_closing.py",
            "integration/test_last_answers.py",
            "integration/test_fairness.py",
            "unit/workers/test_lingering.py",
        ),
        "one mechanism closes, and one yields, on all loops; what a loop reads ahead by itself is chosen",
    ),
    Kind(
        "the surface of asyncio's streams, task factories, and CPython's own tests",
        (
            "integration/test_asyncio_streams.py::test_a_writer_in_the_background_ends_with_its_connection",
            "integration/test_task_factories.py::test_a_factory_that_fails_costs_one_connection",
        ),
        (
            "integration/test_asyncio_streams.py",
            "integration/test_task_factories.py",
            "integration/test_cpython_streams.py",
            "integration/test_cpython_sockets.py",
        ),
        "select, poll and epoll share the streams and the sockets; elsewhere the streams are asyncio's own",
    ),
    Kind(
        "what a call that fails leaves behind",
        (
            "integration/test_failed_handlers.py::test_an_error_that_the_application_has_caught_keeps_no_frame",
            "integration/test_failed_handlers.py::test_a_handler_that_raises_with_a_file_open_ends_its_connection",
        ),
        ("integration/test_failed_handlers.py",),
        "the chosen ones fail in each call of a loop's own; the other interfaces report errors in code that all share",
    ),
    Kind(
        "datagrams and protocols",
        (
            "integration/test_other_kinds.py::test_a_protocol_factory_makes_one_for_each_connection",
            "integration/test_other_kinds.py::test_many_datagrams_are_answered_at_once[ipv4]",
        ),
        ("integration/test_other_kinds.py", "integration/test_strange.py"),
        "what a protocol or a handler does wrong is dealt with above the loop",
    ),
    Kind(
        "addresses: IPv4, IPv6, UNIX, inherited",
        ("integration/test_addresses.py::test_one_service_serves_ipv4_ipv6_and_unix_addresses_at_once",),
        ("integration/test_addresses.py", "integration/test_both_families.py"),
        "where a listening socket comes from is the supervisor's matter",
    ),
    Kind(
        "the transport under a protocol",
        (
            "contract/test_transports.py::test_2_an_answer_may_be_written_out_of_data_received",
            "contract/test_transports.py::test_3_too_much_unsent_pauses_and_little_resumes",
            "contract/test_transports.py::test_9_a_reset_is_told_as_the_error",
        ),
        ("contract/test_transports.py",),
        "there are three transports: the hub's, gevent's and asyncio's; the matrix holds each to every clause",
    ),
    Kind(
        "the transport under TLS",
        (
            "contract/test_tls_transports.py::test_1_data_comes_in_order",
            "contract/test_tls_transports.py::test_7_close_sends_unsent_bytes_and_the_end",
        ),
        ("contract/test_tls_transports.py",),
        "there are two of them, ours and asyncio's; the matrix holds both to every clause on every loop",
    ),
    Kind(
        "WSGI, in greenlets and in threads",
        (
            "integration/test_wsgi.py::test_every_kind_of_request_is_answered",
            "integration/test_wsgi.py::test_waiting_requests_do_not_block_others",
            "unit/workers/test_wsgi.py::test_pieces_are_sent_as_they_come",
        ),
        (
            "integration/test_wsgi.py",
            "unit/workers/test_wsgi.py",
            "unit/workers/test_wsgi_files.py",
            "unit/workers/test_wsgi_input.py",
            "unit/workers/test_wsgi_sockets.py",
        ),
        "an answer takes one of two ways to its client, greenlets or threads, on all loops alike",
    ),
    Kind(
        "ASGI",
        (
            "integration/test_asgi.py::test_the_scope_describes_the_request",
            "integration/test_asgi.py::test_bodies_of_every_kind_go_both_ways",
            "integration/test_asgi.py::test_asyncio_features_work_within_a_request",
            "integration/test_asgi_waiting.py::test_an_application_is_told_of_a_disconnect[False]",
            "unit/workers/test_request_tasks.py::test_a_request_that_waits_keeps_its_task",
        ),
        (
            "integration/test_asgi.py",
            "integration/test_asgi_waiting.py",
            "unit/workers/test_asgi.py",
            "unit/workers/test_request_tasks.py",
            "unit/workers/test_repeated_requests.py",
        ),
        "messages are made from requests without a loop; how a task waits is the loop's, and chosen",
    ),
    Kind(
        "hooks of the application",
        (
            "integration/test_hooks.py::test_each_hook_is_called_at_its_moment[sync+on]",
            "integration/test_hooks.py::test_a_hook_that_hangs_at_the_end_is_cancelled_in_the_grace_period[hang+worker_stop]",
        ),
        ("integration/test_hooks.py",),
        "a sync hook runs in a greenlet of the loop's own, and is killed there; async ones are tasks everywhere",
    ),
    Kind(
        "the lifespan",
        ("integration/test_asgi_lifespan.py::test_each_worker_starts_and_stops_its_application[auto]",),
        ("integration/test_asgi_lifespan.py",),
        "a lifespan that fails is one task that fails, as any other",
    ),
    Kind(
        "frameworks, examples, and applications of the documents",
        ("integration/test_asgi_frameworks.py::test_starlette_reads_and_streams",),
        (
            "integration/test_wsgi_frameworks.py",
            "integration/test_asgi_frameworks.py",
            "integration/test_web_examples.py",
            "integration/test_static_files.py",
            "integration/test_documented_applications.py",
            "integration/test_demonstration.py",
        ),
        "frameworks speak WSGI and ASGI, which have tests of their own; the kind WebSocket has flask-sock on each",
    ),
    Kind(
        "clients of HTTP, and requests that are refused",
        ("integration/test_clients.py::test_httpx_is_answered[asgi]",),
        ("integration/test_clients.py", "integration/test_malformed.py"),
        "the parser sees bytes and no loop; the units run each row of the table",
    ),
    Kind(
        "HTTP/2: the choice of the wire, large bodies both ways, many requests at once",
        (
            "integration/test_http2.py::test_large_bodies_go_both_ways[asgi]",
            "integration/test_http2.py::test_many_requests_at_once_are_answered_over_one_connection[asgi]",
            "integration/test_http2.py::test_a_client_of_tls_negotiates[wsgi]",
            "faults/test_http2_attacks.py::test_an_offender_is_ended_with_the_reason_and_others_are_served",
        ),
        ("integration/test_http2.py", "faults/test_http2_attacks.py"),
        "a connection of HTTP/2 sees bytes and no loop; what a loop has of its own, the transport, is chosen",
    ),
    Kind(
        "deadlines and limits of HTTP",
        (
            "integration/test_http_limits.py::test_connections_beyond_the_limit_wait_until_one_ends[asgi]",
            "integration/test_http_limits.py::test_a_connection_ends_with_the_last_allowed_request[wsgi]",
            "integration/test_clients_that_leave.py::test_a_hundred_clients_leave_a_stream_without_an_error[/starlette/sse]",
        ),
        (
            "integration/test_http_limits.py",
            "integration/test_clients_that_leave.py",
            "faults/test_http_slow_clients.py",
            "faults/test_http_cut.py",
        ),
        "one timer of the worker compares all deadlines; the units drive it with their own clock",
    ),
    Kind(
        "WebSocket",
        (
            "integration/test_websocket.py::test_messages_of_every_kind_are_echoed",
            "integration/test_websocket.py::test_close_codes_go_both_ways",
            "integration/test_wsgi_websockets.py::test_flask_sock_talks_with_websocket_client",
        ),
        ("integration/test_websocket.py", "integration/test_wsgi_websockets.py"),
        "the protocol is taken apart without a connection",
    ),
    Kind(
        "TLS under hybrid run",
        ("integration/test_tls.py::test_openssls_client_is_served[1.3]",),
        ("integration/test_tls.py",),
        "versions, keys and certificates are OpenSSL's matter; the transport has its contract",
    ),
    Kind(
        "what a proxy says, and the access log",
        ("integration/test_proxy_protocol.py::test_the_header_names_the_client",),
        (
            "integration/test_proxy_protocol.py",
            "integration/test_access_log.py",
            "integration/test_forwarded.py",
            "integration/test_nginx.py",
            "faults/test_http_noise.py",
        ),
        "fields and lines are made of bytes by code without a loop",
    ),
    Kind(
        "what an application prints and logs",
        (
            "integration/test_log_capture.py::test_all_output_of_a_worker_becomes_records",
            "integration/test_request_ids.py::test_the_id_of_a_trusted_proxy_is_everywhere",
            "integration/test_request_ids.py::test_a_failure_has_the_id_in_its_record_and_in_its_response",
        ),
        ("integration/test_log_capture.py", "integration/test_request_ids.py"),
        "the streams of a process are replaced before the loop begins, and ids are in the context of a request",
    ),
    Kind(
        "a graceful stop",
        (
            "integration/test_graceful_stop.py::test_handlers_in_flight_finish_and_are_answered[coroutines:handle]",
            "faults/test_http_stop.py::test_idle_connections_are_answered_once_more_during_a_stop[asgi]",
            "faults/test_idle_connections_at_a_stop.py::test_a_stop_does_not_wait_for_idle_connections[asgi]",
            "faults/test_stop_of_blocked_loops.py::test_a_client_that_waits_for_a_blocked_loop_is_answered_by_a_sibling[blocked:asgi]",
            "faults/test_signals_changed.py::test_a_worker_hears_sigterm_again_a_moment_after_it",
        ),
        (
            "integration/test_graceful_stop.py",
            "faults/test_http_stop.py",
            "faults/test_idle_connections_at_a_stop.py",
            "faults/test_stop_of_blocked_loops.py",
            "faults/test_pools.py",
            "faults/test_signals_changed.py",
        ),
        "what is stopped differs, as the processes of a pool; that a drain waits, and ends, is chosen",
    ),
    Kind(
        "a worker as a process: spec, signals, channel, exit code",
        (
            "unit/workers/test_worker.py::test_it_serves_says_ready_and_drains[handle_async]",
            "unit/workers/test_worker.py::test_the_end_of_the_supervisor_ends_it",
            "unit/workers/test_loops.py::test_every_loop_is_usable_here",
        ),
        ("unit/workers/test_worker.py", "unit/workers/test_loops.py", "integration/test_privileges.py"),
        "the other tests go through the same signal handler and the same channel",
    ),
    Kind(
        "a worker that is watched: heartbeat, pings, adoption, a stall",
        (
            "integration/test_heartbeat.py::test_a_turn_that_does_not_end_is_seen_and_a_loop_that_waits_is_not_busy",
            "integration/test_heartbeat.py::test_a_ping_is_answered_when_the_loop_turns_and_not_before",
            "integration/test_heartbeat.py::test_it_serves_the_queues_of_adopted_slots_and_no_others",
            "integration/test_balance.py::test_a_new_worker_gets_all_connections_until_it_has_as_many[staying:answer]",
            "integration/test_balance.py::test_kept_alive_clients_move_to_a_new_worker[asgi]",
        ),
        ("integration/test_heartbeat.py", "integration/test_balance.py", "faults/test_stalls.py"),
        "what counts as a request is the interface's matter; what is made of a stall is decided by pure code",
    ),
    Kind(
        "what a worker counts, told at the end of a turn",
        (
            "integration/test_counts.py::test_a_worker_counts_what_its_clients_see",
            "integration/test_counts.py::test_connections_of_handlers_have_a_duration[handle]",
        ),
        ("integration/test_counts.py",),
        "the loops differ in when a turn ends and in how a connection ends; the rest is counted in code that all share",
    ),
    Kind(
        "what the requests of each label cost the loop and the processor",
        (
            "integration/test_accounting.py::test_a_busy_label_has_the_cost_and_an_idle_one_the_wall_time",
            "integration/test_accounting.py::test_tasks_that_a_request_starts_are_its_cost_and_may_label_it",
            "integration/test_accounting.py::test_a_connection_of_a_handler_is_a_request[handle]",
        ),
        ("integration/test_accounting.py",),
        "the loops differ in how greenlets and tasks are stepped; labels and responses are counted in code all share",
    ),
    Kind(
        "a companion: a function on the loop, or beside it in the main thread",
        ("integration/test_companions.py::test_a_function_runs_in_a_fork_of_the_zygote_and_ends_when_it_is_told",),
        ("integration/test_companions.py",),
        "the chosen ones begin, run and are told to end; all others are about the supervisor",
    ),
    Kind(
        "calls that leave the process: from each kind of code, cancelled, during a stop",
        (
            "integration/test_offload.py::test_coroutines_greenlets_and_threads_of_an_asgi_worker_offload_a_closure",
            "integration/test_offload.py::test_a_wsgi_request_offloads_a_closure",
            "integration/test_offload.py::test_an_executor_works_in_coroutines_greenlets_and_threads",
            "faults/test_offload_faults.py::test_a_cancelled_call_is_interrupted[spin]",
        ),
        ("integration/test_offload.py", "faults/test_offload_faults.py"),
        "the loops differ in how they watch a connection and wake what waits; offload workers and supervisor have none",
    ),
    Kind(
        "a worker that tells its stacks",
        (
            "integration/test_stacks.py::test_a_sync_handler_that_waits_is_a_greenlet_with_its_stack",
            "integration/test_stacks.py::test_a_spawned_greenlet_is_shown",
            "integration/test_stacks.py::test_an_async_handler_is_a_task_with_the_chain_of_its_coroutines",
            "integration/test_stacks.py::test_an_async_handler_that_reads_waits_for_data",
            "integration/test_stacks.py::test_a_wsgi_request_is_shown_with_the_stack_that_runs_it",
            "integration/test_stacks.py::test_an_asgi_request_that_sleeps_is_shown_with_its_task",
        ),
        ("integration/test_stacks.py",),
        "greenlets and tasks are each loop's own; threads, and the signals for a loop that stands, are the same on all",
    ),
    Kind(
        "a worker that is killed, or loses its supervisor",
        (
            "faults/test_kills.py::test_the_successor_of_a_killed_worker_answers_soon",
            "faults/test_broken_listeners.py::test_a_worker_with_a_closed_datagram_socket_is_replaced",
            "faults/test_supervisor_gone.py::test_workers_finish_requests_in_flight_and_end_when_the_supervisor_is_killed[blocking:handle]",
        ),
        (
            "faults/test_kills.py",
            "faults/test_kills_under_load.py",
            "faults/test_supervisor_gone.py",
            "faults/test_broken_listeners.py",
        ),
        "a queue belongs to the supervisor's socket, and a successor is a worker as any other",
    ),
    Kind(
        "a reload, an upgrade, scaling, recycling: under load",
        (
            "faults/test_reload_under_load.py::test_reloads_under_load_lose_no_request[asgi+closed]",
            "faults/test_upgrade_under_load.py::test_an_upgrade_under_load_loses_no_request[kept]",
        ),
        (
            "faults/test_reload_under_load.py",
            "faults/test_reload_of_broken_code.py",
            "faults/test_upgrade_under_load.py",
            "faults/test_scaling_under_load.py",
            "faults/test_recycling_under_load.py",
            "integration/test_compressed_hour.py",
            "integration/test_offload_hour.py",
        ),
        "these are plans of the supervisor, which knows no loop; all of them come down to Ready, drain and the queue",
    ),
    Kind(
        "a worker that is forked: from a zygote, from a worker, and what handlers fork",
        (
            "integration/test_zygote.py::test_a_worker_forked_by_a_zygote_serves[wsgi_flask:app]",
            "integration/test_promoted_worker.py::test_it_offers_itself_once_and_drains_to_be_promoted",
            "faults/test_forked_by_handlers.py::test_terminating_a_child_does_not_drain_the_worker[forking:terminated]",
        ),
        (
            "integration/test_zygote.py",
            "integration/test_promoted_worker.py",
            "integration/test_refork.py",
            "faults/test_forked_by_handlers.py",
            "unit/workers/test_preload.py",
            "integration/test_numpy.py",
            "integration/test_replaced_package.py",
        ),
        "a fork comes before the loop; what a loop keeps over one is chosen",
    ),
    Kind(
        "what runs out, and what wants to end more than its request",
        (
            "faults/test_exhaustion.py::test_a_worker_without_descriptors_rests_says_so_once_and_resumes[blocking:handle]",
            "faults/test_http_applications.py::test_an_application_that_exits_ends_only_its_request[wsgi]",
        ),
        ("faults/test_exhaustion.py", "faults/test_http_applications.py", "integration/test_http_soak.py"),
        "memory is the interface's matter, and measured for minutes",
    ),
    Kind(
        "the command and the library",
        ("integration/test_embedding.py::test_a_closure_serves_on_every_loop",),
        ("integration/test_cli.py", "integration/test_embedding.py"),
        "the supervisor imports no loop, and says the same whichever is asked for",
    ),
    Kind(
        "idle: nothing wakes up",
        (
            "integration/test_idle.py::test_a_server_sleeps_on_every_loop_when_idle_and_among_a_hundred_idle_connections",
        ),
        ("integration/test_idle.py",),
        "there is no other test; it takes all loops at a time",
    ),
)
POLLED = {
    "readiness to read and to write": (
        "contract/test_transports.py::test_2_an_answer_may_be_written_out_of_data_received",
        "contract/test_transports.py::test_3_too_much_unsent_pauses_and_little_resumes",
        "contract/test_tls_transports.py::test_1_data_comes_in_order",
        "integration/test_other_kinds.py::test_many_datagrams_are_answered_at_once",
    ),
    "hang-ups": (
        "contract/test_transports.py::test_9_a_reset_is_told_as_the_error",
        "integration/test_handlers.py::test_a_client_that_resets_is_one_line_in_the_log",
        "unit/workers/test_worker.py::test_the_end_of_the_supervisor_ends_it",
    ),
    "a descriptor that is closed while it is watched, or whose input is never read": (
        "faults/test_broken_listeners.py::test_a_worker_with_a_closed_datagram_socket_is_replaced",
        "integration/test_closing.py::test_unread_input_does_not_truncate_the_response",
    ),
    "many descriptors, and none left": (
        "faults/test_exhaustion.py::test_a_worker_without_descriptors_rests_says_so_once_and_resumes",
        "integration/test_idle.py::test_a_server_sleeps_on_every_loop_when_idle_and_among_a_hundred_idle_connections",
    ),
    "accepting: on several sockets, paused, by a worker that adopts": (
        "integration/test_addresses.py::test_one_service_serves_ipv4_ipv6_and_unix_addresses_at_once",
        "integration/test_http_limits.py::test_connections_beyond_the_limit_wait_until_one_ends",
        "integration/test_heartbeat.py::test_it_serves_the_queues_of_adopted_slots_and_no_others",
    ),
    "timers": (
        "integration/test_heartbeat.py::test_a_turn_that_does_not_end_is_seen_and_a_loop_that_waits_is_not_busy",
        "integration/test_heartbeat.py::test_a_ping_is_answered_when_the_loop_turns_and_not_before",
    ),
    "a stop while busy": (
        "integration/test_graceful_stop.py::test_handlers_in_flight_finish_and_are_answered",
        "faults/test_http_stop.py::test_idle_connections_are_answered_once_more_during_a_stop",
    ),
    "each interface answers": (
        "integration/test_handlers.py::test_a_client_that_shuts_its_half_down_is_still_answered",
        "integration/test_wsgi.py::test_every_kind_of_request_is_answered",
        "integration/test_asgi.py::test_bodies_of_every_kind_go_both_ways",
        "integration/test_websocket.py::test_messages_of_every_kind_are_echoed",
        "unit/workers/test_worker.py::test_it_serves_says_ready_and_drains",
        "unit/workers/test_loops.py::test_every_loop_is_usable_here",
    ),
}
"""What a poller has a part in -> the chosen tests of it, which run on select and poll, too.

Both are epoll's hub over another poller: all else of them is the code that every test goes through on epoll. That
pollers keep their contract, and what FD_SETSIZE does to select, is asked of each by tests of no loop
(`contract/test_pollers.py`, `hub/`).
"""
EVERY_VARIANT = {
    "integration/test_handlers.py::test_a_client_that_shuts_its_half_down_is_still_answered": (
        "sockets of a sync handler and streams of an async one see the end of a half each in their own way"
    ),
    "integration/test_companions.py::test_a_function_runs_in_a_fork_of_the_zygote_and_ends_when_it_is_told": (
        "a coroutine is cancelled by the loop, and SystemExit reaches a function in the main thread past gevent's hub"
    ),
    "integration/test_handlers.py::test_handlers_run_greenlets_and_coroutines": (
        "each variant is another call that a driver of a loop makes"
    ),
    "integration/test_failed_handlers.py::test_an_error_that_the_application_has_caught_keeps_no_frame": (
        "each variant is another call of a loop's own, all in one service"
    ),
    "integration/test_wsgi.py::test_waiting_requests_do_not_block_others": (
        "a greenlet that waits is the loop's matter, and so is to be woken by a thread"
    ),
    "unit/workers/test_wsgi.py::test_pieces_are_sent_as_they_come": (
        "pieces come from a greenlet within the loop, or from a thread beside it"
    ),
    "integration/test_tls.py::test_openssls_client_is_served": ("gevent has a transport of its own for each interface"),
}
"""Chosen tests of which every variant runs on a loop -> the reason why one does not stand for the rest."""


class Repeated(NamedTuple):
    """Variants of a test that only the matrix runs, on epoll as elsewhere, and the reason why others stand for them."""

    variants: tuple[str, ...]  # FILE::FUNCTION[A+B], as above
    because: str


REPEATED = (
    Repeated(
        (
            "faults/test_kills_under_load.py::test_a_worker_that_was_stopped_for_longer_than_its_limits_blames_no_client[wsgi+closed]",
            "faults/test_kills_under_load.py::test_a_worker_that_was_stopped_for_longer_than_its_limits_blames_no_client[asgi+kept]",
        ),
        "one timer of the worker compares all limits; each interface, kept and closed connections are asked once",
    ),
    Repeated(
        (
            "faults/test_reload_under_load.py::test_reloads_under_load_lose_no_request[wsgi+closed]",
            "faults/test_reload_under_load.py::test_reloads_under_load_lose_no_request[asgi+kept]",
            "integration/test_moved_links.py::test_a_reload_works_in_the_directory_that_the_link_leads_to[on+by shell]",
            "integration/test_moved_links.py::test_a_reload_works_in_the_directory_that_the_link_leads_to[off+by option]",  # noqa: E501 - a name
        ),
        "a reload is a plan of the supervisor, which knows none of these: each value of each parameter is asked once",
    ),
    Repeated(
        (
            "faults/test_reload_of_broken_code.py::test_code_that_cannot_start_is_given_up_and_mended_code_is_taken[off+failed+lifespan]",
            "faults/test_reload_of_broken_code.py::test_code_that_cannot_start_is_given_up_and_mended_code_is_taken[off+deadly+import]",
        ),
        "a lifespan fails in a worker with a zygote, too; test_boot_steps kills workers at their start",
    ),
    Repeated(
        (
            "faults/test_broken_listeners.py::test_no_connection_is_lost_when_an_application_closes_the_listeners[close+tcp+breaking:wsgi]",
            "faults/test_broken_listeners.py::test_no_connection_is_lost_when_an_application_closes_the_listeners[close+unix+breaking:handle]",
            "faults/test_broken_listeners.py::test_no_connection_is_lost_when_an_application_closes_the_listeners[replace+tcp+breaking:handle]",
            "faults/test_broken_listeners.py::test_no_connection_is_lost_when_an_application_closes_the_listeners[replace+unix+breaking:wsgi]",
        ),
        "every two of deed, family and interface meet in the other half; the listeners belong to none of them",
    ),
    Repeated(
        (
            "integration/test_app_metrics.py::test_counts_are_exact_over_kills_and_reloads[on+gevent]",
            "integration/test_app_metrics.py::test_counts_are_exact_over_kills_and_reloads[off+epoll]",
        ),
        "the files belong to seats, which know neither zygotes nor loops: each value of each parameter is asked once",
    ),
    Repeated(
        (
            "faults/test_http_noise.py::test_misbehaving_clients_are_not_logged_one_by_one[wsgi+tls]",
            "faults/test_http_noise.py::test_misbehaving_clients_are_not_logged_one_by_one[asgi+plain]",
            "integration/test_nginx.py::test_connections_to_the_service_are_kept[wsgi+unix]",
            "integration/test_nginx.py::test_connections_to_the_service_are_kept[asgi+tcp]",
            "integration/test_nginx.py::test_the_application_is_told_of_the_client[wsgi+tcp]",
            "integration/test_nginx.py::test_the_application_is_told_of_the_client[asgi+unix]",
            "integration/test_proxy_protocol.py::test_a_missing_header_does_not_keep_the_worker[wsgi]",
            "integration/test_last_answers.py::test_a_client_that_sends_more_than_it_announced_loses_nothing[wsgi+tcp]",
            "integration/test_last_answers.py::test_a_client_that_sends_more_than_it_announced_loses_nothing[asgi+unix]",
        ),
        "one reader of HTTP, above one transport, serves both interfaces: each value of each parameter is asked once",
    ),
    Repeated(
        (
            "faults/test_stop_of_blocked_loops.py::test_a_client_that_waits_for_a_blocked_loop_is_answered_when_it_turns[tcp+blocked:handle]",
            "faults/test_stop_of_blocked_loops.py::test_a_client_that_waits_for_a_blocked_loop_is_answered_when_it_turns[unix+blocked:asgi]",
        ),
        "the queue is looked after below families and interfaces: each of them is asked once",
    ),
    Repeated(
        (
            "integration/test_tls.py::test_a_client_certificate_can_be_required[epoll+wsgi]",
            "integration/test_tls.py::test_a_missing_handshake_is_cut[epoll+wsgi]",
            "integration/test_tls.py::test_a_client_that_does_not_read_is_cut[epoll+wsgi]",
            "integration/test_tls.py::test_the_requested_name_chooses_the_certificate[epoll+wsgi]",
        ),
        "below both interfaces the hub has one TLS transport, which neither of them can tell from another",
    ),
    Repeated(
        (
            "integration/test_replaced_package.py::test_a_worker_imports_nothing_of_ours_that_its_zygote_has_not[wsgi over TLS]",  # noqa: E501 - a name
            "integration/test_replaced_package.py::test_a_worker_imports_nothing_of_ours_that_its_zygote_has_not[asgi]",
            "integration/test_replaced_package.py::test_a_worker_imports_nothing_of_ours_that_its_zygote_has_not[wsgi, all options]",  # noqa: E501 - a name
        ),
        "TLS is the same below both interfaces, the options above; what ASGI needs, it needs with all options, too",
    ),
    Repeated(
        (
            "faults/test_http_stop.py::test_new_connections_during_a_stop_are_served_or_refused[wsgi]",
            "faults/test_http_stop.py::test_wrk_does_not_notice_a_retiring_worker[asgi]",
            "faults/test_http_stop.py::test_idle_connections_are_answered_once_more_during_a_stop[wsgi]",
            "faults/test_idle_connections_at_a_stop.py::test_ctrl_c_closes_idle_connections_immediately[wsgi]",
            "faults/test_idle_connections_at_a_stop.py::test_a_stop_does_not_wait_for_idle_connections[wsgi]",
            "integration/test_proxy_protocol.py::test_connections_without_a_header_do_not_fill_the_log[wsgi]",
            "integration/test_proxy_protocol.py::test_a_slow_header_is_closed_at_its_deadline_and_costs_nothing[asgi]",
            "integration/test_proxy_protocol.py::test_a_stop_waits_for_a_header_no_longer_than_for_an_idle_connection[wsgi]",
            "integration/test_proxy_protocol.py::test_a_stop_waits_for_the_rest_of_a_header[asgi]",
            "integration/test_proxy_protocol.py::test_over_tls_the_header_comes_first[wsgi]",
            "faults/test_http_cut.py::test_a_reset_within_the_head_affects_no_other_client[wsgi]",
        ),
        "no request has begun, or each ends whole: what becomes of the connection, the reader of HTTP decides",
    ),
    Repeated(
        (
            "integration/test_embedding.py::test_an_application_object_serves[starlette]",
            "integration/test_embedding.py::test_an_application_object_serves[an open socket]",
            "faults/test_refused_starts.py::test_a_broken_application_ends_the_start[no+attribute]",
            "faults/test_refused_starts.py::test_a_broken_application_ends_the_start[syntax+error]",
            "integration/test_cli.py::test_check_recognises_web_applications[import flask\\napp = flask.Flask(__name__)]",  # noqa: E501 - a name
        ),
        "others take the same way: FastAPI is Starlette below, a lock of Flask's does not travel as no socket does",
    ),
)
CHOSEN = {
    test: frozenset(words.rstrip("]").split("+")) - {""}
    for kind in KINDS
    for test, _, words in (name.partition("[") for name in kind.chosen)
}
"""FILE::FUNCTION -> the words that the id of a variant has to hold."""
ON_POLLERS = frozenset(test for tests in POLLED.values() for test in tests)
LEFT_TO_THE_MATRIX: dict[str, list[frozenset[str]]] = {}
"""FILE::FUNCTION -> for each of its variants in `REPEATED`, the words that the id has to hold."""
for _repeated in REPEATED:
    for _test, _, _words in (name.partition("[") for name in _repeated.variants):
        LEFT_TO_THE_MATRIX.setdefault(_test, []).append(frozenset(_words.removesuffix("]").split("+")))
LONG = {
    "integration/test_benchmarks.py": "what the benchmarks print is no matter of this machine's health",
    "integration/test_compressed_hour.py": "ten seconds of two cores; each of its promises has tests of its own",
    "integration/test_offload_hour.py": "as long; each of its faults has tests of its own",
    "integration/test_cpython_sockets.py": "eleven seconds; `hub/test_sockets.py` asks what of it concerns our sockets",
}
"""Files that only the loop matrix runs -> the reason."""


def loop_named(parameters: Mapping[str, object]) -> str | None:
    """Return the loop that a test's parameters name, as `epoll`, `epoll-wsgi` or `("epoll", "wsgi")`, or None."""
    for value in parameters.values():
        for word in value if isinstance(value, tuple) else (value,):
            if isinstance(word, str) and (name := word.partition("-")[0]) in ALL_LOOPS:
                return name
    return None


def chosen_variants(test: str, loop: str, identities: Collection[str]) -> set[str]:
    """Return those variants of FILE::FUNCTION on a loop, of which the ids are given, that run in the short set.

    Of several it is the first in the order of the alphabet: tests may be collected in any.
    """
    if test not in CHOSEN or (loop in POLLERS and test not in ON_POLLERS):
        return set()
    fitting = {identity for identity in identities if CHOSEN[test] <= set(identity.split("-"))}
    return fitting if test in EVERY_VARIANT else set(sorted(fitting)[:1])


def is_repeated(test: str, identity: str) -> bool:
    """Return True if only the matrix runs the variant of FILE::FUNCTION with that id."""
    words = set(identity.split("-"))
    return any(asked <= words for asked in LEFT_TO_THE_MATRIX.get(test, ()))


@functools.cache  # asked for each test, of which a module has up to a thousand
def takes_loops(module: ModuleType) -> bool:
    """Return True if a module has its loops from `support`: `LOOPS` itself, or the pairs that others make of it.

    Pairs may be none at all, where one loop is asked for that they leave out.
    """
    shared = [LOOPS]
    for name in ("support.changes", "support.wsgi"):  # not imported here: they import half of the product
        made = vars(sys.modules[name]) if name in sys.modules else {}
        shared += [made[pairs] for pairs in ("PLACES", "ONE_EACH") if pairs in made]
    return any(value is one for value in vars(module).values() for one in shared if one)
