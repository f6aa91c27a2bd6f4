"""A trigger's thread and its connection: takes messages, publishes what they came to, acknowledges.

    broker ─▶ inlet ──Taken──▶ event loop ──Outgoing──▶ Link ──publish, then acknowledge──▶ broker

Kombu blocks, and its channels are for one thread: all that touches the broker is done here. What
is taken is the session's, which ends with its connection; its messages then come again.
"""

import contextlib
import logging
import queue
import secrets
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec
from kombu import Connection, Exchange, Producer, Queue

from forebay.background.triggers import letters
from forebay.background.triggers.brokers import connection_of, is_virtual, others_of
from forebay.background.triggers.inlets import Delivered, Inlet, Subscription, waiting
from forebay.background.triggers.letters import Outgoing
from forebay.background.triggers.lists import Lists, Taker, has_lists
from forebay.background.triggers.refusals import Refusals
from forebay.background.triggers.table import Trigger

log = logging.getLogger(__name__)

CONFIRM_S: Final = 30.0
"""A broker that confirms nothing for so long counts as lost."""

PERSISTENT: Final = 2
"""AMQP's delivery mode of what is to outlive its broker."""

PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


class Taken(msgspec.Struct, frozen=True, eq=False):
    """A message that is under way.

    Attributes:
        session: in which it came, and is to be acknowledged.
        message: as it came.
    """

    session: "Session"
    message: Delivered

    def settle(self, outgoing: Outgoing) -> None:
        """Publish this and then acknowledge. Nothing happens if its session is over."""
        self.session.told.put((self, outgoing))


class Session:
    """What is under way on one connection.

    Attributes:
        told: outcomes to publish; None wakes the thread.
        channel: kombu's; None until the connection stands.
    """

    def __init__(self) -> None:
        self.channel: Any = None
        self.told: queue.SimpleQueue[tuple[Taken, Outgoing] | None] = queue.SimpleQueue()


class Link:
    """The thread of a trigger. It reconnects for as long as it runs.

    Args:
        trigger: whose broker this is.
        prefix: `settings.key_prefix`.
        lease_s: for how long what a lost process holds stays its own, where no broker notices.
        take: called with each message, on this thread.
        done: called with each outcome that is published, and its message acknowledged, likewise.
        lose: called with each session that is over, likewise.
    """

    def __init__(
        self,
        trigger: Trigger,
        *,
        prefix: str,
        lease_s: float,
        take: Callable[[Taken], object],
        done: Callable[[Outgoing], object],
        lose: Callable[[Session], object],
    ) -> None:
        self._trigger = trigger
        self._taker = Taker(prefix, secrets.token_hex(8), lease_s)
        self._take = take
        self._done = done
        self._lose = lose
        self._stop = threading.Event()
        self._session = Session()
        self._lost: Session | None = None
        self._refusals = Refusals()
        self._thread = threading.Thread(
            target=self._run, name=f"trigger {trigger.name}", daemon=True
        )

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end: what is not acknowledged goes back. Returns at once."""
        self._stop.set()
        self._session.told.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended, or for so long."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = PAUSE_S
        while not self._stop.is_set():
            self._session = session = Session()
            connection = connection_of(self._trigger)
            known = (*connection.connection_errors, *connection.channel_errors, OSError)
            try:
                self._serve(connection, session)
            except Exception as error:
                if self._stop.is_set():
                    break
                if session.channel is not None:
                    pause_s = PAUSE_S
                told = log.warning if isinstance(error, known) else log.exception
                told(
                    "trigger %s: interrupted (%s: %s); again in %g s",
                    self._trigger.name,
                    type(error).__name__,
                    error,
                    pause_s,
                )
                self._abandon(connection, session)
                self._lose(session)
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._give_back()

    def _serve(self, connection: Connection, session: Session) -> None:
        """Work until told to stop, or the connection is lost, which raises."""
        channel = session.channel = connection.channel()  # one try; `default_channel` never ends
        for entity in others_of(self._trigger):
            self._declare(entity(channel))
        inlet = self._inlet(connection, session)
        self._give_back()
        log.info("trigger %s: taking events from %s", self._trigger.name, self._trigger.queue)
        producer = Producer(channel, auto_declare=False)
        while not self._stop.is_set():
            self._tell(session, inlet, producer)
            inlet.listen()
        self._tell(session, inlet, producer)
        inlet.leave()
        connection.release()

    def _inlet(self, connection: Connection, session: Session) -> Inlet:
        def came(message: Delivered) -> None:
            if not self._stop.is_set():  # else it goes back
                self._take(Taken(session, message))

        trigger, wait = self._trigger, waiting(session.told)
        if has_lists(trigger, connection):
            return Lists(trigger, session.channel, taker=self._taker, came=came, wait=wait)
        return Subscription(trigger, connection, session.channel, came=came, wait=wait)

    def _declare(self, entity: Exchange | Queue) -> None:
        """Make it, or look whether it is there if it is others' to make."""
        if self._trigger.declare:
            entity.declare()
        elif isinstance(entity, Queue):
            entity.queue_declare(passive=True)

    def _tell(self, session: Session, inlet: Inlet, producer: Producer) -> None:
        """Publish the outcomes that are there; once each is published, acknowledge its message."""
        with contextlib.suppress(queue.Empty):
            while True:
                told = session.told.get_nowait()
                if told is None:
                    continue
                taken, outgoing = told
                message = taken.message
                published = self._form(message, outgoing)
                if published is None:
                    inlet.reject(message.tag)
                else:
                    self._publish(message, published, producer)
                    inlet.acknowledge(message.tag)
                self._refusals.settled(message)
                self._done(outgoing)

    def _form(self, message: Delivered, outgoing: Outgoing) -> Outgoing | None:
        """What can be published of a message's outcome; None if the broker refuses all of it."""
        steps, refused = self._refusals.of(message)
        if not steps:
            return outgoing
        found = letters.instead(self._trigger, message, outgoing, refused=refused, steps=steps)
        name = self._trigger.name
        if found is None:
            log.error("trigger %s: a message is dropped: not even a note is taken", name)
        else:
            log.warning("trigger %s: a message is a dead letter: refused: %s", name, refused)
        return found

    def _publish(self, message: Delivered, outgoing: Outgoing, producer: Producer) -> None:
        try:
            producer.publish(
                outgoing.body,
                exchange=outgoing.exchange,
                routing_key=outgoing.routing_key,
                content_type=outgoing.content_type,
                content_encoding="utf-8",
                headers=dict(outgoing.headers),
                delivery_mode=PERSISTENT,
                confirm_timeout=CONFIRM_S,
            )
        except Exception as error:
            self._refusals.failed(message, error)
            raise

    def _abandon(self, connection: Connection, session: Session) -> None:
        """Let go of a connection that is lost.

        Where kombu keeps what is not acknowledged it puts that back as it closes, which has to
        wait until the broker is there again. Other brokers notice by themselves.
        """
        if not is_virtual(connection):
            connection.collect()
        elif session.channel is not None:
            self._give_back()
            self._lost = session

    def _give_back(self) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            try:
                # Closing reads what was asked for before, and so may not come that far.
                lost.channel.qos.restore_unacked_once()
                lost.channel.close()
            except Exception as error:
                log.warning("trigger %s: some events come later: %s", self._trigger.name, error)
