#!/usr/bin/env bash
# What operators rely on: metrics, health, logs, reload, checks, units.
set -euo pipefail
source=$1 bin=$2
here=$source/test-hsm/e2e
work=$(mktemp -d "${TMPDIR:-/tmp}/sti-operations.XXXXXX")
dir=$work/one

/usr/bin/python3 -c 'import prometheus_client' 2>/dev/null || { echo "skipped: python3-prometheus-client is not there" && exit 77; }
cleanup() {
    status=$?
    if [ $status -ne 0 ]; then
        for log in "$dir"/log/*.log; do
            echo "--- $log" && sed '/"route"/d' "$log" | tail -n 20
        done
    fi
    touch "$work/enough"
    if [ -n "${kms_pid-}" ]; then kill "$kms_pid" 2>/dev/null || true; fi
    "$source/scripts/quickstart" --dir "$dir" --stop >/dev/null || true
    wait
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }
quickstart() { "$source/scripts/quickstart" --bin "$bin" --dir "$dir" "$@" >"$work/out" || fail "$(tail -n 5 "$work/out")"; }
wait_until() { # SECONDS COMMAND ...
    local limit=$(($1 * 10))
    shift
    for _ in $(seq "$limit"); do
        if "$@"; then return; fi
        sleep 0.1
    done
    fail "not in time: $*"
}

# --- ports unused by other quickstarts; the daemons as an operator would configure them
mkdir -p "$dir/run"
first=$((26000 + RANDOM % 500 * 8))
printf '%s=%s\n' pa_port $first ca_port $((first + 1)) sks_port $((first + 2)) \
    cr_port $((first + 3)) >"$dir/run/ports"
quickstart
quickstart --stop
declare -A conf=([sti-pa]=$dir/pa/sti-pa.conf [sti-ca]=$dir/ca/sti-ca.conf [sti-sks]=$dir/sp/sp.conf)
declare -A metrics=([sti-pa]=127.0.0.1:$((first + 4)) [sti-ca]=127.0.0.1:$((first + 5)) [sti-sks]=127.0.0.1:$((first + 6)) [sti-kms]=127.0.0.1:$((first + 7)))
for name in sti-pa sti-ca; do sed -i "/^\[server\]/a workers = 2" "${conf[$name]}"; done
sed -i "/^\[api\]/a workers = 2" "${conf[sti-sks]}"
for name in "${!conf[@]}"; do
    sed -i '/^\[log\]/,/^\[/{/^\(format\|level\|requests\) /d}; /^\[log\]$/d' "${conf[$name]}"
    printf '\n[metrics]\naddress = %s\n\n[log]\nformat = json\n' "${metrics[$name]}" >>"${conf[$name]}"
done
quickstart
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF
pid_of() { cat "$dir/run/$1.pid"; }
workers_of() { pgrep -P "$(pid_of "$1")" | sort || true; }
get() { curl -sS --noproxy '*' --max-time 10 --cacert "$STI_TLS_CA" "$@"; }
code() { get -o "$work/answer" -w '%{http_code}' "$@"; }
scrape() { get -f "http://${metrics[$1]}/metrics" >"$work/$1.metrics" || fail "$1: no metrics"; }
value() { # NAME SERIES
    awk -v series="$2" '{ last = $NF; sub(/ [^ ]*$/, "") } $0 == series { print last; found = 1 } END { exit !found }' \
        "$work/$1.metrics" || echo none
}

# --- the metrics of each daemon are accepted by Prometheus
for name in sti-pa sti-ca sti-sks; do
    scrape $name
    "$here/check_metrics.py" "$work/$name.metrics" >>"$work/names" || fail "$name: no exposition format"
    if command -v promtool >/dev/null; then
        promtool check metrics <"$work/$name.metrics" >"$work/promtool" 2>&1 || fail "$name: promtool: $(cat "$work/promtool")"
    fi
    [ "$(code "http://${metrics[$name]}/readyz")" = 200 ] || fail "$name is not ready: $(cat "$work/answer")"
    [ "$(code "http://${metrics[$name]}/healthz")" = 200 ] || fail "$name: healthz"
    [ "$(code "http://${metrics[$name]}/acme/directory")" = 404 ] || fail "$name: more than metrics without TLS"
    [ "$(code -X POST "http://${metrics[$name]}/metrics")" = 405 ] || fail "$name: POST /metrics"
done
for url in "$STI_PA_URL" "${STI_CA_DIRECTORY%/acme/directory}" "$STI_SKS_URL"; do
    [ "$(code "$url/readyz")" = 200 ] || fail "$url/readyz"
    [ "$(code "$url/healthz")" = 200 ] || fail "$url/healthz"
    case "$(code "$url/metrics")" in 401 | 404) ;; *) fail "anybody reads $url/metrics" ;; esac
done
[ "$(value sti-ca 'sti_token_ready{token="sti-ca"}')" = 1 ] || fail "the CA's token is not ready"
[ "$(value sti-pa 'sti_pa_document_number{document="crl"}')" -ge 1 ] || fail "no CRL in the PA's metrics"
age=$(($(date +%s) - $(value sti-pa 'sti_pa_document_issued_seconds{document="crl"}')))
if [ "$age" -lt 0 ] || [ "$age" -ge 3600 ]; then fail "the CRL is $age s old"; fi
[ "$(value sti-sks 'sti_sks_ready{role="signing"}')" = 1 ] || fail "sti_sks_ready"

# --- the numbers change, and each worker reports the same
token=$(cat "$STI_SKS_TOKEN_FILE")
post() { # PATH JSON
    curl -sS --noproxy '*' --max-time 20 --unix-socket "$STI_SKS_SOCKET" -H 'Content-Type: application/json' \
        -d "$2" "http://localhost$1"
}
signing() { # ATTEST
    jq -nc --argjson now "$(date +%s)" --arg attest "$1" '{signingRequest: {attest: $attest, dest: {tn: ["12155551213"]},
        iat: $now, orig: {tn: "12155551212"}, origid: "de305d54-75b4-431b-adb2-eb6b9e546014"}}'
}
good='sti_sks_signing_seconds_count{outcome="good"}'
refused='sti_sks_signing_seconds_count{outcome="refused"}'
stale='sti_sks_verifications_total{case="E3"}'
before=$(value sti-sks "$good") before_refused=$(value sti-sks "$refused") before_stale=$(value sti-sks "$stale")
before_issued=$(value sti-ca 'sti_ca_issuances_total{outcome="issued"}')
signatures='sti_token_signatures_total{token="sti-sp"}'
before_signatures=$(value sti-sks "$signatures")
for _ in $(seq 20); do post /stir/v1/signing "$(signing A)" >"$work/signed"; done
for _ in 1 2 3; do post /stir/v1/signing "$(signing X)" >/dev/null; done
post /stir/v1/verification "$(jq -c --argjson now 1 '{verificationRequest: {from: {tn: "12155551212"},
    to: {tn: ["12155551213"]}, time: $now, identity: .signingResponse.identity}}' "$work/signed")" >/dev/null
"$bin/sti-kms" enroll --config "$dir/sp/sp.conf" >/dev/null 2>&1 || fail "a second certificate"
for _ in $(seq 6); do
    scrape sti-sks
    [ "$(value sti-sks "$good")" = $((before + 20)) ] || fail "signatures: $(value sti-sks "$good")"
    [ "$(value sti-sks "$refused")" = $((before_refused + 3)) ] || fail "refusals: $(value sti-sks "$refused")"
    [ "$(value sti-sks "$stale")" = $((before_stale + 1)) ] || fail "E3: $(value sti-sks "$stale")"
done
has_signed() { scrape sti-sks && [ "$(value sti-sks "$signatures")" -ge $((before_signatures + 20)) ]; }
wait_until 10 has_signed # workers check their token every second
scrape sti-ca
[ "$(value sti-ca 'sti_ca_issuances_total{outcome="issued"}')" = $((before_issued + 1)) ] || fail "issuances"
grep -q '^sti_http_requests_total{route="/acme/order/:id/finalize",method="POST",status="200"} 1$' "$work/sti-ca.metrics" ||
    fail "no request by route and status"
grep -q '^sti_sks_credential_not_after_seconds{credential="2",' "$work/sti-sks.metrics" ||
    wait_until 10 bash -c "curl -sS --noproxy '*' http://${metrics[sti-sks]}/metrics | grep -q '^sti_sks_credential_not_after_seconds{credential=\"2\",'"

# --- a reload under load: nothing is lost
reloads() { grep -c "$1" "$dir/log/sti-sks.log" || true; }
is_reloaded() { [ "$(reloads 'the new configuration is in use')" -ge "$1" ]; }
are_gone() { for pid in "$@"; do if kill -0 "$pid" 2>/dev/null; then return 1; fi; done; }
"$here/steady_caller.py" 4 "$work/enough" "$STI_SKS_URL" "$STI_TLS_CA" "$STI_SKS_TOKEN_FILE" >"$work/callers" &
callers=$!
mapfile -t old < <(workers_of sti-sks)
sed -i "s/^workers = .*/workers = 3/" "${conf[sti-sks]}"
kill -HUP "$(pid_of sti-sks)"
wait_until 60 is_reloaded 1
wait_until 60 are_gone "${old[@]}"
[ "$(workers_of sti-sks | wc -l)" = 3 ] || fail "$(workers_of sti-sks | wc -l) workers"

# --- a bad configuration is refused with file and line, and the old one stays in use
mapfile -t old < <(workers_of sti-sks)
is_refused() { [ "$(reloads 'the old one stays in use')" -ge "$1" ]; }
cp "${conf[sti-sks]}" "$work/good.conf"
printf 'colour = blue\n' >>"${conf[sti-sks]}"
line=$(wc -l <"${conf[sti-sks]}")
kill -HUP "$(pid_of sti-sks)"
wait_until 30 is_refused 1
grep -qF "${conf[sti-sks]}:$line: [log] colour: unknown key" "$dir/log/sti-sks.log" || fail "no file and line"
sed "/^\[tls\]/a key = pkcs11:object=nobody" "$work/good.conf" | awk '!/^key = / || !seen++' >"${conf[sti-sks]}"
kill -HUP "$(pid_of sti-sks)" # a fault that only a worker can find: a missing key
wait_until 30 is_refused 2
# --- settings that need a restart are reported
sed "/^address = ${metrics[sti-sks]}/d" "$work/good.conf" >"${conf[sti-sks]}"
[ "$(workers_of sti-sks)" = "$(printf '%s\n' "${old[@]}")" ] || fail "a refused configuration replaced workers"
kill -HUP "$(pid_of sti-sks)"
wait_until 60 is_reloaded 2
grep -q '\[metrics\] address has changed: that wants a restart' "$dir/log/sti-sks.log" || fail "nobody says that an address stays"
cp "$work/good.conf" "${conf[sti-sks]}"
touch "$work/enough"
wait $callers || fail "callers: $(cat "$work/callers")"
rm "$work/enough"
wait_until 60 are_gone "${old[@]}"
scrape sti-sks
[ "$(value sti-sks 'sti_reloads_total{outcome="taken"}')" = 2 ] || fail "reloads: $(grep reloads "$work/sti-sks.metrics")"
[ "$(value sti-sks 'sti_reloads_total{outcome="refused"}')" = 2 ] || fail "reloads: $(grep reloads "$work/sti-sks.metrics")"
calls=$(tail -n 1 "$work/callers" | jq .calls)
[ "$(value sti-sks "$good")" = $((before + 20 + calls)) ] || fail "$calls calls, but $(value sti-sks "$good") are told"
echo "2 reloads, 2 refused: $(tail -n 1 "$work/callers")"
for name in sti-pa sti-ca; do
    mapfile -t old < <(workers_of $name)
    kill -HUP "$(pid_of $name)"
    wait_until 60 are_gone "${old[@]}"
    [ "$(code "http://${metrics[$name]}/readyz")" = 200 ] || fail "$name after a reload"
done

# --- the log: JSON, one line per request, and no secrets
for name in sti-pa sti-ca sti-sks; do
    log=$dir/log/$name.log
    sed '/^{/!d' "$log" >"$work/json"
    jq -es 'length > 0 and all(.[] | select(.route); (.method | type) == "string" and (.status | type) == "number"
        and (.ms | type) == "number" and (.peer | type) == "string")' "$work/json" >/dev/null || fail "$log: not JSON of that shape"
done
jq -es 'any(.[]; .route == "/stir/v1/signing" and .status == 400)' "$work/json" >/dev/null || fail "a request is not logged"
if grep -hE "2155551212|2155551213|de305d54|Bearer|eyJ" "$dir"/log/*.log; then fail "numbers or tokens in a log"; fi
if grep -qF "$token" "$dir"/log/*.log; then fail "the bearer token in a log"; fi

# --- no process writes a core dump
for pid in $(pid_of sti-sks) $(workers_of sti-sks) $(workers_of sti-ca); do
    grep -qE '^Max core file size +0 +0 ' "/proc/$pid/limits" || fail "process $pid could dump core"
done

# --- the SP-KMS reports its state on a separate address; a faulty address is refused
sed -i "s/^\[api\]\$/[kms]\nmetrics-address = ${metrics[sti-kms]}\n\n[api]/" "${conf[sti-sks]}"
sed "s/^metrics-address = .*/metrics-address = 192.0.2.1:9000/" "${conf[sti-sks]}" >"${conf[sti-sks]}.bad"
if "$bin/sti-kms" run --check --config "${conf[sti-sks]}.bad" >"$work/check" 2>&1; then fail "sti-kms tells metrics to everybody"; fi
grep -qE '\.bad:[0-9]+: \[kms\] metrics-address: not ADDRESS:PORT of loopback' "$work/check" || fail "$(cat "$work/check")"
"$bin/sti-kms" run --config "${conf[sti-sks]}" >"$work/kms.log" 2>&1 &
kms_pid=$!
kms_is_ready() { [ "$(code "http://${metrics[sti-kms]}/readyz")" = 200 ]; }
wait_until 20 kms_is_ready
kms_has_told() { scrape sti-kms && grep -q '^sti_kms_looked_seconds{spc="1234"} ' "$work/sti-kms.metrics"; }
wait_until 20 kms_has_told
[ "$(value sti-kms 'sti_kms_active_credentials{spc="1234"}')" = 1 ] || fail "$(cat "$work/sti-kms.metrics")"
[ "$(value sti-kms 'sti_kms_troubles{spc="1234"}')" = 0 ] || fail "$(cat "$work/sti-kms.metrics")"
grep -q '^sti_kms_not_after_seconds{what="STI-PA anchor ' "$work/sti-kms.metrics" || fail "no anchor: $(cat "$work/sti-kms.metrics")"
kill -HUP $kms_pid # the new configuration reports as well
has_reloaded() { grep -q 'was read again' "$work/kms.log" && kms_is_ready; }
wait_until 20 has_reloaded

# --- the dashboard and the alerts use existing metrics
for name in sti-pa sti-ca sti-sks sti-kms; do scrape $name && "$here/check_metrics.py" "$work/$name.metrics"; done | sort -u >"$work/told"
asks_for() { # NAME, with texts on standard input
    grep -oE '\bsti_[a-z0-9_]+' | sort -u >"$work/asked"
    [ -s "$work/asked" ] || fail "$1 asks for nothing"
    missing=$(comm -23 "$work/asked" "$work/told")
    [ -z "$missing" ] || fail "$1 asks for $missing"
}
board=$source/docs/examples/grafana-sti.json
jq -e '.title and (.panels | length > 0) and all(.panels[]; .type == "row" or (.targets | length > 0))' "$board" >/dev/null || fail "$board"
jq -r '.. | .expr? // empty' "$board" | asks_for "$board"
rules=$source/docs/examples/prometheus-sti.rules.yml
sed -n 's/^ *expr: //p' "$rules" | asks_for "$rules"
if command -v promtool >/dev/null; then promtool check rules "$rules" >"$work/promtool" || fail "$(cat "$work/promtool")"; fi

kill $kms_pid
wait $kms_pid || fail "sti-kms run ended with $?: $(tail "$work/kms.log")"
kms_pid=

# --- units for systemd
if command -v systemd-analyze >/dev/null; then
    mkdir "$work/units"
    for unit in "$source"/docs/examples/systemd/*.service; do
        sed "s#^\(Exec[A-Za-z]*=\)/usr/bin/sti-#\1$bin/sti-#; s#^User=.*#User=root#" "$unit" >"$work/units/$(basename "$unit")"
    done
    systemd-analyze verify "$work"/units/*.service >"$work/units.out" 2>&1 || fail "units: $(cat "$work/units.out")"
    if grep -F "$work/units/" "$work/units.out"; then fail "units"; fi
fi

# --- --check names file and line in all programs
for name in sti-pa sti-ca sti-sks; do
    "$bin/$name" serve --check --config "${conf[$name]}" >"$work/check" 2>&1 || fail "$name --check: $(cat "$work/check")"
    for bad in 'level = loud' 'requests = perhaps' 'colour = blue'; do
        cp "${conf[$name]}" "${conf[$name]}.bad"
        echo "$bad" >>"${conf[$name]}.bad"
        if "$bin/$name" serve --check --config "${conf[$name]}.bad" >"$work/check" 2>&1; then fail "$name takes $bad"; fi
        grep -qF "${conf[$name]}.bad:$(wc -l <"${conf[$name]}.bad"): [log] ${bad%% *}: " "$work/check" || fail "$name: $(cat "$work/check")"
    done
    sed "s/^address = ${metrics[$name]}/address = 192.0.2.1:9000/" "${conf[$name]}" >"${conf[$name]}.bad"
    if "$bin/$name" serve --check --config "${conf[$name]}.bad" >"$work/check" 2>&1; then fail "$name tells metrics to everybody"; fi
    grep -qE '\.bad:[0-9]+: \[metrics\] address: not ADDRESS:PORT of loopback' "$work/check" || fail "$name: $(cat "$work/check")"
done

# --- a stop completes calls in flight
"$here/steady_caller.py" 2 "$work/enough" "$STI_SKS_URL" "$STI_TLS_CA" "$STI_SKS_TOKEN_FILE" >"$work/callers" &
callers=$!
sleep 0.5
quickstart --stop
touch "$work/enough"
wait $callers || true
if grep '^lost' "$work/callers" | grep -qvE 'RemoteDisconnected|ConnectionRefused|ConnectionReset|BrokenPipe|SSLEOF|SSLZeroReturn'; then fail "a call in flight: $(cat "$work/callers")"; fi
echo "metrics, health, logs, reload, checks: as documented"
