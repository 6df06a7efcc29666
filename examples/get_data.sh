#!/bin/sh
# Fetches text of many kinds from Debian packages: one folder a domain, one file a document.
#   sh examples/get_data.sh [FOLDER]      (default: data)
# Nothing is installed: packages are downloaded into a temporary folder, unpacked there and thrown away. A domain that is
# there already is left alone, so the command can be repeated. Each domain keeps at most about 6 MB, spread over its
# files. The packages' copyright notices go to FOLDER/.licences/.

LC_ALL=C
export LC_ALL
data=${1:-data}
limit=6000000

for tool in apt-get dpkg gzip awk sed find; do
    if ! command -v $tool > /dev/null 2>&1; then
        echo "get_data: needs $tool (the texts come from Debian packages); any folder with one subfolder of text files" \
             "a domain will do instead" >&2
        exit 1
    fi
done
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$data/.licences" || exit 1

# package NAME...: unpacks into $work/x
package() {
    for name in "$@"; do
        (cd "$work" && rm -f ./*.deb && apt-get -qq -o APT::Sandbox::User=root download "$name" > log 2>&1 &&
            dpkg -x ./*.deb x) || {
            echo "get_data: package $name is not to be had ($(tail -n 1 "$work/log")); 'apt-get update' may help" >&2
            return 1
        }
        notice=$work/x/usr/share/doc/$name/copyright
        [ -f "$notice" ] && cp "$notice" "$data/.licences/$name"
    done
    return 0
}

# keep: thins the files of $work/new evenly, in order of their names, to the limit
keep() {
    (cd "$work/new" && find . -type f -exec wc -c {} + | awk '$2 != "total"' | sort -k 2 > ../sizes &&
        awk -v limit=$limit '{ size[NR] = $1; name[NR] = $2; sum += $1 }
            END { share = sum > limit ? limit / sum : 1
                  for (i = 1; i <= NR; i++) { seen += size[i]; if (kept + size[i] / 2 > seen * share) print name[i]
                                              else kept += size[i] } }' ../sizes | xargs rm -f)
}

# take SUFFIX FILES...: copies files into $work/new, unpacked, under flat names with the given ending
take() {
    suffix=$1
    shift
    for file in "$@"; do
        to=$work/new/$(printf '%s' "${file#"$work"/x/usr/}" | sed 's|^share/||; s|\.gz$||; s|[^A-Za-z0-9._-]|_|g')
        case $to in *"$suffix") ;; *) to=$to$suffix ;; esac
        gzip -dcf "$file" > "$to" 2> /dev/null
    done
}

# find_files PATTERN...: regular files of 400 bytes or more below $work/x, sorted
find_files() {
    for pattern in "$@"; do
        find "$work/x" -type f -size +399c -path "$pattern"
    done | sort
}

# entries SIZE START: cuts standard input into files of about SIZE bytes in $work/new, where a line that matches the
# regular expression START follows an empty line
entries() {
    awk -v size="$1" -v start="$2" -v to="$work/new" '
        BEGIN { part = 1; file = sprintf("%s/part%04d.txt", to, part) }
        empty && bytes > size && $0 ~ start { close(file); bytes = 0; file = sprintf("%s/part%04d.txt", to, ++part) }
        { print > file; bytes += length($0) + 1; empty = $0 == "" }'
}

# Tags go, paragraphs become lines, the five entities that matter become characters.
html_to_text() {
    tr '\n\t' '  ' < "$1" |
        sed -e 's|<script[^>]*>[^<]*</script>||g; s|<head>.*</head>||' -e 's|</p>|\n\n|g; s|</h[1-6]>|\n\n|g' \
            -e 's|<br */*>|\n|g; s|</li>|\n|g' |
        sed -e 's/<[^>]*>//g; s/&nbsp;/ /g; s/&lt;/</g; s/&gt;/>/g; s/&quot;/"/g; s/&#39;/'"'"'/g; s/&amp;/\&/g' \
            -e 's/  */ /g; s/^ //; s/ $//' | cat -s
}

c() {
    package openafs-modules-dkms && take "" $(find_files '*/usr/src/*.c' '*/usr/src/*.h')
}

javascript() {
    package libjs-codemirror libjs-three node-lodash libjs-jquery-ui || return 1
    rm -rf "$work"/x/usr/share/nodejs/@types "$work"/x/usr/share/doc "$work"/x/usr/share/javascript/three/three.module.js \
        "$work"/x/usr/share/javascript/three/examples/jsm "$work"/x/usr/share/javascript/jquery-ui/jquery-ui.js
    # Lines of more than 2000 bytes are data or minified code.
    for file in $(find_files '*.js'); do
        awk 'length($0) > 2000 { exit 1 }' "$file" && take .js "$file"
    done
    return 0
}

bible() {
    package bible-kjv bible-kjv-text || return 1
    "$work/x/usr/bin/bible" -p "$work/x/usr/lib" -f -l72 gen1:1-rev22:21 < /dev/null 2> /dev/null |
        awk -v to="$work/new" '/^[1-3]?[A-Z][A-Za-z]*1:1 / { file = sprintf("%s/book%02d.txt", to, ++book) }
                               file { print > file }'
    [ -s "$work/new/book66.txt" ] || {
        echo "get_data: the program of package bible-kjv did not print the text" >&2
        return 1
    }
}

encyclopedia() {
    package dict-foldoc && gzip -dc < "$work/x/usr/share/dictd/foldoc.dict.dz" | entries 60000 '^[^ ]'
}

dictionary() {
    package dict-gcide && gzip -dc < "$work/x/usr/share/dictd/gcide.dict.dz" | entries 60000 '^[A-Z]'
}

manuals() {
    package manpages manpages-dev && take .man $(find_files '*/usr/share/man/man*/*.gz')
}

german() {
    package manpages-de && take .man $(find_files '*/usr/share/man/de/man*/*.gz')
}

theorems() {
    package metamath-databases && entries 60000 '^ *[$][({]' < "$work/x/usr/share/metamath/databases/iset.mm"
}

tex() {
    package pari-doc && take .tex $(find_files '*.tex')
}

perl() {
    package perl-doc && rm -f "$work"/x/usr/share/perl/*/pod/perltoc.pod "$work"/x/usr/share/perl/*/pod/perluniprops.pod &&
        take .pod $(find_files '*.pod')
}

essays() {
    package anarchism || return 1
    for file in $(find_files '*/html/*.html'); do
        html_to_text "$file" > "$work/new/$(basename "$file" .html).txt"
    done
}

russian() {
    package fortunes-ru || return 1
    rm -f "$work"/x/usr/share/games/fortunes/ru/*.dat
    take .txt $(find_files '*/fortunes/ru/*')
}

for domain in bible c dictionary encyclopedia essays german javascript manuals perl russian tex theorems; do
    [ -d "$data/$domain" ] && continue
    rm -rf "$work/x" "$work/new"
    mkdir -p "$work/x" "$work/new"
    echo "get_data: $domain"
    if $domain && keep && [ -n "$(find "$work/new" -type f -size +0c | head -n 1)" ]; then
        # Beside its place first, so that an interrupted run leaves no half a domain.
        rm -rf "$data/.$domain" && cp -R "$work/new" "$data/.$domain" && mv "$data/.$domain" "$data/$domain"
    else
        echo "get_data: no $domain; the other domains go on" >&2
    fi
done

printf '%-14s %6s %6s\n' domain files MB
count=0
for folder in "$data"/*/; do
    [ -d "$folder" ] || continue
    count=$((count + 1))
    find "$folder" -type f -exec cat {} + | wc -c | awk -v name="$(basename "$folder")" \
        -v files="$(find "$folder" -type f | wc -l)" '{ printf "%-14s %6d %6.1f\n", name, files, $1 / 1e6 }'
done
[ $count -gt 0 ]
