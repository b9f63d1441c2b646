"""Procrastinate: a worker that runs tasks, and clients that defer them."""

import asyncio
import logging
import threading

import procrastinate
import psycopg
from backlog import Backlog, Figures, arguments, report, report_ready

CONNECTIONS = 32
DONE = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"


logging.getLogger("procrastinate").setLevel(logging.ERROR)


def create_app(url: str) -> procrastinate.App:
    """Return the application with its task."""
    connector = procrastinate.PsycopgConnector(
        conninfo=url, min_size=CONNECTIONS, max_size=CONNECTIONS
    )
    app = procrastinate.App(connector=connector)

    @app.task(name="work")
    async def work(text: str) -> dict[str, object]:
        """Do nothing, like the packs of Flyte's benchmark."""
        return {"exit_code": 0, "text": text}

    return app


async def serve(url: str, clients: int) -> None:
    """Run tasks until the process is terminated, as many at once as there are clients."""
    app = create_app(url)
    async with app.open_async():
        if not await app.check_connection_async():  # no table yet
            await app.schema_manager.apply_schema_async()
        report_ready()
        await app.run_worker_async(concurrency=clients)


async def load(url: str, clients: int, seconds: float, workers: list[int]) -> None:
    """Defer tasks from so many coroutines, and print the rate at which they end."""
    app = create_app(url)
    backlog = Backlog(clients, seconds, warm_up=2.0)
    found: list[Figures] = []

    def measure() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            found.append(backlog.measure(connection.execute, DONE, workers))

    async def defer() -> None:
        while not backlog.is_over:
            if backlog.add():
                await app.tasks["work"].defer_async(text="deploy app-1")
            else:
                await asyncio.sleep(0.01)

    async with app.open_async():
        watching = threading.Thread(target=measure, daemon=True)
        watching.start()
        await asyncio.gather(*(defer() for _ in range(clients)))
        watching.join()
    report(found[0])


if __name__ == "__main__":
    given = arguments()
    asyncio.run(
        serve(given.url, given.clients)
        if given.role == "worker"
        else load(given.url, given.clients, given.seconds, given.workers)
    )
