#!/bin/sh
# test_sti_pa.sh - run the commands of docs/STI-PA.md in order, unchanged.
#
#   test_sti_pa.sh SOURCE_DIR BIN_DIR
set -eu

# shellcheck source=test-hsm/certs/document.sh
. "$1/test-hsm/certs/document.sh"
document_open "$1" "$2"
trap 'kill "$(cat pa.pid)" 2>/dev/null || true; rm -rf "$document_directory"' EXIT

# A port without a listener.
port=$((32000 + $$ % 700))
while curl -sk -o answer "https://127.0.0.1:$port/" || [ $? -ne 7 ]; do port=$((port + 1)); done
STI_PA_PORT=$port
export STI_PA_PORT
document_run STI-PA.md 10
document_has_no_key
echo "docs/STI-PA.md: $blocks blocks hold"
