#!/bin/bash
# Fuzzes the program's own parsers, SECONDS each: fuzz/run.sh SECONDS [PARSER …]     [default: all of them]
#
# A line a parser: inputs tried, places of the code reached, inputs kept. One that does harm is kept in fuzz/artifacts; it
# belongs into tests/malformed/PARSER once it is mended. Exit code: 1 where there was one.
set -eu
cd "$(dirname "$0")"
seconds=${1:?fuzz/run.sh SECONDS [PARSER …]}
shift
RUSTC_WRAPPER=$PWD/rustc.sh
CARGO_TARGET_DIR=${SCCROSSREC_FUZZ_TARGET:-$PWD/target}
export RUSTC_WRAPPER CARGO_TARGET_DIR
cargo build --quiet --release
mkdir -p artifacts
SCCROSSREC_CORPUS=corpus "$CARGO_TARGET_DIR/release/parsers" -artifact_prefix=artifacts/ -runs=0 >/dev/null 2>&1 ||
    [ -d corpus ]
[ $# -gt 0 ] || set -- $(cd corpus && echo *)
failed=0
for parser; do
    mkdir -p "artifacts/$parser"
    known=../tests/malformed/$parser
    [ -d "$known" ] || known=
    code=0
    SCCROSSREC_PARSER=$parser "$CARGO_TARGET_DIR/release/parsers" "corpus/$parser" $known \
        -artifact_prefix="artifacts/$parser/" -max_total_time="$seconds" -max_len=20000 -timeout=10 -malloc_limit_mb=64 \
        -rss_limit_mb=1024 -print_final_stats=1 >"artifacts/$parser.log" 2>&1 || code=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$parser.log")
    cover=$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' "artifacts/$parser.log" | tail -n 1)
    echo "$parser: ${runs:-0} inputs, ${cover:-0} places, $(ls "corpus/$parser" | wc -l) kept, exit code $code"
    [ "$code" = 0 ] || { failed=1; tail -n 5 "artifacts/$parser.log"; }
done
exit $failed
