#!/usr/bin/env python3
"""Makes and checks the documentation site; ./dev docs calls it.

site.py merge XML PAGES: copies docs/ to PAGES/pages, makes the reference beside it from Doxygen's XML and the headers' comments, and
writes PAGES/mkdocs.yml. Fails if a public name, or a public member of a class, has no comment.
site.py check SITE: checks each link and anchor of the built pages. Of addresses of other hosts only the form is checked."""
import html.parser
import os
import pathlib
import re
import shutil
import sys
import urllib.parse

sys.dont_write_bytecode = True
from reference import Reference  # noqa: E402


# ---- the pages of docs/

def page_text(page, text):
    """A page as the site has it. Files outside of docs/ are named, since the site does not have them, but for the programs of examples/,
    which get a link; each rule gets its anchor."""
    def target(match):
        said, path = match.group(1), match.group(2)
        if re.match(r"[a-z]+:|#", path):
            return match.group(0)
        where = os.path.normpath(os.path.join(os.path.dirname(page), path.split("#")[0]))
        return match.group(0) if where.startswith("docs/") else f"{said} (`{where}`)"

    out, in_code, before = [], False, ""
    for line in text.split("\n"):
        if re.match(r"\s*```", line):
            in_code = not in_code
        elif not in_code:
            if "](" in line:
                line = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", target, line) if re.search(r"\]\((?!\))[^)]*\)", line) else line
            line = re.sub(r"`examples/([\w/]+)\.cpp`", lambda m: f"[{m[0]}]({os.path.relpath('docs/examples', os.path.dirname(page))}/{m[1]}.cpp.txt)", line)
            item = re.match(r"(?:[*-]|\d+\.) ", line)
            if item and before.strip() and not re.match(r"\s*(?:[*-]|\d+\.) |  ", before):
                out.append("")
            if page == "docs/from_asyncio/rules.md":
                line = re.sub(r"^\| (\d+) \|", r'| <a id="rule-\1" href="#rule-\1">\1</a> |', line)
        out.append(line)
        before = line
    return "\n".join(out)


def merge(xml, pages):
    pages = pathlib.Path(pages)
    target = pages / "pages"
    shutil.rmtree(target, ignore_errors=True)
    for file in sorted(pathlib.Path("docs").rglob("*")):
        if file.is_dir():
            continue
        to = target / file.relative_to("docs")
        to.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            to.write_text(page_text(str(file), file.read_text()))
        else:
            shutil.copyfile(file, to)
    for file in pathlib.Path("examples").rglob("*.cpp"):
        to = target / f"{file}.txt"  # browsers show a .txt, and the search leaves it out
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
    reference = Reference(xml)
    reference.collect()
    nav = reference.write(target / "reference")
    lines = ["  - Reference:", "      - reference/index.md"]
    for part, under in nav:
        lines.append(f"      - {part}:")
        lines += [f"          - {title.split('/')[-1]}: reference/{page}" for title, page in under]
    config = pathlib.Path("mkdocs.yml").read_text()
    (pages / "mkdocs.yml").write_text(config.replace("  - Reference: reference/index.md", "\n".join(lines)))
    for line in reference.undocumented:
        print(line)
    return bool(reference.undocumented)


# ---- links

class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.links = set(), []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if attrs.get("id"):
            if attrs["id"] in self.ids and not attrs["id"].startswith("__"):
                self.links.append(("double", attrs["id"]))
            self.ids.add(attrs["id"])
        for name in ("href", "src"):
            if attrs.get(name) is not None:
                self.links.append((tag, attrs[name]))


def check(site):
    site = pathlib.Path(site).resolve()
    pages = {}
    for file in site.rglob("*.html"):
        pages[file] = Page()
        pages[file].feed(file.read_text())
    faults, number = set(), 0
    for file, page in pages.items():
        if file.name == "404.html":  # its links are of the server's root
            continue
        for tag, link in page.links:
            number += 1
            here = file.relative_to(site)
            if tag == "double":
                faults.add(f"{here}: two places have the anchor {link}")
                continue
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                if url.scheme not in ("http", "https", "mailto") or (url.scheme != "mailto" and "." not in url.netloc):
                    faults.add(f"{here}: this is no address: {link}")
                elif tag in ("script", "link", "img"):
                    faults.add(f"{here}: the page loads {link} from another host")
                continue
            to = (file.parent / urllib.parse.unquote(url.path)).resolve() if url.path else file
            if to.is_dir():
                to = to / "index.html"
            if not to.exists():
                faults.add(f"{here}: there is no {link}")
            elif url.fragment and to in pages and urllib.parse.unquote(url.fragment) not in pages[to].ids:
                faults.add(f"{here}: there is no anchor {link}")
    for fault in sorted(faults):
        print(fault)
    print(f"{len(pages)} pages, {number} links, {len(faults)} faults")
    return bool(faults) or not pages


if __name__ == "__main__":
    verbs = {"merge": merge, "check": check}
    sys.exit(verbs[sys.argv[1]](*sys.argv[2:]))
