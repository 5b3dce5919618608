"""The signatures of the reference, from Doxygen's XML, without the names of aio::detail."""
import re


def plain(element):
    return "" if element is None else re.sub(r"\s+", " ", "".join(element.itertext())).strip()


def tidy(code):
    code = re.sub(r"\bAIO_\w+(\([^)]*\))?\s*|\[\[[^]]*\]\]\s*", "", code)
    return spoken(code).replace("aio::aio::", "aio::").strip()


# What has no public name, as a signature shows it.
SPOKEN = [(r"(?:aio::)?detail::function<", "callable<"), (r"detail::awaited_t<(\w+)>", r"/* what \1 gives */"),
          (r"detail::race_result_t<A...>", "std::variant</* what each gives */>"), (r"std::remove_cvref_t<detail::element_t<R>>", "/* what R has */"),
          (r"detail::options_of_main", "/* as main() has them */"), (r"constexpr detail::(?:enumerate|flatten)_adaptor", "/* adaptor */"),
          (r"std::remove_reference_t<(\w+)>", r"\1"), (r"detail::(?:template_)?collector<C>", "/* adaptor */"), (r"detail::http_handler", "/* handler */"),
          (r"const typename detail::http_json_text<Json>::value_type\b", "const nlohmann::json")]


def spoken(code):
    code = re.sub(r"<\s+", "<", re.sub(r"\s+>", ">", code)).strip()
    if "/*" not in code:
        code = re.sub(r"\s*(&&?|\*)\s*(?=\w)", r"\1 ", code)
        code = re.sub(r"(?<=\w)=(?=[\w{\"'-])", " = ", code)
        code = re.sub(r"(?<![:\w])(coro|task|future|thread_future)(?=$|[>&]|\*| \w+[,)])", r"\1<>", code)  # Doxygen leaves the <> out
        code = re.sub(r"\)\s*(?=&)", ") ", re.sub(r"\s+(&+|\*)(?=[),>.]|$)", r"\1", code))
    for unnamed, said in SPOKEN:
        code = re.sub(unnamed, said, code)
    return code


declared = {}  # a class, or an alias, of aio::detail -> its element


def reader_type(code):
    """A type as a reader needs it: what is of aio::detail has no public name, so what awaiting it gives is said instead."""
    bare = re.sub(r"\b(constexpr|inline|static|friend) ", "", code)
    given = given_by(bare)
    if given is None and not re.match(r"(?:aio::)?detail::|\w+_operation$", bare):
        return code
    return "awaitable" if given is None else f"awaitable<{'' if given == 'void' else spoken(given)}>"


def given_by(code, depth=0):
    """What awaiting a type of aio::detail gives, as its await_resume() says, or the function that this calls; None if it cannot be known."""
    name, arguments = re.match(r"(?:aio::)?(?:detail::)?([\w:]*)\s*(?:<(.*)>)?", code).groups()
    of = declared.get(name)
    if of is None or depth > 4:
        return None
    parameters = [plain(p.find("declname")) or plain(p.find("type")).split()[-1] for p in of.findall("templateparamlist/param")]

    def in_terms_of_arguments(given):
        return re.sub(rf"\b{parameters[0]}\b", lambda _: arguments, given) if len(parameters) == 1 and arguments else given

    if of.tag == "memberdef":
        return given_by(plain(of.find("type")), depth + 1)
    types = {plain(m.find("name")): plain(m.find("type")) for section in of.findall("sectiondef") for m in section.findall("memberdef")}
    for told in ("await_resume", "finish"):
        if types.get(told, "auto") not in ("auto", "decltype(auto)"):
            given = re.sub(r"^constexpr |^static ", "", types[told])
            return in_terms_of_arguments(tidy(types.get(given, given)))
    bases = [plain(base) for base in of.findall("basecompoundref")]
    found = next(filter(None, (given_by(base, depth + 1) for base in bases)), None)
    if found is None and types.get("operator co_await"):
        found = given_by(types["operator co_await"], depth + 1)
    return found and in_terms_of_arguments(found)


def template_of(element):
    params = element.find("templateparamlist")
    if params is None:
        return ""
    shown = []
    for param in params:
        kind, name = plain(param.find("type")), plain(param.find("declname"))
        default = plain(param.find("defval"))
        if "include_aio_http_json_hpp" in default:  # it is there only so that the header need not include nlohmann's
            return ""
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
        result = "nlohmann::json" if (name, given) == ("json", "auto") else reader_type(given)
        required = plain(member.find("requiresclause"))
        line = f"{result} {name}{args}".strip()
        if member.get("explicit") == "yes" and not line.startswith("explicit"):
            line = "explicit " + line
        if member.get("static") == "yes" and not line.startswith("static"):
            line = "static " + line
        return template_of(member) + wrapped(line) + (f"\n    requires {required}" if required and "detail::" not in required else "")
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
