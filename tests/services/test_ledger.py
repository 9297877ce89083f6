"""The oracle sees each fault it is there for: what it cannot see, no test of the sink would."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.services.kafka import Message
from tests.services.ledger import FAULTS, Ledger, expected, failed


class Taker:
    """Takes every record but those told."""

    def __init__(self, *refused: int) -> None:
        self.refused, self.asked = set(refused), 0

    def push(self, payload: bytes) -> bool:
        self.asked += 1
        return self.asked - 1 not in self.refused


def pushed(*refused: int) -> tuple[Ledger, list[Message]]:
    """Twenty records of one thread, and the messages a sound sink makes of them."""
    ledger, taker = Ledger(), Taker(*refused)
    for number in range(20):
        ledger.push(taker, 0, number)
    messages = []
    for position, request_id in enumerate(ledger.accepted):
        for place, row in enumerate(expected(request_id)):
            key = row["user_id"].encode()
            headers = {"ring_id": b"r", "position": b"%d" % (16 * position), "row": b"%d" % place}
            messages.append(Message("t", key[-1] % 3, len(messages), key, json.dumps(row).encode(), headers))
    return ledger, sorted(messages, key=lambda message: (message.partition, message.offset))


def assert_only(totals, **wanted):
    assert {name: totals[name] for name in FAULTS if totals[name]} == wanted
    assert failed(totals) == bool(wanted)


def test_what_is_right_has_no_fault_and_repeats_are_removed_by_their_headers():
    ledger, messages = pushed(3, 4)
    totals = ledger.check(messages)
    assert_only(totals)
    assert totals["rows"] == 54 and totals["records"] == 18 and totals["repeated"] == 0
    totals = ledger.check([*messages, *messages[-5:]])
    assert_only(totals)
    assert totals["repeated"] == 5


@pytest.mark.parametrize("count", [1, 4])
def test_rows_that_are_not_there_are_lost(count):
    ledger, messages = pushed()
    assert_only(ledger.check(messages[count:]), lost=count)


def test_the_same_row_under_another_position_is_a_repeat_nobody_can_remove():
    ledger, messages = pushed()
    again = replace(messages[-1], headers=messages[-1].headers | {"position": b"16000"})
    assert_only(ledger.check([*messages, again]), repeated_after_dedup=1)


def test_rows_of_one_user_in_another_order_are_inverted_and_those_of_two_users_are_free():
    ledger, messages = pushed()
    key = messages[0].key
    own = [message for message in messages if message.key == key]
    others = [message for message in messages if message.key != key]
    assert_only(ledger.check([*others, *own]))
    assert_only(ledger.check([*others, own[1], own[0], *own[2:]]), inverted=1)


def test_a_user_in_two_partitions_is_misplaced():
    ledger, messages = pushed()
    assert_only(ledger.check([*messages[:-1], replace(messages[-1], partition=7)]), misplaced=1)


def test_a_changed_value_a_changed_key_and_a_repeat_that_differs_are_altered():
    ledger, messages = pushed()
    last = messages[-1]
    worse = replace(last, value=last.value.replace(b'"module"', b'"Module"'))
    assert_only(ledger.check([*messages[:-1], worse]), altered=1, lost=1)
    assert_only(ledger.check([*messages, worse]), altered=1)
    assert ledger.check([*messages[:-1], replace(last, key=b"u0-99")])["altered"] == 1


def test_a_refused_record_a_dead_letter_and_one_that_nobody_pushed_must_not_be_there():
    ledger, messages = pushed(19)
    whole, everything = pushed()
    extra = [message for message in everything if json.loads(message.value)["request_id"].startswith("0-19-")]
    extra = [replace(message, headers=message.headers | {"ring_id": b"s"}) for message in extra]
    assert_only(ledger.check([*messages, *extra]), refused_but_there=3)
    assert_only(whole.check(everything, except_for=["0-19-400-2"]), refused_but_there=3)
    ledger.refused.clear()
    assert_only(ledger.check([*messages, *extra]), invented=3)


def test_a_message_without_its_headers_is_told():
    ledger, messages = pushed()
    bare = replace(messages[0], headers={"ring_id": b"r"})
    assert_only(ledger.check([bare, *messages[1:]]), without_identity=1)
