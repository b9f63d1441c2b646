"""Requests that nobody thought of, made from the description of the API; FLYTE_FUZZ_EXAMPLES says how many per operation."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flyteops.service import Service
from flyteops.storage.sqlite import SqliteStore
from flyteops.web.api import OPERATIONS
from flyteops.web.app import create_app
from flyteops.web.openapi import describe

EXAMPLES = int(os.environ.get("FLYTE_FUZZ_EXAMPLES", "25"))
