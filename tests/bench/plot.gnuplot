# Deliveries a second over the body's size for each fan-out, and throughput beside idle connections.
set terminal svg size 1200,900 background 'white'
set output directory.'/bench.svg'
set multiplot layout 2,2
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
set title 'relayhub beside idle connections (fan-out 1, 16 bytes)'
set xlabel 'idle connections'
set yrange [1e6:*]
set xrange [100:*]
plot directory.'/crowds' using 1:7 with linespoints linewidth 2 title 'deliveries a second'
unset multiplot
