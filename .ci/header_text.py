"""Reads the headers' comments as Markdown: .ci/reference.py makes the pages of the reference from them."""
import re

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

    for i, line in enumerate(lines):
        if line.startswith("     "):
            if prose:
                flush()
            code.append(line[5:])
        elif code and not line.strip() and "".join(lines[i + 1:i + 2]).startswith("     "):
            code.append("")  # an empty line of the example
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


def fields_of(comment, names):
    """The fields, of these names, that a struct's comment describes, as in "limit: how many may run, 0 for any number." -> {name: text}"""
    one = "|".join(sorted(names)) or "$"
    parts = re.split(rf"(?:(?<=[.;:] )|^)((?:{one})(?:(?:, | and )(?:{one}))*): ", " ".join(line.strip() for line in comment))
    return {name: text.strip()[0].upper() + text.strip()[1:] for told, text in zip(parts[1::2], parts[2::2]) if text.strip() for name in re.split(r", | and ", told)}


# ---- text

linked = {}  # a public name, without aio:: -> where it is described
here = {"namespace": "", "class": ""}  # where the text stands: what it names is looked for there first


def link_of(name):
    """Where the name is described that the text mentions, or None. A short name is that of a member of the class at hand, or of the same
    namespace, or of aio itself."""
    key = re.sub(r"<.*>|\(\)$", "", name)
    key = key[5:] if key.startswith("aio::") else key
    return next((linked[at] for at in (f"{here['class']}::{key}", here["namespace"] + key, key) if at in linked), None)


def title_of(page):
    with open(page, encoding="utf-8") as text:
        return next(line for line in text if line.startswith("# ")).lstrip("# ").strip()


def link_text(text):
    """Prose of a comment: names become code, and links to where they are described."""
    def word(match):
        name = match.group(0)
        if name.startswith("`"):
            return name
        if "_" in name or "::" in name or name.endswith(")") or name.startswith("~"):
            where = link_of(name)
            return f"[`{name}`]({where})" if where else f"`{name}`"
        return name

    parts = re.split(r"(`[^`]+`|(?<![\w./<:])[A-Za-z_~][\w]*(?:::~?[A-Za-z_]\w*)*(?:<[\w:, *&]*>)?(?:\(\))?)", text)
    out = []
    for i, part in enumerate(parts):
        if i % 2 and part:
            out.append(word(re.match(r".*", part, re.S)))
        else:
            out.append(re.sub(r"([*_\[\]|])", r"\\\1", part.replace("&", "&amp;").replace("<", "&lt;")))
    told = re.sub(r"\bdocs/(\w+/\w+\.md)", lambda page: f"[{title_of(page[0])}](../{page[1]})", re.sub(r"`(docs/[\w/]+\.md)`", r"\1", "".join(out).replace("\\_", "_")))
    return re.sub(r"\brules? \d+(?:(?:, | and | to )\d+)*", lambda rules: re.sub(r"\d+", r"[\g<0>](../from_asyncio/rules.md#rule-\g<0>)", rules[0]), told)
