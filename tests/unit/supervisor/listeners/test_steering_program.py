"""The steering program, run by a small interpreter of classic BPF."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.supervisor.listeners.steering import Instruction, program

_LOAD_CONSTANT = 0x00  # BPF_LD | BPF_IMM


def run(instructions: list[Instruction]) -> int:
    """Return the result of the program."""
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = instructions[at]
        at += 1
        match code:
            case 0x00:
                accumulator = operand
            case 0x94:
                accumulator %= operand
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x06:
                return operand
            case 0x16:
                return accumulator
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


@given(st.sets(st.integers(0, 1023), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_any_choice_returns_one_of_the_slots(slots: set[int], choice: int) -> None:
    ordered = sorted(slots)
    found = run(program(ordered, [(_LOAD_CONSTANT, 0, 0, choice)]))
    assert found == ordered[choice % len(ordered)]


@pytest.mark.parametrize("slots", [(0,), (0, 1, 2), tuple(range(1, 1024))])
def test_a_program_is_within_the_kernels_limit(slots: tuple[int, ...]) -> None:
    assert len(program(slots, [(_LOAD_CONSTANT, 0, 0, 0)])) <= 4096


def test_the_first_slots_in_order_need_no_table() -> None:
    assert len(program(range(512), [(_LOAD_CONSTANT, 0, 0, 0)])) == 3
