#!/bin/sh
# test_symbols.sh: both forms of the library define what relayhub.h declares and nothing else, a program may use all
# other names itself, and the header is clean in each version of C and C++. LIBRARY and LIBRARY_SHARED are the files.
set -u
[ -n "${LIBRARY:-}" ] && [ -n "${LIBRARY_SHARED:-}" ] || exit 77
source=$(cd "$(dirname "$0")/../../src/client" && pwd)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cc=${CC:-cc}

fail() {
    printf 'FAIL: %s\n' "$*" >&2
    exit 1
}

# ---- symbols; the sanitizers' and gcov's own ones are no concern of ours

sed -n 's/^[a-z].*\(relayhub_[a-z_]*\)(.*/\1/p' "$source/relayhub.h" | sort >"$dir/declared"
[ "$(wc -l <"$dir/declared")" -ge 18 ] || fail "relayhub.h declares only: $(cat "$dir/declared")"

names() {
    awk 'NF == 3 && $2 ~ /[A-Z]/ && $3 !~ /^(__|_fini|_init|_edata|_end|mangle_path)/ { print $3 }' | sort
}
nm -g --defined-only "$LIBRARY" | names >"$dir/static"
diff "$dir/declared" "$dir/static" >&2 || fail "$LIBRARY does not define what relayhub.h declares"
nm -D --defined-only "$LIBRARY_SHARED" | names >"$dir/shared"
diff "$dir/declared" "$dir/shared" >&2 || fail "$LIBRARY_SHARED does not define what relayhub.h declares"
readelf -d "$LIBRARY_SHARED" | grep -q 'soname: \[librelayhub.so.1\]' || fail "the shared library has another soname"

# ---- a program with names of its own

cat >"$dir/own.c" <<'END'
#include <relayhub.h>
#include <stdio.h>
int rh_new(void);
int rh_new(void) { return 1; }
int rh_fail = 2, frame_readdress = 3;
int main(void)
{
    struct relayhub *connection;
    char reason[200];
    if (relayhub_connect(&connection, "127.0.0.1", "1", 1000, reason, sizeof reason) == 0)
        return 1;
    puts(relayhub_version());
    return rh_new() + rh_fail + frame_readdress == 6 ? 0 : 1;
}
END
sanitizers=
if nm "$LIBRARY" | grep -q __asan_; then sanitizers='-fsanitize=address,undefined'; fi
if nm "$LIBRARY" | grep -q __gcov_; then sanitizers=--coverage; fi
# shellcheck disable=SC2086 # words, on purpose
{
    $cc $sanitizers -I"$source" "$dir/own.c" "$LIBRARY" -o "$dir/own_static" || fail 'the static library does not link'
    ln -s "$LIBRARY_SHARED" "$dir/librelayhub.so.1"
    $cc $sanitizers -I"$source" "$dir/own.c" "$dir/librelayhub.so.1" -o "$dir/own_shared" ||
        fail 'the shared library does not link'
}
"$dir/own_static" >/dev/null || fail 'the program with the static library fails'
LD_LIBRARY_PATH=$dir "$dir/own_shared" >/dev/null || fail 'the program with the shared library fails'

# ---- the header

echo '#include <relayhub.h>' >"$dir/header.c"
cp "$dir/header.c" "$dir/header.cc"
strict='-pedantic -Wall -Wextra -Wshadow -Wconversion -Werror -fsyntax-only'
tried=0
try() {
    compiler=$1 file=$2
    shift 2
    command -v "$compiler" >/dev/null || {
        echo "$compiler is not here: not tried"
        return
    }
    for standard; do
        echo 'int unused;' >"$dir/empty.${file##*.}"
        # A compiler that does not know the standard tells nothing.
        "$compiler" "-std=$standard" -fsyntax-only "$dir/empty.${file##*.}" 2>/dev/null || continue
        # shellcheck disable=SC2086
        "$compiler" "-std=$standard" $strict -I"$source" "$file" || fail "relayhub.h with $compiler -std=$standard"
        tried=$((tried + 1))
    done
}
for compiler in gcc clang; do
    try "$compiler" "$dir/header.c" c99 c11 c17 c2x c23
done
for compiler in g++ clang++; do
    try "$compiler" "$dir/header.cc" c++98 c++11 c++14 c++17 c++20 c++23
done
[ "$tried" -gt 0 ] || fail 'no compiler tried the header'
echo "PASS: the symbols of both libraries, and the header with $tried compilers and standards"
