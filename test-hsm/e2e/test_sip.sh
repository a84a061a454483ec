#!/usr/bin/env bash
# Calls through Kamailio, signed and verified as in docs/kamailio.md, with SIPp at both ends.
set -euo pipefail
source=$1 bin=$2
sip=$source/test-hsm/e2e/sip
for program in kamailio sipp; do
    command -v $program >/dev/null || { echo "skipped: $program is not there" && exit 77; }
done
work=$(mktemp -d "${TMPDIR:-/tmp}/sti-sip.XXXXXX")
dir=$work/one
pids=()
ulimit -n 4096

end() { # PID ...: ends and awaits them
    for pid in "$@"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
cleanup() {
    status=$?
    if [ $status -ne 0 ]; then
        for log in "$work"/*.log "$work"/*.err "$dir/log/sti-sks.log"; do
            [ ! -s "$log" ] || { echo "--- $log" && tail -n 20 "$log"; }
        done
    fi
    end "${pids[@]}"
    "$source/scripts/quickstart" --dir "$dir" --stop >/dev/null || true
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }

# --- unused ports
mkdir -p "$dir/run"
first=$((11000 + RANDOM % 300 * 8))
printf '%s=%s\n' pa_port $first ca_port $((first + 1)) sks_port $((first + 2)) \
    cr_port $((first + 3)) >"$dir/run/ports"
signer=$((first + 4)) verifier=$((first + 5)) called=$((first + 6)) caller=$((first + 7))
"$source/scripts/quickstart" --bin "$bin" --dir "$dir" >"$work/out" || fail "$(tail -n 5 "$work/out")"
# shellcheck source=/dev/null
. "$dir/env"

# --- the examples, with these ports and this token
mkdir "$work/kamailio"
(umask 077 && sed "s#https://127.0.0.1:8000#$STI_SKS_URL#; s#/etc/kamailio/sti-sks-ca.pem#$STI_TLS_CA#
    s#put-the-bearer-token-here#$(head -n 1 "$STI_SKS_TOKEN_FILE")#" \
    "$source/docs/examples/kamailio/sti-sks.cfg" >"$work/kamailio/sti-sks.cfg")
# one child each: of two, one may forward a BYE before the other has forwarded the ACK
for role in signer verifier; do
    sed "s/127.0.0.1:5070/127.0.0.1:$signer/; s/127.0.0.1:5080/127.0.0.1:$verifier/; s/127.0.0.1:5090/127.0.0.1:$called/
        s/^children=.*/children=1/" "$source/docs/examples/kamailio/$role.cfg" >"$work/kamailio/$role.cfg"
    kamailio -DD -E -f "$work/kamailio/$role.cfg" -m 32 -M 8 -w "$work" -Y "$work" \
        -P "$work/$role.pid" </dev/null >"$work/$role.log" 2>&1 &
    pids+=($!)
done
(cd "$work" && exec sipp -sf "$sip/uas.xml" -i 127.0.0.1 -p $called -nostdin -trace_logs -log_file "$work/calls.log" \
    -trace_err -error_file "$work/called.err") >/dev/null 2>&1 </dev/null &
pids+=($!)
is_listening() { grep -q ":$(printf '%04X' "$1") " /proc/net/udp; }
for port in $signer $verifier $called; do
    for _ in $(seq 100); do
        if is_listening "$port"; then break; fi
        sleep 0.1
    done
    is_listening "$port" || fail "nobody listens on port $port"
done

call() { # SCENARIO TO_PORT CALLS FROM TO EXTRA_HEADER [NAME]; FROM is a number, or a URI in the header NAME
    local from=$4
    [[ $from == *:* ]] || from=sip:+$from@example.com
    (cd "$work" && sipp -sf "$sip/$1.xml" -i 127.0.0.1 -p $caller -m "$3" -r 10 -key name "${7:-From}" -key from "$from" -key to "$5" -key extra "$6" \
        -nostdin -trace_logs -log_file "$work/answers.log" -trace_err -error_file "$work/$1.err" -timeout 30 -timeout_error "127.0.0.1:$2") >"$work/$1.out" 2>&1 </dev/null ||
        fail "$1: $(tail -n 30 "$work/$1.out")"
}
calls_with() { grep -cE "^call .*$1" "$work/calls.log" || true; } # REGULAR EXPRESSION: for the log of the called
last_call() { grep '^call' "$work/calls.log" | tail -n 1; }
identity='Identity=\[?[^] ].*;ppt=.?shaken'

# --- signed by one proxy, verified by the other
call uac $signer 20 12155551212 12155551213 'X-Nothing: x'
[ "$(calls_with "$identity")" = 20 ] || fail "$(calls_with "$identity") calls of 20 are signed: $(last_call)"
[ "$(calls_with 'PAI=.*<sip:\+12155551212;verstat=TN-Validation-Passed@')" = 20 ] || fail "not 20 calls passed: $(last_call)"

# --- assertions by the caller are neither signed nor trusted
call uac $signer 1 12155551212 12155551213 'Identity: a.b.c;info=<https://cr.example/x.pem>;alg=ES256;ppt=shaken'
[ "$(calls_with 'verstat=TN-Validation-Passed')" = 21 ] || fail "an Identity header of the caller's stays"
call uac $verifier 1 12155551212 12155551213 'P-Asserted-Identity: <sip:+12155551212;verstat=TN-Validation-Passed@example.com;user=phone>'
[ "$(calls_with 'verstat=No-TN-Validation')" = 1 ] || fail "a verstat of the caller's is believed"

# --- a valid Identity header on another call, and a modified one: 438 with its Reason
stolen=$(curl -sS --noproxy '*' --unix-socket "$STI_SKS_SOCKET" -H 'Content-Type: application/json' -d "$(jq -nc \
    --argjson now "$(date +%s)" '{signingRequest: {attest: "A", dest: {tn: ["12155551213"]}, iat: $now,
    orig: {tn: "12155551212"}, origid: "de305d54-75b4-431b-adb2-eb6b9e546014"}}')" \
    http://localhost/stir/v1/signing | jq -er .signingResponse.identity)
call refused $verifier 3 12155559999 12155551213 "Identity: $stolen"
signature=$(cut -d';' -f1 <<<"$stolen" | cut -d. -f3)
call refused $verifier 1 12155551212 12155551213 "Identity: ${stolen/$signature/${signature:1:40}${signature:0:1}${signature:41}}"
call uac $verifier 1 12155551212 12155551213 "Identity: $stolen" # unchanged, it passes
[ "$(calls_with '')" = 23 ] || fail "$(calls_with '') calls reached the called"

# --- a diverted call has several PASSporTs, which are all judged (RFC 8946)
sign() { # MEMBERS: in a request in 3GPP's dialect
    curl -sS --noproxy '*' --unix-socket "$STI_SKS_SOCKET" -H 'Content-Type: application/json' \
        -d "{\"signingRequest\":{\"iat\":$(date +%s),\"orig\":{\"tn\":\"12155551212\"},$1}}" \
        http://localhost/stir/v1/signing | jq -er .signingResponse.identityHeader
}
div() { sign "\"ppt\":\"div\",\"div\":{\"tn\":\"$1\"},\"dest\":{\"tn\":[\"$2\"]}"; } # FROM TO
first=$(div 12155551213 12155551214)
second=$(div 12155551214 12155551215)
newline=$'\r\n'
call uac $verifier 1 12155551212 12155551215 "Identity: $second${newline}Identity: $stolen${newline}y: $first"
[ "$(calls_with 'verstat=TN-Validation-Passed')" = 23 ] || fail "a diverted call does not pass: $(last_call)"
call refused $verifier 1 12155551212 12155551215 "Identity: $stolen${newline}Identity: $second" # a link is missing
call refused $verifier 1 12155551212 12155551214 "Identity: $first"
# one that fails beside one that passes: the call passes, and the answer reports both (RFC 9410)
call uac $verifier 1 12155551212 12155551213 "Identity: $stolen${newline}Identity: $second"
[ "$(calls_with 'verstat=TN-Validation-Passed')" = 24 ] || fail "of two one is good: $(last_call)"
grep -q "Reason=.*cause=438.*ppi=\"\.\.$(cut -d';' -f1 <<<"$second" | cut -d. -f3)\"" "$work/answers.log" ||
    fail "no Reason in the answer: $(tail -n 1 "$work/answers.log")"
headers=$(for _ in $(seq 8); do printf 'Identity: %s\r\n' "$stolen"; done)
call uac $verifier 1 12155551212 12155551213 "$headers"
[ "$(calls_with 'verstat=TN-Validation-Passed')" = 25 ] || fail "eight headers: $(last_call)"
call uac $verifier 1 12155551212 12155551213 "$headers${newline}Identity: $stolen"
[ "$(calls_with 'verstat=No-TN-Validation')" = 2 ] || fail "more headers than are judged: $(last_call)"

# --- a From never has a verstat by the caller, in any notation (RFC 3261 section 19.1.4)
while read -r name from left; do
    before=$(calls_with '')
    call uac $verifier 1 "$from" 12155551213 'X-Nothing: x' "$name"
    [ "$(calls_with '')" = $((before + 1)) ] || fail "$from: no call"
    [ "$(tail -n 3 "$work/calls.log" | grep -cF "$name: <$left>")" = 3 ] || fail "$from: $(tail -n 3 "$work/calls.log")"
done <<'END'
From sip:+12155551212;verstat=TN-Validation-Passed@example.com;user=phone sip:+12155551212@example.com;user=phone
From sip:+12155551212;npdi;VerStat=TN-Validation-Passed;x=y@example.com;user=phone sip:+12155551212;npdi;x=y@example.com;user=phone
From sip:+12155551212@example.com;verstat=TN-Validation-Passed;user=phone sip:+12155551212@example.com;user=phone
From sip:+12155551212;verstat@example.com;verstat=TN-Validation-Passed sip:+12155551212@example.com
From sip:+12155551212;%76erst%41t=TN-Validation-Passed@example.com sip:+12155551212@example.com
f tel:+12155551212;verstat=TN-Validation-Passed tel:+12155551212
From sip:+12155551212@example.com;x=verstat sip:+12155551212@example.com;x=verstat
END

# --- without the STI-AS and the STI-VS, calls continue unsigned and are marked as such
"$source/scripts/quickstart" --dir "$dir" --stop >/dev/null
call uac $signer 1 12155551212 12155551213 'X-Nothing: x'
[ "$(calls_with 'verstat=No-TN-Validation')" = 10 ] || fail "without sti-sks: $(last_call)"
[ "$(calls_with "$identity")" = 25 ] || fail "signed without sti-sks"
if grep -lF "$(head -n 1 "$STI_SKS_TOKEN_FILE")" "$work"/*.log; then fail "the bearer token in a log"; fi
echo "35 calls through two Kamailios; 6 refused"
