"""Pages as a browser sees them."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Balanced(HTMLParser):
    """Raises when tags are not closed in order; collects text and addresses."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset")]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.stack == []
    return parser


def fits_a_phone(page: str, folder: Path) -> bool:
    """Lay out the page as narrow as Chromium goes, at most 500 px wide, in a frame of 390 px."""
    (folder / "page.html").write_text(page)
    probe = (
        '<body><iframe src="page.html" width="390" height="800" style="border:0" onload="document.title = '
        "contentWindow.innerWidth + '/' + contentDocument.documentElement.scrollWidth\"></iframe></body>"
    )
    (folder / "phone.html").write_text(probe)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += ["--dump-dom", f"--user-data-dir={folder / 'profile'}", (folder / "phone.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    window, content = re.findall(r"<title>(\d+)/(\d+)</title>", shown)[0]
    assert int(window) == 390
    return int(content) <= 390
