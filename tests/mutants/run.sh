#!/bin/bash
# Plants small changes, one at a time, and runs the tests that touch the changed file: a change that all of them pass is
# one that nobody would notice. The list says which; see there. MUTANTS_JOBS at a time; FILE=regex picks files.
set -euo pipefail

list=$1
source=$(realpath "$2")
work=$(realpath "$3")
jobs=${MUTANTS_JOBS:-$(nproc)}
wanted=95 # per cent that have to be caught

# The list as one line for each change: its number, file, tests, and the two texts, with tabs between them; \n in a text is the end of a line.
read_list() {
    local file='' tests='' from='' number=0
    while IFS= read -r line; do
        case $line in
        'file '*)
            file=${line#file } file=${file%%:*}
            tests=${line#*: }
            ;;
        '- '*) from=${line#- } ;;
        '+'*)
            line=${line#+}
            number=$((number + 1))
            printf '%s\t%s\t%s\t%s\t%s\n' "$number" "$file" "$tests" "$from" "${line# }"
            ;;
        esac
    done <"$list"
}

# Puts one text in the other's place. It has to be there just once.
plant() {
    FROM=${2//\\n/$'\n'} TO=${3//\\n/$'\n'} perl -0777 -i -pe '
        my $count = () = /\Q$ENV{FROM}\E/g;
        die "$ARGV: \"$ENV{FROM}\" is there $count times\n" if $count != 1;
        s/\Q$ENV{FROM}\E/$ENV{TO}/' "$1"
}

# Runs tests in the directory, the first one alone and the others side by side up to a failure, and says which failed.
failures() {
    local first=${1%% *} rest=${1#* }
    if [ "$first" != none ] && ! nice timeout 300 make -s -C "$2" check TESTS="$first" >"$2/mutant.log" 2>&1; then
        echo "$first"
    elif [ "$rest" != "$1" ] && ! nice timeout 300 make -s -j3 -C "$2" check TESTS="$rest" >"$2/mutant.log" 2>&1; then
        sed -n 's/^FAIL: //p' "$2/mutant.log" | tr '\n' ' '
    fi
}

# One job: every changes-th change of the list, in a tree of its own.
work_on() {
    local job=$1 tree=$work/$1 number file tests from to by
    by=$(failures "none $(read_list | awk -F '\t' -v file="${FILE:-.}" '$2 ~ file { print $3 }' | tr ' ' '\n' | sort -u | tr '\n' ' ')" "$tree/build")
    if [ -n "$by" ]; then
        printf 'unusable\t0\tnothing was changed, and these fail: %s\t\t\n' "$by"
        return
    fi
    while IFS=$'\t' read -r number file tests from to; do
        [ $((number % jobs)) -eq "$job" ] || continue
        [[ $file =~ ${FILE:-.} ]] || continue
        cp "$tree/source/$file" "$tree/saved"
        if ! plant "$tree/source/$file" "$from" "$to"; then
            printf 'unusable\t%s\t%s\t%s\t%s\n' "$number" "$file" "$from" "$to"
        elif ! make -s -C "$tree/build" check TESTS= >"$tree/build/mutant.log" 2>&1; then
            printf 'unusable\t%s\t%s\t%s\t%s\n' "$number" "$file" "$from" "$to"
        else
            by=$(failures "$tests" "$tree/build")
            printf '%s\t%s\t%s\t%s\t%s\t%s\n' "${by:+caught}" "$number" "$file" "$from" "$to" "$by"
        fi
        cp "$tree/saved" "$tree/source/$file"
        touch "$tree/source/$file"
    done < <(read_list)
}

rm -rf "$work/results"
mkdir -p "$work"
for ((job = 0; job < jobs; job++)); do
    rm -rf "${work:?}/$job"
    mkdir -p "$work/$job/build"
    cp -r "$source" "$work/$job/source"
    (cd "$work/$job/build" && ../source/configure --quiet --with-systemdsystemunitdir=no CFLAGS='-O1 -Wno-error' &&
        make -s check TESTS= >make.log 2>&1) &
done
wait
for ((job = 0; job < jobs; job++)); do
    work_on "$job" >"$work/results.$job" &
done
wait

cat "$work"/results.* | sort -t $'\t' -k 2n >"$work/results"
rm -f "$work"/results.*
awk -F '\t' -v wanted=$wanted '
    $1 == "unusable" { printf "unusable %d: %s: \"%s\" -> \"%s\"\n", $2, $3, $4, $5; unusable++; next }
    $1 == "" { printf "survived %d: %s: \"%s\" -> \"%s\"\n", $2, $3, $4, $5 }
    { all++; caught += $1 == "caught" }
    END {
        printf "%d of %d changes were caught\n", caught, all
        exit unusable > 0 || all == 0 || caught * 100 < all * wanted
    }' "$work/results"
