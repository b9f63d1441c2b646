"""A pack: commands that the server can request and events that the pack sends."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar, overload

import httpx2
import msgspec

from flyteops.errors import InputError, SettingsError
from flyteops.model import FATAL
from flyteops.sdk.client import Client
from flyteops.sdk.clock import Clock
from flyteops.sdk.conversion import check_type
from flyteops.sdk.declaration import Check, CommandHandler, Declaration, Handler, Task, results
from flyteops.sdk.environment import Environment, configure_logging
from flyteops.sdk.event import Event, EventType
from flyteops.sdk.function import (
    as_coroutine_function,
    full_name,
    function_name,
    is_generator,
    wraps_async,
)
from flyteops.sdk.health import DEFAULT_CHECK, DEFAULT_HEALTH_PORT, Endpoint
from flyteops.sdk.input import Input
from flyteops.sdk.program import Program
from flyteops.sdk.session import Session, current_session
from flyteops.sdk.source import Source, make_source
from flyteops.sdk.thread import asynchronous, is_called, wait_for

T = TypeVar("T")
H = TypeVar("H", bound=Handler)
F = TypeVar("F", bound=Callable[[], Awaitable[Any]])
S = TypeVar("S", bound=Callable[[], Any])


is_loading: ContextVar[bool] = ContextVar("is_loading", default=False)
"""Whether a module is being imported only to find the pack in it."""


class Pack:
    """Declare a pack: its name, its commands and its events.

    A declaration holds no state of a run, so one pack may run several times in a process. `name`
    and `labels` can be overridden by the environment; `items` are the keys of the datastore items
    that it reads, which it must declare where the server requires tokens; `poll_interval` is the
    pause in seconds after the server had no work, `concurrency` the number of commands that run at
    the same time, `stop_timeout` the number of seconds that running commands have left when the
    pack is stopped, and `health_port` None for no health endpoint.
    """

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        items: Iterable[str] = (),
        help_url: str | None = None,
        poll_interval: float = 5.0,
        concurrency: int = 10,
        stop_timeout: float = 25.0,
        health_port: int | None = DEFAULT_HEALTH_PORT,
    ) -> None:
        if not name:
            message = "a pack needs a name"
            raise InputError(message)
        if isinstance(items, str):
            message = f"items are a list of keys, such as [{items!r}], not text"
            raise TypeError(message)
        for key, value in (labels or {}).items():
            _require_text(f"the label {key}", value)
        if concurrency < 1:
            message = f"concurrency is {concurrency}; a pack runs at least one command at a time"
            raise InputError(message)
        self.name = name
        self._options = Declaration(
            name=name,
            labels=dict(labels or {}),
            help_url=help_url,
            poll_interval=poll_interval,
            concurrency=concurrency,
            stop_timeout=stop_timeout,
            health=Endpoint(health_port, is_fixed=health_port != DEFAULT_HEALTH_PORT),
        )
        self._items = dict.fromkeys(items)
        self._events: dict[str, EventType[Any]] = {}
        self._commands: dict[str, CommandHandler] = {}
        self._tasks: list[Task] = []
        self._sources: dict[str, Source] = {}
        self._checks: dict[str, Check] = {}
        self._sessions: set[Session] = set()

    def __repr__(self) -> str:
        return f"Pack({self.name!r})"

    # --------------------------------------------------------------------------------- declarations

    @overload
    def event(
        self, name: str, payload: type[T], *, help_url: str | None = None, failure: bool = False
    ) -> EventType[T]: ...
    @overload
    def event(
        self, name: str, payload: None, *, help_url: str | None = None, failure: bool = False
    ) -> EventType[None]: ...
    @overload
    def event(
        self,
        name: str,
        payload: object = Any,
        *,
        help_url: str | None = None,
        failure: bool = False,
    ) -> EventType[Any]: ...
    def event(
        self,
        name: str,
        payload: object = Any,
        *,
        help_url: str | None = None,
        failure: bool = False,
    ) -> EventType[Any]:
        """Declare an event.

        `payload` is any type that msgspec knows, None for an event without a payload. `failure`
        marks a result that means that the command has failed.
        """
        _require_text("the name of an event", name)
        if name in self._events or name == FATAL:
            message = f"the event {name} is declared already"
            raise InputError(message)
        declared: EventType[Any] = EventType(name, payload, help_url=help_url, failure=failure)
        self._events[name] = declared
        return declared

    def reads(self, key: str) -> None:
        """Declare that the pack reads a datastore item."""
        self._items[key] = None

    def command(
        self,
        name: str | None = None,
        *,
        events: Iterable[EventType[Any]] = (),
        takes: object = Any,
        help_url: str | None = None,
    ) -> Callable[[H], H]:
        """Declare a command; the decorated function gets the input and returns one of `events`.

        The default name is the function's own in CamelCase: `send_message` becomes `SendMessage`. A
        single parameter is the whole input; several, or those after a `*`, are its fields. Their
        types are published as the input's schema; a function that reads the plain value itself
        declares its expectation with `takes`. A class in the return annotation is an event of its
        name, whose payload the returned object is. A plain function runs in a thread. An exception
        becomes a FATAL event.
        """
        if name is not None:
            _require_text("the name of a command", name, hint="@pack.command() has parentheses")
        if isinstance(events, EventType):
            message = f"events are a list, such as [{events.name}], not one event"
            raise TypeError(message)

        def declare(handler: H) -> H:
            command_name = name or _camel_case(function_name(handler))
            if command_name in self._commands:
                message = f"the command {command_name} is declared already"
                raise InputError(message)
            self._commands[command_name] = self._handler(
                command_name, handler, tuple(events), takes, help_url
            )
            return handler

        return declare

    def _handler(
        self,
        name: str,
        handler: Callable[..., Any],
        events: tuple[EventType[Any], ...],
        takes: object,
        help_url: str | None,
    ) -> CommandHandler:
        """Return the handler of a command, whose events are declared as well."""
        if is_generator(handler):
            message = (
                f"{full_name(handler)} yields; a command returns one event, and sends others"
                " with pack.progress"
            )
            raise TypeError(message)
        check_type(takes)
        returned = {kind: self._event_of(kind, events) for kind in results(handler)}
        command_input = Input.of(handler)
        command = CommandHandler(
            name=name,
            handler=asynchronous(handler),
            events=tuple(dict.fromkeys([*events, *returned.values()])),
            input=command_input,
            results=returned,
            takes=command_input.kind if takes is Any else takes,
            help_url=help_url,
        )
        self._add_events(command)
        return command

    def _add_events(self, command: CommandHandler) -> None:
        """Declare the events of a command that are new."""
        for event in command.events:
            known = self._events.get(event.name, event)
            if (
                known is not event
                and known.payload is not event.payload
                and known.payload != event.payload
            ):
                message = f"the event {event.name} is declared already, with another payload"
                raise InputError(message)
        for event in command.events:
            self._events.setdefault(event.name, event)

    def _event_of(self, kind: type, declared: tuple[EventType[Any], ...]) -> EventType[Any]:
        """Return the event whose payload is of a class, or make one with the class's name."""
        known = [*declared, *self._events.values()]
        found = next((event for event in known if event.payload is kind), None)
        if found is None and kind.__name__ in self._events:
            message = f"the event {kind.__name__} is declared already, with another payload"
            raise InputError(message)
        return found or EventType(kind.__name__, kind)

    def source(
        self,
        *,
        every: float | None = None,
        at_once: bool = True,
        timeout: float | None = None,
        name: str | None = None,
    ) -> Callable[[S], S]:
        """Declare a source of events: a function that is kept running until the pack stops.

        With `every` it is a poller: called every so many seconds, the first time at once unless
        disabled, and its return value is sent: an event, several, or None. It may be a plain
        function, which runs in a thread. Without, it is a listener, which runs indefinitely: an
        async generator, whose events are sent, or a coroutine function that sends them itself. A
        source that fails, or ends unexpectedly, is restarted after a pause that grows from half a
        second to half a minute; meanwhile health reports it under its name. An event that the
        server refuses is logged and dropped. A call of a poller that takes longer than `timeout`
        seconds (twice `every`, or a minute if that is longer), and a listener without an event for
        `timeout` seconds, count as unhealthy. An error of `flyteops.errors` other than
        `UnavailableError`, raised before it ever worked, ends the pack: an operator must fix its
        cause.
        """

        def declare(function: S) -> S:
            source = make_source(function, name=name, every=every, at_once=at_once, timeout=timeout)
            self._expect_new("source", source.name)
            self._sources[source.name] = source
            return function

        return declare

    def task(self, function: F) -> F:
        """Declare work that runs in the background from registration until the pack stops.

        It is cancelled then. It may end before; but if it raises, the pack stops with an error.
        """
        self._tasks.append(_asynchronous(function))
        return function

    def check(self, name: str) -> Callable[[F], F]:
        """Declare a health check.

        It is a coroutine function that returns a short text, or raises on a fault.
        """
        _require_text("the name of a check", name, hint='as in @pack.check("Disk")')
        self._expect_new("check", name)

        def declare(function: F) -> F:
            self._expect_new("check", name)
            self._checks[name] = _asynchronous(function)
            return function

        return declare

    def _expect_new(self, noun: str, name: str) -> None:
        """Raise `InputError` if health has an entry of that name already.

        Sources and checks share the names of entries.
        """
        taken = {
            DEFAULT_CHECK: "check",
            **dict.fromkeys(self._sources, "source"),
            **dict.fromkeys(self._checks, "check"),
        }
        if name in taken:
            message = (
                f"the {noun} {name} needs another name: the {taken[name]} {name} is declared"
                " already"
            )
            raise InputError(message)

    # ----------------------------------------------------------------- from handlers and tasks only

    async def send(
        self, event: Event, *, within: float | None = None, key: str | None = None
    ) -> None:
        """Send an event that is not a result; it is durable when this returns.

        Retries while the server cannot be reached, without a limit or for `within` seconds, and
        raises `UnavailableError` then. Events with the same `key` are the same event, also from
        different runs of the pack; the server forgets keys after a day.
        """
        session = self._session()
        await session.run_in_loop(session.send(event, within, key))

    async def progress(self, event: Event) -> None:
        """Report the progress of the running command.

        Events are sent in order, before the command's result, without delaying it. This does not
        end the action. Up to a hundred may be in transit; then this waits. A refusal by the server
        is logged.
        """
        session = self._session()
        await session.run_in_loop(session.progress(event))

    async def give_back(self) -> bool:
        """Give back the action of the calling command, for another instance of the pack to take.

        Return whether that was done. The command must not have started the work yet. Its later
        return value is ignored. False means that the command has to be executed here: the server
        does not accept actions back, or no other instance takes the action.
        """
        session = self._session()
        return await session.run_in_loop(session.give_back())

    async def others(self) -> int:
        """Return the number of other connected instances of the pack.

        It is 0 if the server does not know, and may be a minute old.
        """
        session = self._session()
        return await session.run_in_loop(session.others())

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait in a plain function, or in a thread of your own, for an awaitable result.

        For example, `pack.wait_for(pack.send(event))`. A thread of your own gets `UnavailableError`
        when the pack stops before that is done.
        """
        if is_called() or _is_in_event_loop():
            return wait_for(work)
        try:
            session = self._session()
        except RuntimeError:
            work.close()
            raise
        return session.wait_for(work)

    # JSON of any form, which its reader knows.
    async def data(self, key: str) -> Any:  # noqa: ANN401
        """Read a datastore item as templates see it: JSON for JSON content types, else text.

        It is requested once: raise `NotFoundError` if there is none, `UnavailableError` if the
        server cannot be reached. A server that requires tokens gives a pack the items declared in
        `items`, as far as the pack's token allows.
        """
        session = self._session()
        return await session.run_in_loop(session.data(key))

    async def sleep(self, seconds: float) -> None:
        """Sleep; a test can let this time pass at once."""
        session = self._session()
        await session.run_in_loop(session.clock.sleep(seconds))

    def clock(self) -> Clock:
        """Return the clock of the pack."""
        return self._session().clock

    def body_limit(self) -> int | None:
        """Return the maximum JSON size in bytes that the server accepts for a result or an event.

        None if it is unknown.
        """
        return self._session().body_limit

    def _session(self) -> Session:
        """Return the run that calls this, or the only one: threads do not know their origin."""
        session = current_session.get(None)
        if session is not None:
            return session
        sessions = list(self._sessions)
        if not sessions:
            message = "the pack is not running: send and sleep work while it runs only"
            raise RuntimeError(message)
        if len(sessions) > 1:
            message = (
                f"{self.name} runs {len(sessions)} times in this process, and this thread belongs"
                " to none of them: begin it with contextvars.copy_context().run in a command,"
                " source or task"
            )
            raise RuntimeError(message)
        return sessions[0]

    # ----------------------------------------------------------------------------------------- runs

    def declaration(self, environment: Environment | None = None) -> Declaration:
        """Return the pack as it runs in an environment.

        Name, labels and limits in the environment take precedence.
        """
        options = self._options
        if environment is not None:
            given = {name: getattr(environment, name) for name in ("poll_interval", "stop_timeout")}
            options = msgspec.structs.replace(
                options,
                name=environment.name or options.name,
                labels={**options.labels, **environment.labels},
                health=options.health.of(environment),
                **{name: value for name, value in given.items() if value is not msgspec.UNSET},
            )
        return msgspec.structs.replace(
            options,
            items=tuple(self._items),
            events=dict(self._events),
            commands=dict(self._commands),
            tasks=tuple(self._tasks),
            sources=tuple(self._sources.values()),
            checks=dict(self._checks),
            sessions=self._sessions,
        )

    async def serve(
        self,
        environment: Environment,
        *,
        stop: asyncio.Event | None = None,
        clock: Clock | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Run the pack until `stop` is set, and then until the work in progress is finished.

        Raise the server's refusal of the pack, and the error of a background task.
        """
        async with Client.of(environment, transport=transport) as client:
            await Session(self.declaration(environment), client, clock or Clock()).run(stop)

    def run(
        self, environ: Mapping[str, str] | None = None, *, environment: Environment | None = None
    ) -> None:
        """Run the pack as a program: read the environment, work until SIGTERM or SIGINT, and exit.

        The first signal lets running commands finish, the second cancels them. Exit codes: 0
        stopped as requested, 1 failed, 2 the environment is not valid, 128 + n cancelled by signal
        n.
        """
        if is_loading.get():
            message = (
                f"{self.name} runs as soon as its module is imported; put `pack.run()` below `if"
                ' __name__ == "__main__":`'
            )
            raise InputError(message)
        try:
            settings = environment or Environment.read(os.environ if environ is None else environ)
        except SettingsError as error:
            sys.stderr.write(f"{self.name}: {error}\n")
            sys.exit(2)
        configure_logging(settings.log_level)
        if code := Program(self.name, lambda stop: self.serve(settings, stop=stop)).run():
            sys.exit(code)


def _require_text(what: str, value: object, *, hint: str = "") -> None:
    """Raise `TypeError` for a name or label that is not text."""
    if not isinstance(value, str):
        kind = "a function" if callable(value) else type(value).__name__
        message = f"{what} is text, not {kind}{hint and '; '}{hint}"
        raise TypeError(message)


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _asynchronous(function: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    if not wraps_async(function):
        message = f"{full_name(function)} must be declared with `async def`"
        raise TypeError(message)
    return as_coroutine_function(function)


def _camel_case(name: str) -> str:
    """Return `SendMessage` for `send_message`."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))
