#!/bin/bash -eu
# Makes one program of each target, and a zip of its corpus, in $OUT. Run in the repository's root.

TARGETS="
bootstrap
control
dialer
endpoint
envelope
frames
gateway
handshake
listener
local
noise
packet
parameters
recovery
sse
store
streams
texts
varint
xwing
"

pip3 install .

for target in $TARGETS; do
  # The harness imports the target by its name once atheris listens, which no analysis can see.
  compile_python_fuzzer "fuzz/fuzz_$target.py" \
    --paths . \
    --hidden-import "fuzz.fuzz_$target" \
    --exclude-module pkg_resources
done

python3 -m fuzz.corpora "$OUT" $TARGETS
