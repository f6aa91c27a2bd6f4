"""What `forebay webhooks` prints of deliveries."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from forebay.cli.letters import plain, time_of
from forebay.cli.show import print_table
from forebay.contract.notices import Attempt
from forebay.records.deliveries import Told


def print_deliveries(deliveries: Sequence[Told], *, raw: bool) -> None:
    """Print deliveries, one to a line."""
    if raw:
        print(json.dumps([_told(one) for one in deliveries], indent=2, ensure_ascii=False))
    elif not deliveries:
        print("There are no such webhooks.")
    else:
        print_table(
            ("webhook-id", "of", "event", "state", "made", "attempts", "last", "to"),
            [
                (
                    one.delivery.id,
                    one.delivery.subject,
                    one.delivery.event,
                    one.state.value,
                    time_of(one.made_at_ms),
                    str(len(one.attempts)),
                    _answered(one.attempts[-1]) if one.attempts else "",
                    plain(one.delivery.url),
                )
                for one in deliveries
            ],
        )


def print_delivery(told: Told, *, raw: bool) -> None:
    """Print all that is known of a delivery."""
    one = told.delivery
    if raw:
        shown = {**_told(told), "body": msgspec.json.decode(one.body)}
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    print(f"webhook-id  {one.id}")
    print(f"of          {one.subject}, {one.event}")
    print(f"to          {plain(one.url)}")
    print(f"state       {told.state.value}")
    print(f"made        {time_of(told.made_at_ms)}")
    if told.due_at_ms is not None:
        print(f"next        {time_of(told.due_at_ms)}")
    if told.attempts:
        print()
        print_table(
            ("attempt", "took", "came of it", "answer"),
            [
                (
                    time_of(attempt.at_ms),
                    f"{attempt.took_ms:,} ms",
                    _answered(attempt),
                    plain(attempt.answer),
                )
                for attempt in told.attempts
            ],
        )
    print()
    print(plain(one.body.decode("utf-8", "replace")))


def _answered(attempt: Attempt) -> str:
    return f"{attempt.status or ''} {plain(attempt.error)}".strip()


def _told(told: Told) -> dict[str, Any]:
    one = told.delivery
    return {
        "id": one.id,
        "of": one.subject,
        "event": one.event,
        "url": one.url,
        "state": told.state.value,
        "made_at_ms": told.made_at_ms,
        "due_at_ms": told.due_at_ms,
        "failures": told.failures,
        "attempts": [msgspec.structs.asdict(attempt) for attempt in told.attempts],
    }
