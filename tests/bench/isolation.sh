# Part of run.sh: what well-behaved clients notice of others: paced pairs beside floods, and beside attacks; and a
# crowd of pairs, who are each other's others.

# Each: what runs beside the pairs, fan-out, body.
floods='flood:255:65536 flood:16:256 flood:1:16 flood:1:65536 flood:255:1048576 alternate:1:16
    identity:1:0 list:1:0 undelivered:1:16 connects:1:0'
# Each: what runs beside, senders, receivers or attackers, body.
attacks='stuck:20:300:65536 stuck:200:2000:65536 stuck:20:300:1048576 incomplete:1:800:1048576
    incomplete:1:5000:4096 mixed:1:1:65536 uploads:1:600:1048576'
isolation_rounds=3
isolation_seconds=0.8
attack_seconds=2
upload_seconds=6 # at most: they end when all have come
crowd_pairs='100 2000'
if [ "${BENCH_SHORT:-0}" = 1 ]; then
    floods=flood:16:256
    attacks=
    isolation_rounds=1
    isolation_seconds=0.2
    crowd_pairs=50
fi

# The hubs, and what they are compared with.
hubs=relayhub
[ -z "${OLD_RELAYHUBD:-}" ] || hubs='relayhub relayhub_old'
rival=
case $present in *nats_tuned*) rival=nats_tuned ;; esac

# Notes the figures of a run beside others: note_pairs KIND NUMBER BODY SERVER
note_pairs() {
    for name in done due least_percent p50 p99 max longest_ns beside_deliveries memory closed undelivered arrived \
        last_seconds; do
        note "$1_$name" "$2" "$3" "$4" "$name"
    done
}

# The medians of some of them, in a row: medians KIND NUMBER BODY SERVER NAME...
medians() {
    kind=$1 cell="$2 $3 $4"
    shift 4
    for name in "$@"; do
        printf '%s ' "$(median "${kind}_$name" $cell)"
    done
}

# Relayhub's over the old one's, if there is one: over_old KIND FAN_OUT BODY
over_old() {
    [ -z "${OLD_RELAYHUBD:-}" ] || printf ' %.2f' "$(median_ratio "$1" "$2" "$3" relayhub_old)"
}

# ---- floods

for round in $(seq "$isolation_rounds"); do
    echo "bench: pairs beside floods, round $round of $isolation_rounds"
    for server in $hubs $rival; do
        eval "stop \$pid_$server"
        start "$server"
    done
    for flood in $floods; do
        IFS=: read -r beside fan_out body <<EOF
$flood
EOF
        for server in $hubs $rival; do
            case $server-$beside in nats*-identity | nats*-list | nats*-undelivered) continue ;; esac
            if bench "$server" --warm-up 0.2 --seconds "$isolation_seconds" --beside "$beside" --fan-out "$fan_out" \
                --body "$body" isolation; then
                note_pairs "beside_$beside" "$fan_out" "$body" "$server"
            fi
        done
    done
done

say "50 pairs with 2000 round trips a second beside a flood (medians of $isolation_rounds): done in all and in the worst
   second, milliseconds since they were due, and what the flood got through in a second"
printf '%-11s %7s %8s %-12s %6s %6s %9s %9s %9s %12s%s\n' beside fan-out body server done worst p50 p99 longest \
    'flood got' "${OLD_RELAYHUBD:+   over old}"
for flood in $floods; do
    IFS=: read -r beside fan_out body <<EOF
$flood
EOF
    for server in $hubs $rival; do
        echo "$beside $fan_out $body $server $(medians "beside_$beside" "$fan_out" "$body" "$server" done due \
            least_percent p50 p99 max beside_deliveries)$([ "$server" != relayhub ] ||
            over_old "beside_${beside}_beside_deliveries" "$fan_out" "$body")"
    done
done | awk '$6 > 0' | tee "$BENCH_DIR/isolation" | awk '{
    printf "%-11s %7d %8d %-12s %5.1f%% %5.1f%% %9.3f %9.3f %9.3f %12.0f%s\n", $1, $2, $3, $4, 100 * $5 / $6, $7,
        $8 / 1e6, $9 / 1e6, $10 / 1e6, $11, (NF > 11 ? sprintf(" %10.2f", $12) : "") }'

# ---- attacks

# start_hub SERVER: a fresh one; of two workers, on all processors but the load's.
start_hub() {
    case $1 in
    relayhub_2)
        launch relayhub_2 $on_servers "$RELAYHUBD" --foreground --workers 2 --listen 127.0.0.1:0
        port_from_log relayhub_2 'listening on '
        ;;
    *)
        eval "stop \$pid_$1"
        start "$1"
        ;;
    esac
}

afterwards() {
    case $line in *'"after_ok":true'*) echo yes ;; *) echo no ;; esac
}

: >"$BENCH_DIR/attacks"
for attack in $attacks; do
    IFS=: read -r beside senders number body <<EOF
$attack
EOF
    limit=$attack_seconds
    [ "$beside" != uploads ] || limit=$upload_seconds
    for server in $hubs relayhub_2; do
        start_hub "$server"
        if bench "$server" --warm-up 0.5 --seconds "$limit" --beside "$beside" --senders "$senders" \
            --receivers "$number" --attackers "$number" --body "$body" isolation; then
            note_pairs "attack_$beside" "$number" "$body" "$server"
            echo "$beside $senders $number $body $server $(medians "attack_$beside" "$number" "$body" "$server" done due \
                least_percent p50 p99 max closed undelivered memory arrived last_seconds)$(afterwards)" \
                >>"$BENCH_DIR/attacks"
        fi
        if [ "$server" = relayhub_2 ]; then
            stop "$pid_relayhub_2"
        fi
    done
done
if [ -n "$attacks" ]; then
    say "the same pairs beside attacks: failed are their connections that were closed and messages that were not delivered,
   in milliseconds since they were due, memory in MB; and whether a client that comes afterwards gets an answer"
    awk 'BEGIN { printf "%-22s %8s %-12s %6s %6s %9s %9s %9s %6s %7s %5s\n", "beside", "body", "server", "done", "worst",
        "p50", "p99", "longest", "failed", "memory", "after" }
    {
        uploads = $1 == "uploads" ? sprintf("  %d arrived, the last after %.1f s", $15, $16) : ""
        printf "%-22s %8d %-12s %5.1f%% %5.1f%% %9.3f %9.3f %9.3f %6d %7.1f %5s%s\n", $1 " " ($1 == "stuck" ? $2 " x " : "") $3, $4, $5,
            100 * $6 / $7, $8, $9 / 1e6, $10 / 1e6, $11 / 1e6, $12 + $13, $14 / 1e6, $17, uploads
    }' "$BENCH_DIR/attacks"
    if [ -n "${OLD_RELAYHUBD:-}" ]; then
        for attack in $attacks; do
            IFS=: read -r beside senders number body <<EOF
$attack
EOF
            [ "$beside" = stuck ] || senders=
            echo "$beside ${senders:+$senders x }$number, $body bytes: the longest wait over the old hub's:$(over_old \
                "attack_${beside}_max" "$number" "$body")"
        done
    fi
fi

# ---- the crowd

launch floor_pairs $on_server "$FLOOR" pairs
port_from_log floor_pairs 'listening on '
players="$hubs $rival"
case " $present " in *' redis '*) players="$players redis" ;; esac
players="$players floor_pairs"
for server in $hubs; do
    eval "stop \$pid_$server"
    start "$server"
done
for round in $(seq "$isolation_rounds"); do
    for pairs in $crowd_pairs; do
        for server in $players; do
            if bench "$server" --seconds "$isolation_seconds" --pairs "$pairs" crowd; then
                for name in deliveries cpu_us p50 p99; do
                    note "crowd_$name" "$pairs" 64 "$server" "$name"
                done
            fi
        done
    done
done
say "messages a second of pairs that play ping-pong as fast as it goes, 64 bytes (medians of $isolation_rounds), and
   microseconds of the server's time for each, and until one and the other have come; over: relayhub's over theirs"
printf '%6s %-12s %10s %8s %10s %10s %6s\n' pairs server messages CPU p50 p99 over
for pairs in $crowd_pairs; do
    for server in $players; do
        echo "$pairs $server $(medians crowd "$pairs" 64 "$server" deliveries cpu_us p50 p99)$(median_ratio \
            crowd_deliveries "$pairs" 64 "$server")"
    done
done | tee "$BENCH_DIR/crowd_pairs" | awk '{
    printf "%6d %-12s %10.0f %8.2f %10.1f %10.1f %6.2f\n", $1, $2, $3, $4, $5 / 1e3, $6 / 1e3, $7 }'
stop "$pid_floor_pairs"
