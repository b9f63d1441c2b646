"""The placeholder text."""

from random import Random

from flyteops.template.state import RenderState

_PARAGRAPHS = (
    (
        "Lorem ipsum dolor sit amet, consectetur adipisici elit, sed eiusmod tempor incidunt ut"
        " labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco"
        " laboris nisi ut aliquid ex ea commodi consequat. Quis aute iure reprehenderit in"
        " voluptate velit esse cillum dolore eu fugiat nulla pariatur. Excepteur sint obcaecat"
        " cupiditat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum."
    ),
    (
        "Duis autem vel eum iriure dolor in hendrerit in vulputate velit esse molestie consequat,"
        " vel illum dolore eu feugiat nulla facilisis at vero eros et accumsan et iusto odio"
        " dignissim qui blandit praesent luptatum zzril delenit augue duis dolore te feugait nulla"
        " facilisi. Lorem ipsum dolor sit amet, consectetuer adipiscing elit, sed diam nonummy nibh"
        " euismod tincidunt ut laoreet dolore magna aliquam erat volutpat."
    ),
    (
        "Ut wisi enim ad minim veniam, quis nostrud exerci tation ullamcorper suscipit lobortis"
        " nisl ut aliquip ex ea commodo consequat. Duis autem vel eum iriure dolor in hendrerit in"
        " vulputate velit esse molestie consequat, vel illum dolore eu feugiat nulla facilisis at"
        " vero eros et accumsan et iusto odio dignissim qui blandit praesent luptatum zzril delenit"
        " augue duis dolore te feugait nulla facilisi."
    ),
    (
        "Nam liber tempor cum soluta nobis eleifend option congue nihil imperdiet doming id quod"
        " mazim placerat facer possim assum. Lorem ipsum dolor sit amet, consectetuer adipiscing"
        " elit, sed diam nonummy nibh euismod tincidunt ut laoreet dolore magna aliquam erat"
        " volutpat. Ut wisi enim ad minim veniam, quis nostrud exerci tation ullamcorper suscipit"
        " lobortis nisl ut aliquip ex ea commodo consequat."
    ),
    (
        "Duis autem vel eum iriure dolor in hendrerit in vulputate velit esse molestie consequat,"
        " vel illum dolore eu feugiat nulla facilisis."
    ),
    (
        "At vero eos et accusam et justo duo dolores et ea rebum. Stet clita kasd gubergren, no sea"
        " takimata sanctus est Lorem ipsum dolor sit amet. Lorem ipsum dolor sit amet, consetetur"
        " sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore magna"
        " aliquyam erat, sed diam voluptua. At vero eos et accusam et justo duo dolores et ea"
        " rebum. Stet clita kasd gubergren, no sea takimata sanctus est Lorem ipsum dolor sit amet."
        " Lorem ipsum dolor sit amet, consetetur sadipscing elitr, At accusam aliquyam diam diam"
        " dolore dolores duo eirmod eos erat, et nonumy sed tempor et et invidunt justo labore Stet"
        " clita ea et gubergren, kasd magna no rebum. sanctus sea sed takimata ut vero voluptua."
        " est Lorem ipsum dolor sit amet. Lorem ipsum dolor sit amet, consetetur sadipscing elitr,"
        " sed diam nonumy eirmod tempor invidunt ut labore et dolore magna aliquyam erat."
    ),
    (
        "Consetetur sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore"
        " magna aliquyam erat, sed diam voluptua. At vero eos et accusam et justo duo dolores et ea"
        " rebum. Stet clita kasd gubergren, no sea takimata sanctus est Lorem ipsum dolor sit amet."
        " Lorem ipsum dolor sit amet, consetetur sadipscing elitr, sed diam nonumy eirmod tempor"
        " invidunt ut labore et dolore magna aliquyam erat, sed diam voluptua. At vero eos et"
        " accusam et justo duo dolores et ea rebum. Stet clita kasd gubergren, no sea takimata"
        " sanctus est Lorem ipsum dolor sit amet. Lorem ipsum dolor sit amet, consetetur sadipscing"
        " elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore magna aliquyam erat,"
        " sed diam voluptua. At vero eos et accusam et justo duo dolores et ea rebum. Stet clita"
        " kasd gubergren, no sea takimata sanctus est Lorem ipsum dolor sit amet."
    ),
)
_WORDS = " ".join(_PARAGRAPHS).split()


def lorem(state: RenderState, count: int, kind: str, chance: Random | None) -> None:
    """Print so many words (w), paragraphs in HTML (p) or plain paragraphs (b).

    They are taken from the start, or by chance.
    """
    pieces = _WORDS if kind == "w" else _PARAGRAPHS
    before, after = ("<p>", "</p>") if kind == "p" else ("", "")
    separator = " " if kind == "w" else "\n"
    for index in range(count):
        state.charge(1)
        piece = pieces[chance.randrange(len(pieces)) if chance is not None else index % len(pieces)]
        state.write((separator if index else "") + before + piece + after)
