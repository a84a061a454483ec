#!/usr/bin/env bash
# An hour of a service provider, compressed. Calls are signed and verified at a steady rate.
# `sti-kms run` renews on two tokens every few seconds, as the STI-CA suggests, and destroys retired
# credentials. One of the tokens disappears and returns, workers of sti-sks and sti-kms are killed,
# the STI-CR stalls, certificates are revoked, and the trusted-CA list and the CRL change. No
# verdict is wrong, no success lacks a signature, no call is lost except those in flight on a killed
# worker, and the memory of each daemon does not grow.
#
#   STI_SOAK_S=3600    duration in seconds, instead of 15; memory is judged from 240 on
set -euo pipefail
source=$1 bin=$2 build=$3
seconds=${STI_SOAK_S:-15}
callers=3
grace_s=8 # until a revocation on the CRL must have taken effect
slack_kib=1024 # permitted growth of a process from the second to the last third,
softhsm_kib=6  # plus this for each certificate: what SoftHSM keeps of a destroyed key
judged_s=240 # a shorter run ends before everything is warm
work=$(mktemp -d "${TMPDIR:-/tmp}/sti-soak.XXXXXX")
dir=$work/one
conf=$dir/sp/sp.conf
export STI_FAULT_MODULE=${STI_TEST_MODULE:-/usr/lib/softhsm/libsofthsm2.so}
export STI_FAULT_CONTROL=$work/control
fault_module=$build/test-hsm/module/libsti-fault-module.so
mkdir "$STI_FAULT_CONTROL"

cleanup() {
    status=$?
    touch "$work/stop"
    for pid in ${kms_pid-} ${cr_pid-}; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if [ -n "${calls_pid-}" ]; then wait "$calls_pid" || true; fi
    if [ $status -ne 0 ]; then
        [ ! -f "$work/tally" ] || tail -n 5 "$work/tally"
        for log in "$dir"/log/*.log "$work"/*.log; do
            [ ! -f "$log" ] || { echo "--- $log" && { grep -v ' info: ' "$log" || true; } | tail -n 40; }
        done
    fi
    "$source/scripts/quickstart" --dir "$dir" --stop >/dev/null || true
    [ -z "${STI_SOAK_KEEP-}" ] || cp -r "$dir/log" "$work"/*.log "$work/memory" "$STI_SOAK_KEEP"
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }
quickstart() { "$source/scripts/quickstart" --bin "$bin" --dir "$dir" >"$work/quickstart" ||
    fail "quickstart: $(tail -n 5 "$work/quickstart")"; }
status() { "$bin/sti-kms" status --config "$conf" --json 2>/dev/null; }
kms() { "$bin/sti-kms" "$@" --config "$conf" >"$work/said.log" 2>&1 || fail "sti-kms $*: $(cat "$work/said.log")"; }
sti_pa() { "$bin/sti-pa" "$@" --config "$dir/pa/sti-pa.conf" >"$work/said.log" 2>&1 || fail "sti-pa $*: $(cat "$work/said.log")"; }
fault() { "$bin/sti-fault" "$STI_FAULT_CONTROL" "$@" >>"$work/faults" 2>&1 || true; }

# --- two tokens behind a module that can remove one, a separate STI-CR, short-lived certificates
quickstart
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF
"$bin/sti-hsm" token init --module "$STI_MODULE" --label sti-sp-2 --so-pin-source "file:$dir/so-pin" \
    --pin-source "file:$dir/pin" >/dev/null
"$source/scripts/quickstart" --dir "$dir" --stop >/dev/null

# A certificate lives for 90 s, as its SPC token does, and the STI-CA suggests renewal at once.
# sti-kms follows at once after 15 s of use, and waits a few seconds otherwise. Certificates are
# dated back; the CA certificates have been valid for longer.
mv "$dir/ca/sti-ca-root.pem" "$work/root.pem"
mv "$dir/ca/sti-ca-chain.pem" "$work/chain.pem"
common_name() { openssl x509 -in "$1" -noout -subject -nameopt multiline | sed -n 's/ *commonName *= //p'; }
two_days_ago=$(date -u -d '-2 days' +%Y-%m-%dT%H:%M:%SZ)
certify() { # PROFILE FILE DAYS FURTHER ...: with the root's key and the previous name
    "$bin/sti-cert" issue --profile "$1" --module "$STI_MODULE" --pin-source "file:$dir/pin" \
        --key 'pkcs11:token=sti-ca;object=sti-ca-root' --country US --organization 'Example STI-CA' \
        --common-name "$(common_name "$2")" --not-before "$two_days_ago" --days "$3" "${@:4}" 2>>"$work/certify.log" ||
        fail "$(cat "$work/certify.log")"
}
certify sti-root "$work/root.pem" 4000 --out "$dir/ca/sti-ca-root.pem"
"$bin/sti-cert" csr --module "$STI_MODULE" --pin-source "file:$dir/pin" --ca \
    --key 'pkcs11:token=sti-ca;object=sti-ca-issuing' --out "$work/issuing.csr"
certify sti-intermediate "$work/chain.pem" 1800 --csr "$work/issuing.csr" --issuer "$dir/ca/sti-ca-root.pem" \
    --crl-url "$STI_PA_URL/download/v1/crl" --crl-issuer "$dir/pa/pa-crl-chain.pem" --out "$work/issuing.pem"
cat "$work/issuing.pem" "$dir/ca/sti-ca-root.pem" >"$dir/ca/sti-ca-chain.pem"
cat >>"$dir/ca/sti-ca.conf" <<END

[ca]
valid-days = 1
within-token = yes
backdate-s = 60
renew-from-percent = 1
renew-until-percent = 40

[limits]
orders-per-account = 0
requests-per-account = 0
orders-per-address = 0
END
sed -i 's/^\[pa\]$/&\ntoken-lifetime-s = 90/' "$dir/pa/sti-pa.conf"
address=$(sed -n '/^\[cr\]/,/^\[/s/^address = //p' "$conf")
sed -i "/^\[cr\]/,/^\[/{/^address = /d}; s#^module = .*#module = $fault_module#" "$conf"
cat >>"$conf" <<END

[token-2]
uri = pkcs11:token=sti-sp-2
module = $fault_module
pin-source = file:$dir/pin

[kms]
look-every = 3
retry-first = 1
retry-longest = 4
retiring-time = 12
destroy-after = 4
END
sed -i 's/^\[verification\]$/[verification]\ncrl-refresh = 1\nlist-refresh = 1\ncache-unused = 20/; s/^\[api\]$/[api]\nworkers = 2/' "$conf"
cat >"$dir/sp/cr.conf" <<END
[token]
uri = $STI_SP_TOKEN_URI
module = $STI_MODULE
pin-source = file:$dir/pin
[sp]
spc = $STI_SPC
[pa]
url = $STI_PA_URL
anchors = pa-anchors.pem
[tls]
ca = tls-ca.pem
[cr]
address = $address
base-url = $STI_CR_URL
dir = cr
[store]
path = cr-catalogue.db
trust-dir = cr-trust
END
"$bin/sti-sks" serve --config "$dir/sp/cr.conf" 2>"$work/cr.log" &
cr_pid=$!
quickstart
kms renew --force # the first certificate was valid for 90 days
"$bin/sti-kms" run --config "$conf" 2>"$work/kms.log" &
kms_pid=$!
for _ in $(seq 200); do
    if status | jq -e '[.credentials[] | select(.state == "active") | .token] | unique | length == 2' >/dev/null; then break; fi
    sleep 0.1
done

# --- events during the run
workers_of() { # PID of a supervisor
    cat /proc/"$1"/task/*/children
}
note_memory() { # private memory in KiB of each process of each daemon, as TIME PID NAME KIB
    local at=$(($(date +%s) - begun)) daemon pid
    for daemon in "${daemons[@]}"; do
        for pid in "${daemon#*=}" $(workers_of "${daemon#*=}"); do
            awk -v at="$at" -v pid="$pid" -v name="${daemon%=*}" '/^Rss(Anon|Shmem):/ {sum += $2}
                END {if (sum > 0) print at, pid, name, sum}' "/proc/$pid/status" 2>/dev/null || true
        done
    done >>"$work/memory"
}

# SoftHSM rewrites the token's file at each login, and a kill at that moment destroys the token: no
# process is killed soon after a token has returned.
kills=0
kill_a_worker() { # the last one that became ready, never the first, whose memory is judged
    local pid
    pid=$(grep -o '(pid [0-9]*): ready$' "$dir/log/sti-sks.log" | tail -n 1 | grep -o '[0-9]*')
    if [ "$pid" = "$spared" ] || ! kill -9 "$pid" 2>/dev/null; then return; fi
    kills=$((kills + 1))
    sleep 0.5
}
kms_kills=0
kms_killed=0
kill_the_kms() { # its work is continued; later one stays, whose memory is judged
    local pid
    [ "$kms_kills" -eq 0 ] || [ "$(date +%s)" -lt $((begun + seconds / 3)) ] || return 0
    [ "$(date +%s)" -ge $((kms_killed + 60)) ] || return 0 # otherwise its restart is delayed
    pid=$(grep -o '(pid [0-9]*): ready$' "$work/kms.log" | tail -n 1 | grep -o '[0-9]*')
    kill -9 "$pid" || fail "the worker of sti-kms run is not there"
    kms_killed=$(date +%s)
    kms_kills=$((kms_kills + 1))
}
stall_the_repository() {
    local pids
    pids=$(workers_of "$cr_pid")
    # shellcheck disable=SC2086 # several pids
    kill -STOP $pids
    sleep 1.5
    # shellcheck disable=SC2086
    kill -CONT $pids
}
take_a_token_away() {
    fault remove token sti-sp-2
    sleep 1.5
    fault return token sti-sp-2
    sleep 1.5
}
lists=0
other=''
change_the_list() { # adds another root, whose key is discarded, and removes the previous one
    local before=$other
    lists=$((lists + 1))
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null \
        -addext keyUsage=critical,keyCertSign -days 3650 \
        -subj "/C=US/O=Other STI-CA $lists/CN=SHAKEN Root" -out "$work/root.pem" 2>/dev/null
    sti_pa ca add --root "$work/root.pem"
    other=$(openssl x509 -in "$work/root.pem" -outform DER | sha256sum | cut -d ' ' -f 1)
    [ -z "$before" ] || sti_pa ca remove --sha256 "$before" --reason 'another one came'
}
verdict() { # on the call in $work/identity
    curl -sS --noproxy '*' --max-time 20 --retry 3 --retry-all-errors --unix-socket "$STI_SKS_SOCKET" \
        -H 'Content-Type: application/json' -d "$(jq -nc --argjson time "$signed_at" --rawfile identity "$work/identity" \
        '{verificationRequest: {from: {tn: "12155551212"}, to: {tn: ["12155551213"]}, time: $time,
        identity: ($identity | rtrimstr("\n"))}}')" http://localhost/stir/v1/verification |
        jq -r .verificationResponse.verstat
}
sign_afresh() {
    signed_at=$(date +%s)
    "$bin/sti-sks" sign --config "$conf" --orig 12155551212 --dest 12155551213 --attest A \
        --iat "$signed_at" >"$work/signed" 2>"$work/said.log" || fail "sti-sks sign: $(cat "$work/said.log")"
    mv "$work/signed" "$work/identity"
    x5u=$(sed 's/.*info=<//; s/>.*//' "$work/identity")
}
wait_for_crl() { # SERIAL: wait until the STI-PA publishes it
    for _ in $(seq 300); do
        if curl -sS --noproxy '*' --cacert "$STI_TLS_CA" "$STI_PA_URL/download/v1/crl" 2>/dev/null |
            openssl crl -inform DER -noout -text 2>/dev/null | grep -q "Serial Number: $1"; then return; fi
        sleep 0.1
    done
    fail "$1 is not on the CRL"
}
revoked=0
follow_one_to_its_revocation() { # its calls pass after renewal, and soon fail after revocation
    local x5u id serial until failed
    sign_afresh
    for _ in $(seq 600); do
        if [ "$(date +%s)" -ge $((signed_at + 20)) ]; then sign_afresh; fi # keep its calls fresh
        id=$(status | jq --arg x5u "$x5u" '.credentials[] | select(.x5u == $x5u and .state != "active") | .id')
        if [ -n "$id" ]; then break; fi
        sleep 0.1
    done
    [ -n "$id" ] || fail "not renewed: $x5u"
    sleep 2.5
    [ "$(verdict)" = TN-Validation-Passed ] || fail "not valid before it was revoked: credential $id"
    serial=$(curl -sS --noproxy '*' --cacert "$STI_TLS_CA" "$x5u" | openssl x509 -noout -serial | sed 's/.*=//')
    kms revoke --id "$id" --reason 4
    wait_for_crl "$serial"
    until=$(($(date +%s) + grace_s))
    for ((failed = 0; failed < 8; )); do # consecutive answers, from any worker
        if [ "$(verdict)" = TN-Validation-Failed ]; then
            failed=$((failed + 1))
        else
            [ "$(date +%s)" -lt "$until" ] || fail "valid although it was revoked: credential $id"
            failed=0
        fi
        sleep 0.2
    done
    revoked=$((revoked + 1))
}

spared=$(grep -o '(pid [0-9]*): ready$' "$dir/log/sti-sks.log" | tail -n 2 | head -n 1 | grep -o '[0-9]*')
"$bin/soak_calls" "$STI_SKS_SOCKET" "$callers" "$work/stop" >"$work/tally" 2>&1 &
calls_pid=$!
begun=$(date +%s)
daemons=("sti-sks=$(cat "$dir/run/sti-sks.pid")" "sti-cr=$cr_pid" "sti-kms=$kms_pid"
    "sti-ca=$(cat "$dir/run/sti-ca.pid")" "sti-pa=$(cat "$dir/run/sti-pa.pid")")
events=(take_a_token_away stall_the_repository change_the_list follow_one_to_its_revocation kill_a_worker kill_the_kms)
for ((i = 0; i < ${#events[@]} || $(date +%s) < begun + seconds; i++)); do # each one at least once
    note_memory
    "${events[i % ${#events[@]}]}"
    sleep 0.4
done
touch "$work/stop"
wait "$calls_pid"
calls_pid=''

# --- results
tally=$(tail -n 1 "$work/tally")
issued=$(sqlite3 -cmd '.timeout 5000' "$dir/ca/sti-ca.db" 'SELECT count(*) FROM issuance')
destroyed=$(status | jq '[.credentials[] | select(.state == "destroyed")] | length')
echo "$tally; $kills and $kms_kills kills, $issued certificates, $destroyed keys destroyed," \
    "$revoked revoked, $lists lists"
jq -e --argjson limit $((kills * (callers + 1))) '.wrong == 0 and .withoutSignature == 0 and .lost == 0
    and .unavailable == 0 and .broken <= $limit and .calls >= 20' >/dev/null <<<"$tally" ||
    fail "$(grep -v '^{' "$work/tally" | sort | uniq -c | head -n 20)"
[ "$issued" -ge $((2 + seconds / 5)) ] || fail "only $issued certificates in $seconds s"
[ $((kills * kms_kills * revoked * lists)) -gt 0 ] || fail "something did not happen"
if [ "$seconds" -ge "$judged_s" ] && ! grep -q __asan_init "$bin/sti-sks"; then # ASan keeps what is freed
    python3 "$source/test-hsm/e2e/soak_memory.py" "$seconds" $((slack_kib + softhsm_kib * issued / 3)) \
        <"$work/memory" || fail "memory is not flat"
fi
ended=$(grep -c 'worker [0-9]* (pid [0-9]*): ended' "$dir/log/sti-sks.log" || true)
[ "$ended" -eq "$kills" ] || fail "$ended workers ended, $kills were killed"
kill "$kms_pid"
wait "$kms_pid" || fail "sti-kms run ended with $?"
kms_pid=''
