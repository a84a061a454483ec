#!/usr/bin/env bash
# With the tokens in another process, no daemon has a private scalar in its memory: the programs of
# a quickstart are searched while they sign, for every form that a scalar may have. A process with a
# planted scalar and the token's own process show that the search works.
set -euo pipefail
source=$1 bin=$2 build=$3
work=$(mktemp -d /tmp/sti-memory.XXXXXX)
dir=$work/one
pids=()

cleanup() {
    status=$?
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        for log in "$dir"/log/*.log "$work"/*.log; do
            echo "--- $log"
            tail -n 20 "$log" || true
        done
    fi
    for pid in "${pids[@]}"; do
        kill -CONT "$pid" 2>/dev/null || true
        kill "$pid" 2>/dev/null || true
    done
    wait || true
    "$source/scripts/quickstart" --dir "$dir" --stop >/dev/null 2>&1 || true
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }
skip() { echo "skipped: $*" && exit 77; }

client=$(echo /usr/lib/*/pkcs11/p11-kit-client.so)
[ -e "$client" ] || skip "p11-kit-modules is not installed"
command -v p11-kit >/dev/null || skip "p11-kit is not installed"
if grep -q '^STI_SANITIZE:STRING=.\+' "$build/CMakeCache.txt"; then
    skip "a sanitizer keeps copies of its own"
fi
sleep 600 &
idle=$!
pids+=("$idle")
# CAP_SYS_PTRACE: our programs are not dumpable, and the search starts with a child process
"$bin/sti-hsm" audit --process "$idle" >"$work/idle.log" 2>&1 ||
    ! grep -q 'Permission denied' "$work/idle.log" ||
    skip "the memory of other processes may not be read here"

# --- a quickstart whose keys are in tokens that this test can open
"$source/scripts/quickstart" --bin "$bin" --dir "$dir" >"$work/quickstart.log"
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF
"$source/scripts/quickstart" --dir "$dir" --stop >/dev/null

scalars() { # TOKEN,TOKEN: one line, only ever written to a pipe
    local token
    for token in ${1//,/ }; do "$bin/softhsm_scalars" "$dir/tokens" "$token" "$dir/pin"; done | tr -d '\n'
    echo
}
search() { # TOKEN,TOKEN OPTION ...: 0 clean, 1 found; the report is in $work/report
    local tokens=$1
    shift
    "$bin/sti-hsm" audit --secret-source fd:3 --json "$@" 3< <(scalars "$tokens") >"$work/report"
}
of_report() { jq -er "$1" "$work/report"; }

# --- the scalars searched for are the tokens' keys, and are not in any file
for token in sti-pa sti-ca sti-sp; do
    search "$token" --files "$dir" || fail "a key of $token in a file: $(cat "$work/report")"
    search "$token" --process "$idle" || fail "a key of $token where none is: $(cat "$work/report")"
    of_report '.statements[] | select(.id == "process.secret") | .evidence.points_sha256[]' |
        sort -u >"$work/searched"
    "$bin/sti-hsm" audit --module "$STI_MODULE" --token "pkcs11:token=$token" \
        --pin-source "file:$STI_PIN_FILE" --certificates "$dir" --uncertified acme-account,journal --json \
        >"$work/report" || fail "token $token is not clean: $(cat "$work/report")"
    of_report '.statements[] | select(.id == "key.type") | .evidence.point' |
        while read -r point; do
            printf '%b' "${point//??/\\x&}" | openssl dgst -sha256 -r | cut -d' ' -f1
        done | sort >"$work/in-token"
    cmp "$work/searched" "$work/in-token" || fail "the scalars are not those of token $token"
done

# --- positive control: a planted scalar is found in each form
for form in octets limbs hex base64 DER; do
    mkfifo "$work/$form"
    "$bin/hold_secret" "$form" <"$work/$form" >"$work/$form.said" &
    held=$!
    pids+=("$held")
    exec {plant}>"$work/$form"
    scalars sti-sp | cut -d' ' -f1 >&"$plant"
    for _ in $(seq 100); do
        grep -q holding "$work/$form.said" && break
        sleep 0.05
    done
    search sti-sp --process "$held" && fail "$form: a planted scalar was not found"
    [ "$(of_report '.summary.finding')" = 1 ] || fail "$form: $(cat "$work/report")"
    of_report '.statements[] | select(.verdict == "finding") | .id' | grep -qx process.secret ||
        fail "$form: another finding: $(cat "$work/report")"
    exec {plant}>&-
done

# --- the tokens behind p11-kit's server
ulimit -S -n 1024 # it closes every descriptor up to the limit
p11-kit server --foreground --name "$work/server" --provider "$STI_MODULE" pkcs11: \
    >"$work/server.log" 2>&1 &
server=$!
pids+=("$server")
for _ in $(seq 200); do
    [ -S "$work/server" ] && break
    sleep 0.05
done
export P11_KIT_SERVER_ADDRESS=unix:path=$work/server
sed -i "s|^module = .*|module = $client|" "$dir"/*/*.conf

start() { # NAME CONFIG URL
    # Only the server has the store: a daemon that opened it itself would fail to start.
    SOFTHSM2_CONF=/nonexistent "$bin/$1" serve --config "$2" </dev/null >>"$work/$1.log" 2>&1 &
    pids+=($!)
    printf -v "${1//-/_}" %s $!
    for _ in $(seq 300); do
        curl -fsS -o /dev/null --noproxy '*' --max-time 5 --cacert "$STI_TLS_CA" "$3" 2>/dev/null &&
            return
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    fail "$1 did not start"
}
# shellcheck disable=SC2154 # named in start()
{
    start sti-pa "$dir/pa/sti-pa.conf" "$STI_PA_URL/api/v1/ca-list"
    start sti-ca "$dir/ca/sti-ca.conf" "$STI_CA_DIRECTORY"
    start sti-sks "$dir/sp/sp.conf" "$STI_SKS_URL/healthz"
    daemons=("$sti_pa" "$sti_ca" "$sti_sks")
}

sign() {
    curl -sS --noproxy '*' --max-time 20 --unix-socket "$STI_SKS_SOCKET" -o "$work/signed" \
        -H 'Content-Type: application/json' http://localhost/stir/v1/signing \
        -d "$(jq -nc --argjson now "$(date +%s)" '{signingRequest: {attest: "A", iat: $now,
            dest: {tn: ["12155551213"]}, orig: {tn: "12155551212"},
            origid: "de305d54-75b4-431b-adb2-eb6b9e546014"}}')"
}
sign
jq -e .signingResponse.identity "$work/signed" >/dev/null || fail "no signature: $(cat "$work/signed")"

clean() { # WHAT PID ...: has no scalar of any token
    local what=$1 tokens pid
    shift
    local processes=()
    for pid in "$@"; do processes+=(--process "$pid"); done
    for tokens in sti-pa,sti-ca sti-sp; do
        search "$tokens" "${processes[@]}" || fail "$what: a scalar of $tokens: $(cat "$work/report")"
        of_report '[.statements[] | select(.id == "process.control") | .verdict] == ["pass"]' >/dev/null ||
            fail "the control did not find what was planted"
        of_report '[.statements[] | select(.id == "process.secret") | .evidence.octets > 1000000] | all' \
            >/dev/null || fail "$what: hardly any memory was read: $(cat "$work/report")"
    done
}
for _ in $(seq 60); do sign; done &
load=$!
pids+=("$load")
clean "daemons that sign" "${daemons[@]}"
wait "$load"

# --- sti-kms, in the middle of an enrollment: the STI-PA does not answer
kill -STOP "$sti_pa" # and its workers
mapfile -t workers < <(pgrep -P "$sti_pa")
kill -STOP "${workers[@]}"
pids+=("${workers[@]}")
SOFTHSM2_CONF=/nonexistent "$bin/sti-kms" enroll --config "$dir/sp/sp.conf" >"$work/sti-kms.log" 2>&1 &
kms=$!
pids+=("$kms")
for _ in $(seq 200); do
    grep -q p11-kit-client.so "/proc/$kms/maps" 2>/dev/null && break
    sleep 0.05
done
kill -0 "$kms" 2>/dev/null || fail "sti-kms did not wait: $(cat "$work/sti-kms.log")"
clean "sti-kms" "$kms"
kill -CONT "$sti_pa" "${workers[@]}"
wait "$kms" || fail "sti-kms enroll: $(cat "$work/sti-kms.log")"
clean "daemons after the enrollment" "${daemons[@]}"

# --- the token's own process has the scalar while it signs, and its client does not
sign_for_a_minute() {
    "$bin/sti-hsm" bench --module "$client" --sessions 4 --seconds 60 --route direct \
        --key "pkcs11:token=sti-sp;object=tls-client?pin-source=file:$dir/pin" >"$work/bench.log" 2>&1 &
    bench=$!
    pids+=("$bench")
}
sign_for_a_minute
found=no
until [ "$found" = yes ] || [ "$SECONDS" -gt 250 ]; do
    kill -0 "$bench" 2>/dev/null || sign_for_a_minute
    search sti-sp --process "$bench" || ! kill -0 "$bench" 2>/dev/null ||
        fail "a client that signs has the scalar: $(cat "$work/report")"
    search sti-sp --process "$server" || found=yes
done
kill "$bench" 2>/dev/null || true
[ "$found" = yes ] || fail "not found in the token's own process, where it is"
of_report '[.statements[] | select(.verdict == "finding") | .id] | unique == ["process.secret"]' >/dev/null ||
    fail "the token's process: another finding"
echo "no scalar in sti-pa, sti-ca, sti-sks and sti-kms; found where it was planted and where it is used"
