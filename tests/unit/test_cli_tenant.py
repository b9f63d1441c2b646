"""One `flyte dev` at a time in a folder."""

import os

from flyteops.cli.tenant import Tenancy, Tenant


def test_whoever_comes_second_learns_where_the_first_is(tmp_path):
    with Tenancy(tmp_path) as first:
        with Tenancy(tmp_path) as early:
            assert early.other == Tenant(str(os.getpid()), "")
        first.tell("http://127.0.0.1:8080")
        with Tenancy(tmp_path) as late:
            assert late.other == Tenant(str(os.getpid()), "http://127.0.0.1:8080")
        assert first.other is None


def test_a_folder_is_free_again_when_its_tenant_is_gone(tmp_path):
    with Tenancy(tmp_path) as first:
        first.tell("http://127.0.0.1:8080")
    with Tenancy(tmp_path) as second:
        assert second.other is None
        with Tenancy(tmp_path) as third:
            assert third.other == Tenant(str(os.getpid()), "")
