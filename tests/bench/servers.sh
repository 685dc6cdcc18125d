# Starts and stops the servers that are compared, each on a free port of 127.0.0.1. Read by run.sh.
#
# After `start NAME`, port_NAME and pid_NAME are set; it fails where the server is not installed.

started=

# Runs a command in the background; its output goes to a file of that name.
launch() {
    name=$1
    shift
    : >"$BENCH_DIR/$name.log" # before anyone looks for a port in it
    "$@" >"$BENCH_DIR/$name.log" 2>&1 &
    eval "pid_$name=$!"
    started="$started $!"
}

# Waits until a server's log has this, then cuts the port out of that line.
port_from_log() {
    for _ in $(seq 100); do
        port=$(sed -n "s/.*$2[^ ]*:\\([0-9]*\\)\$/\\1/p" "$BENCH_DIR/$1.log" | head -n 1)
        if [ -n "$port" ]; then
            eval "port_$1=$port"
            return 0
        fi
        sleep 0.05
    done
    echo "bench: $1 does not start:" >&2
    cat "$BENCH_DIR/$1.log" >&2
    exit 1
}

# A port that nobody listens on: one that the kernel has just given to a floor.
free_port() {
    launch free "$FLOOR" relay
    port_from_log free 'listening on '
    stop "$pid_free"
    echo "$port"
}

# Waits until somebody listens on a port.
wait_for_port() {
    eval "port=\$port_$1"
    hex=$(printf ':%04X' "$port")
    for _ in $(seq 100); do
        grep -q "$hex 00000000:0000 0A" /proc/net/tcp && return 0
        sleep 0.05
    done
    echo "bench: $1 does not start:" >&2
    cat "$BENCH_DIR/$1.log" >&2
    exit 1
}

# Debian has servers in /usr/sbin, which is not in everyone's path.
find_server() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1"
}

start() {
    case $1 in
    relayhub)
        launch relayhub $on_server "$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0
        port_from_log relayhub 'listening on '
        ;;
    relayhub_old)
        launch relayhub_old $on_server "$OLD_RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0
        port_from_log relayhub_old 'listening on '
        ;;
    floor1)
        launch floor1 $on_server "$FLOOR" relay
        port_from_log floor1 'listening on '
        ;;
    floor2)
        launch floor2 $on_server "$FLOOR" requests
        port_from_log floor2 'listening on '
        ;;
    accept)
        launch accept $on_server "$FLOOR" accept
        port_from_log accept 'listening on '
        ;;
    nats) # has many threads: it may use all processors
        program=$(find_server nats-server) || return 1
        port_nats=$(free_port)
        launch nats "$program" -a 127.0.0.1 -p "$port_nats"
        wait_for_port nats
        ;;
    nats_tuned) # one thread on the server's processor, garbage collected a quarter as often, no haste with slow readers
        program=$(find_server nats-server) || return 1
        port_nats_tuned=$(free_port)
        {
            echo "listen: 127.0.0.1:$port_nats_tuned"
            echo 'write_deadline: "30s"'
            echo 'max_pending: 268435456'
        } >"$BENCH_DIR/nats.conf"
        launch nats_tuned env GOMAXPROCS=1 GOGC=400 $on_server "$program" -c "$BENCH_DIR/nats.conf"
        wait_for_port nats_tuned
        ;;
    redis)
        program=$(find_server redis-server) || return 1
        port_redis=$(free_port)
        launch redis $on_server "$program" --bind 127.0.0.1 --port "$port_redis" --save '' --appendonly no
        wait_for_port redis
        ;;
    redis_tuned) # a second thread that writes, on any processor, and no limit for slow readers
        program=$(find_server redis-server) || return 1
        port_redis_tuned=$(free_port)
        launch redis_tuned "$program" --bind 127.0.0.1 --port "$port_redis_tuned" --save '' --appendonly no \
            --io-threads 2 --client-output-buffer-limit pubsub 0 0 0
        wait_for_port redis_tuned
        ;;
    mqtt) # without the limits that would have it drop messages
        program=$(find_server mosquitto) || return 1
        port_mqtt=$(free_port)
        {
            echo "listener $port_mqtt 127.0.0.1"
            echo 'allow_anonymous true'
            echo 'max_queued_messages 0'
            echo 'max_inflight_messages 0'
            echo 'set_tcp_nodelay true'
        } >"$BENCH_DIR/mosquitto.conf"
        launch mqtt $on_server "$program" -c "$BENCH_DIR/mosquitto.conf"
        wait_for_port mqtt
        ;;
    esac
}

# Ends these processes, and forgets them: their numbers may soon be another's.
stop() {
    kill "$@" 2>/dev/null || :
    wait "$@" 2>/dev/null || :
    kept=
    for pid in $started; do
        case " $* " in
        *" $pid "*) ;;
        *) kept="$kept $pid" ;;
        esac
    done
    started=$kept
}

stop_all() {
    [ -z "$started" ] || stop $started
}
