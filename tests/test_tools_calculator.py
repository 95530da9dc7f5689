"""The calculator: right, clear about what it cannot do, and never expensive."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import ToolError
from agent.tools import calculator


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("2 + 3 * 4", "14"),
        ("(3 + 4) * sqrt(2)", "9.89949493661167"),
        ("0.1 + 0.2", "0.3"),
        ("7 / 2", "3.5"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("2 ** 100", "1267650600228229401496703205376"),
        ("2 ** -1", "0.5"),
        ("1_000 * 3", "3000"),
        ("max(3, 1, 2) - min(5, 4)", "-1"),
        ("round(2.345, 1)", "2.3"),
        ("round(7 / 2)", "4"),
        ("factorial(20)", "2432902008176640000"),
        ("cos(pi)", "-1"),
        ("log(8, 2)", "3"),
        ("3 > 2", "true"),
        ("  1 +\t1  ", "2"),
    ],
)
def test_arithmetic_is_right(expression: str, result: str) -> None:
    assert calculator(expression) == result


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "no arithmetic expression"),
        ("2 +", "no arithmetic expression"),
        ("1; 2", "no arithmetic expression"),
        ("x = 1", "no arithmetic expression"),
        ("2 ^ 10", "a power is written 2 ** 10"),
        ("1 / 0", "division by zero"),
        ("sqrt(-1)", "cannot be calculated"),
        ("(-8) ** (1/3)", "complex is no real number"),
        ("1e999", "the result is inf"),
        ("foo(1)", "Function 'foo' not defined"),
        ("height * 2", "'height' is not defined"),
        ("'a' * 3", "no real number"),
        ("1,234 + 1", "Tuple is not available"),
        ("sqrt(1, 2)", "cannot be calculated"),
        ("(1).bit_length()", "Attribute is not available"),
        ("__import__('os').getcwd()", "is not available"),
        ("[x for x in (1, 2)]", "is not available"),
        ("lambda: 1", "is not available"),
        ("f'{1:>9999999999}'", "is not available"),
        ("max(*(1, 2))", "is not available"),
    ],
)
def test_what_it_cannot_calculate_is_an_answer_that_says_why(expression: str, said: str) -> None:
    with pytest.raises(ToolError) as raised:
        calculator(expression)

    assert said in str(raised.value)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "9**9**9**9",
        "4000000**4000000",
        "(10**1000)**1000",
        "factorial(10**9)",
        "factorial(1000)**100",
        "round(5, -10**9)",
        "*".join(["10**3000"] * 60),
        "10**3000*" * 50 + "1",
        "(" * 900 + "1" + ")" * 90,
        "-" * 999 + "1",
        "9" * 999 + "*1",
        "1" * 5_000,
    ],
)
def test_nothing_that_can_be_written_is_expensive(expression: str) -> None:
    began = time.process_time()
    with contextlib.suppress(ToolError):
        calculator(expression)

    assert time.process_time() - began < 0.5


@given(st.text(alphabet="0123456789.+-*/%() ,eabcdfgilmnopqrstx", max_size=60))
def test_any_text_gives_a_result_or_a_tool_error(expression: str) -> None:
    with contextlib.suppress(ToolError):
        assert calculator(expression)
