"""Links that leave docs/, in the built site.

Pages are read in the repository too, where links to source files and to results work. In the site such a link becomes
its text and the path as code; a picture from outside docs/ is copied.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

CODE = re.compile(r"(^(?P<fence>```+|~~~+).*?^(?P=fence)[ \t]*$|`+[^`\n]*`+)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\((?P<target>[^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return the page with links that leave docs/ as text; code is left alone."""
    folder = posixpath.dirname(page.file.src_uri)
    code: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        code.append(match[0])
        return f"\0{len(code) - 1}\0"

    def put_back(text: str) -> str:
        return re.sub(r"\0(\d+)\0", lambda match: code[int(match[1])], text)

    def rewrite(match: re.Match[str]) -> str:
        target, text = match["target"], put_back(match["text"])
        path = target.partition("#")[0]
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        inside = posixpath.normpath(posixpath.join(folder, path))
        if not inside.startswith(("../", "scripts/")):  # scripts are no pages
            return match[0]
        outside = posixpath.normpath(posixpath.join("docs", inside))
        if match["image"]:
            return f"![{text}]({posixpath.relpath(_copied(outside, config, files), folder or '.')})"
        return text if outside in text else f"{text} (`{outside}`)"

    return put_back(LINK.sub(rewrite, CODE.sub(put_aside, markdown)))


def _copied(path: str, config: Any, files: Any) -> str:
    """Add a file of the repository to the site and return where it lies there."""
    from mkdocs.structure.files import File

    place = f"outside/{path}"
    if files.get_file_from_path(place) is None:
        root = Path(config.config_file_path).parent
        files.append(File.generated(config, place, abs_src_path=str(root / path)))
    return place
