#!/bin/sh
# run.sh: checks the models of what the hub's processes do in shared memory, with spin(1).
#
# Each model is searched in full, for small numbers, and must hold. Then each mutation, one thing left out
# or done in the wrong order, must break its model: a model that cannot fail proves nothing. Works in a
# directory below the current one; srcdir says where the sources are. Exits with 77 without spin.

srcdir=${srcdir:-$(dirname "$0")/../..}
models=$(cd "$srcdir/tests/model" && pwd) || exit 1

if ! command -v spin >/dev/null 2>&1; then
    echo "run.sh: spin is not installed, the models are not checked"
    exit 77
fi

work=$(mktemp -d "$(pwd)/check-model.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work" || exit 1
failed=0

# search OPTIMISATION MODEL DEFINES...: leaves what the search said in ./out.
search()
{
    optimisation=$1 model=$2
    shift 2
    rm -f pan pan.* ./*.trail out
    if ! spin -a "$@" "$models/$model.pml" >out 2>&1 || grep -q Error out; then
        return 1
    fi
    # Workers wait for ever by design, so that a process at rest is no error: at_rest() looks at that.
    # shellcheck disable=SC2086
    ${CC:-cc} $optimisation -w -DSAFETY -DCOLLAPSE -DMEMLIM=3000 -o pan pan.c >out 2>&1 || return 1
    nice -n 10 ./pan -E -m5000 -w24 >out 2>&1
}

was_full()
{
    grep -q 'states, stored' out && ! grep -q -e 'max search depth too small' -e 'Search not completed' \
        -e 'reached -DMEMLIM' out
}

states()
{
    sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' out
}

holds()
{
    if search -O2 "$@" && was_full && grep -q 'errors: 0$' out; then
        echo "$*: $(states) states, no error"
    else
        echo "$*: FAILED"
        grep -e '^pan' -e rror -e 'states, stored' -e 'max search' -e 'not completed' out
        failed=1
    fi
}

breaks()
{
    if search -O1 "$@" && grep -q 'assertion violated' out && grep -q 'errors: 1$' out; then
        echo "$*: caught"
    else
        echo "$*: NOT CAUGHT"
        grep -e '^pan' -e rror -e 'states, stored' out
        failed=1
    fi
}

# One holder; two that may both die; two, and chunks that overlap earlier ones.
scripted="-DW=3 -DRECORDS=2 -DCHUNKS=3 -DSCRIPTED -DMORTAL=3"
holds chunks -DW=2 -DRECORDS=3 -DCHUNKS=2
holds chunks -DW=3 -DRECORDS=2 -DCHUNKS=1 -DMORTAL=6
# shellcheck disable=SC2086
holds chunks $scripted
for mutation in BITMAP NO_SETTLE SETTLE_FIRST PARTIAL_DRAIN HOLD_LISTED NO_ACK; do
    breaks chunks -DW=2 -DRECORDS=3 -DCHUNKS=2 -DMUTATE_$mutation
done
# shellcheck disable=SC2086
breaks chunks $scripted -DMUTATE_START_EARLY

# One sender's worker, and two.
holds congestion -DW=2
holds congestion -DW=3 -DDEATHS=1 -DMESSAGES=1 -DCONGESTIONS=1
for mutation in NO_RECHECK TAKE_FIRST NO_FENCE NO_WAKE_ALL NO_WAKE_DEAD RESET_LATE UP_UNACKED SHORT_FOR_EVER ONE_LOOK; do
    breaks congestion -DW=2 -DMUTATE_$mutation
done
breaks congestion -DW=3 -DDEATHS=1 -DCONGESTIONS=0 -DMUTATE_SILENT_DRAIN

# Four uploads to a store with room for two and the reserve; five.
holds upload
holds upload -DUPLOADS=5 -DBLOCKS=6
for mutation in HOLD_AND_WAIT NO_FRAME_LIMIT NO_DRAIN_LIMIT GONE_UNSEEN NO_RESERVE; do
    breaks upload -DBLOCKS=4 -DMUTATE_$mutation
done

holds routes
for mutation in SAME_TICK RESET_FORGETS BY_SLOT NO_RETURN NO_BARRIER DRAIN_LATE UP_UNACKED; do
    breaks routes -DMUTATE_$mutation
done

# Batches to another hub.
holds peers
holds peers -DMESSAGES=3
for mutation in ACK_EARLY NO_GIVE_UP TELL_AT_ONCE DROP_REPORT LATE_FIRST ANY_STREAM NO_PAST NEXT_EARLY; do
    breaks peers -DMUTATE_$mutation
done

exit $failed
