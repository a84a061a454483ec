#!/usr/bin/env bash
# A third-party verifier in another language judges what sti-sks signs: the PASSporT, the chain from
# the STI-CR to the roots of the trusted-CA list, and the STI-PA's CRL. It is part of the shared
# material (STI_SHARED/interop).
set -euo pipefail
source=$1 bin=$2
# shellcheck source=test-hsm/e2e/node_modules.sh
. "$source/test-hsm/e2e/node_modules.sh"
script=${STI_SHARED:-$source/../shared}/interop/verify/verify-identity.mjs
command -v node >/dev/null || { echo "skipped: no node" && exit 77; }
[ -r "$script" ] || { echo "skipped: no $script" && exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/sti-verifier.XXXXXX")
dir=$work/one
ulimit -n 4096
cleanup() {
    status=$?
    "$source/scripts/quickstart" --dir "$dir" --stop >/dev/null || true
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }
find_node_modules "$work" @peculiar/x509 || exit 77

mkdir -p "$dir/run"
first=$((30000 + RANDOM % 250 * 4))
printf '%s=%s\n' pa_port $first ca_port $((first + 1)) sks_port $((first + 2)) cr_port $((first + 3)) >"$dir/run/ports"
"$source/scripts/quickstart" --bin "$bin" --dir "$dir" >"$work/out" 2>&1 || fail "$(tail -n 5 "$work/out")"
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF
cp "$script" "$work/"
ln -s "$script_modules" "$work/node_modules"
get() { curl -sS --noproxy '*' --fail --cacert "$STI_TLS_CA" "$@"; }

sign() { # MEMBERS: writes an Identity header field value to $work/identity
    get --unix-socket "$STI_SKS_SOCKET" -H 'Content-Type: application/json' -o "$work/answer" -d "{\"signingRequest\":
        {\"iat\":$(date +%s),\"orig\":{\"tn\":\"12155551212\"},\"dest\":{\"tn\":[\"12155551213\",\"12155551214\"]},$1}}" \
        http://localhost/stir/v1/signing || fail "not signed: $1"
    jq -r '.signingResponse | .identity // .identityHeader' "$work/answer" >"$work/identity"
}
judge() { # PPT [OPTION ...]: returns its exit status; the output is in $work/verdict
    local ppt=$1
    shift
    get -o "$work/chain.pem" "$(sed 's/.*;info=<\([^>]*\)>.*/\1/' "$work/identity")"
    get -o "$work/crl" "$STI_PA_URL/download/v1/crl"
    node "$work/verify-identity.mjs" --identity "$work/identity" --chain "$work/chain.pem" --roots "$STI_TRUST_ANCHORS" \
        --crl "$work/crl" --crl-signer "$dir/pa/pa-crl-chain.pem" --ppt "$ppt" --strict "$@" >"$work/verdict"
}
accepted() { # PPT
    judge "$1" --orig 12155551212 --dest 12155551214 || fail "$1: $(jq -c .errors "$work/verdict")"
    [ "$(jq -c .warnings "$work/verdict")" = '[]' ] || fail "$1: $(jq -c .warnings "$work/verdict")"
}
rejected() { # CODE [OPTION ...]
    if judge shaken "${@:2}"; then fail "accepted, but for $1"; fi
    jq -e --arg code "$1" '.errors | any(.code == $code)' "$work/verdict" >/dev/null || fail "not $1: $(jq -c .errors "$work/verdict")"
}

id='"origid":"de305d54-75b4-431b-adb2-eb6b9e546014"'
for attest in A B C; do
    sign "\"attest\":\"$attest\",$id"
    accepted shaken
done
sign "\"attest\":\"A\",$id,\"crn\":\"caf\\u00e9 \\\"now\\\"\",\"rcd\":{\"nam\":\"Q \\u2603\"}"
accepted shaken
sign '"ppt":"div","div":{"tn":"12155551210","hi":"1.1"}'
accepted div
sign '"ppt":"rph","rph":{"auth":["ets.0","wps.0"]}'
accepted rph
sign '"ppt":"rcd","rcd":{"nam":"Q"}'
accepted rcd

sign "\"attest\":\"A\",$id"
rejected mismatch --orig 12155559999
rejected iat --date $(($(date +%s) + 61))
cp "$work/identity" "$work/good"
sed 's/\.\([A-Za-z0-9_-]\)\([^.;]*\);/.\2\1;/' "$work/good" >"$work/identity"
rejected signature
cp "$work/good" "$work/identity"
"$bin/sti-kms" revoke --config "$dir/sp/sp.conf" --id 1 --reason 4 >"$work/out" 2>&1 || fail "$(tail -n 5 "$work/out")"
for _ in $(seq 100); do
    get -o "$work/crl" "$STI_PA_URL/download/v1/crl"
    if judge shaken; then sleep 0.1; else break; fi
done
jq -e '.errors | length == 1 and .[0].code == "revoked"' "$work/verdict" >/dev/null || fail "revoked: $(jq -c .errors "$work/verdict")"
echo "7 PASSporTs accepted by another verifier, 4 rejected"
