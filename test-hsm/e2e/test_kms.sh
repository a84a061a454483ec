#!/usr/bin/env bash
# The SP-KMS as a daemon: two tokens, rotation during calls, destruction of a key, an STI-PA that
# becomes unreachable and returns, the operator's own programs, a change of the account's key.
set -euo pipefail
source=$1 bin=$2
work=$(mktemp -d /tmp/sti-kms.XXXXXX)
dir=$work/one
conf=$dir/sp/sp.conf

cleanup() {
    status=$?
    if [ -n "${run_pid-}" ]; then kill -9 "$run_pid" 2>/dev/null || true; fi
    if [ $status -ne 0 ]; then
        for log in "$dir"/log/*.log "$work"/*.log; do
            [ ! -f "$log" ] || { echo "--- $log" && tail -n 40 "$log"; }
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
stop() { # NAME
    kill "$(cat "$dir/run/$1.pid")"
    while kill -0 "$(cat "$dir/run/$1.pid")" 2>/dev/null; do sleep 0.1; done
}
kms() { # WANTED [SECONDS] COMMAND ...: its output is in $work/kms
    local wanted=$1 limit=120 status=0
    shift
    if [[ $1 =~ ^[0-9]+$ ]]; then limit=$1 && shift; fi
    timeout "$limit" "$bin/sti-kms" "$@" --config "$conf" >"$work/kms" 2>&1 || status=$?
    [ "$status" -eq "$wanted" ] || fail "sti-kms $*: exit status $status: $(cat "$work/kms")"
}
said() { grep -q -- "$*" "$work/kms" || fail "not said: $*: $(cat "$work/kms")"; }
status() { "$bin/sti-kms" status --config "$conf" --json; }
wait_for() { # JQ-EXPRESSION on the status, awaited to become true
    for _ in $(seq 300); do
        if status | jq -e "$1" >/dev/null; then return; fi
        sleep 0.1
    done
    fail "not reached: $1: $(status)"
}
keys() { # TOKEN: labels of signing keys
    "$bin/sti-hsm" key list --module "$STI_MODULE" --token "pkcs11:token=$1" --pin-source "file:$dir/pin" |
        grep -o 'sp-1234-[0-9TZa-f-]*' | sort -u
}

quickstart
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF

# --- output for the operator
kms 0 ca list
said '^Example STI-CA$'
said "directory $STI_CA_DIRECTORY"
kms 0 ca list --json
[ "$(jq -r '.[0].name' "$work/kms")" = 'Example STI-CA' ] || fail "$(cat "$work/kms")"
SSLKEYLOGFILE=$work/tls-keys kms 0 ca list # libcurl would write its connections' secrets there
said '^Example STI-CA$'
said 'SSLKEYLOGFILE is set and ignored'
[ ! -e "$work/tls-keys" ] || fail "secrets of TLS connections in a file"
kms 0 account show
said 'key       acme-account$'
kms 0 account rollover
said 'account key: acme-account-'
key=$(sed 's/.*: //' "$work/kms")
kms 0 account show
said "key       $key"
if "$bin/sti-hsm" key list --module "$STI_MODULE" --token "$STI_SP_TOKEN_URI" \
    --pin-source "file:$dir/pin" | grep -q 'acme-account *$\|acme-account '; then fail "the old account key is still there"; fi
kms 0 account update --contact mailto:noc@sp.example
kms 0 account show
said 'contact   mailto:noc@sp.example'
kms 2 account deactivate
kms 1 account show --ca nobody
said 'no STI-CA of the configuration'
kms 1 account show --token pkcs11:token=nobody
kms 2 retire
kms 1 retire --id 77
said 'not in the catalogue'
kms 2 destroy --id 1 --yes
said 'is active, not retired'
kms 0 renew
[ "$(status | jq -r '.credentials | length')" = 1 ] || fail "renewed before it was due: $(status)"
status | jq -e '.credentials[0].renewAt > .credentials[0].notBefore and
    .credentials[0].renewAt < .credentials[0].notAfter' >/dev/null || fail "$(status)"

# --- a CA that is not on the list and a program that does not exist are refused before any request
sed 's/^\[ca\]$/[ca]\nname = Nobody/' "$conf" >"$dir/sp/wrong.conf"
"$bin/sti-kms" renew --force --config "$dir/sp/wrong.conf" >"$work/kms" 2>&1 && fail "a CA that is not trusted"
said "no root on the STI-PA's list is of this organization"
printf '\n[kms]\nnotify-command = relative/path\n' >>"$dir/sp/wrong.conf"
"$bin/sti-kms" renew --config "$dir/sp/wrong.conf" >"$work/kms" 2>&1 && fail "a program without a path"
said 'not an absolute path'

# --- a second token, and the operator's programs
"$bin/sti-hsm" token init --module "$STI_MODULE" --label sti-sp-2 --so-pin-source "file:$dir/so-pin" \
    --pin-source "file:$dir/pin" >/dev/null
cat >"$work/program" <<END
#!/bin/sh
# record the arguments and the environment
echo "\$@" >>$work/told
env | grep -v '^PWD=\|^_=\|^SHLVL=' >$work/environment.\$\$
mv $work/environment.\$\$ $work/environment
[ ! -e $work/refuse ]
END
chmod 755 "$work/program"
sed -i 's/^\[ca\]$/[ca]\nname = Example STI-CA/' "$conf"
sed -i "s#^\[cr\]\$#[cr]\nupload-command = $work/program upload {file} {name} {url}#" "$conf"
cat >>"$conf" <<END

[token-2]
uri = pkcs11:token=sti-sp-2
module = $STI_MODULE
pin-source = file:$dir/pin

[kms]
look-every = 1
retry-first = 1
retiring-time = 2
destroy-after = 1
notify-command = $work/program active {spc} {id} {url} {key}
END
stop sti-sks
quickstart
sed -i 's/^\[verification\]$/&\nlist-refresh = 1/' "$conf" # sti-sks has already read it

mkdir "$work/control"
echo 'on C_Initialize block' >"$work/script" # applies to a module that is not in use yet
STI_FAULT_MODULE=$STI_MODULE STI_FAULT_CONTROL=$work/control STI_FAULT_SCRIPT=$work/script \
    "$bin/sti-kms" run --config "$conf" 2>"$work/run.log" &
run_pid=$!
wait_for '[.credentials[] | select(.state == "active") | .token] | unique | length == 2'
wait_for '[.troubles[]] | length == 0'
for id in $(status | jq -r '.credentials[] | select(.state == "active") | .id'); do
    for _ in $(seq 100); do
        if grep -q "^active 1234 $id https" "$work/told"; then break; fi
        sleep 0.1
    done
    grep -q "^active 1234 $id https" "$work/told" || fail "nobody was told of $id: $(cat "$work/told")"
done
[ "$(cat "$work/environment")" = PATH=/usr/bin:/bin ] || fail "environment: $(cat "$work/environment")"
grep -q "^upload $dir/sp/cr/.*pem .*pem https" "$work/told" || fail "no upload: $(cat "$work/told")"

# --- an STI-CA that is added to the list is noticed
list=$dir/sp/trust/ca-list.jws
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null \
    -addext keyUsage=critical,keyCertSign -days 3650 -subj '/C=US/O=Other STI-CA/CN=SHAKEN Root' \
    -out "$work/root.pem" 2>/dev/null
cp "$list" "$work/list"
"$bin/sti-pa" ca add --config "$dir/pa/sti-pa.conf" --root "$work/root.pem" >/dev/null
for _ in $(seq 300); do
    cmp -s "$list" "$work/list" || break
    sleep 0.1
done
if cmp -s "$list" "$work/list"; then fail "sti-kms has not heard of the new list"; fi

# --- calls during the rotation: none may fail, and both tokens sign
call() {
    curl -sS --noproxy '*' --max-time 20 --unix-socket "$STI_SKS_SOCKET" -o "$work/answer" -w '%{http_code}' \
        -H 'Content-Type: application/json' -d "$(jq -nc --argjson iat "$(date +%s)" '{signingRequest: {
        attest: "A", dest: {tn: ["12155551213"]}, iat: $iat, orig: {tn: "12155551212"},
        origid: "de305d54-75b4-431b-adb2-eb6b9e546014"}}')" http://localhost/stir/v1/signing
}
calls() {
    until [ -e "$work/enough" ]; do
        code=$(call)
        [ "$code" = 200 ] || echo "$code $(cat "$work/answer")" >>"$work/lost"
        jq -r .signingResponse.identity "$work/answer" | sed 's/.*info=<//; s/>.*//' >>"$work/used"
    done
}
# sti-sks checks the catalogue once a second
another_signs() { # COUNT: at least this many certificates have signed
    for _ in $(seq 100); do
        if [ "$(sort -u "$work/used" | wc -l)" -ge "$1" ]; then return; fi
        sleep 0.1
    done
    fail "signed with $(sort -u "$work/used")"
}
touch "$work/used"
calls &
calls_pid=$!
another_signs 1
kms 0 renew --force
wait_for '[.credentials[] | select(.state == "active" and .id > 2)] | length == 2'
another_signs 2
kms 0 renew --force
wait_for '[.credentials[] | select(.state == "active" and .id > 4)] | length == 2'
another_signs 3
wait_for '[.credentials[] | select(.state != "active" and .state != "destroyed")] | length == 0'
touch "$work/enough"
wait "$calls_pid"
[ ! -e "$work/lost" ] || fail "calls were lost: $(cat "$work/lost")"
[ "$(keys sti-sp | wc -l)" = 1 ] || fail "keys in the first token: $(keys sti-sp)"
[ "$(keys sti-sp-2 | wc -l)" = 1 ] || fail "keys in the second token: $(keys sti-sp-2)"

# --- an unreachable STI-PA is a trouble, which ends when it is reachable again
stop sti-pa
"$bin/sti-kms" renew --force --config "$conf" >"$work/kms" 2>&1 && fail "renewed without an STI-PA"
wait_for '[.troubles[] | select(.matter | startswith("pkcs11:"))] | length == 2'
wait_for '[.credentials[] | select(.state == "active")] | length == 2'
quickstart
wait_for '[.troubles[]] | length == 0'
wait_for '[.credentials[] | select(.state == "active" and .id > 6)] | length == 2'

# --- a round that is not possible is reported
lock=$dir/sp/catalogue.db-1234.lock
rm -f "$lock"
mkdir "$lock"
wait_for '[.troubles[] | select(.matter == "lock")] | length == 1'
rmdir "$lock"
wait_for '[.troubles[]] | length == 0'

# --- signals: SIGHUP reads the configuration again, and a faulty one changes nothing; a worker that
# dies is replaced; SIGTERM ends the daemon
sed -i 's/^look-every = 1$/look-every = nonsense/' "$conf"
kill -HUP "$run_pid"
for _ in $(seq 100); do
    if grep -q 'still using the previous configuration' "$work/run.log"; then break; fi
    sleep 0.1
done
grep -q 'still using the previous configuration' "$work/run.log" || fail "a faulty configuration was not noticed"
sed -i 's/^look-every = nonsense$/look-every = 2/' "$conf"
kill -HUP "$run_pid"
for _ in $(seq 100); do
    if grep -q 'was read again' "$work/run.log"; then break; fi
    sleep 0.1
done
grep -q 'was read again' "$work/run.log" || fail "the configuration was not read again"

# --- SIGTERM also ends it while a reload waits for tokens whose module does not return
cp "$conf" "$work/sp.conf"
sed -i "s|^module = .*|module = $bin/../test-hsm/module/libsti-fault-module.so|" "$conf"
kill -HUP "$run_pid"
is_held() { "$bin/sti-fault" "$work/control" held 2>/dev/null | grep -q ': [1-9]'; }
for _ in $(seq 100); do
    if is_held; then break; fi
    sleep 0.1
done
is_held || fail "no token is being opened"
kill "$run_pid"
wait "$run_pid" || fail "the daemon ended with $?"
run_pid=
mv "$work/sp.conf" "$conf"

# --- another URI for the same token: a new credential still replaces the existing one
replaced() { # MORE THAN: the second token's credential is a newer one, and the only one that signs
    status | jq -e --argjson id "$1" '[.credentials[] | select(.state == "active")] | length == 2 and
        any(.[]; .id > $id and .token == "pkcs11:token=sti-sp-2")' >/dev/null || fail "not replaced: $(status)"
}
latest() { status | jq '[.credentials[].id] | max'; }
sed -i 's/^uri = pkcs11:token=sti-sp-2$/&;manufacturer=SoftHSM%20project/' "$conf"
before=$(latest)
kms 0 renew --force
replaced "$before"
before=$(latest)
kms 0 enroll --token 'pkcs11:token=sti-sp-2;manufacturer=SoftHSM%20project'
replaced "$before"
sed -i 's/^\(uri = pkcs11:token=sti-sp-2\);manufacturer=.*/\1/' "$conf"

# --- a key is missing from its token: the other token signs, also for workers that start then, and
# sti-kms makes a new key; then the token is removed from the configuration
sks_log=$dir/log/sti-sks.log
reload_sks() { # TEXT: expected in the log of sti-sks
    local before
    before=$(grep -c 'the new configuration is in use' "$sks_log" || true)
    kill -HUP "$(cat "$dir/run/sti-sks.pid")"
    for _ in $(seq 300); do
        if [ "$(grep -c 'the new configuration is in use' "$sks_log")" -gt "$before" ]; then break; fi
        sleep 0.1
    done
    [ "$(grep -c 'the new configuration is in use' "$sks_log")" -gt "$before" ] || fail "not reloaded: $1"
    grep -q "$1" "$sks_log" || fail "sti-sks does not say: $1"
}
rm -f "$work/enough" "$work/used"
touch "$work/used"
calls &
calls_pid=$!
another_signs 1
gone=$(status | jq '.credentials[] | select(.state == "active" and .token == "pkcs11:token=sti-sp-2")')
lost=$(jq .id <<<"$gone")
"$bin/sti-hsm" key destroy --module "$STI_MODULE" --pin-source "file:$dir/pin" --yes \
    --key "$(jq -r .key <<<"$gone")" >/dev/null
reload_sks "credential $lost of SPC 1234 .* does not sign: its key is not in the token"
kms 0 renew
said 'its key is not in the token any more; a new one is made'
next=$(status | jq -r ".credentials[] | select(.state == \"active\" and .id > $lost) | .x5u")
[ -n "$next" ] || fail "no other one was made: $(status)"
for _ in $(seq 100); do
    if grep -qxF "$next" "$work/used"; then break; fi
    sleep 0.1
done
grep -qxF "$next" "$work/used" || fail "$next does not sign: $(sort -u "$work/used")"
sed -i '/^\[token-2\]$/,/^$/d' "$conf"
reload_sks 'does not sign: its token is not in the configuration'
: >"$work/used"
another_signs 1
touch "$work/enough"
wait "$calls_pid"
[ ! -e "$work/lost" ] || fail "calls were lost: $(cat "$work/lost")"
kms 1 renew
said 'not done: active on a token that is not configured: sti-kms retire --id'
homeless=$(status | jq -r '.troubles[] | select(.matter == "active on a token that is not configured") | .text')
[ "$homeless" = "sti-kms retire --id $(status | jq '.credentials[] | select(.x5u == "'"$next"'") | .id')" ] ||
    fail "nobody says what to do with what is left: $(status)"

# --- a command that stops a credential from signing does not wait for a round, which may hold the
# lock for minutes
flock "$lock" sleep 30 &
holder=$!
for _ in $(seq 100); do
    if ! flock -n "$lock" true; then break; fi
    sleep 0.1
done
kms 0 retire --id "${homeless##* }"
last=$(status | jq '.credentials[] | select(.state == "active") | .id')
kms 124 3 revoke --id "$last" --reason 1
said "credential $last: retiring, signs no more"
status | jq -e "any(.credentials[]; .id == $last and .state == \"retiring\")" >/dev/null || fail "$(status)"
kill "$holder"
wait "$holder" || true
kms 0 revoke --id "$last" --reason 1
kms 0 renew
status | jq -e '.troubles | length == 0' >/dev/null || fail "$(status)"
if grep -q "$(cat "$dir/pin")\|$(cat "$dir/1001.password")" "$work/run.log" "$work/told"; then fail "a secret was told"; fi
echo "renewed, rotated, destroyed; no call lost"
