#!/bin/sh
# run_fuzzer.sh FUZZER OPTION... -- CORPUS_FILE...: see fuzz.bzl.
set -eu
fuzzer=$1
shift
options=
while [ "$1" != -- ]; do
  options="$options $1"
  shift
done
shift
# libFuzzer adds what it finds to the first folder, and reads both.
mkdir "$TEST_TMPDIR/found" "$TEST_TMPDIR/corpus"
cp "$@" "$TEST_TMPDIR/corpus"
# Freed memory that is watched; the default is 256 MB.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=16"
# shellcheck disable=SC2086  # several words
exec "$fuzzer" $options -timeout=20 -print_final_stats=1 \
  -artifact_prefix="${TEST_UNDECLARED_OUTPUTS_DIR:-$TEST_TMPDIR}/" \
  "$TEST_TMPDIR/found" "$TEST_TMPDIR/corpus"
