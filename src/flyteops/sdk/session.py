"""One run of a pack against a server: register, take, execute, send results."""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from typing import Any, TypeVar
from uuid import uuid4

from flyteops.errors import ConflictError, FlyteError, UnavailableError
from flyteops.retry import FailureLog, being_cancelled, describe, has_running_loop, retry_call
from flyteops.sdk.client import ClaimedAction, Client
from flyteops.sdk.clock import Clock
from flyteops.sdk.declaration import Declaration, Task
from flyteops.sdk.delivery import Delivery, encode_event
from flyteops.sdk.event import Event
from flyteops.sdk.execution import CommandExecution, failure_event
from flyteops.sdk.health import Health, health_endpoint, run_checks
from flyteops.sdk.item import ItemReader
from flyteops.sdk.presence import PresenceReporter
from flyteops.sdk.progress import ProgressSender, current_progress
from flyteops.sdk.registrar import Registrar
from flyteops.sdk.returns import ActionReturns
from flyteops.sdk.silence import current_silence
from flyteops.sdk.source import SourceRunner, UndeclaredError
from flyteops.sdk.thread import Threads, is_broken_off
from flyteops.sdk.watch import LoopWatchdog

T = TypeVar("T")

LOGGER = logging.getLogger("flyte.pack")

_WAIT = 25.0
"""The number of seconds that a take waits at the server until there is work."""

_LAST_TAKE = 0.5
"""The seconds, from its start, after which a pending take is cancelled when the pack stops."""

_MAX_AT_ONCE = 10

_MAX_LATE = 100
"""The maximum number of late results that are kept."""

_CHECK_TIMEOUT = 4.0

current_session: ContextVar["Session"] = ContextVar("current_session")


class _StoppedError(Exception):
    """The pack is stopping; nothing is retried."""


class Session:
    """Run one pack until it is stopped."""

    def __init__(
        self, declaration: Declaration, client: Client, clock: Clock, *, report_timeout: float = 5.0
    ) -> None:
        self.declaration = declaration
        self.clock = clock
        self._client = client
        self._report_timeout = report_timeout
        self._loop = asyncio.get_running_loop()
        self._outside: set[Future[Any]] = set()
        self._outside_lock = threading.Lock()
        self._is_over = False
        self._is_broken_off = False
        self._stop = asyncio.Event()
        self._slots = asyncio.Semaphore(declaration.concurrency)
        self._registrar = Registrar(declaration, client)
        self._delivery = Delivery(client, clock, self._registrar)
        self.presence = PresenceReporter(client, clock, self._registrar.call)
        self._items = ItemReader(client, declaration, self._registrar.again)
        self._takes = FailureLog("take", LOGGER)
        self._in_flight: set[asyncio.Task[None]] = set()
        self._executions: dict[str, CommandExecution] = {}
        self._actions: dict[CommandExecution, ClaimedAction] = {}
        self._taken: dict[ProgressSender, ClaimedAction] = {}
        self._returns = ActionReturns(client, clock)
        self._watch: LoopWatchdog | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._sources = {
            source.name: SourceRunner(source, clock, self._send, lambda: self._is_ending)
            for source in declaration.sources
        }
        self._failure: Exception | None = None
        self._undelivered = 0
        self._final_reports = False

    @property
    def body_limit(self) -> int | None:
        return None if self._registrar.current is None else self._registrar.current.body_limit

    async def others(self) -> int:
        """Return the number of other connected instances at the last report.

        Await the first report.
        """
        if self._registrar.current is None or self._registrar.current.presence_url is None:
            return 0
        await self.presence.reported.wait()
        return self.presence.others

    @property
    def _is_ending(self) -> bool:
        """Whether the tasks of the pack are cancelled by the pack itself."""
        return self._stop.is_set() or self._is_broken_off

    def stop(self) -> None:
        """Take nothing more, finish the work in progress, and end."""
        self._stop.set()

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Work until `stop` is called, or set.

        Raise the server's refusal of the pack, the error of a failed background task, and
        `UnavailableError` if a result or event could not be delivered before the end.
        """
        token = current_session.set(self)
        self.declaration.sessions.add(self)
        threads = Threads(self.declaration.concurrency + len(self.declaration.sources))
        watch = asyncio.create_task(self._stop_with(stop or asyncio.Event()))
        try:
            async with health_endpoint(self.declaration.health, self.health):
                with (
                    suppress(_StoppedError),
                    LoopWatchdog(self._client, self._actions.values, self._owns) as self._watch,
                ):
                    await self._register_first()
                    await self._work()
        finally:
            watch.cancel()
            threads.close()
            self._let_others_go()
            current_session.reset(token)
        if self._failure is not None:
            raise self._failure
        if self._undelivered:
            message = (
                f"{self._undelivered} results or events could not be delivered before the pack"
                " stopped"
            )
            raise UnavailableError(message)

    async def _stop_with(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.stop()

    async def run_in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await in the event loop of the pack, also from another one such as an `asyncio.run`."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        if is_broken_off():
            work.close()
            raise asyncio.CancelledError
        future = self._submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError as error:
            if being_cancelled() or not self._is_over:
                raise
            raise self._stopped() from error

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait in another thread; raise `UnavailableError` if the pack stops before the result."""
        try:
            return self._submit(work).result()
        except CancelledError as error:
            raise self._stopped() from error

    def _submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        with self._outside_lock:
            if self._is_over:
                work.close()
                raise self._stopped()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._outside.add(future)
        future.add_done_callback(self._outside.discard)
        return future

    def _let_others_go(self) -> None:
        """End the waits of other threads, as their work will not be done any more."""
        self.declaration.sessions.discard(self)
        with self._outside_lock:
            self._is_over = True
        for each in list(self._outside):
            each.cancel()

    def _stopped(self) -> UnavailableError:
        return UnavailableError(f"{self.declaration.name} stopped before this was done")

    async def send(self, event: Event, within: float | None, key: str | None = None) -> None:
        """Send an event, retrying until it is accepted, refused, or `within` seconds are over.

        An event that is in transit when the pack is stopped is still delivered.
        """
        self._expect(event)
        silence = current_silence.get(None)
        with nullcontext() if silence is None else silence.interrupted():
            await self._send_within(event, within, key)

    async def _send_within(self, event: Event, within: float | None, key: str | None) -> None:
        sending = self._begin(
            self._delivery.deliver_event(encode_event(event, self.clock.now()), key or uuid4().hex)
        )
        timer = None if within is None else asyncio.create_task(self.clock.sleep(within))
        try:
            await asyncio.wait(
                {sending} if timer is None else {sending, timer},
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:
            if not self._stop.is_set():
                sending.cancel()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if not sending.done():
            sending.cancel()
            message = f"the event {event.name} was not accepted within {within:g} s"
            raise UnavailableError(message)
        sending.result()

    async def progress(self, event: Event) -> None:
        """Report the progress of the calling command."""
        progress = current_progress.get(None)
        if progress is None:
            message = "progress works in commands only; elsewhere use send"
            raise RuntimeError(message)
        self._expect(event)
        await progress.tell(event)

    def _expect(self, event: Event) -> None:
        if event.name not in self.declaration.events:
            message = f"the pack {self.declaration.name} does not declare the event {event.name}"
            raise UndeclaredError(message)

    async def _send(self, event: Event) -> None:
        await self.send(event, None)

    async def data(self, key: str) -> Any:  # noqa: ANN401 - JSON of any form
        """Read a datastore item as templates see it."""
        return await self._items.read(key, self._registrar.current)

    # --------------------------------------------------------------------------------- registration

    async def _register_first(self) -> None:
        registrar = self._registrar
        await self._unless_stopped(
            retry_call(registrar.first, pause=self.clock.back_off, outage=registrar.outage)
        )
        LOGGER.info("%s is registered at %s", self.declaration.name, self._client.api)

    # ----------------------------------------------------------------------------------------- work

    async def _work(self) -> None:
        work = {
            f"the background task {getattr(task, '__qualname__', task)}": task
            for task in self.declaration.tasks
        }
        work |= {f"the source {name}": keeper.run for name, keeper in self._sources.items()}
        if self._registrar.current is not None and self._registrar.current.presence_url is not None:
            work["reporting that the pack is connected"] = self.presence.keep
        tasks = {self._begin_background(name, task) for name, task in work.items()}
        polls = (
            {self._begin_background("polling for actions", self._poll)}
            if self.declaration.commands
            else set()
        )
        self._background = tasks | polls
        try:
            await self._stop.wait()
            for task in tasks:
                task.cancel()
            await self._finish()
            if self._failure is None:
                await self.presence.sign_off(self._registrar.current)
        finally:
            self._is_broken_off = True
            for task in self._background | self._in_flight:
                task.cancel()

    def _begin_background(self, name: str, task: Task) -> asyncio.Task[None]:
        return asyncio.create_task(self._guard(name, task), name=name)

    async def _guard(self, name: str, task: Task) -> None:
        """Run a background task.

        Stop the pack if it fails, as that would go unnoticed otherwise.
        """
        try:
            await task()
        # Raised on purpose, and reported again by the runner of the pack.
        except FlyteError as error:
            self._failure = error
            self.stop()
        except (asyncio.CancelledError, GeneratorExit):
            if self._is_ending or not has_running_loop():
                raise
            LOGGER.exception("%s was cancelled by its own code; the pack stops", name)
            self._failure = FlyteError(f"{name} was cancelled by its own code")
            self.stop()
        except BaseException as error:  # third-party code
            LOGGER.exception("%s failed; the pack stops", name)
            self._failure = (
                error
                if isinstance(error, Exception)
                else FlyteError(f"{name} failed: {describe(error)}")
            )
            self.stop()

    async def _finish(self) -> None:
        """Wait for the work in progress; after the timeout, cancel it and report to the server."""
        await self._settle(self.declaration.stop_timeout)
        self._final_reports = True
        for task in self._background:
            task.cancel()
        for execution in self._executions.values():
            reason = f"{self.declaration.name} was stopped before {execution.command} ended"
            execution.break_off(reason, within=self._report_timeout / 2)
        await self._settle(self._report_timeout)
        self._undelivered += len(self._in_flight)

    async def _settle(self, within: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while tasks := {
                    task for task in self._background | self._in_flight if not task.done()
                }:
                    await asyncio.wait(tasks)

    async def _poll(self) -> None:
        with suppress(_StoppedError):
            while not self._stop.is_set():
                free = await self._acquire_slots()
                actions: list[ClaimedAction] = []
                began = self.clock.monotonic()
                try:
                    actions = await self._take(free)
                finally:
                    for _ in range(free - len(actions)):
                        self._slots.release()
                for action in actions:
                    self._begin(self._perform(action))
                if not actions and self.clock.monotonic() - began < _WAIT / 2:
                    # The server does not support waiting, or not at present.
                    await self._unless_stopped(self.clock.idle(self.declaration.poll_interval))

    async def _acquire_slots(self) -> int:
        """Wait for a free slot; return the number of free ones, as a taken action must be run."""
        await self._slots.acquire()
        free = 1
        while free < _MAX_AT_ONCE and not self._slots.locked():
            await self._slots.acquire()
            free += 1
        return free

    async def _take(self, most: int) -> list[ClaimedAction]:
        async def attempt() -> list[ClaimedAction]:
            try:
                return await self._registrar.call(
                    lambda registration: self._client.take(registration, wait=_WAIT, most=most)
                )
            except UnavailableError:
                raise
            except FlyteError as error:
                raise UnavailableError(str(error)) from error

        async def pause(seconds: float) -> None:
            await self._unless_stopped(self.clock.back_off(seconds))

        if self._stop.is_set():
            return []
        began = self.clock.monotonic()
        taking = asyncio.create_task(retry_call(attempt, pause=pause, outage=self._takes))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({taking, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                # A server without long polling responds soon, and its response may hold an action
                # that is handed out only once. One that is still waiting after that has none, and
                # hands it to other instances if one comes just now.
                await asyncio.wait(
                    {taking}, timeout=max(0, began + _LAST_TAKE - self.clock.monotonic())
                )
            if taking.done():
                return taking.result()
            taking.cancel()
            raise _StoppedError
        finally:
            taking.cancel()
            stopped.cancel()

    async def _perform(self, action: ClaimedAction) -> None:
        """Perform an action, and those that come with the answers to results, one by one."""
        try:
            following: Sequence[ClaimedAction] = [action]
            while following:
                following = await self._perform_one(following[0])
        finally:
            self._slots.release()

    async def _perform_one(self, action: ClaimedAction) -> Sequence[ClaimedAction]:
        """Perform an action; return the next, or none if the pack stops."""
        progress = ProgressSender(self._send)
        self._taken[progress] = action
        execution = self._execute(action, progress)
        self._actions[execution] = action
        if self._watch is not None and action.lease_seconds is not None:
            self._watch.look()
        alive = None
        if action.lease_seconds is not None:
            alive = asyncio.create_task(self._keep_alive(action, execution))
        try:
            event = await execution.outcome()
            progress.close()
            if progress not in self._taken:  # it was given back
                execution.is_settled = True
                return ()
            submitted = await self._delivery.submit_result(
                action, event, take=0 if self._stop.is_set() else 1
            )
            execution.is_settled = submitted.in_time or action.lease_seconds is None
            return submitted.actions
        finally:
            self._actions.pop(execution, None)
            self._taken.pop(progress, None)
            progress.close()
            if alive is not None:
                alive.cancel()

    async def give_back(self) -> bool:
        """Give back the action of the calling command; return whether that was done."""
        progress = current_progress.get(None)
        action = None if progress is None else self._taken.get(progress)
        if progress is None or action is None:
            message = "an action is given back in its command only"
            raise RuntimeError(message)
        if not await self._returns.give_back(action):
            return False
        self._taken.pop(progress)
        for execution, taken in self._actions.items():
            if taken is action:
                execution.is_given_back = True  # it may have come again already, before the answer
        return True

    def _execute(self, action: ClaimedAction, progress: ProgressSender) -> CommandExecution:
        """Start an action, but not before an earlier attempt at it that still runs here ends."""
        command, key = (
            self.declaration.commands.get(action.command),
            action.result_url.partition("?")[0],
        )

        async def work() -> Event:
            if command is None:
                known = ", ".join(self.declaration.commands) or "none"
                return failure_event(
                    f"{self.declaration.name} has no command {action.command!r}; it has: {known}"
                )
            return await command.answer(action.input)

        self._forget_executions()
        execution = CommandExecution(action.command, work, progress, self._executions.get(key))
        self._executions[key] = execution
        return execution

    def _owns(self, task: asyncio.Task[Any]) -> bool:
        """Return whether a task belongs to this pack; called from another thread."""
        return task in self._background or any(
            each.runs_in(task) for each in list(self._executions.values())
        )

    def _forget_executions(self) -> None:
        """Forget finished executions; keep late results a while, in case the action comes again."""
        over = {key: each for key, each in self._executions.items() if each.is_over}
        late = [key for key, each in over.items() if not each.is_settled]
        for key in [*(key for key, each in over.items() if each.is_settled), *late[:-_MAX_LATE]]:
            del self._executions[key]

    async def _keep_alive(self, action: ClaimedAction, execution: CommandExecution) -> None:
        """Send heartbeats for a running action; cancel its command if the action was lost."""
        pause = (action.lease_seconds or 0) / 3
        while True:
            await self.clock.sleep(pause)
            try:
                await self._client.heartbeat(action)
            except ConflictError as error:
                LOGGER.warning("%s was lost and is cancelled: %s", action.command, error)
                execution.break_off(
                    f"{action.command} was cancelled because the server had given it to another"
                    " pack"
                )
                return
            # Also of the client's libraries: the next one may arrive.
            except Exception as error:  # noqa: BLE001
                LOGGER.debug("the heartbeat of %s failed: %s", action.command, describe(error))

    # ------------------------------------------------------------------------------------- plumbing

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)
        return task

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, but cancel it and raise when the pack stops."""
        task, stopped = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise _StoppedError
        finally:
            task.cancel()
            stopped.cancel()

    async def health(self) -> dict[str, Health]:
        """Return the health of the pack: its server connection, its sources, and its checks."""
        sources = {name: keeper.health() for name, keeper in self._sources.items()}
        return {
            "DefaultCheck": self._own_health(),
            **sources,
            **await run_checks(self.declaration.checks, _CHECK_TIMEOUT),
        }

    def _own_health(self) -> Health:
        delivery = self._delivery
        for outage in (self._registrar.outage, self._takes, delivery.events, delivery.results):
            if outage.reason is not None:
                return Health(healthy=False, status=f"{outage.what} failed: {outage.reason}")
        if self._registrar.current is None:
            return Health(healthy=False, status="The pack is not registered yet.")
        return Health(healthy=True, status="Pack is running.")
