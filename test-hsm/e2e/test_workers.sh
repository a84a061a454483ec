#!/usr/bin/env bash
# Daemons with several worker processes: what the death of one costs, and what it must not cost.
set -euo pipefail
source=$1 bin=$2
work=$(mktemp -d /tmp/sti-workers.XXXXXX)
dir=$work/one
workers=4
patience=900 # tenths of a second: a worker that is killed repeatedly is restarted after up to 30 s
kills_max=12 # at most this many kills

cleanup() {
    status=$?
    if [ $status -ne 0 ]; then
        for log in "$dir"/log/*.log; do
            echo "--- $log" && sed '/ info: [A-Z]* \//d' "$log" | tail -n 40
        done
    fi
    touch "$work/enough"
    "$source/scripts/quickstart" --dir "$dir" --stop >/dev/null || true
    wait
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }
quickstart() { "$source/scripts/quickstart" --bin "$bin" --dir "$dir" "$@" >"$work/out" || fail "$(tail -n 5 "$work/out")"; }

# --- ports unused by other quickstarts, as this test may run beside one
mkdir -p "$dir/run"
first=$((14000 + RANDOM % 1500 * 4))
printf '%s=%s\n' pa_port $first ca_port $((first + 1)) sks_port $((first + 2)) \
    cr_port $((first + 3)) >"$dir/run/ports"

# --- a certificate first; then restart with more workers
quickstart
quickstart --stop
for name in pa ca; do sed -i "/^\[server\]/a workers = $workers" "$dir/$name/sti-$name.conf"; done
sed -i "/^\[api\]/a workers = $workers" "$dir/sp/sp.conf"
quickstart
grep -q TN-Validation-Passed "$work/out" || fail "no passed validation"
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF

parent_of() { cat "$dir/run/$1.pid"; }
workers_of() { pgrep -P "$(parent_of "$1")" || true; }
wait_for_workers() { # NAME: all of them are ready
    for _ in $(seq $patience); do
        if [ "$(workers_of "$1" | wc -l)" -eq $workers ] &&
            [ "$(grep -c ': ready$' "$dir/log/$1.log")" -ge "$workers" ]; then
            return
        fi
        sleep 0.1
    done
    fail "$1: not $workers workers but $(workers_of "$1" | wc -l)"
}
for name in sti-pa sti-ca sti-sks; do wait_for_workers $name; done

# --- workers of the STI-CA die at random while two service providers enrol repeatedly
mkdir "$work/chains"
"$bin/sti-kms" init --dir "$dir/sp2" --module "$STI_MODULE" --token "$STI_SP_TOKEN_URI" \
    --pin-source "file:$STI_PIN_FILE" --organization "Second Telecom" --spc "$STI_SPC2" \
    --api-address 127.0.0.1:0 --cr-address 127.0.0.1:0 --cr-url "$STI_CR_URL" \
    --pa-url "$STI_PA_URL" --pa-account "$STI_PA_ACCOUNT" --pa-user "$STI_PA_USER" \
    --pa-password-source "file:$STI_PA_PASSWORD_FILE" --pa-anchor "$STI_PA_ANCHOR" \
    --ca-directory "$STI_CA_DIRECTORY" --tls-ca "$STI_TLS_CA" >"$work/init" 2>&1 || fail "$(cat "$work/init")"
# the second one publishes through the first one's STI-CR
sed -i "/^\[cr\]/,/^\[/s#^dir = .*#dir = $dir/sp/cr#" "$dir/sp2/sp.conf"
grep -q "^dir = $dir/sp/cr\$" "$dir/sp2/sp.conf" || fail "sp2/sp.conf has no [cr] dir"

enrol() { # SP WANTED: an enrollment interrupted by a kill is continued by the next attempt
    local done_=0 tries=0
    while [ $done_ -lt "$2" ]; do
        tries=$((tries + 1))
        [ $tries -le $(($2 * 10)) ] || return 1
        if "$bin/sti-kms" enroll --config "$dir/$1/sp.conf" >>"$work/$1.enrol" 2>&1; then
            done_=$((done_ + 1))
            "$bin/sti-kms" status --config "$dir/$1/sp.conf" --json >"$work/$1.status.$done_"
        fi
    done
}
# Workers that are serving: SoftHSM rewrites the token's file at each login, and a kill at that
# moment destroys the token.
ready_of() { # NAME
    for pid in $(workers_of "$1"); do
        if grep -q "(pid $pid): ready$" "$dir/log/$1.log"; then echo "$pid"; fi
    done
}
kill_at_random() { # NAME
    local victims kills=0
    while [ ! -e "$work/enough" ] && [ "$kills" -lt $kills_max ]; do
        sleep 0.$((RANDOM % 4 + 2))
        mapfile -t victims < <(ready_of "$1")
        [ ${#victims[@]} -gt 0 ] || continue
        kill -9 "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null || continue
        echo killed >>"$work/killed.$1"
        kills=$((kills + 1))
    done
}
kill_at_random sti-ca &
killer=$!
enrol sp 5 &
first=$!
enrol sp2 5 || fail "the second provider: $(tail -n 5 "$work/sp2.enrol")"
wait $first || fail "the first provider: $(tail -n 5 "$work/sp.enrol")"
touch "$work/enough"
wait $killer
rm "$work/enough"
killed=$(wc -l <"$work/killed.sti-ca")
[ "$killed" -ge 3 ] || fail "only $killed workers were killed"
grep -q 'ended with signal 9 (SIGKILL): started again' "$dir/log/sti-ca.log" || fail "the log does not say what ended"
wait_for_workers sti-ca

serials=$work/serials
for chain in "$dir"/sp/cr/*.pem; do
    openssl x509 -in "$chain" -noout -serial >>"$serials"
    csplit -s -z -f "$work/chains/c" "$chain" '/-----BEGIN/' '{*}'
    openssl verify -CAfile "$STI_TRUST_ANCHORS" -untrusted "$work/chains/c01" "$work/chains/c00" >/dev/null ||
        fail "$chain does not verify"
done
[ "$(wc -l <"$serials")" -ge 11 ] || fail "$(wc -l <"$serials") certificates of 11 enrolments"
[ -z "$(sort "$serials" | uniq -d)" ] || fail "a serial twice"
echo "STI-CA: $(wc -l <"$serials") certificates, all unique, while $killed workers were killed"

# --- several STI-PA workers that sign the list simultaneously publish one list per sequence number
fetch_list() { # FILE
    curl -fsS --noproxy '*' --cacert "$STI_TLS_CA" "$STI_PA_URL/api/v1/ca-list" | jq -er .caList >"$1"
}
sequence_of() { # FILE
    local text
    text=$(cut -d. -f2 <"$1" | tr '_-' '/+')
    while [ $((${#text} % 4)) -ne 0 ]; do text=$text=; done
    base64 -d <<<"$text" | jq -er .sequence
}
mkdir "$work/lists"
highest=0
for round in 1 2 3 4; do
    # another party's root; its key is discarded
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null \
        -addext keyUsage=critical,keyCertSign -days 3650 \
        -subj "/C=US/O=Other STI-CA $round/CN=SHAKEN Root" -out "$work/root.pem" 2>/dev/null
    "$bin/sti-pa" ca add --config "$dir/pa/sti-pa.conf" --root "$work/root.pem" >/dev/null
    fetches=()
    for n in $(seq 12); do
        fetch_list "$work/lists/$round.$n" &
        fetches+=($!)
    done
    for fetch in "${fetches[@]}"; do wait "$fetch" || fail "a list could not be fetched"; done
    new=0
    for n in $(seq 12); do
        sequence=$(sequence_of "$work/lists/$round.$n")
        [ "$sequence" -gt "$highest" ] || fail "list $sequence after $highest and a new root"
        cmp -s "$work/lists/$round.$n" "$work/lists/by-number.$sequence" ||
            [ ! -e "$work/lists/by-number.$sequence" ] || fail "two lists $sequence"
        cp "$work/lists/$round.$n" "$work/lists/by-number.$sequence"
        [ "$sequence" -le "$new" ] || new=$sequence
    done
    highest=$new
done
echo "STI-PA: list $highest, one of each number"

# --- the SKS signs and verifies while its workers die: a call gets a correct answer or none
token=$(cat "$STI_SKS_TOKEN_FILE")
post() { # PATH JSON
    curl -sS --noproxy '*' --cacert "$STI_TLS_CA" --max-time 20 -H 'Content-Type: application/json' \
        -H "Authorization: Bearer $token" -d "$2" -w '\n%{http_code}' "$STI_SKS_URL$1" 2>/dev/null
}
call() { # sign and verify one call; 2: no answer
    local answer
    answer=$(post /stir/v1/signing "$(jq -nc --argjson now "$(date +%s)" '{signingRequest: {attest: "A",
        dest: {tn: ["12155551213"]}, iat: $now, orig: {tn: "12155551212"},
        origid: "de305d54-75b4-431b-adb2-eb6b9e546014"}}')") || return 2
    [ "${answer##*$'\n'}" = 200 ] || return 1
    answer=$(jq -er .signingResponse.identity <<<"${answer%$'\n'*}") || return 1
    answer=$(post /stir/v1/verification "$(jq -nc --argjson now "$(date +%s)" --arg i "$answer" \
        '{verificationRequest: {from: {tn: "12155551212"}, to: {tn: ["12155551213"]}, time: $now,
        identity: $i}}')") || return 2
    grep -q '"TN-Validation-Passed"' <<<"$answer" || return 1
}
# a fresh worker fetches list and CRL first and verifies nothing until then
passes() {
    for _ in $(seq 50); do
        if call; then return; fi
        sleep 0.1
    done
    fail "no call passes any more"
}
kill_at_random sti-sks &
killer=$!
good=0 lost=0
for _ in $(seq 25); do
    status=0
    call || status=$?
    case $status in
    0) good=$((good + 1)) ;;
    *) lost=$((lost + 1)) && passes ;;
    esac
done
touch "$work/enough"
wait $killer
rm "$work/enough"
wait_for_workers sti-sks
for _ in $(seq 8); do passes; done
curl -fsS --noproxy '*' --unix-socket "$STI_SKS_SOCKET" http://localhost/healthz >/dev/null || fail "the Unix socket"
echo "STI-SKS: $good calls, $lost interrupted, while $(wc -l <"$work/killed.sti-sks") workers were killed"

# --- the STI-CR loses its chains: later workers still have those that have signed calls
for _ in $(seq 50); do
    if compgen -G "$dir/sp/trust/chains/*" >/dev/null; then break; fi
    sleep 0.1
done
mkdir "$work/away"
mv "$dir"/sp/cr/*.pem "$work/away"
x5u=$STI_CR_URL/$(basename "$(find "$work/away" -name '*.pem' | head -n 1)")
[ "$(curl -sS --noproxy '*' --cacert "$STI_TLS_CA" -o /dev/null -w '%{http_code}' "$x5u")" = 404 ] || fail "$x5u is there"
ready_lines() { grep -c ': ready$' "$dir/log/sti-sks.log"; }
replaced() { # BEFORE: as many workers as before have become ready again
    for _ in $(seq $patience); do
        if [ "$(ready_lines)" -ge $(($1 + workers)) ]; then return; fi
        sleep 0.1
    done
    fail "workers are not replaced"
}
before=$(ready_lines)
for pid in $(ready_of sti-sks); do kill -9 "$pid"; done
replaced "$before"
for _ in $(seq 8); do passes; done
before=$(ready_lines)
kill -HUP "$(parent_of sti-sks)"
replaced "$before"
wait_for_workers sti-sks
for _ in $(seq 8); do passes; done
mv "$work"/away/*.pem "$dir/sp/cr"
echo "STI-SKS: a certificate that was known is known to new workers while its repository is away"

# --- a wrong PIN is tried once, whatever the number of workers
sed "s#^pin-source = .*#pin-source = file:$work/wrong-pin#; s#^address = .*#address = 127.0.0.1:0#" \
    "$dir/ca/sti-ca.conf" >"$dir/ca/wrong.conf"
(umask 077 && echo 000000 >"$work/wrong-pin")
if timeout 60 "$bin/sti-ca" serve --config "$dir/ca/wrong.conf" >"$work/wrong" 2>&1; then fail "a wrong PIN serves"; fi
grep -q 'not tried again' "$work/wrong" || fail "$(cat "$work/wrong")"
[ "$(grep -c 'ended with' "$work/wrong")" = 1 ] || fail "more than one worker tried the PIN: $(cat "$work/wrong")"

# --- a PIN from a pipe can be read only once: later workers get it too
sed "s#^pin-source = .*#pin-source = fd:3#; s#^address = .*#address = 127.0.0.1:0#" \
    "$dir/ca/sti-ca.conf" >"$dir/ca/pipe.conf"
"$bin/sti-ca" serve --config "$dir/ca/pipe.conf" 3<<<"$(cat "$STI_PIN_FILE")" >"$dir/log/sti-pipe.log" 2>&1 &
pipe=$!
echo $pipe >"$dir/run/sti-pipe.pid"
wait_for_workers sti-pipe
kill -9 "$(workers_of sti-pipe | head -n 1)"
for _ in $(seq 100); do
    if [ "$(grep -c ': ready$' "$dir/log/sti-pipe.log")" -gt $workers ]; then break; fi
    sleep 0.1
done
wait_for_workers sti-pipe
kill "$pipe"
wait "$pipe" || fail "it does not stop well: $(tail -n 5 "$dir/log/sti-pipe.log")"

# --- workers end with their supervisor; a daemon that is stopped leaves nothing behind
parent=$(parent_of sti-pa)
mapfile -t orphans < <(workers_of sti-pa)
kill -9 "$parent"
for pid in "${orphans[@]}"; do
    for _ in $(seq 50); do if [ -d "/proc/$pid" ]; then sleep 0.1; fi; done
    [ ! -d "/proc/$pid" ] || fail "worker $pid outlives its supervisor"
done
mapfile -t survivors < <(workers_of sti-ca && workers_of sti-sks)
[ ${#survivors[@]} -eq $((2 * workers)) ] || fail "${#survivors[@]} workers"
quickstart --stop
for pid in "${survivors[@]}"; do [ ! -d "/proc/$pid" ] || fail "worker $pid survives --stop"; done
[ ! -e "$STI_SKS_SOCKET" ] || fail "the Unix socket is left behind"
if grep -E 'did not end in time|no heartbeat|ended with (exit|signal [^9])' "$dir"/log/sti-*.log; then
    fail "a worker ended that nobody had killed"
fi
echo "workers come back, and go when they should"
