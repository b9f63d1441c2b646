"""The tags, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from flyteops.template.parser import Tag
from flyteops.template.tag import control, output, scope

TAGS: Mapping[str, Tag] = MappingProxyType(
    {
        "autoescape": output.autoescape_tag,
        "block": scope.block_tag,
        "comment": output.comment_tag,
        "cycle": control.cycle_tag,
        "extends": output.refused_tag,
        "filter": output.filter_tag,
        "firstof": control.firstof_tag,
        "for": control.for_tag,
        "if": control.if_tag,
        "ifchanged": control.ifchanged_tag,
        "ifequal": control.ifequal_tag,
        "ifnotequal": control.ifnotequal_tag,
        "import": output.refused_tag,
        "include": output.refused_tag,
        "lorem": output.lorem_tag,
        "macro": scope.macro_tag,
        "now": output.now_tag,
        "set": scope.set_tag,
        "spaceless": output.spaceless_tag,
        "ssi": output.refused_tag,
        "templatetag": output.templatetag_tag,
        "widthratio": output.widthratio_tag,
        "with": scope.with_tag,
    }
)
