"""Advice about scripts: quoting that does not protect where it stands, and inputs that need
none.
"""

import json
import subprocess

import pytest

from flyteops import template
from flyteops.document import parse_json
from flyteops.flow.file import lint, read_flow
from flyteops.model import JsonValue

WORD = "{{ Event.Payload.text|shellquote }}"


def advice_on(command_input: JsonValue, context: dict[str, str] | None = None) -> list[str]:
    step = {
        "id": "a",
        "event": {"name": "E", "packName": "P"},
        "context": context or {},
        "command": {"name": "Shell", "packName": "Q", "input": command_input},
    }
    document = parse_json(json.dumps({"name": "f", "steps": [step]}).encode())
    return [str(problem) for problem in lint(document, read_flow(document))]


QUOTED = {
    "single quotes": [
        "echo 'W'",
        "ssh web1 'restart W'",
        "echo a'b'\"it's\"'W",
        "echo 'a\nb W'",
        "{% for i in Event.Payload.l %}W'{% endfor %}",
    ],
    "double quotes": [
        'echo "W"',
        'echo "a $(date) W"',
        'echo "$(echo "a W")"',
        'echo "\\"W"',
        "echo 'it'\"W",
        'a=W; echo "it\'s W"',
        'echo "a\nb W"',
        'echo {% if Event.Payload.a %}"{% endif %}W',
        'echo {% if Event.Payload.a %}a{% elif Event.Payload.b %}"{% else %}c{% endif %}W',
        '{% for i in Event.Payload.l %}echo "W"{% endfor %}',
        'echo "{% for i in Event.Payload.l %}W" "{% endfor %}"',
        'echo {# " #}"W"',
        'echo {% verbatim %}"{% endverbatim %}W"',
        "echo {{- ' ' -}} \"W\"",
    ],
    "$'…' quotes": ["echo $'W'", "echo $'a\\'W'"],
    "here-document": [
        "cat <<X\nhello W\nX",
        "cat <<'X'\nhello W\nX",
        "cat <<-X\n\thello W\n\tX",
        "cat <<X <<Y\na\nX\nW\nY",
        "cat <<X | sh\n$(date) W\nX",
        "cat <<{% if Event.Payload.a %}X{% else %}Y{% endif %}\nW\nX",
    ],
    "comment": ["# W", "echo a # W"],
    "backticks": ["echo `echo W`", 'echo "`echo W`"', "echo `echo $(echo W)`"],
    "arithmetic": [
        "echo $(( W + 1 ))",
        "(( W ))",
        'echo "$((1 + W))"',
        "echo $[ W + 1 ]",
        'echo "$[ a[1] + W ]"',
        "if (( W > 1 )); then :; fi",
        "while ! ((W)); do :; done",
        "for ((i=W; i<1; i++)); do :; done",
        "for((i=0; i<W; i++)) { :; }",
        "function f { ((W)); }",
    ],
    "${…}": ["echo ${A:-W}", 'echo "${A:-W}"'],
    "behind a backslash or a dollar sign": ["echo $W", "echo \\W"],
    "is calculated by": [
        "[[ W -eq 3 ]]",
        "[[ 3 -lt W ]]",
        "let W",
        "[[ -v a[W] ]]",
        "[ -v W ]",
        "test -n x -a -v a[W]",
        "a[W]=1",
        "a[W]+=1 true",
        "a=(x [W]=1)",
        "read a[W] < f",
        "IFS=: read -r -p x W",
        "printf -v a[W] %s x",
        "printf -vW x",
        "command printf -v W x",
        "declare a[W]=1",
        "declare W",
        "declare -i n=W",
        "f() { local -a l=W; }",
        "declare -n r=W; echo $r",
        "export -a l=W",
        "unset a[W]",
    ],
    "a script that `sh` runs": [
        "sh -c W",
        'sh -c "echo "W',
        "A=1 sh -c W",
        "docker exec c sh -c W",
        "kubectl exec p -- sh -c W",
        "find . -exec sh -c W \\;",
        "xargs sh -c W",
        "if /bin/sh -ec W; then :; fi",
        "f() { sh -c W; }",
        "f () sh -c W",
        "function f { sh -c W; }",
        "function f() { sh -c W; }",
        "if a; then f() { sh -c W; }; fi",
        "case a in (a) sh -c W;; esac",
        "if a; then case a in (a) sh -c W;; esac; fi",
        "coproc sh -c W",
        "time -p sh -c W",
    ],
    "a script that `bash` runs": [
        "bash -lc W",
        "sudo -u x bash -c W",
        "bash -o pipefail -c W",
        "busybox sh; bash -c W",
    ],
    "a script that `ssh` runs": [
        "ssh web1 restart W",
        "ssh -p 22 web1 restart W",
        "ssh -- web1 restart W",
        "timeout 5 ssh h W",
    ],
    "a script that `su` runs": ["su - ann -c W", "su -c W ann", "su --command=W ann"],
    "a script that `python` runs": ["python3 -c W", "/usr/bin/python3.11 -c 'print('W')'"],
    "a script that `eval` runs": ["eval echo W", 'eval "$(echo W)"'],
    "a script that": [
        "perl -e W",
        "node -e W",
        "trap W EXIT",
        "awk W f",
        "psql -c W",
        "watch W",
        "parallel W ::: a",
        "source <(echo W)",
        ". <(echo W)",
        "bash <(echo W)",
        "sed s/a/W/ f",
        "sed -n -e p -e s/a/W/p f",
        "sed -ne '/'W'/p' f",
        "find . -exec sed s/a/W/ {} \\;",
        "env -S W",
        "env -i A=1 -S'sh 'W",
        "env --split-string=W",
        "mapfile -C W -c1 l",
        "tcsh -c W",
        "sg wheel -c W",
        "systemd-run sh -c W",
        "rsync -e 'ssh '-pW a b:",
        "tar -xf a --to-command=W",
        "mariadb -e W",
        "Rscript -e W",
    ],
    "as part of a script that it reads": [
        "echo W | sh",
        "echo W | sudo bash -s",
        "echo W |\n  sh",
        "(echo W) | sh",
        "bash <<< W",
        "echo W | ssh web1",
        "echo W | xargs -I{} sh -c 'echo {}'",
        "echo W | xargs ssh web1",
        "echo W | python3",
        "echo W | source /dev/stdin",
        "sh < <(echo W)",
        "{ echo a; echo W; echo b; } | sh",
        "if a; then echo W; fi | sh",
        "for i in a; do if b; then echo W; fi; done | sh",
        "case a in a) echo W;; esac | sh",
        "function f { if a; then echo W; fi | sh; }",
    ],
}

SAFE = [
    "echo W",
    'echo "a"W"b"',
    "echo 'a' W 'b'",
    'echo "it\'s" W',
    "echo 'say \"' W",
    'echo \\" W',
    "echo a \\\n W",
    'echo "$(echo W)"',
    "echo $(echo W)",
    "cat <<X\n$(echo W)\nX",
    "cat <<X\nhello\nX\necho W",
    "cat <<X | grep W\nbody\nX\necho W",
    "cat <<< W",
    "echo a#W",
    "echo $# W",
    "sh -c 'echo \"$1\"' sh W",
    "bash script.sh W",
    "ssh W uptime",
    "ssh -- W uptime",
    "ssh -i key W uptime",
    "ssh web1 restart {{ Event.Payload.text|shellquote|shellquote }}",
    "python3 -c 'import sys' W",
    "python3 script.py W",
    "echo W | python3 script.py",
    "echo W | ssh web1 cat",
    "echo W | grep x",
    "grep W f | xargs rm",
    "echo W; echo a | sh",
    "(echo W)\nsh",
    "case W in a) echo W;; *) echo W;; esac",
    "for i in W; do echo W; done",
    "[[ W == a ]]",
    "find . -name W -exec sh -c 'rm \"$1\"' _ {} \\;",
    "xargs sh -c 'echo \"$@\"' _ W",
    "echo $((1+2)) ${A} W",
    "x=W y=W cmd W >W 2>&1 <W",
    "cmd &> W",
    "{% if Event.Payload.a %}echo 'x' W{% else %}echo W{% endif %} W",
    "{% for i in Event.Payload.l %}echo 'a' {{ i|shellquote }}; {% endfor %}",
    '{# " #}echo W',
    "{% comment %}'{% endcomment %}echo W",
    "awk -f prog W",
    "df -P W | tail -1 | awk '{ print $5 \" of \" $1 }'",
    "sudo systemctl restart W",
    "kubectl get node W",
    "sudo apt install bash W",
    "diff <(sort W) <(sort W)",
    "! grep W f",
    "echo 'a' W # it's a comment",
    "[ W -eq 3 ]",
    "[ -n W ]",
    "a[1]=W b+=W",
    "a=(W W) b=([1]=W)",
    "a=([1]=x W)",
    "declare -r a=W",
    "export A=W; readonly B=W",
    "f() { local a=W; echo W; }",
    "printf '%s' W",
    "printf -v a %s W",
    "read -r -p W -d W a",
    "mapfile -t a <<< W",
    "source lib.sh W",
    "bash script.sh <(echo W)",
    "diff <(echo W) W",
    "sed -f prog W",
    "sed s/a/b/ W",
    "sed -n -e p W",
    "sed --sandbox s/a/W/ f",
    "env A=W printenv A",
    "env -u A grep -S W f",
    "docker exec c test -v W",
    "find . -name W -exec grep -q x {} +",
    "for i in a; do (echo W); done",
    "if (grep W f); then :; fi",
    "f() { echo W; }; f W",
    "(echo W) && ( echo W )",
    "function f { echo W; }",
    "{ echo a; } | sh; { echo W; } | cat",
    "case a in (a) echo W;; (b) echo W;; esac",
    "while read -r a; do echo a; done < <(echo W) | cat",
    "echo $[1+2] W",
]


@pytest.mark.parametrize(
    ("place", "script"),
    [(place, script) for place, scripts in QUOTED.items() for script in scripts],
    ids=repr,
)
def test_quoting_that_does_not_protect_where_it_stands_is_advised_against(place, script):
    found = advice_on(script.replace("W", WORD))
    assert found
    assert all(place in advice for advice in found[:1])
    assert "shellquote }} " in found[0]
    assert "(it stands in line " in found[0]


@pytest.mark.parametrize("script", SAFE)
def test_quoting_that_protects_gets_no_advice(script):
    assert advice_on(script.replace("W", WORD)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        script
        for script in SAFE
        if "echo" in script and "ssh" not in script and "sudo" not in script
    ],
)
def test_a_script_without_advice_runs_nothing_of_what_an_outsider_sends(script, tmp_path):
    (tmp_path / "script.py").write_text("")
    for text in [
        "$(touch run)",
        "`touch run`",
        "'; touch run; '",
        '"; touch run; "',
        "\ntouch run\n",
        "X\ntouch run\nX",
        "\\'; touch run #",
    ]:
        event = {"Payload": {"text": text, "a": "x", "l": [text]}}
        rendered = template.compile(script.replace("W", WORD)).render({"Event": event})
        subprocess.run(
            ["bash", "-c", rendered],
            cwd=tmp_path,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert not (tmp_path / "run").exists(), rendered


def test_the_advice_says_where_in_the_script_and_how_to_fix_it():
    [advice] = advice_on(f'echo a\necho "{WORD}"')
    assert "stands in the double quotes that begin in line 2, column 6" in advice
    assert "hand the value over in 'env' instead, and write \"$NAME\" in the script" in advice
    assert "(it stands in line 2, column 10 of the script)" in advice
    [advice] = advice_on(f"ssh web1 'restart {WORD}'")
    assert "`ssh` runs them as a script" in advice
    assert "|shellquote|shellquote" in advice


def test_each_place_is_reported_once():
    found = advice_on(f'echo "{WORD}" "{{% if Event.Payload.a %}}{WORD}{{% endif %}}"')
    assert len(found) == 2


def test_words_of_outsiders_that_are_not_quoted_are_reported_wherever_they_are_printed():
    for script in (
        "{% cycle Event.Payload.a Event.Payload.b %}",
        "cat <<X\n{{ Event.Payload.a }}\nX",
        "echo `{{ Event.Payload.a }}`",
    ):
        assert "becomes part of a script as it is" in advice_on(script)[0]
    [advice] = advice_on("cat <<X\n{{ Event.Payload.a }}\nX")
    assert "hand the value over in 'env' instead" in advice


def test_a_context_that_is_quoted_is_followed():
    context = {"text": WORD}
    [advice] = advice_on("echo '{{ Context.text }}' {{ Context.text }}", context)
    assert "single quotes" in advice
    assert advice_on("echo {{ Context.text }}", context) == []


# ------------------------------------------------------------------------------ argv, env and stdin


def test_arguments_and_variables_need_no_quoting():
    told = "{{ Event.Payload.text }}"
    assert advice_on({"argv": ["df", "-P", "--", told], "env": {"TEXT": told}, "stdin": told}) == []
    assert advice_on({"script": 'echo "$TEXT"', "env": {"TEXT": told}}) == []
    assert advice_on({"argv": ["sh", "-c", 'echo "$1"', "sh", told]}) == []
    assert advice_on({"argv": ["ssh", "--", told, "uptime"]}) == []
    assert advice_on({"argv": ["test", "-v", told]}) == []
    assert advice_on({"argv": ["printf", "-v", told]}) == []


@pytest.mark.parametrize(
    ("command_input", "path", "words"),
    [
        (
            {"script": "echo {{ Event.Payload.text }}"},
            "input.script",
            "becomes part of a script as it is",
        ),
        ({"script": f"echo '{WORD}'"}, "input.script", "single quotes"),
        (
            {"argv": ["sh", "-c", "echo {{ Event.Payload.text }}"]},
            "argv[2]",
            "becomes part of a script as it is",
        ),
        ({"argv": ["sudo", "bash", "-lc", f"echo '{WORD}'"]}, "argv[3]", "single quotes"),
        (
            {"argv": ["ssh", "web1", "restart {{ Event.Payload.text }}"]},
            "argv[2]",
            "becomes part of a script as it is",
        ),
        (
            {"argv": ["python3", "-c", "print('{{ Event.Payload.text }}')"]},
            "argv[2]",
            "a program that `python` runs",
        ),
        ({"argv": ["{{ Event.Payload.text }}", "x"]}, "argv[0]", "choose which program runs"),
        (
            {"argv": ["echo", WORD]},
            "argv[1]",
            "the quotes become part of the value; leave out shellquote",
        ),
        ({"argv": ["sleep", 5]}, "argv[1]", "must be text; put it in quotes"),
        ({"script": "x", "env": {"A": WORD}}, "env.A", "leave out shellquote"),
        (
            {"script": "x", "env": {"PATH": "{{ Event.Payload.text }}"}},
            "env.PATH",
            "decides which programs run",
        ),
        (
            {"argv": ["bash"], "stdin": "echo {{ Event.Payload.text }}"},
            "input.stdin",
            "becomes part of a script as it is",
        ),
        ({"argv": ["cat"], "stdin": WORD}, "input.stdin", "leave out shellquote"),
    ],
)
def test_an_input_that_is_an_object_is_looked_at_part_by_part(command_input, path, words):
    [advice] = advice_on(command_input)
    assert path in advice.partition(":")[0]
    assert words in advice


# ------------------------------------------------------------------------------------------- limits


CONFUSING = {
    "quotes": "\"'" * 5_000,
    "substitutions": "$(" * 5_000,
    "arithmetic": "$((" * 5_000,
    "here-documents": "cat " + "<<X " * 2_000 + "\n",
    "branches": "{% if Event.Payload.a %}'{% endif %}" * 100,
    "loops": "{% for a in Event.Payload.l %}x ' " * 30 + "{% endfor %}" * 30,
    "backticks": "`" * 5_001,
    "backslashes": "\\" * 5_001,
}


@pytest.mark.parametrize("script", CONFUSING.values(), ids=CONFUSING)
def test_a_script_that_was_made_to_confuse_is_read_to_its_end(script):
    advice_on(f"{script}{WORD}{script}")
