# bench.svg: deliveries a second over the body's size for each fan-out. cost.svg: the hub's CPU time over the number
# of deliveries, and a delivery's over the number of idle connections. isolation.svg: how long paced pairs wait beside
# floods. crowd.svg: messages a second of many pairs.
set terminal svg size 1500,450 background 'white'
set output directory.'/bench.svg'
set multiplot layout 1,3
set logscale xy
set format x '%.0s %c'
set format y '10^{%L}'
set xlabel 'body, bytes'
set ylabel 'deliveries a second'
set key left bottom
do for [fan_out in fan_outs] {
    set title 'fan-out '.fan_out
    table = directory.'/table.'.fan_out
    plot table using 2:3 with linespoints linewidth 2 title 'relayhub', \
        table using 2:4 with linespoints title 'nats-server', \
        table using 2:5 with linespoints title 'redis-server', \
        table using 2:6 with linespoints title 'mosquitto', \
        table using 2:7 with lines dashtype 2 title 'floor 1', \
        table using 2:8 with lines dashtype 3 title 'floor 2'
}
unset multiplot

set terminal svg size 1200,450 background 'white'
set output directory.'/cost.svg'
set multiplot layout 1,2
unset logscale
set xrange [0:*]
set yrange [0:*]
set format y '%g'
set key left top
set title "relayhub's CPU time, bodies of 16 bytes"
set xlabel 'deliveries'
set ylabel 'milliseconds'
plot for [fan_out in fan_outs] directory.'/scaling' using ($1 == fan_out + 0 ? $2 : NaN):($3 * 1000) \
    with linespoints linewidth 2 title 'fan-out '.fan_out
set title "relayhub's CPU time a delivery, bodies of 16 bytes, fan-out 1"
set xlabel 'idle connections'
set ylabel 'nanoseconds'
plot directory.'/crowds' using 1:7 with linespoints linewidth 2 notitle
unset multiplot

set terminal svg size 1200,500 background 'white'
set output directory.'/isolation.svg'
set style data histograms
set style fill solid 0.8
set boxwidth 0.9
set logscale y
set xrange [*:*]
set yrange [0.01:*]
set xtics rotate by -30
set format x '%s'
set title '99th percentile of the round trips of paced pairs beside a flood (fan-out x body)'
unset xlabel
set ylabel 'milliseconds'
plot directory.'/isolation.plot' using 2:xtic(1) title 'relayhub', '' using 3 title 'nats-server'

set output directory.'/crowd.svg'
unset logscale
set yrange [0:*]
set title 'pairs that play ping-pong as fast as it goes'
set ylabel 'messages a second'
plot for [pairs in crowds] directory.'/crowd_pairs.'.pairs using 2:xtic(1) title pairs.' pairs'
