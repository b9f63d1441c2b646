"""The limits on starts: each passes a start on to the next one, holds it, or drops it."""

from flyteops.definition import FlowDefinition
from flyteops.model import SERVER, JsonValue
from flyteops.simulator.continuation import begin_execution, new_execution
from flyteops.simulator.ending import end
from flyteops.simulator.record import Event, Execution, Key, Start, Timer
from flyteops.simulator.rendering import keys_equal
from flyteops.simulator.starting import note, refuse
from flyteops.simulator.world import World
from flyteops.timeformat import format_timestamp, parse_duration

QUEUE_LENGTH = 10_000


def go_on(world: World, start: Start, after: str = "") -> None:
    """Take a start through the limits behind one, in their order; then begin the execution.

    A null key is not limited.
    """
    stages = ["dedupe", "debounce", "batch", "threshold", "rateLimit", "concurrency"]
    handlers = (_dedupe, _debounce, _batch, _threshold, _rate_limit, _concurrency)
    first = stages.index(after) + 1 if after else 0
    for name, handle in list(zip(stages, handlers, strict=True))[first:]:
        if start.keys.get(name) is not None and not handle(world, start):
            return
    begin_execution(world, start)


def drop(world: World, start: Start, reason: str, detail: str) -> None:
    """Drop a start: earlier limits do not count it."""
    for name in ("dedupe", "rateLimit"):
        world.passed[name] = [
            each
            for each in world.passed[name]
            if each is not start and all(each.event is not member for member in start.members)
        ]
    refuse(world, start, reason, detail)


def _alike(starts: list[Start], start: Start, limit: str) -> list[Start]:
    """Return the starts of the same flow with an equal key of a limit."""
    return [
        each
        for each in starts
        if each.flow.name == start.flow.name
        and keys_equal(each.keys.get(limit), start.keys.get(limit))
    ]


def _dedupe(world: World, start: Start) -> bool:
    limit = start.flow.dedupe
    assert limit is not None  # noqa: S101 - for the type checker
    within = parse_duration(limit.within)
    for earlier in _alike(world.passed["dedupe"], start, "dedupe"):
        if abs(start.event.received_at - earlier.event.received_at) < within:
            drop(world, start, "dedupe", f"{earlier.event.event_id} had the same key")
            return False
    world.passed["dedupe"].append(start)
    return True


def _debounce(world: World, start: Start) -> bool:
    """Hold a start; it replaces an earlier one, which is dropped."""
    limit = start.flow.debounce
    assert limit is not None  # noqa: S101 - for the type checker
    held = world.held["debounce"]
    for other in _alike(held, start, "debounce"):
        start.since = min(start.since, other.since)
        if other.event.number > start.event.number:
            other.since = start.since
            drop(world, start, "debounce", f"{other.event.event_id} came later")
            return False
        held.remove(other)
        drop(world, other, "debounce", f"{start.event.event_id} came later")
    held.append(start)
    due_at = start.event.received_at + parse_duration(limit.for_)
    if limit.max_wait is not None:
        due_at = min(due_at, start.since + parse_duration(limit.max_wait))
    world.add_timer(Timer(kind="debounce", due_at=due_at, subject=start.start_id))
    note(world, start, "debounce", f"held until {format_timestamp(due_at)}")
    return False


def end_debounce(world: World, start_id: str) -> None:
    """Act on the last event, unless a later one has replaced it."""
    for start in world.held["debounce"]:
        if start.start_id == start_id:
            world.held["debounce"].remove(start)
            go_on(world, start, "debounce")
            return


def _batch(world: World, start: Start) -> bool:
    limit = start.flow.batch
    assert limit is not None  # noqa: S101 - for the type checker
    held = world.held["batch"]
    if not _alike(held, start, "batch"):
        due_at = start.event.received_at + parse_duration(limit.within)
        world.add_timer(Timer(kind="batch", due_at=due_at, subject=start.start_id))
    held.append(start)
    note(world, start, "batch", f"held, event {len(_alike(held, start, 'batch'))} of the batch")
    if len(_alike(held, start, "batch")) >= limit.max:
        _act_together(world, start, "batch")
    return False


def end_batch(world: World, start_id: str) -> None:
    """Act on all events of a batch whose first one is still held."""
    for start in world.held["batch"]:
        if start.start_id == start_id:
            _act_together(world, start, "batch")
            return


def _threshold(world: World, start: Start) -> bool:
    """Count events; those that are older than the period no longer count."""
    limit = start.flow.threshold
    assert limit is not None  # noqa: S101 - for the type checker
    since = start.event.received_at - parse_duration(limit.within)
    for old in _alike(world.held["threshold"], start, "threshold"):
        if old.event.received_at <= since:
            world.held["threshold"].remove(old)
    world.held["threshold"].append(start)
    counted = _alike(world.held["threshold"], start, "threshold")
    if len(counted) >= limit.count:
        _act_together(world, start, "threshold")
    else:
        refuse(world, start, "threshold", f"it is event {len(counted)} of {limit.count}")
    return False


def _act_together(world: World, start: Start, limit: str) -> None:
    """Go on with the event `Batch`, which stands for all held events with the same key.

    Keys of later limits are those of the first of them.
    """
    members = sorted(_alike(world.held[limit], start, limit), key=lambda each: each.event.number)
    for each in members:
        world.held[limit].remove(each)
    first, events = members[0], [each.event for each in members]
    payload = {
        "key": _shown_key(start, limit),
        "count": len(events),
        "events": [_entry(each) for each in events],
    }
    batch = world.record(
        Event(
            pack=SERVER,
            name="Batch",
            payload=payload,
            depth=max(each.depth for each in events),
            after_failure=any(each.after_failure for each in events),
        )
    )
    together = Start(
        start_id=world.new_id("start"),
        flow=first.flow,
        event=batch,
        members=events,
        steps=first.steps,
        keys=first.keys,
        callers=[caller for each in members for caller in each.callers],
        since=first.since,
    )
    go_on(world, together, limit)


def _shown_key(start: Start, limit: str) -> Key:
    settings = start.flow.batch if limit == "batch" else start.flow.threshold
    return start.keys[limit] if settings is not None and settings.key is not None else None


def _entry(event: Event) -> dict[str, JsonValue]:
    return {
        "event": event.name,
        "pack": event.pack,
        "payload": event.payload,
        "receivedAt": format_timestamp(event.received_at),
    }


def _rate_limit(world: World, start: Start) -> bool:
    limit = start.flow.rate_limit
    assert limit is not None  # noqa: S101 - for the type checker
    start.since = world.now
    since = world.now - parse_duration(limit.per)
    passed = _alike(world.passed["rateLimit"], start, "rateLimit")
    if sum(each.since > since for each in passed) >= limit.max:
        drop(world, start, "rateLimit", f"{limit.max} have begun within {limit.per}")
        return False
    world.passed["rateLimit"].append(start)
    return True


def _concurrency(world: World, start: Start) -> bool:
    limit = start.flow.concurrency
    assert limit is not None  # noqa: S101 - for the type checker
    running = _running(world, start.flow, start.keys["concurrency"])
    if limit.when_full == "cancelOldest":
        for oldest in running[: max(0, len(running) + 1 - limit.max)]:
            end(world, oldest, "CANCELLED")
        return True
    waiting = _alike(world.queue, start, "concurrency")
    if len(running) < limit.max and not waiting:
        return True
    if limit.when_full == "drop":
        drop(world, start, "concurrency", f"{len(running)} are running")
    elif len(waiting) >= QUEUE_LENGTH:
        drop(world, start, "concurrency", f"{len(waiting)} are in the queue")
    else:
        new_execution(world, start)
        note(world, start, "concurrency", "queued")
        world.queue.append(start)
        world.queue.sort(key=lambda each: each.event.number)
        start_next(world, start.flow.name)
    return False


def _running(world: World, flow: FlowDefinition, key: Key) -> list[Execution]:
    """Return the running executions of a flow with a key, oldest first."""
    return [
        each
        for each in world.executions
        if each.flow.name == flow.name
        and each.state == "RUNNING"
        and keys_equal(each.concurrency_key, key)
    ]


def start_next(world: World, flow_name: str) -> None:
    """Begin the queued executions of a flow that have room now, in the order of their events."""
    for start in list(world.queue):
        limit, key = start.flow.concurrency, start.keys["concurrency"]
        if start.flow.name != flow_name or limit is None:
            continue
        if len(_running(world, start.flow, key)) < limit.max:
            world.queue.remove(start)
            begin_execution(world, start)
