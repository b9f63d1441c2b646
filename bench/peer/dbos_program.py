"""DBOS: a worker that runs workflows with one step from a queue, and clients that enqueue them."""

import os
import threading
import time

import psycopg
from backlog import Backlog, arguments, report, report_ready
from dbos import DBOS, DBOSClient, EnqueueOptions

CONNECTIONS = 32
THREADS = 64
QUEUE = "bench"
POLLING = 0.05
"""Seconds between two looks into the queue; each takes all that waits. The default is 1."""

DONE = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"


@DBOS.step()
def work(text: str) -> dict[str, object]:
    """Do nothing, like the packs of Flyte's benchmark."""
    return {"exit_code": 0, "text": text}


@DBOS.workflow()
def run(text: str) -> dict[str, object]:
    """Run the step."""
    return work(text)


def serve(url: str) -> None:
    """Run workflows until the process is terminated."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "sys_db_pool_size": CONNECTIONS,
            "max_executor_threads": THREADS,
            "application_version": "1",
            "executor_id": str(os.getpid()),
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=POLLING)
    report_ready()
    threading.Event().wait()


def load(url: str, clients: int, seconds: float, workers: list[int]) -> None:
    """Enqueue workflows from so many threads, and print the rate at which they end."""
    client = DBOSClient(system_database_url=url, system_database_pool_size=CONNECTIONS)
    options: EnqueueOptions = {"workflow_name": run.__qualname__, "queue_name": QUEUE}
    backlog = Backlog(clients, seconds, warm_up=2.0)

    def enqueue() -> None:
        while not backlog.is_over:
            if backlog.add():
                client.enqueue(options, "deploy app-1")
            else:
                time.sleep(0.01)

    threads = [threading.Thread(target=enqueue, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    with psycopg.connect(url, autocommit=True) as connection:
        found = backlog.measure(connection.execute, DONE, workers)
    for thread in threads:
        thread.join()
    report(found)


if __name__ == "__main__":
    given = arguments()
    if given.role == "worker":
        serve(given.url)
    else:
        load(given.url, given.clients, given.seconds, given.workers)
