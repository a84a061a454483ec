#!/usr/bin/env bash
# Hosted signing: one sti-kms serves several service providers, each with its own SPC, account at
# the STI-PA, ACME accounts and keys. A provider whose STI-CA does not answer, and one whose
# password is missing, do not delay the others.
set -euo pipefail
source=$1 bin=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/sti-hosting.XXXXXX")
dir=$work/one
conf=$dir/sp/sp.conf
providers=$dir/sp/providers.conf

cleanup() {
    status=$?
    if [ -n "${run_pid-}" ]; then kill -9 "$run_pid" 2>/dev/null || true; fi
    if [ -n "${silent_pid-}" ]; then kill "$silent_pid" 2>/dev/null || true; fi
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
kms() { # WANTED COMMAND ...: its output is in $work/kms
    local wanted=$1 status=0
    shift
    timeout 120 "$bin/sti-kms" "$@" --config "$conf" >"$work/kms" 2>&1 || status=$?
    [ "$status" -eq "$wanted" ] || fail "sti-kms $*: exit status $status: $(cat "$work/kms")"
}
said() { grep -q -- "$*" "$work/kms" || fail "not said: $*: $(cat "$work/kms")"; }
status() { "$bin/sti-kms" status --config "$conf" --json "$@"; }
wait_for() { # JQ-EXPRESSION on the status, awaited to become true
    for _ in $(seq 600); do
        if status | jq -e "$1" >/dev/null; then return; fi
        sleep 0.1
    done
    fail "not reached: $1: $(status)"
}
keys() { # TOKEN PATTERN
    "$bin/sti-hsm" key list --module "$STI_MODULE" --token "pkcs11:token=$1" --pin-source "file:$dir/pin" |
        grep -o -- "$2" | sort -u
}

"$source/scripts/quickstart" --bin "$bin" --dir "$dir" >"$work/quickstart" ||
    fail "quickstart: $(tail -n 5 "$work/quickstart")"
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF
"$bin/sti-hsm" token init --module "$STI_MODULE" --label sti-sp-2 --so-pin-source "file:$dir/so-pin" \
    --pin-source "file:$dir/pin" >/dev/null
for spc in 8888 9999; do
    "$bin/sti-pa" account add --config "$dir/pa/sti-pa.conf" --id "$spc" --user "sp-$spc" \
        --generate-password "$dir/$spc.password" --spc "$spc" >/dev/null
    "$bin/sti-ca" participant set --config "$dir/ca/sti-ca.conf" --spc "$spc" \
        --organization "Provider $spc" --country US >/dev/null
done
mv "$dir/8888.password" "$work/8888.password" # restored later

# An STI-CA that accepts connections and never answers.
python3 - "$work/silent" <<'END' &
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(listener.getsockname()[1]))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
END
silent_pid=$!
until [ -s "$work/silent" ]; do sleep 0.1; done

ca_port=${STI_CA_DIRECTORY#https://127.0.0.1:}
ca_port=${ca_port%%/*}
cat >"$providers" <<END
[provider slow]
spc = 9999
pa-account = 9999
pa-user = sp-9999
pa-password-source = file:$dir/9999.password
ca = ca-2

[provider late]
spc = 8888
pa-account = 8888
pa-user = sp-8888
pa-password-source = file:$dir/8888.password
ca = ca
cr-base-url = https://localhost:${STI_CR_URL##*:}

[provider second]
spc = 5678
pa-account = $STI_PA_ACCOUNT
pa-user = $STI_PA_USER
pa-password-source = file:$STI_PA_PASSWORD_FILE
tokens = two
ca = ca-3
contact = mailto:noc@second.example

[token two]
uri = pkcs11:token=sti-sp-2
module = $STI_MODULE
pin-source = file:$dir/pin
END
sed -i "s/^spc = 1234\$/spc = 1234\nproviders = providers.conf/; /^ports = /d
    s/^\[verification\]\$/[verification]\nports = ${STI_CR_URL##*:} $ca_port/" "$conf"
cat >>"$conf" <<END

[ca-2]
directory = https://127.0.0.1:$(cat "$work/silent")/directory

[ca-3]
directory = $STI_CA_DIRECTORY
x5u = ca

[kms]
look-every = 1
retry-first = 1
END
printf '\n[ca]\nhost-chains = yes\n' >>"$dir/ca/sti-ca.conf"
kill -HUP "$(cat "$dir/run/sti-ca.pid")"
for _ in $(seq 100); do
    if grep -q 'the new configuration is in use' "$dir/log/sti-ca.log"; then break; fi
    sleep 0.1
done

# --- faults in the files are reported with file and line
kms 1 run --check
said "$providers:9: \[provider late\]: Password of the account at the STI-PA"
faulty() { # TEXT SED-EXPRESSION: the message, and the edit that causes it
    cp "$providers" "$work/good"
    sed -i "$2" "$providers"
    kms 1 run --check
    said "$1"
    mv "$work/good" "$providers"
}
faulty "$providers:10: .*pa-acount: unknown key" 's/^pa-account = 8888/pa-acount = 8888/'
faulty "$providers:9: .*wanted: pa-user and pa-password-source, or pa-api-key-source alone" '/^pa-user = sp-8888/d'
faulty "$providers:9: .*wanted: pa-user and pa-password-source, or pa-api-key-source alone" \
    's/^pa-user = sp-8888/&\npa-api-key-source = file:x/'
faulty "$providers:9: \[provider late\]: spc: not an SPC" 's/^spc = 8888/spc = 88-88/'
faulty "$providers:9: \[provider late\]: spc: is that of $providers:2: \[provider slow\]" 's/^spc = 8888/spc = 9999/'
faulty "$providers:9: \[provider late\]: spc: is that of $conf: \[sp\]" 's/^spc = 8888/spc = 1234/'
faulty "$providers:17: \[provider slow\]: given before" 's/^.provider second.$/[provider slow]/'
faulty "$providers:17: \[provider second\]: tokens: three: not configured" 's/^tokens = two/tokens = three/'
faulty "$providers:17: \[provider second\]: ca: ca-4: not configured" 's/^ca = ca-3$/ca = ca-4/'
faulty "$providers:17: \[provider second\]: ca: ca: twice" 's/^ca = ca-3$/ca = ca ca/'
faulty "$providers:17: .*eab-kid and eab-key-source: both or neither" 's/^tokens = two/&\neab-kid = x/'
faulty "$providers:17: .*cr-upload-..: only with cr-base-url" 's/^tokens = two/&\ncr-upload-url = https:\/\/x/'
faulty "$providers:26: \[token two\]: uri: another token has it" 's/^uri = .*/uri = pkcs11:token=sti-sp/'
faulty "$providers:26: \[token token-9\]: a name that is one of the main file" 's/^\[token two\]/[token token-9]/'
faulty "$providers:12: .*pa-password-source: not file:PATH" 's/^pa-password-source = .*8888.*/pa-password-source = secret/'

# --- providers are independent, and one that cannot continue does not delay the others
"$bin/sti-kms" run --config "$conf" 2>"$work/run.log" &
run_pid=$!
wait_for '[.providers[] | select(.active == 1) | .spc] == ["1234", "5678"]'
# On a slow machine it may become active only after SPC 9999 has given up, but it starts earlier.
begun=$(grep -n 'SPC 5678: generated: key' "$work/run.log" | head -n 1 | cut -d: -f1)
gave_up=$(grep -n 'SPC 9999, pkcs11' "$work/run.log" | head -n 1 | cut -d: -f1 || true)
[ -z "$gave_up" ] || [ "$begun" -lt "$gave_up" ] || fail "SPC 5678 waited for SPC 9999"
wait_for '[.troubles[] | select(.spc == "8888" and (.text | test("Password")))] | length == 1'
mv "$work/8888.password" "$dir/8888.password"
wait_for '.providers[] | select(.spc == "8888") | .active == 1 and .troubles == 0'
status --spc 5678 | jq -e '(.providers | length == 1) and ([.credentials[].spc] | unique == ["5678"])
    and .credentials[0].token == "pkcs11:token=sti-sp-2" and (.troubles | length == 0)' >/dev/null ||
    fail "$(status --spc 5678)"
kms 0 status
said '^8888 *1 .* late$'
said '^9999 *0 .* slow$'
[ "$(keys sti-sp-2 'acme-account-5678-[0-9TZa-f-]*' | wc -l)" = 1 ] || fail "the account's key of SPC 5678"
[ "$(keys sti-sp 'acme-account-8888-[0-9TZa-f-]*' | wc -l)" = 1 ] || fail "the account's key of SPC 8888"
[ -z "$(keys sti-sp 'sp-5678-[0-9TZa-f-]*')" ] || fail "a key of SPC 5678 in the token of another"
[ "$(sqlite3 "$dir/ca/sti-ca.db" 'SELECT count(*) FROM account')" = 3 ] || fail "ACME accounts"

# --- commands for one provider and for all
active() { status --spc "$1" | jq '.credentials[] | select(.state == "active") | .id'; } # SPC
before=$(active 5678)
kms 0 renew --force --spc 5678
[ "$(active 5678)" -gt "$before" ] || fail "SPC 5678 was not renewed: $(status)"
[ "$(status | jq '[.credentials[] | select(.spc == "1234")] | length')" = 1 ] || fail "SPC 1234 was renewed, too"
kms 0 account show --spc 5678
said 'contact   mailto:noc@second.example'
kms 1 account show --spc 5678 --token pkcs11:token=sti-sp
said 'no token of SPC 5678 has this URI'
kms 1 renew --spc 4711
said '4711: no provider of the configuration has this SPC'
kms 2 account deactivate --yes
said 'give --spc'
kms 0 ca list --json
jq -e '.[0].spcs == ["1234", "8888", "5678"]' "$work/kms" >/dev/null || fail "$(cat "$work/kms")"
kms 0 retire --id "$(status --spc 8888 | jq '.credentials[0].id')"
wait_for '[.credentials[] | select(.spc == "8888" and .state == "active")] | length == 1'

# --- calls are signed with the provider's own credential
for spc in 1234 5678 8888; do
    "$bin/sti-sks" sign --config "$conf" --spc "$spc" --orig 12155551212 --dest 12155551213 --attest A >"$work/identity"
    "$bin/sti-sks" verify --config "$conf" --identity "$work/identity" --from 12155551212 --to 12155551213 \
        >"$work/verdict" 2>&1 || fail "a call of SPC $spc: $(cat "$work/verdict")"
    x5u=$(sed 's/.*info=<//; s/>.*//' "$work/identity")
    case $spc in
    1234) expected=$STI_CR_URL ;;
    5678) expected=https://127.0.0.1:$ca_port/acme/chain ;;
    8888) expected=https://localhost:${STI_CR_URL##*:} ;;
    esac
    [ "${x5u%/*.pem}" = "$expected" ] || fail "SPC $spc has the x5u $x5u"
    status | jq -e --arg x5u "$x5u" --arg spc "$spc" \
        'any(.credentials[]; .x5u == $x5u and .spc == $spc and .state == "active")' >/dev/null ||
        fail "SPC $spc signed with $x5u"
done

# --- a provider removed from the configuration causes no trouble; the others continue
sed -i '1,/^ca = ca-2$/d' "$providers"
kill -HUP "$run_pid"
wait_for '([.providers[].spc] == ["1234", "8888", "5678"]) and (.troubles | length == 0)'
before=$(active 5678)
kms 0 renew --force
for spc in 5678 8888; do
    [ "$(active "$spc")" -gt "$before" ] || fail "SPC $spc was not renewed: $(status)"
done
kill "$run_pid"
wait "$run_pid" || fail "the daemon ended with $?"
run_pid=

# --- the PIN of one provider's token is wrong: the others are served, the PIN is tried once, and
# SIGHUP restores the provider
wait_for_log() { # FILE TEXT
    for _ in $(seq 300); do
        if grep -q -- "$2" "$1"; then return; fi
        sleep 0.1
    done
    fail "$1 does not say: $2"
}
refused='token pkcs11:token=sti-sp-2: its PIN was refused'
echo 9999 >"$dir/pin-2"
sed -i "/^\[token two\]/,\$s|^pin-source = .*|pin-source = file:$dir/pin-2|" "$providers"
kms 1 run --check
said "\[provider second\]: token pkcs11:token=sti-sp-2: the PIN of its token was refused"
if "$bin/sti-sks" serve --check --config "$conf" >"$work/sks" 2>&1; then fail "sti-sks serve --check: $(cat "$work/sks")"; fi
grep -q "$refused" "$work/sks" || fail "sti-sks serve --check: $(cat "$work/sks")"
kill -HUP "$(cat "$dir/run/sti-sks.pid")"
wait_for_log "$dir/log/sti-sks.log" "$refused"
wait_for_log "$dir/log/sti-sks.log" 'the new configuration is in use'
"$bin/sti-sks" sign --config "$conf" --spc 8888 --orig 12155551212 --dest 12155551213 --attest A >"$work/identity" 2>&1 ||
    fail "a call of another provider: $(cat "$work/identity")"
"$bin/sti-kms" run --config "$conf" 2>"$work/run.log" &
run_pid=$!
wait_for '[.troubles[] | select(.spc == "5678" and (.text | test("PIN of its token was refused")))] | length == 1'
wait_for '[.troubles[] | .spc] == ["5678"]'
[ "$(grep -c "$refused" "$work/run.log")" = 1 ] || fail "told more than once"
cp "$dir/pin" "$dir/pin-2"
kill -HUP "$run_pid"
wait_for '.troubles | length == 0'
kill "$run_pid"
wait "$run_pid" || fail "the daemon ended with $?"
run_pid=

if grep -qF -e "$(cat "$dir/pin")" -e "$(cat "$dir/8888.password")" -e "$(cat "$STI_PA_PASSWORD_FILE")" "$work/run.log"; then fail "a secret was told"; fi
echo "several service providers, each with its own; one that is stuck held up nobody"
