"""SEAM: stands in for flyteops.template.typed until that branch is merged."""

import re


class T:
    def __init__(s, source):
        s.source = source
        inner = " ".join(re.findall(r"\{[{%](.*?)[}%]\}", source, re.S))
        s.constant = not inner
        s.is_expression = bool(re.fullmatch(r"\{\{[^{}]*\}\}", source.strip()))
        bare = re.sub(
            r"'[^']*'|\"(?=[^\]])[^\"]*\"", " ", re.sub(r'\["([\w-]+)"\]', r".@\1@", inner)
        )
        s.paths = tuple(
            tuple(p.strip("@") for p in m.split("."))
            for m in re.findall(r"(?<![\w.|])([A-Z]\w*(?:\.@[\w-]+@|\.\w+)*)", bare)
        )
        s.secrets = tuple(re.findall(r"secret\('(.*?)'\)", inner))
        s.datastore_keys = frozenset(re.findall(r"datastore\('(.*?)'\)", inner))


def compile_typed(source):
    return T(source)
