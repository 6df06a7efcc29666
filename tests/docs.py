#!/usr/bin/env python3
"""Writes the reference: python3 tests/docs.py FOLDER HEADER...

One HTML page a header, made of the comments and declarations of its public part, complete without scripts or other
files. A comment on lines of its own speaks of the declarations below it, up to the next such comment or blank line; a
comment at a line's end speaks of what stands in that line. A public name of which neither speaks is an error."""
import html
import os
import re
import sys

WORD = re.compile(r"(?<![\w./-])[A-Za-z_]\w*(?!\.[a-z]|\w)")
PUBLIC = re.compile(r"(mde|dagan)(_[a-z]\w*)?$|(MDE|MDEMIX|DAGAN)_[A-Z]\w*$|MDEDEF$")
TOKEN = re.compile(r"""/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|.""", re.S)

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1f; --page: #fff; --soft: #5b5e66; --line: #d9dbe1; --code: #f4f5f7;
  --link: #0b57b0; }
@media (prefers-color-scheme: dark) { :root { --text: #e3e4e8; --page: #16171a; --soft: #a2a5ae; --line: #34363d;
  --code: #1f2126; --link: #8ab8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 0 1rem 4rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
code, pre { font: .84rem/1.45 ui-monospace, monospace; tab-size: 4; }
code a { color: inherit; border-bottom: 1px dotted var(--soft); }
pre { margin: .6rem 0; padding: .6rem .8rem; background: var(--code); overflow-x: auto; }
h1 { margin: 1.5rem 0 .5rem; }
h2 { margin: 2.5rem 0 .5rem; border-bottom: 2px solid var(--line); }
h3 { margin: 2rem 0 .5rem; }
p { margin: .5rem 0; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav ul ul { padding-left: 1rem; }
dl { margin: .5rem 0; }
dt { font: .84rem/1.45 ui-monospace, monospace; }
dd { margin: 0 0 .4rem 1.5rem; }
.item { margin: .3rem 0 .3rem 1.5rem; text-indent: -1rem; }
.group { margin: 1rem 0; border: 1px solid var(--line); border-radius: .4rem; overflow: hidden; }
.say, .when { padding: .1rem .8rem; }
.entry { padding: .35rem .8rem; background: var(--code); border-top: 1px solid var(--line); }
.entry:first-child { border-top: 0; }
.entry:target, dt:target, .row :target { outline: 2px solid var(--link); }
.entry > code, .row > code { white-space: pre-wrap; display: block; padding-left: 2rem; text-indent: -2rem; }
.note, .when { color: var(--soft); font-size: .92rem; }
.note { display: block; margin-left: 2rem; }
.index { columns: 17rem; padding: 0; list-style: none; }
.index li { font: .84rem/1.6 ui-monospace, monospace; }
@media (min-width: 50rem) {
  .row { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); column-gap: 1rem; }
  .row > code:only-child { grid-column: 1 / 3; }
  .row > .note { margin-left: 0; }
}
@media (min-width: 66rem) {
  body { display: grid; grid-template-columns: 15rem minmax(0, 1fr); column-gap: 2rem; }
  nav { position: sticky; top: 0; max-height: 100vh; overflow-y: auto; padding-top: 1.5rem; font-size: .92rem; }
}
"""


class Entry:
    """A declaration or macro: rows of code, each with what its line says; the first is that of names[0]."""

    def __init__(self, line, rows, names):
        self.line, self.rows, self.names = line, rows, names
        self.defines = True     # whether the anchors are here, and not at a fuller declaration of the same name


class Group:
    """What one comment speaks of."""

    def __init__(self, text, when):
        self.text, self.when, self.entries = text, when, []


class Section:
    """A heading of level 2 or 3, the text below it, its groups."""

    def __init__(self, level, title, text):
        self.level, self.title, self.text, self.groups = level, title, text, []
        self.id = "section-" + re.match(r"[\d.]*\d|\w*", title).group().lower()


def pieces(text):
    """The public part as (line, how many lines after the piece before, kind, text): a comment, a directive, code."""
    at, line, ended, guard = 0, 1, 0, 0
    while True:
        blank = re.compile(r"\s*").match(text, at).end()
        line += text.count("\n", at, blank)
        at = blank
        if at == len(text):
            raise ValueError("the include guard has no end")
        start, depth = at, 0
        if text.startswith("/*", at):
            kind, at = "comment", text.index("*/", at) + 2
        elif text[at] == "#":
            kind, at = "directive", re.compile(r"(?:\\\n|(?!/\*)[^\n])*").match(text, at).end()
            word = text[start + 1:at].split()[0]
            guard += (word in ("if", "ifdef", "ifndef")) - (word == "endif")
            if guard == 0:
                return
        else:
            kind = "code"
            for token in TOKEN.finditer(text, at):
                depth += (token.group() == "{") - (token.group() == "}")
                if token.group() == ";" and depth == 0 or token.group() == "{" and text[at:].startswith("extern "):
                    break
                if token.group() == "}" and text[at] == "}":
                    break
            at = token.end()
        yield line, line - ended, kind, text[start:at]
        line += text.count("\n", start, at)
        ended = line


def plain(comment):
    """A comment at a line's end, in one line."""
    return " ".join(comment.strip()[2:-2].split())


def without_comments(code):
    return re.sub(r"/\*.*?\*/", " ", code, flags=re.S)


def rows_of(code):
    """The lines of a declaration as [code, note]; a comment that goes on stays with the line where it began."""
    rows, at = [], 0
    for comment in re.finditer(r"/\*.*?\*/", code, re.S):
        rows += [[part.rstrip(), ""] for part in code[at:comment.start()].split("\n")]
        rows[-1][1] = plain(comment.group())
        at = comment.end() + (code[comment.end():comment.end() + 1] == "\n")
    rows += [[part.rstrip(), ""] for part in code[at:].split("\n")]
    return [row for row in rows if row[0] or row[1]]


def names_of(code):
    """The public names that a declaration makes: its own first, then the values of an enum."""
    bare = without_comments(code)
    values = []
    body = re.search(r"\{(.*)\}", bare, re.S)
    if body and re.match(r"\s*(typedef\s+)?enum\b", bare):
        values = [value.split("=")[0].strip() for value in body.group(1).split(",") if value.strip()]
    head = re.sub(r"\{.*\}", " ", bare, flags=re.S)
    if re.match(r"\s*struct\b", head):
        found = re.match(r"\s*struct\s+(\w+)", head)
    else:
        found = re.search(r"(\w+)\s*\(", head) or re.search(r"(\w+)\s*;\s*$", head)
    own = [found.group(1)] if found and found.group(1) != "enum" else []
    return [name for name in own + values if PUBLIC.match(name)]


def parse(path):
    """Opening comment and sections of a header."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    opening, sections, group, when, last = None, [], None, [], None
    for line, gap, kind, piece in pieces(text):
        if opening is None:
            opening = piece
        elif kind == "comment" and gap == 0 and last:
            last.rows[-1][1] = (last.rows[-1][1] + " " + plain(piece)).strip()
        elif kind == "comment" and re.match(r"/\* (={9}|---- \d)", piece):
            lines = piece[2:-2].split("\n")
            big = lines[0].strip().startswith("=")
            title = lines[1].strip() if big else lines[0].strip(" -")
            sections.append(Section(2 if big else 3, title, "" if big else "\n".join(lines[1:])))
            group = last = None
        elif kind == "comment":
            group = Group("  " + piece[2:-2], "MDE_NO_STDIO" in when)
            sections[-1].groups.append(group)
            last = None
        else:
            if kind == "directive":
                words = piece[1:].replace("(", " ").split()
                if words[0] in ("if", "ifdef", "ifndef"):
                    when.append(words[1] if words[0] == "ifndef" else "")
                elif words[0] == "endif":
                    when.pop()
                names = [words[1]] if words[0] == "define" and PUBLIC.match(words[1]) else []
                names = [name for name in names if not name.endswith("_H")]
                piece = re.sub(r"^#define +", "#define ", piece)
            else:
                piece = re.sub(r"^MDE__PRINTF.*\n", "", piece)
                names = names_of(piece)
            last = Entry(line, rows_of(piece), names)
            if not names or not sections:
                if kind == "directive" and words[0] in ("if", "ifdef", "ifndef", "endif"):
                    group = None
                continue
            if group is None or gap > 1:
                group = Group("", "MDE_NO_STDIO" in when)
                sections[-1].groups.append(group)
            group.entries.append(last)
    return opening, sections


def terms_of(section):
    """The macros that the text of the configuration lists: names at the beginning of its indented lines."""
    found = []
    for group in section.groups if "CONFIGURATION" in section.title else []:
        for line in group.text.split("\n"):
            match = re.match(r" {5}((?:\w+(?:, )?)+) {2,}", line)
            found += match.group(1).split(", ") if match else []
    return found


class Page:
    """A header's page, in which each public name of any of the headers is a link."""

    def __init__(self, path):
        self.path, self.title, self.errors = path, os.path.basename(path), []
        self.opening, self.sections = parse(path)
        self.file = re.sub(r"\.h$", "", self.title) + ".html"
        self.terms = [name for section in self.sections for name in terms_of(section)]
        self.names = sorted(set(self.terms))
        where = {}
        for section in self.sections:
            for group in section.groups:
                group.entries = [entry for entry in group.entries if entry.names[0] not in self.terms]
                for entry in group.entries:
                    self.check(group, entry)
                    for name in entry.names:
                        before = where.get(name)
                        entry.defines = before is None or len(before.rows) < len(entry.rows)
                        if before and entry.defines:
                            before.defines = False
                        where[name] = entry if entry.defines else before
        self.names = sorted(set(self.names) | set(where), key=lambda name: (name.lower(), name))
        self.links = {}

    def check(self, group, entry):
        """Every name has a text: that of its group, that of its line, of a type also those of its members."""
        if group.text.strip():
            return
        for name in entry.names:
            lines = [row for row in entry.rows if re.search(r"\b%s\b" % name, row[0])]
            if name == entry.names[0] and re.match("typedef|struct", entry.rows[0][0]):
                lines = entry.rows
            if not any(row[1] for row in lines):
                self.errors.append("%s:%d: no comment says what %s is" % (self.path, entry.line, name))

    def link(self, text, anchors=(), own=()):
        """Escaped text, in which public names are links and those of `anchors` carry their anchor."""
        out, at, left = [], 0, list(anchors)
        for word in WORD.finditer(text):
            name = word.group()
            out.append(html.escape(text[at:word.start()], quote=False))
            if name in left:
                out.append('<span id="%s">%s</span>' % (name, name))
                left.remove(name)
            elif name in self.links and name not in own:
                out.append('<a href="%s">%s</a>' % (self.links[name], name))
            else:
                out.append(name)
            at = word.end()
        return "".join(out) + html.escape(text[at:], quote=False)

    def prose(self, text, terms=()):
        """A comment: paragraphs at its margin, headings in capitals, items and terms a little in, code further in."""
        out, kind, held = [], None, []

        def flush():
            if not held:
                return
            if kind == "code":
                out.append("<pre><code>%s</code></pre>" % self.link("\n".join(line[7:] for line in held).rstrip()))
            elif kind == "heading":
                title = held[0].strip()
                out.append('<h3 id="opening-%s">%s</h3>' % (title.lower().replace(" ", "-"), title.capitalize()))
            else:
                match = kind == "item" and re.match(r"\s+(\S+(?:, \S+)*) {2,}(.*)", "\n".join(held), re.S)
                if match:
                    out.append("<dl><dt>%s</dt><dd>%s</dd></dl>" % (
                        self.link(match.group(1), anchors=[n for n in match.group(1).split(", ") if n in terms]),
                        self.inline(match.group(2))))
                else:
                    start = '<p class="item">' if kind == "item" else "<p>"
                    out.append("%s%s</p>" % (start, self.inline("\n".join(held))))
            held.clear()

        for line in text.split("\n"):
            margin = len(line) - len(line.lstrip())
            if not line.strip():
                now = "code" if kind == "code" else None
            elif margin >= 7 and kind != "item":
                now = "code"
            elif margin > 7 or margin >= 7 and kind == "item":
                now = kind
            elif margin > 3:
                flush()
                now = "item"
            elif re.fullmatch(r"[A-Z ]{5,}", line):
                flush()
                now = "heading"
            else:
                now = "paragraph"
            if now != kind:
                flush()
                kind = now
            if now:
                held.append(line)
        flush()
        return "".join(out).replace("</dl><dl>", "")

    def inline(self, text):
        """A paragraph; what stands between backquotes is code."""
        parts = [self.link(part) for part in " ".join(text.split()).split("`")]
        return "".join("<code>%s</code>" % part if i % 2 else part for i, part in enumerate(parts))

    def entry(self, entry):
        anchors = list(entry.names) if entry.defines else []
        whole = ""
        if anchors and not entry.rows[0][0].startswith("enum"):
            whole = ' id="%s"' % anchors.pop(0)
        out = []
        rows = entry.rows
        if "{" not in without_comments("\n".join(row[0] for row in rows)):      # a prototype, perhaps on several lines
            rows = [[" ".join(row[0].strip() for row in rows), " ".join(row[1] for row in rows if row[1])]]
        for code, note in rows:
            here = [name for name in anchors if re.search(r"\b%s\b" % name, code)]
            anchors = [name for name in anchors if name not in here]
            out.append("%s%s" % ("<code>%s</code>" % self.link(code, here, entry.names[:1] if entry.defines else ()),
                                 '<span class="note">%s</span>' % self.inline(note) if note else ""))
        if len(out) > 1:
            out = ['<div class="row">%s</div>' % row for row in out]
        return '<div class="entry"%s>%s</div>\n' % (whole, "".join(out))

    def body(self, section):
        out = ['<h%d id="%s">%s</h%d>\n' % (section.level, section.id, html.escape(section.title), section.level)]
        out.append(self.prose(section.text))
        for group in section.groups:
            text = self.prose(group.text, self.terms)
            if not group.entries:
                out.append(text + "\n")
                continue
            out.append('<div class="group">\n')
            if text:
                out.append('<div class="say">%s</div>\n' % text)
            if group.when:
                out.append('<div class="when">%s</div>\n' % self.link("Not with MDE_NO_STDIO."))
            out += [self.entry(entry) for entry in group.entries] + ["</div>\n"]
        return "".join(out)

    def html(self, pages):
        self.links = {name: page.file + "#" + name for page in pages for name in page.names}
        self.links.update((name, "#" + name) for name in self.names)
        lines = self.opening[2:-2].split("\n")
        lead = lines[0].split(" - ", 1)[-1].strip()
        contents, level = [], 1
        for section in self.sections + [Section(2, "Index", "")]:
            contents.append("</ul>" * (level - section.level) if section.level < level else
                            "<ul>" * (section.level - level))
            contents.append('<li><a href="#%s">%s</a></li>\n' % (section.id, html.escape(section.title)))
            level = section.level
        contents.append("</ul>" * (level - 1))
        others = "".join('<p><a href="%s">%s</a></p>\n' % (page.file, page.title) for page in pages if page is not self)
        return "".join([
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            "<title>%s</title>\n<style>%s</style>\n</head>\n<body>\n" % (self.title, STYLE),
            '<nav>\n<p><a href="#opening">%s</a></p>\n%s%s</nav>\n<main>\n' % (self.title, "".join(contents), others),
            '<h1 id="opening">%s</h1>\n' % self.title,
            self.prose("   %s%s\n" % (lead[:1].upper(), lead[1:]) + "\n".join(lines[1:])), "\n",
            "".join(self.body(section) for section in self.sections),
            '<h2 id="section-index">Index</h2>\n<ul class="index">\n',
            "".join('<li><a href="#%s">%s</a></li>\n' % (name, name) for name in self.names),
            "</ul>\n</main>\n</body>\n</html>\n"])


def main(arguments):
    if len(arguments) < 2:
        print(__doc__.split("\n")[0], file=sys.stderr)
        return 2
    pages = []
    for path in arguments[1:]:
        try:
            pages.append(Page(path))
        except (OSError, ValueError) as error:
            print("%s: %s" % (path, error), file=sys.stderr)
            return 1
    errors = [error for page in pages for error in page.errors]
    if errors:
        print("\n".join(errors), file=sys.stderr)
        return 1
    os.makedirs(arguments[0], exist_ok=True)
    for page in pages:
        text = page.html(pages)
        target = os.path.join(arguments[0], page.file)
        with open(target + ".tmp", "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(target + ".tmp", target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
