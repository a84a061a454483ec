#!/usr/bin/env bash
# A service provider signs with two credentials, one in each of two tokens, and one of their
# certificates is revoked during calls. Once the CRL has it, only the other one signs; no call is lost.
# The revoked one is replaced as soon as the STI-PA authorizes a new one.
set -euo pipefail
source=$1 bin=$2
work=$(mktemp -d /tmp/sti-revocation.XXXXXX)
dir=$work/one
conf=$dir/sp/sp.conf

cleanup() {
    status=$?
    touch "$work/enough"
    if [ -n "${run_pid-}" ]; then kill -9 "$run_pid" 2>/dev/null || true; fi
    if [ $status -ne 0 ]; then
        for log in "$dir"/log/*.log "$work"/*.log; do
            [ ! -f "$log" ] || { echo "--- $log" && tail -n 40 "$log"; }
        done
    fi
    "$source/scripts/quickstart" --dir "$dir" --stop >/dev/null || true
    wait
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }
pa() { "$bin/sti-pa" "$@" --config "$dir/pa/sti-pa.conf" >"$work/pa" 2>&1 || fail "sti-pa $*: $(cat "$work/pa")"; }
status() { "$bin/sti-kms" status --config "$conf" --json; }
wait_for() { # WHAT COMMAND ...: awaited to succeed
    local what=$1
    shift
    for _ in $(seq 600); do
        if "$@"; then return; fi
        sleep 0.1
    done
    fail "not reached: $what: $(status)"
}
is() { status | jq -e "$1" >/dev/null; } # JQ-EXPRESSION
x5u_on() { # TOKEN: of its active credential
    status | jq -er --arg token "pkcs11:token=$1" '.credentials[] | select(.state == "active" and .token == $token) | .x5u'
}
serial_of() { # X5U
    curl -sS --noproxy '*' --cacert "$STI_TLS_CA" "$1" | openssl x509 -noout -serial | sed 's/.*=//'
}
calls() { wc -l <"$work/identities"; }
calls_since() { [ "$(calls)" -ge $(($1 + $2)) ]; }
is_on_crl() { # SERIAL
    curl -sS --noproxy '*' --cacert "$STI_TLS_CA" "$STI_PA_URL/download/v1/crl" |
        openssl crl -inform DER -noout -text | grep -q "Serial Number: $1"
}
signed_by() { # X5U [AFTER]: the number of calls after the first AFTER ones
    tail -n "+$((${2-0} + 1))" "$work/identities" | grep -cF "info=<$1>" || true
}
signs() { [ "$(signed_by "$@")" -gt 0 ]; }
verify_last_of() { # X5U: prints reasoncode or 0
    grep -F "info=<$1>" "$work/identities" | tail -n 1 | "$bin/sti-sks" verify --config "$conf" \
        --identity - --from 12155551212 --to 12155551213 2>"$work/err" >"$work/verdict" || true
    jq -r '.reasoncode // 0' "$work/verdict"
}

# Tokens of the service provider that take some time, as others than SoftHSM do: calls overlap, and
# each token signs some of them.
echo 'latency C_Sign 20ms' >"$work/script"
export STI_FAULT_MODULE=/usr/lib/softhsm/libsofthsm2.so STI_FAULT_SCRIPT=$work/script
"$source/scripts/quickstart" --bin "$bin" --dir "$dir" >"$work/quickstart" ||
    fail "quickstart: $(tail -n 5 "$work/quickstart")"
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF

# --- two credentials, both sign
"$bin/sti-hsm" token init --module "$STI_MODULE" --label sti-sp-2 --so-pin-source "file:$dir/so-pin" \
    --pin-source "file:$dir/pin" >/dev/null
module=$bin/../test-hsm/module/libsti-fault-module.so
sed -i "s/^\[verification\]\$/&\ncrl-refresh = 1/; s|^module = .*|module = $module|" "$conf"
cat >>"$conf" <<END

[token-2]
uri = pkcs11:token=sti-sp-2
module = $module
pin-source = file:$dir/pin

[kms]
look-every = 1
retry-first = 2
retry-longest = 2
END
kill -HUP "$(cat "$dir/run/sti-sks.pid")"
wait_for "sti-sks with two tokens" grep -q 'the new configuration is in use' "$dir/log/sti-sks.log"
"$bin/sti-kms" run --config "$conf" 2>"$work/run.log" &
run_pid=$!
wait_for "two credentials" is '[.credentials[] | select(.state == "active") | .token] | unique | length == 2'
revoked=$(x5u_on sti-sp-2) # the newest, which sti-sks tries first
other=$(x5u_on sti-sp)
touch "$work/identities"
python3 "$source/test-hsm/e2e/steady_caller.py" 4 "$work/enough" "$STI_SKS_URL" "$STI_TLS_CA" \
    "$STI_SKS_TOKEN_FILE" "$work/identities" >"$work/caller.log" 2>&1 &
caller_pid=$!
wait_for "both sign" signs "$revoked"
wait_for "both sign" signs "$other"

# --- one is revoked, and cannot be replaced: the other one signs all calls
pa account suspend --id 1001 --reason 'no SPC tokens for now'
serial=$(serial_of "$revoked")
"$bin/sti-ca" revoke --config "$dir/ca/sti-ca.conf" --serial "$serial" --reason 1 >"$work/ca" 2>&1 ||
    fail "sti-ca revoke: $(cat "$work/ca")"
wait_for "$serial on the CRL" is_on_crl "$serial"
wait_for "the end of the revoked one" is "any(.credentials[]; .x5u == \"$revoked\" and .state == \"retiring\")"
has_ended() { # sti-sks looks at the catalogue once a second
    before=$(calls)
    sleep 2
    ! signs "$revoked" "$before"
}
wait_for "the last signature of the revoked one" has_ended
since=$before
[ "$(verify_last_of "$revoked")" = 437 ] || fail "still valid: $(cat "$work/verdict")"
[ "$(verify_last_of "$other")" = 0 ] || fail "not valid: $(cat "$work/verdict")"
wait_for "more calls" calls_since "$since" 100
[ "$(x5u_on sti-sp-2 || true)" = '' ] || fail "a new credential without an SPC token: $(status)"
[ "$(signed_by "$other" "$since")" -ge 100 ] || fail "the other one does not sign"

# --- and replaced, when that is possible again: both sign
pa account reinstate --id 1001
wait_for "a new credential" is '[.credentials[] | select(.state == "active") | .token] | unique | length == 2'
new=$(x5u_on sti-sp-2)
[ "$(x5u_on sti-sp)" = "$other" ] || fail "the other one was replaced, too: $(status)"
wait_for "both sign" signs "$new" "$since"
touch "$work/enough"
wait "$caller_pid" || fail "calls were lost: $(cat "$work/caller.log")"
signs "$revoked" "$since" && fail "the revoked one signs again"
[ $(($(signed_by "$other" "$since") + $(signed_by "$new" "$since"))) -eq $(($(calls) - since)) ] ||
    fail "signed by another one: $(sed 's/.*info=//; s/;.*//' "$work/identities" | sort | uniq -c)"
[ "$(verify_last_of "$new")" = 0 ] || fail "not valid: $(cat "$work/verdict")"
tail -n 1 "$work/caller.log"
echo "revoked, replaced; no call lost"
