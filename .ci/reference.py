"""Makes the pages of the reference, one a public header. Doxygen says which names there are; the text is read from the headers themselves,
so that it stands on the page as it was written. Notes each public name, or public member of a class, that has no comment."""
import os
import pathlib
import re
import xml.etree.ElementTree as tree

from header_text import comment_at, fields_of, here, link_text, linked, markdown, opening
from signatures import declared, plain, signature, spoken, template_of, wrapped

INTERNAL = {"aio_awaiter", "detail_state", "entered_by_guard", "await_ready", "await_suspend", "await_resume", "operator new",
            "operator delete", "awaited_once", "promise_type", "value_type", "bound_to_task", "needs_block_scope"}
# What the library calls, or what every class has: these members stand on the page only if they have a comment.
UNSPOKEN = {"enter", "exit", "operator co_await", "revert", "before_finish", "postpone", "unpostpone", "unpark", "prev", "next", "start", "finish",
            "linked", "unlink", "give_to_next"}


def shown(code):
    return f"``` {{ .cpp .signature }}\n{code};\n```"


class Reference:
    def __init__(self, xml):
        self.root = pathlib.Path.cwd()
        self.compounds = {}
        for file in sorted(pathlib.Path(xml).glob("*.xml")):
            if file.name in ("index.xml", "Doxyfile.xml"):
                continue
            for compound in tree.parse(file).getroot().findall("compounddef"):
                self.compounds[compound.get("id")] = compound
                name = plain(compound.find("compoundname"))
                if name.startswith("aio::detail::") and "<" not in name:
                    declared[name[len("aio::detail::"):]] = compound
                for member in compound.findall("sectiondef/memberdef"):
                    if member.get("kind") == "typedef" and plain(member.find("name")).endswith("_operation"):
                        declared[plain(member.find("name"))] = member
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
                if name.count("::") and (not self.nested_in_class(name) or self.comment(compound)):
                    self.add(name, kind, compound)
            if kind == "namespace":
                for section in compound.findall("sectiondef"):
                    for member in section.findall("memberdef"):
                        own = plain(member.find("name"))
                        if member.get("kind") in ("function", "typedef", "enum", "variable") and "@" not in own and not plain(member.find("argsstring")).endswith("=delete"):
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
            twins = self.twins(header)
            for name, elements in entries.items():
                short = name[len("aio::"):]
                linked[short] = f"{self.page_name(header)}#{self.anchor(name)}"
                for kind, element in elements:
                    if kind in ("class", "struct"):
                        at = self.anchor(twins.get(name, name))
                        for called, members, _ in self.gathered(element, set()):
                            if not called.startswith("operator"):
                                anchor = f"#{at}-{self.anchor(called)}" if members[0].get("kind") == "function" else f"#{at}"
                                linked[f"{short}::{called}"] = self.page_name(header) + anchor
        nav, groups = [], {}
        index = ["# Reference", "This is every public name, by the header that declares it. The pages are made from the headers' comments; a name or a member "
                 "without a comment fails the build. Where a signature says `awaitable<T>`, the type has no public name: await the result at once, which gives a T. Where it "
                 "says `callable<R(A)>`, give any function or function object that can be called so: it is moved or copied in."]
        for header in sorted(set(self.pages) | set(self.nameless())):
            part = re.match(r"aio/(\w+)/|aio/(http|sql|jetstream)\b|aio/(\w+)_json\b|", header)
            groups.setdefault(next(filter(None, part.groups()), "core"), []).append(header)
        for part in ["core"] + sorted(g for g in groups if g != "core"):
            index.append(f"## {'aio' if part == 'core' else 'aio::' + part}")
            rows, under = ["| header | |", "| --- | --- |"], []
            for header in groups[part]:
                page, entries = self.page_name(header), self.pages.get(header, {})
                text = self.page(header)
                (folder / page).write_text(self.front_matter(header) + text)
                about = "Types that several headers use." if header == "shared" else re.split(r"(?<=[.:;]) |\n", self.opening_of(header))[0].rstrip(";:,")
                names = ", ".join(f"[`{n.split('::')[-1]}`]({page}#{self.anchor(n)})" for n in self.in_order(header, entries))
                rows.append(f"| [{header.replace('aio/', '')}]({page}) | {about}{'.' if about[-1] != '.' else ''}<br>{names} |")
                under.append((header.replace("aio/", "").replace(".hpp", ""), page))
                self.undocumented += [f"{page}: a signature has a name of aio::detail: {line}" for line in self.code_of(text) if re.search(r"\bdetail(::|_)", line)]
            index.append("\n".join(rows))
            nav.append((part, under))
        (folder / "index.md").write_text("\n\n".join(index) + "\n")
        return nav

    def front_matter(self, header):
        """A tag for the page of a name that begins other names, as `queue` begins queue_full: the search puts pages with a tag before all
        others, and would prefer the longer names, since they are rarer words. The search ignores `with`, but not `with_`."""
        stem = header.rsplit("/", 1)[-1].replace(".hpp", "")
        if "aio::" + stem not in self.pages.get(header, {}):
            return ""
        shorts = [name.rsplit("::", 1)[-1] for names in self.pages.values() for name in names]
        begins = any(short.startswith(stem) and short != stem and not re.fullmatch(rf"{stem}_(options|statistics)", short) for short in shorts)
        return f"---\ntags: [{stem}{'_' if stem == 'with' else ''}]\n---\n\n" if begins or stem == "with" else ""

    def nameless(self):
        """The public headers that declare no name of their own: those that include others, and those that specialise a template."""
        headers = [str(file.relative_to(self.root / "include")) for file in (self.root / "include/aio").rglob("*.hpp")]
        return [header for header in headers if "/detail/" not in header and header not in self.pages]

    def in_order(self, header, entries):
        """The names of a header as a reader needs them: the one that the header is named for, then the others as they stand there, then
        errors, enums and tags, and options."""
        stem = header.rsplit("/", 1)[-1].replace(".hpp", "")

        def rank(entry):
            name, (kind, element) = entry[0].rsplit("::", 1)[-1], entry[1][0]
            tag = name.endswith("_t") or f"{entry[0]}_t" in entries  # a type that only chooses an overload, and its value
            return name != stem, name.endswith(("options", "_statistics")), tag or kind == "enum", self.is_error(element), self.place(element)

        return dict(sorted(entries.items(), key=rank))

    def twins(self, header):
        """{a class: another one of the page that has the same members, because both have them all from the same base}"""
        first, found = {}, {}
        for name, elements in self.in_order(header, self.pages[header]).items():
            kind, element = elements[0]
            bases = [base.get("refid") for base in element.findall("basecompoundref")]
            if kind == "class" and len(bases) == 1 and all(base != name.rsplit("::", 1)[-1] for _, _, base in self.gathered(element, set())):
                if first.setdefault(bases[0], name) != name:
                    found[name] = first[bases[0]]
        return found

    def is_error(self, element):
        """Whether this is a class that derives from an exception of the standard library."""
        bases = element.findall("basecompoundref")
        return any(plain(base).startswith("std::") or (base.get("refid") in self.compounds and self.is_error(self.compounds[base.get("refid")])) for base in bases)

    def code_of(self, text):
        """The lines of the signatures of a page."""
        return [line for block in re.findall(r"^#{2,3} .*?(?=^#|\Z)", text, re.M | re.S) for code in re.findall(r"\.signature }\n(.*?)```|`` (.*?) ``", block, re.S)
                for line in "".join(code).split("\n")]

    def opening_of(self, header):
        stem = header.rsplit("/", 1)[-1].replace(".hpp", "")
        here.update({"namespace": "::".join(header.split("/")[1:-1] + [""])})
        here["class"] = here["namespace"] + stem
        return opening(self.lines("include/" + header))

    def page(self, header):
        stem = header.rsplit("/", 1)[-1].replace(".hpp", "")
        if header == "shared":
            out = ["# Shared types", "These types are used by several headers, each of which includes them."]
        else:
            out = [f"# {header}", f"```cpp\n#include <{header}>\n```", self.opening_of(header)]
        if header not in self.pages and header != "shared":
            lines = self.lines("include/" + header)
            comments = [comment_at(lines, i + 1) for i, line in enumerate(lines) if i and lines[i - 1].startswith("///") and not line.startswith("///")]
            return "\n\n".join(out + [markdown(comment, link_text) for comment in comments]) + "\n"
        twins = self.twins(header)
        for name, elements in self.in_order(header, self.pages[header]).items():
            here.update({"namespace": "".join(part + "::" for part in name.split("::")[1:-1]), "class": name[len("aio::"):]})
            out.append(f"## {name[len('aio::'):].replace('<', '&lt;').replace('*', chr(92) + '*')} {{ #{self.anchor(name)} }}")
            documented = name.rsplit("::", 1)[-1] == stem
            for kind, element in elements:
                comment = self.comment(element)
                documented = documented or bool(comment)
                if kind in ("class", "struct", "concept"):
                    out.append(shown(f"{template_of(element)}{kind} {name}"))
                else:
                    out.append(shown(signature(element)))
                if comment and not (kind == "struct" and re.match(rf" ({'|'.join(self.fields(element)) or '$'})[:, ]", comment[0])):
                    out.append(markdown(comment, link_text))
                if kind == "enum":
                    out += self.enum_values(element)
                if name in twins:
                    out.append(f"It has the same members as [`{twins[name]}`](#{self.anchor(twins[name])}).")
                elif kind in ("class", "struct"):
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
        if any(re.match(r" ?For the library", line) for m in members for line in self.comment(m)[:1]):
            return False
        unspoken = called in UNSPOKEN or all(re.search(r"\b(override|final)\b", plain(m.find("argsstring"))) or m.find("reimplements") is not None for m in members)
        return not (unspoken or all(self.obvious(own, called, m) for m in members)) or any(self.comment(m) for m in members)

    def line_of_using(self, compound, called):
        """The lines of the class's header, and the number of the line `using base::called;` in the class, or None."""
        location = compound.find("location")
        lines = self.lines(os.path.relpath(self.root / location.get("bodyfile", ""), self.root))
        for number in range(int(location.get("bodystart") or 0), int(location.get("bodyend") or 0)):
            if re.search(rf"using [\w:<>, ]+::{re.escape(called)};", lines[number]):
                return lines, number + 1
        return lines, None

    def said_in_using(self, compound, called):
        """The comment of `using base::called;` in the class."""
        lines, number = self.line_of_using(compound, called)
        return comment_at(lines, number) if number else []

    def members(self, name, compound):
        """The public members of a class, and those that it has from bases without a public name: constructors, then functions and types in
        the header's order, then operator bool, the fields as a table, and the destructor."""
        own, out, fields, last, operators = name.rsplit("::", 1)[-1], [], [], [], 0
        for called, members, of_base in sorted(self.gathered(compound, set()), key=lambda entry: (entry[0] != own, entry[0] == "operator bool")):
            said = self.said_of(name, compound, called, members, of_base)
            if all(member.get("kind") == "variable" and member.get("static") != "yes" for member in members):
                code = re.sub(r"\s+", " ", signature(members[0])).replace("|", "\\|")
                text = re.sub(r"\s*\n\s*", " ", " ".join(filter(None, said)))
                fields.append(f"| `` {code} `` | {text[:1].upper() + text[1:]} |")
                continue
            operators += called.startswith("operator")
            title = called.replace("<", "&lt;").replace("*", "\\*")
            anchor = f"{self.anchor(name)}-{self.anchor(called)}{operators if called.startswith('operator') else ''}"
            block = [f"### {title} {{ #{anchor} }}"]
            for member, text in zip(members, said):
                block.append(shown(re.sub(rf"\b{of_base}(?=[(]|::)", own, signature(member))))
                block += [text] if text else []
            (last if called.startswith("~") else out).append("\n\n".join(block + said[len(members):]))
        if fields:
            out.append("\n".join(["| field | |", "| --- | --- |"] + fields))
        for base in compound.findall("basecompoundref"):
            base_name = re.sub(r"\s*<.*", "", plain(base)).replace("aio::", "", 1)
            if base.get("prot") == "public" and base_name in linked:
                out.insert(0, f"Derives from [`aio::{base_name}`]({linked[base_name]}).")
        return out + last

    def fields(self, compound):
        """What the comment of a struct says of its fields. Their names are read from the header: Doxygen loses one that is called local."""
        location = compound.find("location")
        body = self.lines(self.place(compound)[0])[int(location.get("bodystart") or 0):int(location.get("bodyend") or 0)]
        return fields_of(self.comment(compound), re.findall(r"(\w+)(?: = [^;]*|{})?;", "\n".join(body)))

    def gathered(self, compound, seen, outer=None):
        """[(name, members, the class that declares them)], in the header's order, without what no reader needs. The members of a
        base stand where the class first names one of them with `using`, or else behind the class's own members."""
        groups, of_base = {}, plain(compound.find("compoundname")).rsplit("::", 1)[-1]
        own = outer or of_base
        declared = [member for section in compound.findall("sectiondef") for member in section.findall("memberdef")]
        for member in sorted(declared, key=self.place):
            called, args = plain(member.find("name")), plain(member.find("argsstring"))
            if member.get("prot") != "public" or member.get("kind") not in ("function", "variable", "typedef", "enum"):
                continue
            if (called in INTERNAL or called.endswith("_operation") or called.startswith(("detail_", "operator=")) or "@" in called or called in seen
                    or "detail::" in spoken(args) or args.endswith("=delete")):
                continue
            groups.setdefault(called, []).append(member)
        found = []
        for called, members in groups.items():
            seen.add(called)
            if self.to_be_shown(of_base, called, members):
                found.append((self.place(members[0])[1], ("~" + own if called == "~" + of_base else own if called == of_base else called, members, of_base)))
        for base in compound.findall("basecompoundref"):
            of = self.compounds.get(base.get("refid"))
            if base.get("prot") == "public" and of is not None and "detail" in plain(of.find("compoundname")):
                base_name = plain(of.find("compoundname")).rsplit("::", 1)[-1]
                inherits_constructors = self.line_of_using(compound, base_name)[1]
                entries = self.gathered(of, seen if inherits_constructors else seen | {base_name}, own)
                named = [line for line in (self.line_of_using(compound, called)[1] for called, _, _ in entries) if line]
                found += [(min(named, default=float("inf")), entry) for entry in entries]
        return [entry for _, entry in sorted(found, key=lambda placed: placed[0])]

    def said_of(self, name, compound, called, members, of_base):
        """What is said of each of these members, and behind it what is said of them together."""
        said = [markdown(self.comment(member), link_text) for member in members]
        fields = self.fields(compound)
        if not any(said) and called in fields:
            said.append(link_text(fields[called]))
        elif not any(said) and self.said_in_using(compound, called):
            said.append(markdown(self.said_in_using(compound, called), link_text))
        elif not any(said) and not all(self.obvious(of_base, called, member) for member in members):
            where, line = self.place(members[0])
            self.undocumented.append(f"{where}:{line}: {name}::{called} has no comment")
        return said
