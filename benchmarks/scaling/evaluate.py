"""What one call of `AdaptiveScaler.evaluate` costs with a long list of pending tasks, beside counting them by tag."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from operator import itemgetter

from scalable import AdaptiveScaler

PENDING = 10_000
TAGS = ("simulate", "postprocess", "report")
CALLS = 200


def median_ms(call: Callable[[], object]) -> float:
    spans = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        call()
        spans.append(time.perf_counter() - begin)
    return sorted(spans)[CALLS // 2] * 1e3


def main() -> None:
    pending = [{"tag": TAGS[i % 3], "features": {"x": 1.0 + i % 97}} for i in range(PENDING)]
    running = [{"tag": TAGS[i % 3], "elapsed_s": 1.0} for i in range(500)]
    ended = [{"tag": tag, "duration_s": 2.0 * x, "features": {"x": x}} for tag in TAGS for x in range(1, 31)]
    active = dict.fromkeys(TAGS, 170)
    scaler = AdaptiveScaler(max_workers=dict.fromkeys(TAGS, 500))
    ours = median_ms(lambda: scaler.evaluate(pending, active, ended, running_tasks=running))
    counting = median_ms(lambda: Counter(map(itemgetter("tag"), pending)))
    print(
        f"evaluate with {PENDING} pending tasks: {ours:.2f} ms (aim: 5); a Counter over their tags: {counting:.2f} ms"
    )


if __name__ == "__main__":
    main()
