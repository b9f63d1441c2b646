"""The stores that several servers may share: a place of each kind, for one test alone."""

import pytest

from tests import mongodb, postgres

PLACES = [
    pytest.param(postgres.place, id="postgres", marks=pytest.mark.postgres),
    pytest.param(mongodb.place, id="mongodb", marks=pytest.mark.mongodb),
]
