#!/usr/bin/env python3
"""Makes and checks the documentation site; ./dev docs calls it.

site.py merge XML PAGES: copies docs/ to PAGES/pages, makes the reference beside it from Doxygen's XML and the headers' comments, and
writes PAGES/mkdocs.yml. Doxygen says which names there are; the text is read from the headers themselves, so that it stands on the
page as it was written. Fails if a public name, or a public member of a class, has no comment.
site.py check SITE: checks each link and anchor of the built pages. Of addresses of other hosts only the form is checked."""
import html.parser
import os
import pathlib
import re
import shutil
import sys
import urllib.parse
import xml.etree.ElementTree as tree

INTERNAL = {"aio_awaiter", "detail_state", "entered_by_guard", "await_ready", "await_suspend", "await_resume", "operator new",
            "operator delete", "awaited_once", "promise_type", "value_type", "bound_to_task", "needs_block_scope"}
# What the library calls, or what every class has: these members stand on the page only if they have a comment.
UNSPOKEN = {"enter", "exit", "operator co_await", "revert", "before_finish", "postpone", "unpostpone", "unpark", "prev", "next", "start", "finish",
            "linked", "unlink", "give_to_next"}


# ---- reading the headers

def opening(lines):
    """The text of a header's opening comment, as Markdown: examples become code blocks."""
    return markdown([line[2:] for line in take_while(lines[1:], lambda line: line.startswith("//"))], link_text)


def take_while(lines, holds):
    taken = []
    for line in lines:
        if not holds(line):
            break
        taken.append(line)
    return taken


def markdown(lines, text):
    """Comment lines without their slashes as Markdown. Lines that are indented by five spaces are code."""
    out, prose, code = [], [], []

    def flush():
        nonlocal prose, code
        if prose:
            out.append(text(" ".join(prose)))
        if code:
            out.append("```cpp\n" + "\n".join(code).strip("\n") + "\n```")
        prose, code = [], []

    for line in lines:
        if line.startswith("     "):
            if prose:
                flush()
            code.append(line[5:])
        elif not line.strip():
            flush()
        else:
            if code:
                flush()
            prose.append(line.strip())
    flush()
    return "\n\n".join(out)


def comment_at(lines, number):
    """The /// lines above the declaration on this line (from 1), or else the comment behind it, or else the // lines right above it."""
    i = number - 2
    while i >= 0 and not lines[i].lstrip().startswith("///"):
        above = lines[i].strip()
        if above == "" or above.endswith((";", "}", "{", ":")) or above.startswith("//"):
            break
        i -= 1
    found = comment_lines_above(lines, i, "///")
    if found:
        return found
    for line in lines[number - 1:number + 2]:
        behind = re.search(r"[;,{}]\s*//\s(.*)$", line)
        if behind:
            return [" " + behind.group(1)]
        if not line.endswith("="):  # the declaration goes on
            break
    found = comment_lines_above(lines, number - 2, "//")
    return [] if any(re.match(r" (clang-format|NOLINT|An operation: see|For the library)", line) for line in found) else found


def comment_lines_above(lines, last, slashes):
    found = []
    while last >= 0 and lines[last].lstrip().startswith(slashes):
        found.insert(0, lines[last].lstrip()[len(slashes):])
        last -= 1
    return found


def fields_of(comment):
    """The fields that a struct's comment describes, as in "limit: how many may run, 0 for any number." -> {name: text}"""
    parts = re.split(r"(?:(?<=[.;:] )|^)([a-z]\w*(?:, [a-z]\w*| and [a-z]\w*)*): ", " ".join(line.strip() for line in comment))
    return {name: text[0].upper() + text[1:].strip() for names, text in zip(parts[1::2], parts[2::2]) if text for name in re.split(r", | and ", names)}


# ---- text

linked = {}  # a name that the text may mention -> where it is described


def link_text(text):
    """Prose of a comment: names become code, and links to where they are described."""
    def word(match):
        name = match.group(0)
        if name.startswith("`"):
            return name
        key = re.sub(r"<.*>|\(\)$", "", name)
        key = key[5:] if key.startswith("aio::") else key
        if "_" in name or "::" in name or name.endswith(")") or name.startswith("~"):
            return f"[`{name}`]({linked[key]})" if key in linked else f"`{name}`"
        return name

    parts = re.split(r"(`[^`]+`|(?<![\w./<])[A-Za-z_~][\w]*(?:::~?\w+)*(?:<[\w:, *&]*>)?(?:\(\))?)", text)
    out = []
    for i, part in enumerate(parts):
        if i % 2 and part:
            out.append(word(re.match(r".*", part, re.S)))
        else:
            out.append(re.sub(r"([*_\[\]|])", r"\\\1", part.replace("&", "&amp;").replace("<", "&lt;")))
    return re.sub(r"\b(rules? )(\d+)\b", r"\1[\2](../from_asyncio/rules.md#rule-\2)", "".join(out))


def plain(element):
    return "" if element is None else re.sub(r"\s+", " ", "".join(element.itertext())).strip()


def tidy(code):
    code = re.sub(r"\bAIO_\w+(\([^)]*\))?\s*|\[\[[^]]*\]\]\s*", "", code)
    code = re.sub(r"<\s+", "<", re.sub(r"\s+>", ">", code))
    return code.replace("aio::aio::", "aio::").strip()


def reader_type(code):
    """A type as a reader needs it: what is of aio::detail has no public name, so its use is said instead."""
    if re.match(r"(?:constexpr |inline |static |friend )*(?:(?:aio::)?detail::|\w+_operation$)", code):
        return "awaitable"
    return code


def template_of(element):
    params = element.find("templateparamlist")
    if params is None:
        return ""
    shown = []
    for param in params:
        kind, name = plain(param.find("type")), plain(param.find("declname"))
        default = plain(param.find("defval"))
        words = kind.split()
        if "enable_if" in kind or "detail::" in kind:
            kind = "class " + words[-1] if not name and len(words) > 1 else "class"
        shown.append(tidy(f"{kind} {name}") + (f" = {tidy(default)}" if default and "detail::" not in default else ""))
    return f"template<{', '.join(shown)}>\n"


def signature(member):
    kind, name = member.get("kind"), plain(member.find("name"))
    given = tidy(plain(member.find("type")))
    if kind == "function":
        args = tidy(plain(member.find("argsstring")))
        args = re.sub(r"\s*->.*detail::.*$", "", args)
        args = re.sub(r"\s*=\s*default$", "", args)
        result = reader_type(given)
        if plain(member.find("requiresclause")) and "detail::" not in plain(member.find("requiresclause")):
            args += "\n    requires " + plain(member.find("requiresclause"))
        line = f"{result} {name}{args}".strip()
        if member.get("explicit") == "yes" and not line.startswith("explicit"):
            line = "explicit " + line
        if member.get("static") == "yes" and not line.startswith("static"):
            line = "static " + line
        return template_of(member) + wrapped(line)
    if kind == "typedef":
        text = plain(member.find("definition"))
        return template_of(member) + (f"using {name} = see below" if "detail::" in given else f"using {name} = {given}")
    if kind == "enum":
        values = ", ".join(plain(v.find("name")) for v in member.findall("enumvalue"))
        return wrapped(f"enum {'class ' if member.get('strong') == 'yes' else ''}{name} {{ {values} }}")
    return template_of(member) + f"{given} {name}{tidy(plain(member.find('initializer'))) and ' ' + tidy(plain(member.find('initializer')))}"


def wrapped(line):
    """Breaks a long signature after the commas of its outermost parentheses."""
    if len(line) <= 96:
        return line
    start, depth, out = re.search(r"[({]", line), 0, ""
    if not start:
        return line
    for i, c in enumerate(line):
        depth += c in "({[<"
        depth -= c in ")}]" or (c == ">" and line[i - 1] != "-")
        out += c
        if depth == 1 and ((i == start.start()) or c == ","):
            out += "\n   " + ("" if line[i + 1:i + 2] == " " else " ")
    return out


# ---- what there is

class Reference:
    def __init__(self, xml):
        self.root = pathlib.Path.cwd()
        self.compounds = {}
        for file in sorted(pathlib.Path(xml).glob("*.xml")):
            if file.name in ("index.xml", "Doxyfile.xml"):
                continue
            for compound in tree.parse(file).getroot().findall("compounddef"):
                self.compounds[compound.get("id")] = compound
        self.text = {}
        self.pages = {}  # the header -> its entries (name, kind, element)
        self.undocumented = []

    def lines(self, file):
        path = self.root / file
        if file not in self.text:
            self.text[file] = path.read_text().split("\n") if path.exists() else []
        return self.text[file]

    def place(self, element):
        location = element.find("location")
        if location is None:
            return "", 0
        file = location.get("declfile") or location.get("file") or ""
        line = location.get("declline") or location.get("line") or 0
        return os.path.relpath(self.root / file, self.root), int(line)

    def comment(self, element):
        file, line = self.place(element)
        found = comment_at(self.lines(file), line)
        if not found:
            location = element.find("location")
            file = os.path.relpath(self.root / location.get("file"), self.root)
            found = comment_at(self.lines(file), int(location.get("line") or 0))
        return found

    def collect(self):
        for compound in self.compounds.values():
            name, kind = plain(compound.find("compoundname")), compound.get("kind")
            if not re.match(r"aio(::|$)", name) or "detail" in name or "@" in name or "<" in name:
                continue
            if kind in ("class", "struct", "concept") and compound.get("prot", "public") == "public":
                if plain(compound.find("compoundname")).count("::") and not self.nested_in_class(name):
                    self.add(name, kind, compound)
            if kind == "namespace":
                for section in compound.findall("sectiondef"):
                    for member in section.findall("memberdef"):
                        own = plain(member.find("name"))
                        if member.get("kind") in ("function", "typedef", "enum", "variable") and "@" not in own:
                            self.add(f"{name}::{own}", member.get("kind"), member)

    def nested_in_class(self, name):
        outer = name.rsplit("::", 1)[0]
        return any(plain(c.find("compoundname")) == outer and c.get("kind") in ("class", "struct") for c in self.compounds.values())

    def add(self, name, kind, element):
        file, _ = self.place(element)
        if not file.startswith("include/aio/"):
            return
        header = file[len("include/"):]
        if "/detail/" in header:
            header = "shared"
        entries = self.pages.setdefault(header, {})
        entries.setdefault(name, []).append((kind, element))

    # ---- pages

    def page_name(self, header):
        return header.replace("aio/", "").replace(".hpp", "").replace("/", "_") + ".md"

    def anchor(self, name):
        return re.sub(r"[^a-z0-9_]+", "-", name.replace("aio::", "").lower().replace("~", "destroy-")).strip("-") or "operator"

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        for header, entries in self.pages.items():
            for name in entries:
                short = name[len("aio::"):]
                linked[short] = f"{self.page_name(header)}#{self.anchor(name)}"
        for short in list(linked):
            linked.setdefault(short.rsplit("::", 1)[-1], linked[short])
        nav = []
        index = ["# Reference", "This is every public name, by the header that declares it. The pages are made from the headers' comments; a name or a member "
                 "without a comment fails the build. Where a signature says `awaitable`, the type has no public name: await the result at once."]
        groups = {}
        for header in sorted(self.pages):
            part = header.split("/")[1] if header.count("/") > 1 else "core"
            groups.setdefault(part, []).append(header)
        for part in ["core"] + sorted(g for g in groups if g != "core"):
            index.append(f"## {'aio' if part == 'core' else 'aio::' + part}")
            rows, under = ["| header | names |", "| --- | --- |"], []
            for header in groups.get(part, []):
                page = self.page_name(header)
                (folder / page).write_text(self.page(header))
                names = ", ".join(f"[`{n.split('::')[-1]}`]({page}#{self.anchor(n)})" for n in self.pages[header])
                rows.append(f"| [{header}]({page}) | {names} |")
                under.append((header.replace("aio/", "").replace(".hpp", ""), page))
            index.append("\n".join(rows))
            nav.append((part, under))
        (folder / "index.md").write_text("\n\n".join(index) + "\n")
        return nav

    def page(self, header):
        file = "include/" + header
        stem = header.rsplit("/", 1)[-1].replace(".hpp", "")
        if header == "shared":
            out = ["# Shared types", "These types are used by several headers, each of which includes them."]
        else:
            out = [f"# {header}", f"```cpp\n#include <{header}>\n```", opening(self.lines(file))]
        # The class that the header is named for comes first.
        for name, elements in sorted(self.pages[header].items(), key=lambda entry: entry[0].rsplit("::", 1)[-1] != stem):
            out.append(f"## {name[len('aio::'):].replace('<', '&lt;').replace('*', chr(92) + '*')} {{ #{self.anchor(name)} }}")
            documented = name.rsplit("::", 1)[-1] == stem
            for kind, element in elements:
                comment = self.comment(element)
                documented = documented or bool(comment)
                if kind in ("class", "struct", "concept"):
                    out.append(f"```cpp\n{template_of(element)}{kind} {name};\n```")
                else:
                    out.append(f"```cpp\n{signature(element)};\n```")
                if comment:
                    out.append(markdown(comment, link_text))
                if kind == "enum":
                    out += self.enum_values(element)
                if kind in ("class", "struct"):
                    out += self.members(name, element)
            if not documented:
                where, line = self.place(elements[0][1])
                self.undocumented.append(f"{where}:{line}: {name} has no comment")
        return "\n\n".join(out) + "\n"

    def enum_values(self, element):
        rows = []
        for value in element.findall("enumvalue"):
            for line in self.lines(self.place(element)[0])[self.place(element)[1] - 1:]:
                said = re.match(rf"\s*{re.escape(plain(value.find('name')))}\b.*//\s(.*)", line)
                if said:
                    rows.append(f"* `{plain(value.find('name'))}`: {link_text(said.group(1))}")
                    break
        return ["\n".join(rows)] if rows else []

    def obvious(self, own, called, member):
        """Whether a member needs no comment: a constructor without arguments, or one that copies or moves; a destructor."""
        arguments = re.sub(r"^\(|\).*$", "", plain(member.find("argsstring")))
        return called == "~" + own or (called == own and (not arguments or re.match(rf"(const )?{own}(<[^>]*>)? ?&", arguments) is not None))

    def to_be_shown(self, own, called, members):
        """Whether these members stand on the page. An override is described where it is declared first."""
        unspoken = called in UNSPOKEN or all(re.search(r"\b(override|final)\b", plain(m.find("argsstring"))) or m.find("reimplements") is not None for m in members)
        return not (unspoken or all(self.obvious(own, called, m) for m in members)) or any(self.comment(m) for m in members)

    def said_in_using(self, compound, called):
        """The comment of `using base::called;` in the class."""
        location = compound.find("location")
        lines = self.lines(os.path.relpath(self.root / location.get("bodyfile", ""), self.root))
        for number in range(int(location.get("bodystart") or 0), int(location.get("bodyend") or 0)):
            if re.search(rf"using [\w:<>]+::{re.escape(called)};", lines[number]):
                return comment_at(lines, number + 1)
        return []

    def members(self, name, compound, seen=None, of_class=None):
        """The public members of a class, and those that it has from bases without a public name."""
        out, seen = [], set() if seen is None else seen
        own = name.rsplit("::", 1)[-1]
        fields, compound_of = fields_of(self.comment(compound)), compound if of_class is None else of_class
        groups = {}
        for section in compound.findall("sectiondef"):
            for member in section.findall("memberdef"):
                called = plain(member.find("name"))
                if (member.get("prot") != "public" or member.get("kind") not in ("function", "variable", "typedef", "enum") or called in INTERNAL or called.endswith("_operation")
                        or called.startswith("detail_") or "@" in called or called in seen or "detail::" in plain(member.find("argsstring"))):
                    continue
                if plain(member.find("argsstring")).endswith("=delete") or called.startswith("operator="):
                    continue
                groups.setdefault(called, []).append(member)
        of_base = plain(compound.find("compoundname")).rsplit("::", 1)[-1]
        for called, members in groups.items():
            seen.add(called)
            if not self.to_be_shown(of_base, called, members):
                continue
            if called == "~" + of_base:
                called = "~" + own  # the destructor of a base that has no public name
            title = called.replace("<", "&lt;").replace("*", "\\*")
            out.append(f"### {title} {{ #{self.anchor(name)}-{self.anchor(called)}{'-operator' if called.startswith('operator') and not self.anchor(called)[8:] else ''}{len(seen) if called.startswith('operator') else ''} }}")
            documented = False
            for member in members:
                shown = re.sub(rf"\b{of_base}(?=\(|::)", own, signature(member))
                out.append(f"```cpp\n{shown};\n```")
                comment = self.comment(member)
                documented = documented or bool(comment)
                if comment:
                    out.append(markdown(comment, link_text))
            if not documented and called in fields:
                out.append(link_text(fields[called]))
            elif not documented and self.said_in_using(compound_of, called):
                out.append(markdown(self.said_in_using(compound_of, called), link_text))
            elif not documented and not all(self.obvious(of_base, called, member) for member in members):
                where, line = self.place(members[0])
                self.undocumented.append(f"{where}:{line}: {name}::{called} has no comment")
        for base in compound.findall("basecompoundref"):
            if base.get("prot") != "public":
                continue
            of = self.compounds.get(base.get("refid"))
            base_name = re.sub(r"\s*<.*", "", plain(base))
            if of is not None and "detail" in plain(of.find("compoundname")):
                out += self.members(name, of, seen | {plain(of.find("compoundname")).rsplit("::", 1)[-1]}, compound_of)
            elif base_name.replace("aio::", "") in linked:
                out.insert(0, f"Derives from [`{base_name}`]({linked[base_name.replace('aio::', '')]}).")
        return out


# ---- the pages of docs/

def page_text(page, text):
    """A page as the site has it. Files outside of docs/ are named, since the site does not have them; each rule gets its anchor."""
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
            spans = re.split(r"(`[^`]*`)", line)
            if "](" in line:
                line = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", target, line) if re.search(r"\]\((?!\))[^)]*\)", line) else line
            del spans
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
