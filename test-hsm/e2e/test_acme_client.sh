#!/usr/bin/env bash
# npm's acme-client at our STI-CA: account, order for a TNAuthList, SPC token, certificate,
# revocation, key change, deactivation. The script is part of the shared material
# (STI_SHARED/interop).
set -euo pipefail
source=$1 bin=$2
# shellcheck source=test-hsm/e2e/node_modules.sh
. "$source/test-hsm/e2e/node_modules.sh"
script=${STI_SHARED:-$source/../shared}/interop/acme/acme-tnauth.mjs
command -v node >/dev/null || { echo "skipped: no node" && exit 77; }
[ -r "$script" ] || { echo "skipped: no $script" && exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/sti-acme-client.XXXXXX")
dir=$work/one

cleanup() {
    status=$?
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        tail -n 40 "$dir/log/sti-ca.log" || true
    fi
    "$source/scripts/quickstart" --dir "$dir" --stop >/dev/null 2>&1 || true
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }

find_node_modules "$work" acme-client || exit 77
mkdir "$work/flow"
cp "$script" "$work/flow/"
ln -s "$script_modules" "$work/flow/node_modules"
"$source/scripts/quickstart" --bin "$bin" --dir "$dir" >"$work/out" 2>&1 || fail "$(tail -n 5 "$work/out")"
# shellcheck source=/dev/null
. "$dir/env"

flow() { # [VARIABLE=VALUE ...]
    local credentials
    credentials=$(printf '%s:%s' "$STI_PA_USER" "$(cat "$STI_PA_PASSWORD_FILE")" | base64 -w0)
    env "$@" ACME_DIRECTORY="$STI_CA_DIRECTORY" ACME_CA_FILE="$STI_TLS_CA" SPC="$STI_SPC2" REVOKE=1 \
        STIPA_TOKEN_URL="$STI_PA_URL/at/account/$STI_PA_ACCOUNT/token" STIPA_AUTH="Basic $credentials" \
        node "$work/flow/acme-tnauth.mjs" >"$work/flow.out" 2>&1 || fail "acme-client $*: $(tail -n 5 "$work/flow.out")"
    grep -q 'order after deactivation refused' "$work/flow.out" || fail "acme-client $*: $(tail -n 5 "$work/flow.out")"
    echo "acme-client${*:+ with $*}: all of it"
}
flow
flow TKAUTH_FIELD=atc TKVALUE_ENC=base64pad FINGERPRINT=spki
flow REVOKE_BY=cert
