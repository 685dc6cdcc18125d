#!/bin/sh
# layers.sh: who may use whom, for `make lint`. Run at the top of the source; CC is the compiler, the arguments its flags.
#
# A file uses another one when it includes its header, or calls what that file defines. Three rules:
#   - nobody uses a file that uses it, directly or by way of others;
#   - a room (a folder) uses only the rooms that are named for it below;
#   - the way of a message goes down: of its files each uses only those after it.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
    echo "layers: $*"
    failures=$((failures + 1))
}

# src/hub/worker/input.c and input.h are the module hub/worker/input.
module() {
    echo "$1" | sed 's,^src/,,; s,\.[ch]$,,'
}

# ---- who uses whom, as lines `user used`

for source in $(find src -name '*.c' | sort); do
    object=$work/$(module "$source" | tr / :).o
    "${CC:-gcc}" "$@" -O0 -c "$source" -o "$object"
    nm -g "$object" | awk -v module="$(module "$source")" '
        NF == 3 { print $3, module > defined }
        NF == 2 { print $2, module > wanted }' defined="$work/defined.part" wanted="$work/wanted.part"
    cat "$work/defined.part" >>"$work/defined" 2>/dev/null || true
    cat "$work/wanted.part" >>"$work/wanted" 2>/dev/null || true
    rm -f "$work"/*.part
done
sort "$work/defined" | grep -v '^main ' >"$work/defined.sorted"
sort "$work/wanted" >"$work/wanted.sorted"
# Two programs may define the same name; each then uses its own.
join -o 0,1.2,2.2 "$work/wanted.sorted" "$work/defined.sorted" | awk '
    function program(module) { sub("/.*", "", module); return module }
    { line[NR] = $0; if (program($2) == program($3)) own[$1, $2] = 1 }
    END {
        for (i = 1; i <= NR; i++) {
            split(line[i], word, " ")
            if (program(word[2]) == program(word[3]) || !((word[1], word[2]) in own))
                print word[2], word[3]
        }
    }' >"$work/uses"
find src -name '*.[ch]' | sort | while read -r file; do
    sed -n 's/^#include "\(.*\)\.h".*/\1/p' "$file" | while read -r header; do
        [ ! -f "src/$header.h" ] || echo "$(module "$file") $header"
    done
done >>"$work/uses"
sort -u "$work/uses" | awk '$1 != $2' >"$work/uses.sorted"

# ---- nobody uses a file that uses it

if ! tsort <"$work/uses.sorted" >/dev/null 2>"$work/loops"; then
    sed 's/^tsort: //' "$work/loops"
    fail 'these files use each other'
fi

# ---- rooms

room_may_use() {
    case $1 in
    protocol) echo 'protocol' ;;
    hub/common) echo 'hub/common protocol' ;;
    hub/worker | hub/worker/cluster) echo 'hub/worker hub/worker/cluster hub/common protocol' ;;
    hub/master) echo 'hub/master hub/common protocol . hub/worker/worker hub/worker/client_fields' ;;
    stat) echo 'stat protocol . hub/common/statistics' ;;
    link) echo 'link protocol . hub/common/log' ;;
    client) echo 'client protocol .' ;;
    bench) echo 'bench protocol .' ;;
    .) echo '.' ;;
    esac
}

while read -r user used; do
    allowed=" $(room_may_use "$(dirname "$user")") "
    case $allowed in
    *" $(dirname "$used") "* | *" $used "*) ;;
    *) fail "$user uses $used, and its room may not use that one" ;;
    esac
done <"$work/uses.sorted"

# ---- the way of a message

above=''
for file in worker turn input requests relay reply output connection; do
    for other in $above; do
        if grep -q "^hub/worker/$file hub/worker/$other\$" "$work/uses.sorted"; then
            fail "$file.c uses $other.c, which stands above it in the way of a message"
        fi
    done
    above="$above $file"
done

[ "$failures" -eq 0 ]
