"""Calls as a modem tells of them: one call is told once, with its number if it shows one."""

import pytest

from actors.sms.calls import RINGS_TILL_HIDDEN, SILENCE_S, Calls


def test_a_call_is_told_once_with_its_number() -> None:
    calls = Calls()
    assert calls.hear("RING", 0.0)
    assert calls.caller() is None
    assert calls.hear('+CLIP: "+34600111222",145,"",0,"",0', 0.1)
    assert [calls.caller(), calls.caller()] == ["+34600111222", None]
    calls.hear("RING", 3.0)
    calls.hear('+CLIP: "+34600111222",145,"",0,"",0', 3.1)
    assert calls.caller() is None


@pytest.mark.parametrize("end", ["NO CARRIER", "", "silence"])
def test_after_its_end_the_next_one_is_another_call(end: str) -> None:
    calls, now_s = Calls(), 0.0
    for number in ("600111222", "600333444"):
        calls.hear("+CRING: VOICE", now_s)
        calls.hear(f'+CLIP: "{number}",129', now_s)
        assert calls.caller() == number
        if end == "silence":
            now_s += SILENCE_S + 1
        elif end:
            calls.hear(end, now_s)
        else:
            calls.end()


def test_a_hidden_caller_has_no_number() -> None:
    calls = Calls()
    for _ in range(RINGS_TILL_HIDDEN):
        assert calls.caller() is None
        calls.hear("RING", 0.0)
    assert calls.caller() == ""
    withheld = Calls()
    withheld.hear('+CLIP: "",128,"",0,"",1', 0.0)
    assert withheld.caller() == ""


@pytest.mark.parametrize("line", ["OK", "+CLIP: 1,1", '+CMTI: "SM",1', ""])
def test_other_lines_are_not_about_calls(line: str) -> None:
    calls = Calls()
    assert not calls.hear(line, 0.0)
    assert calls.caller() is None
