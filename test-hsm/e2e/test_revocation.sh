#!/usr/bin/env bash
# From a certificate that verifies to one that does not: sti-kms requests the revocation, the STI-CA
# forwards it to the STI-PA, and the STI-PA's CRL informs every STI-VS. Also a revocation while the
# STI-PA is unreachable.
set -euo pipefail
source=$1 bin=$2
work=$(mktemp -d /tmp/sti-revocation.XXXXXX)
dir=$work/one

cleanup() {
    status=$?
    if [ $status -ne 0 ]; then
        for log in "$dir"/log/*.log; do
            echo "--- $log" && tail -n 30 "$log"
        done
    fi
    "$source/scripts/quickstart" --dir "$dir" --stop >/dev/null || true
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }
quickstart() { "$source/scripts/quickstart" --bin "$bin" --dir "$dir" >"$work/quickstart" ||
    fail "quickstart: $(tail -n 5 "$work/quickstart")"; }
status() { "$bin/sti-kms" status --config "$dir/sp/sp.conf" --json; }
kms() { "$bin/sti-kms" "$@" --config "$dir/sp/sp.conf" >"$work/kms" 2>&1; }

quickstart
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF

api() { # PATH JSON: prints the status; the body is in $work/answer
    curl -sS --noproxy '*' --max-time 20 --unix-socket "$STI_SKS_SOCKET" -o "$work/answer" \
        -w '%{http_code}' -H 'Content-Type: application/json' -d "$2" "http://localhost$1"
}
sign() { # with an iat slightly in the future, to stay fresh for the first part of this test
    api /stir/v1/signing "$(jq -nc --argjson iat "$(($(date +%s) + 45))" '{signingRequest: {attest: "A",
        dest: {tn: ["12155551213"]}, iat: $iat, orig: {tn: "12155551212"},
        origid: "de305d54-75b4-431b-adb2-eb6b9e546014"}}')"
}
serial_of() { # from the chain of a credential, by its x5u
    curl -sS --noproxy '*' --cacert "$STI_TLS_CA" "$1" | openssl x509 -noout -serial | sed 's/.*=//'
}
crl() {
    curl -sS --noproxy '*' --cacert "$STI_TLS_CA" "$STI_PA_URL/download/v1/crl" |
        openssl crl -inform DER -noout -text
}
number() { crl | grep -A1 'CRL Number' | tail -n 1 | tr -d ' '; }
wait_for_crl() { # SERIAL
    for _ in $(seq 300); do
        if crl 2>/dev/null | grep -q "Serial Number: $1"; then return; fi
        sleep 0.1
    done
    fail "$1 is not on the CRL"
}
verify() { # prints reasoncode or 0
    "$bin/sti-sks" verify --config "$dir/sp/sp.conf" --identity "$work/identity" \
        --from 12155551212 --to 12155551213 2>"$work/err" >"$work/verdict" || true
    jq -r '.reasoncode // 0' "$work/verdict"
}

# --- a call that verifies
[ "$(sign)" = 200 ] || fail "does not sign: $(cat "$work/answer")"
jq -er .signingResponse.identity "$work/answer" >"$work/identity"
[ "$(verify)" = 0 ] || fail "not valid: $(cat "$work/verdict" "$work/err")"
before=$(number)
serial=$(serial_of "$(status | jq -er '.credentials[0].x5u')")

# --- and no longer verifies
kms revoke --id 1 --reason 1 || fail "sti-kms revoke: $(cat "$work/kms")"
grep -q 'credential 1: retiring, signs no more' "$work/kms" || fail "$(cat "$work/kms")"
grep -q 'credential 1: revoked, retired' "$work/kms" || fail "$(cat "$work/kms")"
wait_for_crl "$serial"
[ "$(number)" -gt "$before" ] || fail "the CRL has the number of the one before"
crl | grep -q 'Key Compromise' || fail "the CRL does not say why"
[ "$(verify)" = 437 ] || fail "still valid: $(cat "$work/verdict" "$work/err")"
[ "$(jq -r '.verstat' "$work/verdict")" = TN-Validation-Failed ] || fail "$(cat "$work/verdict")"
[ "$(jq -r '.case' "$work/verdict")" = 17 ] || fail "$(cat "$work/verdict")"
for _ in $(seq 150); do
    code=$(sign)
    [ "$code" = 200 ] || break
    sleep 0.1
done
[ "$code" != 200 ] || fail "it signs with a revoked certificate"
kms revoke --id 1 --reason 1 || fail "once more: $(cat "$work/kms")"
kms revoke --id 7 --reason 1 && fail "a credential that is not there"
kms revoke --id 1 --reason 7 && fail "a reason that is none"
kms revoke --id x --reason 1 && fail "an id that is none"
for _ in $(seq 150); do # a repeated request is forwarded again: this includes a login of the STI-CA
    told=$(grep -c 'the STI-PA has accepted the revocation' "$dir/log/sti-ca.log" || true)
    [ "$told" -lt 2 ] || break
    sleep 0.1
done
[ "$told" = 2 ] || fail "the STI-PA was told $told times, not twice"

# --- wrong passwords lock out the users with passwords at this address; STI-CA and service provider
# continue with API keys
pa() { "$bin/sti-pa" "$@" --config "$dir/pa/sti-pa.conf" >>"$work/pa" 2>&1 || fail "sti-pa $*: $(cat "$work/pa")"; }
login() { # USER: reads the password from standard input; prints the status
    jq -Rc --arg user "$1" '{userId: $user, password: .}' |
        curl -sS --noproxy '*' --cacert "$STI_TLS_CA" -o /dev/null -w '%{http_code}\n' \
            -H 'Content-Type: application/json' -d @- "$STI_PA_URL/api/v1/auth/login"
}
keys() { # ID FILE CONFIGURATION: replace the password by an API key
    pa account key add --id "$1" --file "$2"
    sed -i -e '/^user = /d' -e "s|^password-source = .*|api-key-source = file:$2|" "$3"
}
keys ca-account "$dir/ca-account.key" "$dir/ca/sti-ca.conf"
keys 1001 "$dir/1001.key" "$dir/sp/sp.conf"
for user in sti-ca sp-example; do
    for _ in $(seq 30); do
        code=$(echo guess | login "$user")
        [ "$code" = 403 ] || break
    done
    [ "$code" = 429 ] || fail "guesses: $code"
    password=1001.password
    [ "$user" = sp-example ] || password=ca-account.password
    [ "$(login "$user" <"$dir/$password")" = 429 ] || fail "$user is not shut out"
done

# --- the service provider continues with a new certificate
quickstart
[ "$(status | jq -r '.credentials[1].state')" = active ] || fail "no new credential: $(status)"
serial=$(serial_of "$(status | jq -er '.credentials[1].x5u')")

# --- revoked by the operator while the STI-PA is unreachable; the STI-CA is killed before it can
# forward it
kill "$(cat "$dir/run/sti-pa.pid")"
while kill -0 "$(cat "$dir/run/sti-pa.pid")" 2>/dev/null; do sleep 0.1; done
"$bin/sti-ca" revoke --config "$dir/ca/sti-ca.conf" --serial "$serial" --reason 5 >"$work/ca" 2>&1 ||
    fail "sti-ca revoke: $(cat "$work/ca")"
"$bin/sti-ca" revoke --config "$dir/ca/sti-ca.conf" --serial "$serial" >"$work/ca" 2>&1 &&
    fail "sti-ca revoke, once more: $(cat "$work/ca")"
for _ in $(seq 150); do
    if grep -q 'does not know of the revocation after 1 attempts' "$dir/log/sti-ca.log"; then break; fi
    sleep 0.1
done
grep -q 'does not know of the revocation after 1 attempts' "$dir/log/sti-ca.log" ||
    fail "the STI-CA does not say that the STI-PA is away"
kill -9 "$(cat "$dir/run/sti-ca.pid")"
quickstart
wait_for_crl "$serial"
crl | grep -q 'Cessation Of Operation' || fail "the CRL does not say why"
"$bin/sti-pa" revocation list --config "$dir/pa/sti-pa.conf" >"$work/list"
[ "$(grep -c ' revoked .* asked by account ca-account' "$work/list")" = 2 ] || fail "$(cat "$work/list")"
echo "revoked, published, refused"
