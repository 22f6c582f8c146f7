#!/bin/sh
# Runs the core's own tests with rustc's coverage counters and prints what they reached, file by file.
# The tools must know the counters' format: LLVM 19 or newer, of the system or of the toolchain (rustup's llvm-tools).
set -eu
cd "$(dirname "$0")"
tool() {
  own=$(rustc --print target-libdir)/../bin/$1
  for found in "$own" "$1-22" "$1-21" "$1-20" "$1-19"; do
    if command -v "$found" >/dev/null; then echo "$found"; return; fi
  done
  echo "no $1: make setup-ops, or rustup component add llvm-tools" >&2
  exit 1
}
profdata=$(tool llvm-profdata)
cov=$(tool llvm-cov)
export CARGO_TARGET_DIR=target/coverage LLVM_PROFILE_FILE="$PWD/target/coverage/raw/%p-%m.profraw"
export RUSTFLAGS="${RUSTFLAGS:-} -Cinstrument-coverage"
rm -rf target/coverage/raw
cargo test --locked --quiet --lib
"$profdata" merge -sparse target/coverage/raw/*.profraw -o target/coverage/all.profdata
tests=$(cargo test --locked --quiet --lib --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
"$cov" report "$tests" -instr-profile=target/coverage/all.profdata --ignore-filename-regex='/(registry|rustc)/' \
  -show-region-summary=false -show-branch-summary=false
