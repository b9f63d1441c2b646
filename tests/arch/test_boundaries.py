"""Errors of every kind are caught only at the boundaries that are listed here, each with its
reason.

A handler of `Exception` or `BaseException` that ends with `raise` only cleans up and may stand
anywhere. Every other one decides for errors that nobody foresaw, so that a bug behind it is seen by
nothing but a log: it needs a place in the list. `contextlib.suppress(Exception)` counts as such a
handler.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "src" / "flyteops", ROOT / "chaos" / "flyteops_chaos"]

BOUNDARIES = {
    "flyteops.server.loops:refresh_service": "a background loop goes on after any failure, and reports it",
    "flyteops.server.loops:run_maintenance": "a background loop goes on after any failure, and reports it",
    "flyteops.entry_point:_metadata": "finders and metadata of distributions are third-party code",
    "flyteops.packs:_fault": "loading a pack runs third-party code; the error is the result",
    "flyteops.packs.email.damage:tolerate": (
        "a sender chooses the bytes that the parser of the standard library fails on"
    ),
    "flyteops.packs.matrix.listener:Listener._take_room": "one unreadable event must not hold up those behind it",
    "flyteops.packs.slack.deduplicator:Deduplicator._hand_on": "no caller is left to report it; the event stays on disk",
    "flyteops.sdk.execution:CommandExecution._answer": "a command is third-party code; the error becomes the result FATAL",
    "flyteops.sdk.group:_Member.keep": "a pack is third-party code; the others of its process go on",
    "flyteops.sdk.health:_reported": "a health report is always answered: a probe would wait for it",
    "flyteops.sdk.health:_run_check": "a health check is third-party code; the error is the result",
    "flyteops.sdk.presence:_best_effort": "a pack works without its presence reports",
    "flyteops.sdk.progress:ProgressSender._send_all": "a command must not wait for ever for events that will not be sent",
    "flyteops.retry:_text": "`str` of an error is third-party code",
    "flyteops.sdk.session:Session._guard": "a background task is third-party code; the pack stops with its error",
    "flyteops.sdk.session:Session._keep_alive": "a heartbeat that fails is repeated before the lease ends",
    "flyteops.sdk.source:SourceRunner.run": "a source is third-party code; it is retried with back-off",
    "flyteops.sdk.thread:_run": "the error is handed to the caller that awaits the thread",
    "flyteops.service.flow:FlowRegistry._load": "a damaged flow version must not affect executions of others",
    "flyteops.service.flow:FlowRegistry._take_over": "a damaged flow must not affect the others",
    "flyteops.service.flow:FlowRegistry.load": "a damaged flow must not affect the others",
    "flyteops.service.maintenance:run_all": "all parts run; the first error is raised at the end",
    "flyteops.service.scheduler:Scheduler.run": "a background loop goes on after any failure, and reports it",
    "flyteops.storage.query:Rows.read": "others can write to the database, so rows may hold anything",
    "flyteops.storage.finish:FinishRequest.decide_early": "the decision is made again, and its error then goes to the caller",
    "flyteops.storage.mongodb.later:DeferredWrites.run": "a background loop goes on after any failure, and reports it",
    "flyteops.storage.mongodb.conversion:Conversion._run": "a background loop goes on after any failure, and reports it",
    "flyteops.storage.mongodb.legacy:_entry": (
        "documents of other programs may hold anything; one execution is set aside"
    ),
    "flyteops.storage.mongodb.legacy:_is_supplied": "documents of other programs may hold anything",
    "flyteops.storage.mongodb.timer:Timer._lost": "an error concerns one timer, or is raised again",
    "flyteops.storage.mongodb.timer:Timer._make_available": "an error concerns one timer, or is raised again",
    "flyteops.storage.mongodb.timer:Timer.process_due": "an error concerns one timer, or is raised again",
    "flyteops.storage.mongodb.timer:_due": "an error concerns one timer, or is raised again",
    "flyteops.storage.mongodb.notify:Notifier._round": "a background loop goes on after any failure, and reports it",
    "flyteops.storage.postgres.batch:Batcher._answers": "an error of a batch is handed to its callers",
    "flyteops.storage.postgres.actions:finish": "an error of a decision is handed to its caller; the batch goes on",
    "flyteops.storage.postgres.timer:_alone": "an error concerns one timer, or is raised again",
    "flyteops.storage.postgres.notify:Notifier._listen": "a background loop goes on after any failure, and reports it",
    "flyteops.storage.postgres.notify:Notifier._look": "a background loop goes on after any failure, and reports it",
    "flyteops.storage.postgres.notify:Notifier._notify": "a background loop goes on after any failure, and reports it",
    "flyteops.storage.sqlite.timer:_alone": "an error concerns one timer, or is raised again",
    "flyteops.storage.sqlite.writer:Writer._do_one_by_one": "an error of a job is handed to its caller; the batch goes on",
    "flyteops.storage.sqlite.writer:Writer._do_together": "an error of a batch is settled by doing its jobs one by one",
    "flyteops.storage.sqlite.writer:Writer._work": "the writer's thread survives any job",
    "flyteops.storage.undelivered:Undelivered._round": "a background loop goes on after any failure, and reports it",
    "flyteops.web.app:Application.respond": "the request boundary: the error becomes a response",
    "flyteops.web.auth.oidc:Issuer.keep": "a background loop goes on after any failure, and reports it",
}
BLIND = {"Exception", "BaseException"}


def last_name(expression: ast.expr) -> str:
    """`c` of `a.b.c`."""
    return (
        expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")
    )


def is_blind(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(each is None or last_name(each) in BLIND for each in kinds)


def is_boundary(node: ast.AST) -> bool:
    match node:
        case ast.ExceptHandler():
            return is_blind(node.type) and not isinstance(node.body[-1], ast.Raise)
        case ast.Call():
            return last_name(node.func) == "suppress" and any(map(is_blind, node.args))
    return False


def boundaries(node: ast.AST, name: str) -> Iterator[str]:
    """The functions inside a node that catch errors of every kind and do not raise them again."""
    for child in ast.iter_child_nodes(node):
        inner = name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{name}{'.' if ':' in name else ':'}{child.name}"
        elif is_boundary(child):
            yield name
        yield from boundaries(child, inner)


def module_name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def found() -> frozenset[str]:
    return frozenset(
        name
        for package in PACKAGES
        for path in package.rglob("*.py")
        for name in boundaries(ast.parse(path.read_text()), module_name(path, package.parent))
    )


def test_errors_of_every_kind_are_caught_at_the_listed_boundaries_only():
    assert sorted(found() - BOUNDARIES.keys()) == []


def test_every_listed_boundary_exists():
    assert sorted(BOUNDARIES.keys() - found()) == []


@pytest.mark.parametrize(
    "handler",
    [
        "except Exception: pass",
        "except: pass",
        "except BaseException as error: log(error)",
        "except (OSError, Exception): return None",
        "except builtins.Exception: pass",
        "except Exception:\n        if odd: raise\n        log()",
    ],
)
def test_each_form_of_a_blind_handler_is_found(handler):
    source = f"class A:\n  async def f(self):\n    try: g()\n    {handler}"
    assert list(boundaries(ast.parse(source), "m")) == ["m:A.f"]


def test_a_suppressed_exception_is_a_blind_handler():
    assert list(
        boundaries(ast.parse("def f():\n  with contextlib.suppress(Exception): g()"), "m")
    ) == ["m:f"]


@pytest.mark.parametrize(
    "handler",
    [
        "except OSError: pass",
        "except Exception: clean(); raise",
        "except Exception as e: raise A from e",
    ],
)
def test_handlers_that_are_narrow_or_raise_again_are_no_boundaries(handler):
    assert not list(boundaries(ast.parse(f"def f():\n  try: g()\n  {handler}"), "m"))
