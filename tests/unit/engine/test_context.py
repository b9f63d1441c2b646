"""How long texts may become in an evaluation."""

import pytest

from flyteops.engine.context import ACTION_LENGTH, EVENT_LENGTH, OutputLimits
from flyteops.template import DEFAULT_LIMITS


@pytest.mark.parametrize("longest", [1, 1024 * 1024, 10 * 1024 * 1024, 64 * 1024 * 1024])
def test_any_text_of_a_body_fits_in_a_template_and_twice_in_an_action(longest):
    allowance = OutputLimits.for_bodies(longest)
    assert allowance.limits.output_length > longest
    assert allowance.limits.value_length > longest
    assert allowance.action_length > 2 * longest
    assert allowance.event_length >= 2 * allowance.action_length


def test_a_small_limit_of_bodies_does_not_shrink_what_templates_may_make():
    allowance = OutputLimits.for_bodies(1)
    assert allowance.limits.output_length > DEFAULT_LIMITS.output_length
    assert (allowance.action_length, allowance.event_length) == (ACTION_LENGTH, EVENT_LENGTH)
