#!/usr/bin/env bash
# sti-kms is killed at random moments of its enrollments, and in half of them the STI-CA is killed
# at another moment as well. Afterwards there is one certificate for each order, one key for each
# credential, and no unknown order.
#
#   STI_KMS_KILLS=200    number of kills of sti-kms, instead of 20
#   STI_KMS_SEED=N       repeats the moments of that run, as far as the machine allows
set -euo pipefail
source=$1 bin=$2
kills=${STI_KMS_KILLS:-20}
RANDOM=${STI_KMS_SEED:-$$}
work=$(mktemp -d /tmp/sti-kills.XXXXXX)
dir=$work/one

cleanup() {
    status=$?
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
"$source/scripts/quickstart" --bin "$bin" --dir "$dir" >"$work/quickstart" ||
    fail "quickstart: $(tail -n 5 "$work/quickstart")"
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF
conf=$dir/sp/sp.conf
kms() { "$bin/sti-kms" "$@" --config "$conf" 2>>"$work/kms.log"; }
ca() { sqlite3 -cmd '.timeout 5000' "$dir/ca/sti-ca.db" "$1"; }
mine() { sqlite3 -cmd '.timeout 5000' "$dir/sp/catalogue.db" "$1"; }

# --- the STI-CA and its restart

answers() { curl -fs --noproxy "*" --max-time 2 --cacert "$STI_TLS_CA" "$STI_CA_DIRECTORY" >"$work/directory"; }

# Kill it without warning: everything that it recorded is durable. Its workers end with it.
kill_ca() {
    kill -9 "$(cat "$dir/run/sti-ca.pid")"
    for _ in $(seq 100); do
        ! answers || { sleep 0.05 && continue; }
        return 0
    done
    fail "sti-ca serves after it was killed"
}

# Wait until it serves and is therefore logged in: a kill during a login destroys the token.
start_ca() {
    setsid "$bin/sti-ca" serve --config "$dir/ca/sti-ca.conf" </dev/null >>"$dir/log/sti-ca.log" 2>&1 &
    echo $! >"$dir/run/sti-ca.pid"
    disown
    for _ in $(seq 300); do
        ! answers || return 0
        sleep 0.1
    done
    fail "sti-ca does not serve again"
}

doze() { sleep "0.$(printf '%03d' $((RANDOM % 150)))"; }

# Kill one enrollment some time after its login: SoftHSM empties and rewrites the token's file at
# each login, and a kill at that moment would destroy the token, not our state.
killed=0
interrupted=0
killed_cas=0
mkfifo "$work/lines"
while [ "$killed" -lt "$kills" ]; do
    "$bin/sti-kms" enroll --config "$conf" >"$work/lines" 2>>"$work/kms.log" & # itself, no shell
    pid=$!
    exec {lines}<"$work/lines"
    read -r _ <&"$lines" || true
    doze
    if [ $((RANDOM % 2)) -eq 0 ]; then
        kill_ca
        killed_cas=$((killed_cas + 1))
        if [ $((RANDOM % 2)) -eq 0 ]; then start_ca; fi # else down at the kill of the client
        doze
    fi
    kill -9 "$pid" 2>/dev/null || true
    ended=0
    wait "$pid" 2>/dev/null || ended=$?
    if [ "$ended" -eq 137 ]; then interrupted=$((interrupted + 1)); fi
    exec {lines}<&-
    answers || start_ca
    killed=$((killed + 1))
done
[ "$interrupted" -gt 0 ] || fail "no enrollment was cut short"
[ "$killed_cas" -gt 0 ] || fail "the STI-CA was never killed"
kms enroll >"$work/last" || fail "the last enrollment: $(cat "$work/last")"

# --- the service provider: one credential signs, each has its own key, and no key is left over
[ "$(mine 'SELECT count(*) FROM credential WHERE state = 4')" = 1 ] || fail "active: $(mine 'SELECT id, state FROM credential')"
[ "$(mine 'SELECT count(*) FROM credential WHERE state < 4')" = 0 ] || fail "on the way: $(mine 'SELECT id, state FROM credential')"
# One whose key SoftHSM had not finished when it was killed is given up before it has an order.
credentials=$(mine 'SELECT count(*) FROM credential')
ordered=$(mine 'SELECT count(order_url) FROM credential')
[ "$(mine 'SELECT count(*) FROM credential WHERE order_url IS NULL AND state <> 6')" = 0 ] || fail "no order: $(mine 'SELECT id, state FROM credential')"
[ "$(mine 'SELECT count(DISTINCT key_uri) FROM credential')" = "$credentials" ] || fail "a key serves two credentials"
[ "$(mine 'SELECT count(DISTINCT order_url) FROM credential')" = "$ordered" ] || fail "an order serves two credentials"
"$bin/sti-hsm" key list --module "$STI_MODULE" --token "$STI_SP_TOKEN_URI" --pin-source "file:$dir/pin" |
    grep -o 'sp-1234-[0-9TZa-f-]*' | sort >"$work/keys"
[ "$(sort -u "$work/keys" | wc -l)" = "$(wc -l <"$work/keys")" ] || fail "two keys of a label: $(cat "$work/keys")"
keys=$(wc -l <"$work/keys")
if [ "$keys" -lt "$ordered" ] || [ "$keys" -gt "$credentials" ]; then fail "$credentials credentials, keys: $(cat "$work/keys")"; fi

# --- the STI-CA: each order belongs to a credential and is fulfilled, with one certificate
[ "$(ca 'SELECT count(*) FROM acme_order')" = "$ordered" ] || fail "$ordered credentials, orders: $(ca 'SELECT id, status FROM acme_order')"
[ "$(ca "SELECT count(*) FROM acme_order WHERE status <> 'valid'")" = 0 ] || fail "orders: $(ca 'SELECT id, status FROM acme_order')"
[ "$(ca 'SELECT count(DISTINCT serial) FROM issuance')" = "$ordered" ] || fail "certificates: $(ca 'SELECT order_id FROM issuance')"
[ "$(ca 'SELECT count(*) FROM account')" = 1 ] || fail "accounts: $(ca 'SELECT id FROM account')"
for order in $(mine 'SELECT order_url FROM credential WHERE order_url IS NOT NULL'); do
    [ "$(ca "SELECT count(*) FROM acme_order WHERE id = '${order##*/}'")" = 1 ] || fail "$order: the STI-CA does not know it"
done
echo "$interrupted of $killed enrollments were cut short, the STI-CA $killed_cas times: $credentials credentials, $ordered orders and certificates"
