#!/bin/bash
# The long tier: what the gate does in seconds, done for long enough to find what is rare. About an hour on two cores.
#
#   tests/long.sh [STAGE …]     parsers damaged kept killed interrupted fuzz valgrind [default: all]
#   tests/long.sh python        the Python wheel: built, installed, tested; only when named
#   tests/long.sh tutorials     the commands of the tutorials, as they are printed; only when named
#
# Results go to tests/long-results/DATE.txt: a line a stage with its exit code, seconds and counts; the whole output lies
# in target/long. Exit code: 0 where nothing failed, 1 otherwise. A stage whose tool is not here says so and counts as
# failed, unless SCCROSSREC_LONG_WITHOUT names it.
#   SCCROSSREC_FUZZ_SECONDS=60   seconds a parser
#   SCCROSSREC_SEED=N            other changes of files in `parsers`
set -u
cd "$(dirname "$0")/.."
stages=${*:-parsers damaged kept killed interrupted fuzz valgrind}
target=${CARGO_TARGET_DIR:-$PWD/target}
logs=$target/long
results=tests/long-results/$(date -u +%Y-%m-%d).txt
mkdir -p "$logs" tests/long-results
export SCCROSSREC_LONG=1
if [ -z "${SCCROSSREC_TEST_DATA:-}" ] && [ -d ../shared/data ]; then
    SCCROSSREC_TEST_DATA=$(cd ../shared/data && pwd)
    export SCCROSSREC_TEST_DATA
fi
failed=0

say() { echo "$*" | tee -a "$results"; }

record() { # stage, exit code, seconds: and the counts of its log
    say "$1: exit code $2, $3 s"
    sed -n -e '/^test result/p' -e '/ did harm$/p' -e '/ refused in .* s$/p' -e '/ places, .* kept/p' -e '/^SKIPPED/p' \
        -e '/^found: /p' -e '/ MB, .* s$/p' -e '/^[0-9]* passed/p' "$logs/$1.log" | sed 's/^/    /' | tee -a "$results"
    [ "$2" = 0 ] || { failed=1; tail -n 20 "$logs/$1.log" | cut -c 1-300; }
}

stage() { # name, command …
    local name=$1 began=$SECONDS code=0
    shift
    "$@" >"$logs/$name.log" 2>&1 || code=$?
    record "$name" "$code" $((SECONDS - began))
}

missing() { # stage, what it needs
    say "$1: not run, as there is no $2"
    case " ${SCCROSSREC_LONG_WITHOUT:-} " in *" $1 "*) ;; *) failed=1 ;; esac
}

# The tests of one module of `robust`; those of the parsers have a program of their own.
tests() {
    case $1 in
    parsers) cargo test --release --test parsers -- --nocapture ;;
    *) cargo test --release --test robust -- --nocapture "$1::" ;;
    esac
}

# Memory errors in the modules with unsafe code that run on the CPU: packed rows, memory maps, vector instructions (of the
# sets that valgrind knows), and fields of HDF5 tables read into our memory. The HDF5 library itself writes padding that
# was never set, so that only addresses are looked at there.
under_valgrind() {
    local unit sources log code=0
    log=$(cargo test --release --no-run --lib --test files 2>&1) || { echo "$log"; return 1; }
    unit=$(sed -n 's/.*unittests src\/lib.rs (\(.*\))/\1/p' <<<"$log")
    sources=$(sed -n 's/.*tests\/files\/main.rs (\(.*\))/\1/p' <<<"$log")
    export RAYON_NUM_THREADS=2
    for isa in scalar avx2; do
        echo "found: instructions $isa"
        SCCROSSREC_ISA=$isa valgrind -q --error-exitcode=9 "$unit" dataset:: files:: ops:: tape:: data::anndata \
            --test-threads 1 || code=1
    done
    SCCROSSREC_ISA=avx2 valgrind -q --error-exitcode=9 --undef-value-errors=no "$sources" every_form --test-threads 1 ||
        code=1
    return $code
}

# The wheel of the sdist, its size and how long it took; then in clean environments, with the oldest and the newest anndata.
the_wheel() {
    python/build.sh && python/test.sh
}

# What the tutorials print is what the program prints, but for numbers. PYTHON names one with anndata.
the_tutorials() {
    local code=0
    cargo build --release || return 1
    for page in docs/tutorial-*.md; do
        "${PYTHON:-python3}" docs/make.py "$page" --program "$target/release/sccrossrec" --check || code=1
    done
    return $code
}

say "# $(date -u '+%Y-%m-%d %H:%M UTC'), $(git rev-parse --short HEAD 2>/dev/null), $(rustc --version | cut -d' ' -f 1-2)"
say "# $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors," \
    "$(awk '/MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo)"
for name in $stages; do
    case $name in
    parsers | damaged | kept | killed | interrupted)
        stage "$name" tests "$name"
        ;;
    python) stage python the_wheel ;;
    tutorials) stage tutorials the_tutorials ;;
    fuzz) stage fuzz fuzz/run.sh "${SCCROSSREC_FUZZ_SECONDS:-60}" ;;
    valgrind) if command -v valgrind >/dev/null; then stage valgrind under_valgrind; else missing valgrind valgrind; fi ;;
    *) echo "no stage is called $name" >&2; exit 2 ;;
    esac
done
say
exit $failed
