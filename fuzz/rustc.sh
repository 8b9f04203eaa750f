#!/bin/sh
# RUSTC_WRAPPER: compiles the program's own code with the counters that libFuzzer reads, and with checks of overflow.
# Everything else is compiled as it is, and no nightly compiler is needed.
for word; do
    case $before$word in
    --crate-namesccrossrec | --crate-namesccrossrec_fuzz | --crate-nameparsers)
        exec "$@" --cfg fuzzing -Cdebug-assertions -Coverflow-checks -Cpasses=sancov-module \
            -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
            -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
        ;;
    esac
    before=$word
done
exec "$@"
