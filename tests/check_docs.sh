#!/bin/sh
# The pages of `make docs` have every public name, found here by compiler and nm, with a text; their links, anchors and
# tags fit; an undocumented name is refused. Ends with "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C
export LC_ALL
CC=${CC:-cc}
. tests/try.sh

if ! command -v python3 > /dev/null 2>&1; then
    skip the_pages "python3 is not installed"
    finish
fi

rm -f build/docs/mdemix.html build/docs/dagan.html
make --no-print-directory docs > "$work/output" 2>&1 && [ -s build/docs/mdemix.html ] && [ -s build/docs/dagan.html ] &&
    : > "$work/log" || cp "$work/output" "$work/log"
nothing_in "$work/log" make_docs_writes_both_pages

# What a page is made of: its tags in balance, "id NAME" and "link TARGET" a line, "says NAME" for each name that has a
# text, its own or its group's.
cat > "$work/page.py" <<'END_OF_PYTHON'
import html.parser, sys
VOID = {"meta", "link", "br", "img", "hr", "input"}
class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.group, self.entry = [], None, None
    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        kind = values.get("class", "")
        if "src" in values or tag in ("script", "link"):
            print("outside", tag)
        if "id" in values:
            print("id", values["id"])
        if "href" in values:
            print("link", values["href"])
        if kind == "group":
            self.group = {"said": False, "entries": []}
        elif kind == "entry":
            self.group["entries"].append({"names": [], "noted": False})
        if self.group and "id" in values and self.group["entries"]:
            self.group["entries"][-1]["names"].append(values["id"])
        if tag == "dt":
            self.term = []
        if "dt" in [t for t, k in self.open] and "id" in values:
            self.term.append(values["id"])
        if tag not in VOID:
            self.open.append((tag, kind))
    def handle_data(self, data):
        kinds = [kind for tag, kind in self.open]
        if not data.strip():
            return
        if "say" in kinds:
            self.group["said"] = True
        if "note" in kinds and self.group:
            self.group["entries"][-1]["noted"] = True
        if "dd" in [tag for tag, kind in self.open]:
            for name in self.term:
                print("says", name)
            self.term = []
    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            print("tags", self.getpos(), "ends", tag, "in", self.open[-1:])
            return
        if self.open.pop()[1] == "group":
            for entry in self.group["entries"]:
                for name in entry["names"] if self.group["said"] or entry["noted"] else []:
                    print("says", name)
            self.group = None
page = Page()
page.feed(open(sys.argv[1], encoding="utf-8").read())
page.close()
if page.open:
    print("tags", "never closed:", page.open)
END_OF_PYTHON
for page in mdemix dagan; do
    python3 "$work/page.py" build/docs/$page.html > "$work/$page.page" 2> "$work/log"
    grep -E '^(tags|outside) ' "$work/$page.page" >> "$work/log"
    [ "$(grep -c '^id ' "$work/$page.page")" -gt 50 ] || echo "hardly any anchor in $page.html" >> "$work/log"
    nothing_in "$work/log" tags_of_${page}_are_balanced_and_need_nothing_from_outside
    sed -n 's/^id //p' "$work/$page.page" | sort > "$work/$page.anchors"
    uniq -d "$work/$page.anchors" > "$work/log"
    nothing_in "$work/log" anchors_of_${page}_are_unique
    { echo $page.html; sed "s|.*|$page.html#&|" "$work/$page.anchors"; } >> "$work/targets"
done
for page in mdemix dagan; do
    sed -n 's/^link //p' "$work/$page.page" | sed "s|^#|$page.html#|" | sort -u |
        grep -vxF -f "$work/targets" > "$work/log"
    nothing_in "$work/log" links_of_${page}_have_their_anchors
done

# Every word of the preprocessed declarations that is called as public names are, the functions that the compiled header
# exports, the macros that its public part defines or its configuration names.
for page in mdemix dagan; do
    prefix=$([ $page = mdemix ] && echo 'mde|mdemix' || echo dagan)
    upper=$(echo "$prefix" | tr a-z A-Z)
    name="(($prefix)_[a-z0-9][a-z0-9_]*|($upper)_[A-Z0-9][A-Z0-9_]*)"
    sed '/^#endif \/\* [A-Z]*_H \*\/$/q' $page.h > "$work/public.h"
    $CC -std=c99 -E -P -I. -x c "$work/public.h" 2> "$work/log" | grep -owE "$name" > "$work/$page.names"
    sed -n -E "s/^#define +($name)([^A-Za-z0-9_].*)?$/\1/p" "$work/public.h" >> "$work/$page.names"
    sed -n '/ 2\. CONFIGURATION/,/ 3\. PUBLIC API/p' "$work/public.h" | grep -owE "$name" >> "$work/$page.names"
    if command -v nm > /dev/null 2>&1; then
        $CC -std=c99 -O0 -w -I. "-D$(echo $page | tr a-z A-Z)_IMPLEMENTATION" -x c -c $page.h -o "$work/$page.o" &&
            nm -g "$work/$page.o" | sed -n -E "s/.* [TW] ($name)$/\1/p" > "$work/$page.exported"
        [ -s "$work/$page.exported" ] || echo "nm found nothing in $page.o" >> "$work/log"
        cat "$work/$page.exported" >> "$work/$page.names"
    else
        skip names_of_the_object_file_of_$page "nm is not installed"
    fi 2>> "$work/log"
    [ $page = mdemix ] && echo MDEDEF >> "$work/$page.names" || echo dagan >> "$work/$page.names"
    # The guards are no names to use.
    grep -vE '__|_H$' "$work/$page.names" | sort -u > "$work/$page.public"
    [ "$(wc -l < "$work/$page.public")" -gt 80 ] || echo "hardly any name in $page.h" >> "$work/log"
    comm -23 "$work/$page.public" "$work/$page.anchors" | sed 's/$/ is not on the page/' >> "$work/log"
    sed -n 's/^says //p' "$work/$page.page" | sort -u > "$work/$page.said"
    comm -23 "$work/$page.public" "$work/$page.said" | sed 's/$/ has no text on the page/' >> "$work/log"
    nothing_in "$work/log" every_public_name_of_${page}_has_its_text
done

mkdir "$work/again"
{ python3 -I tests/docs.py "$work/again" mdemix.h dagan.h
  PYTHONHASHSEED=7 python3 tests/docs.py "$work/twice" mdemix.h dagan.h
  for page in mdemix dagan; do
      cmp "$work/again/$page.html" "$work/twice/$page.html"
      cmp "$work/again/$page.html" build/docs/$page.html
  done; } > "$work/log" 2>&1
nothing_in "$work/log" two_runs_write_the_same_bytes

# refused FILE LINE NAME: the copy of a header is refused by this name, there, and no page is written
refused() {
    python3 tests/docs.py "$work/none" "$work/$1" > "$work/output" 2>&1
    [ $? -eq 1 ] || echo "the exit code is not 1" > "$work/log"
    [ "$(cat "$work/output")" = "$work/$1:$2: no comment says what $3 is" ] || cat "$work/output" >> "$work/log"
    [ ! -e "$work/none" ] || echo "a page was written" >> "$work/log"
}

line=$(sed -n '/^MDEDEF double mde_seconds/{=;q;}' mdemix.h)
# with FILE TEXT: a copy of the header with the text and a blank line before that line
with() {
    : > "$work/log"
    awk -v line="$line" -v text="$2" 'NR == line { print text; print "" } { print }' mdemix.h > "$work/$1"
}
with function.h 'MDEDEF int mde_untold(void);'
refused function.h "$line" mde_untold
nothing_in "$work/log" a_function_without_a_comment_is_refused
with value.h 'enum { MDE_TOLD = 1,     /* so */\n       MDE_UNTOLD = 2 };'
refused value.h "$line" MDE_UNTOLD
nothing_in "$work/log" a_value_without_a_comment_is_refused
with macro.h '#define MDE_UNTOLD 3'
refused macro.h "$line" MDE_UNTOLD
nothing_in "$work/log" a_macro_without_a_comment_is_refused
with told.h '/* So. */\nMDEDEF int mde_told(void);'
python3 tests/docs.py "$work/some" "$work/told.h" > "$work/log" 2>&1
grep -q 'id="mde_told"' "$work/some/told.html" || echo "no page" >> "$work/log"
nothing_in "$work/log" a_function_with_a_comment_is_not

finish
