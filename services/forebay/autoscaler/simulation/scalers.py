"""Who decides in a simulation: Forebay's policy, and what others do, by their documentation.

- KEDA (https://keda.sh/docs/latest/reference/scaledobject-spec): from none to one when polling
  finds something (every 30 s), to none when there was nothing for `cooldownPeriod` (300 s);
  between, a HorizontalPodAutoscaler with its defaults (every 15 s, tolerance 10 %, up to twice as
  many or four more in 15 s, down to the most that was asked for in 300 s).
- Knative's KPA (https://knative.dev/docs/serving/autoscaling/kpa-specific): concurrency over 60 s,
  and over 6 s once that asks for twice what is ready; target utilisation 70 %; at once from none.
- RunPod's two (https://docs.runpod.io/serverless/endpoints/endpoint-configurations): one more
  worker whenever something has waited for longer than 4 s; or a worker for every so many requests
  that wait or run. An idle worker goes after 5 s.
"""

import math
from collections import deque
from typing import Final

from forebay.autoscaler.policy import Goals, Policy, Sample
from forebay.autoscaler.simulation.world import Seen

HPA_S: Final = 15.0
TOLERANCE: Final = 0.1
HPA_STEP: Final = 4
UTILISATION: Final = 0.7
KPA_S: Final = 2.0
PANIC_SHARE: Final = 0.1
PANIC: Final = 2.0


class Forebay:
    """Forebay's own policy, the very code that `forebay up` runs.

    Args:
        goals: what it is asked.
    """

    name = "Forebay"
    every_s = 1.0
    wakes = True

    def __init__(self, goals: Goals) -> None:
        self._policy = Policy(goals)

    def decide(self, seen: Seen) -> int:
        """See `Policy.decide`."""
        sample = Sample(
            seen.now,
            realtime=seen.rows,
            entered=seen.entered,
            replicas=seen.replicas,
            busy=seen.busy,
            rate=seen.rate,
        )
        return self._policy.decide(sample).replicas


class Highest:
    """The highest of what was said lately.

    Args:
        window_s: how lately.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._said: deque[tuple[float, float]] = deque()

    def of(self, now: float, value: float) -> float:
        """Note a value; the highest within the window, it included."""
        while self._said and self._said[-1][1] <= value:
            self._said.pop()
        self._said.append((now, value))
        while self._said[0][0] < now - self._window_s:
            self._said.popleft()
        return self._said[0][1]


class Mean:
    """The mean of what was seen lately.

    Args:
        window_s: how lately.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def of(self, now: float, value: float) -> float:
        """Note a value; the mean within the window, it included."""
        self._seen.append((now, value))
        self._sum += value
        while self._seen[0][0] <= now - self._window_s:
            self._sum -= self._seen.popleft()[1]
        return self._sum / len(self._seen)


class QueueLength:
    """KEDA with a queue's length, and the HorizontalPodAutoscaler behind it.

    Args:
        target: rows for one replica.
        polling_s: how often it looks whether there is anything, while there is no replica.
        window_s: `cooldownPeriod`, and the window of the HorizontalPodAutoscaler for going down.
    """

    wakes = False

    def __init__(self, target: float, *, polling_s: float = 30.0, window_s: float = 300.0) -> None:
        quick = "" if polling_s >= HPA_S else f", polled every {polling_s:g} s"
        self.name = f"KEDA, {target:g} rows a replica{quick}"
        self.every_s = min(polling_s, HPA_S)
        self._target = target
        self._polling_s = polling_s
        self._window_s = window_s
        self._poll_at = self._scale_at = 0.0
        self._active_at = -math.inf
        self._highest = Highest(window_s)
        self._wanted = 0

    def decide(self, seen: Seen) -> int:
        """As many as the queue is long, within the rules."""
        if seen.rows:
            self._active_at = seen.now
        if not seen.replicas:
            if seen.now >= self._poll_at:
                self._poll_at = seen.now + self._polling_s
                self._wanted = int(seen.rows > 0)
            return self._wanted
        if seen.now - self._active_at > self._window_s:
            self._wanted = 0
            return 0
        if seen.now >= self._scale_at:
            self._scale_at = seen.now + HPA_S
            self._wanted = self._scaled(seen)
        return self._wanted

    def _scaled(self, seen: Seen) -> int:
        there = seen.replicas
        ratio = seen.rows / (self._target * there)
        asked = there if abs(ratio - 1) <= TOLERANCE else math.ceil(seen.rows / self._target)
        highest = self._highest.of(seen.now, max(asked, 1))
        most = max(2 * there, there + HPA_STEP)
        return min(int(highest) if asked < there else asked, most)


class Concurrency:
    """Knative's autoscaler.

    Args:
        target: rows at once of one replica.
        window_s: the stable window.
    """

    wakes = True
    every_s = KPA_S

    def __init__(self, target: float, *, window_s: float = 60.0) -> None:
        self.name = f"Knative, {target:g} rows at once"
        self._target = target * UTILISATION
        self._window_s = window_s
        self._stable, self._short = Mean(window_s), Mean(PANIC_SHARE * window_s)
        self._panics_until = -math.inf
        self._panic = 0

    def decide(self, seen: Seen) -> int:
        """As many as rows are under way, over the window that counts."""
        stable = self._stable.of(seen.now, seen.rows)
        short = self._short.of(seen.now, seen.rows)
        ready = max(seen.ready, 1)
        asked = max(math.ceil(stable / self._target), seen.ready // 2 if stable else 0)
        panic = math.ceil(short / self._target)
        if panic / ready >= PANIC:
            self._panics_until = seen.now + self._window_s
        if seen.now < self._panics_until:
            self._panic = max(self._panic, panic, asked, seen.replicas)
            return self._panic
        self._panic = 0
        return asked


class QueueDelay:
    """RunPod's scaling by delay.

    Args:
        delay_s: what has waited for longer has one more worker started.
        idle_s: an idle worker goes after so long.
    """

    wakes = True
    every_s = 1.0

    def __init__(self, delay_s: float = 4.0, *, idle_s: float = 5.0) -> None:
        self.name = f"RunPod, queue delay {delay_s:g} s"
        self._delay_s = delay_s
        self._busy = Highest(idle_s)

    def decide(self, seen: Seen) -> int:
        """One more if somebody has waited for too long."""
        at_work = seen.busy + (seen.replicas - seen.ready)
        needed = max(int(self._busy.of(seen.now, at_work)), 1 if seen.rows else 0)
        if seen.rows and seen.oldest_s > self._delay_s:
            needed = max(needed, seen.replicas + 1)
        return needed


class RequestCount:
    """RunPod's scaling by count.

    Args:
        each: rows, waiting or running, for one worker.
        idle_s: an idle worker goes after so long.
    """

    wakes = True
    every_s = 1.0

    def __init__(self, each: float = 4.0, *, idle_s: float = 5.0) -> None:
        self.name = f"RunPod, {each:g} rows a worker"
        self._each = each
        self._needed = Highest(idle_s)

    def decide(self, seen: Seen) -> int:
        """As many as rows divided by that."""
        needed = max(math.ceil(seen.rows / self._each), seen.busy)
        return int(self._needed.of(seen.now, needed))
