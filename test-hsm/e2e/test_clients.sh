#!/usr/bin/env bash
# Third-party ACME clients at our STI-CA: Debian's lego and uacme manage accounts; their orders for
# a domain are refused.
set -euo pipefail
source=$1 bin=$2
work=$(mktemp -d /tmp/sti-clients.XXXXXX)
dir=$work/one

cleanup() {
    status=$?
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        tail -n 40 "$dir/log/sti-ca.log" || true
    fi
    "$source/scripts/quickstart" --dir "$dir" --stop >/dev/null || true
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }
has() { command -v "$1" >/dev/null || { echo "skipped: no $1" && return 1; }; }

# uacme's TLS library only uses the system's anchors, so it sees ours in a mount namespace
has_namespace() {
    unshare -rm true 2>/dev/null || { echo "skipped: no mount namespace for uacme" && return 1; }
}

clients=()
if has lego; then clients+=(lego); fi
if has uacme && has_namespace; then clients+=(uacme); fi
[ ${#clients[@]} -gt 0 ] || exit 77

"$source/scripts/quickstart" --bin "$bin" --dir "$dir" >"$work/out" 2>&1 || fail "$(tail -n 5 "$work/out")"
# shellcheck source=/dev/null
. "$dir/env"
export STI_TLS_CA

accounts_in_store() { # STATUS
    sqlite3 "$dir/ca/sti-ca.db" "SELECT count(*) FROM account WHERE status = '$1'"
}
grows() { # STATUS BEFORE
    [ "$(accounts_in_store "$1")" -eq $(($2 + 1)) ] || fail "no account more that is $1"
}

lego_goes() {
    local before
    before=$(accounts_in_store valid)
    if LEGO_CA_CERTIFICATES=$STI_TLS_CA lego --server "$STI_CA_DIRECTORY" --accept-tos \
        --email a@example.com --key-type ec256 --path "$work/lego" --domains example.com \
        --http --http.port 127.0.0.1:0 run >"$work/lego.out" 2>&1; then
        fail "lego has a certificate for a domain"
    fi
    grep -q 'error:unsupportedIdentifier' "$work/lego.out" || fail "lego: $(tail -n 5 "$work/lego.out")"
    grows valid "$before"
    echo "lego: account made, its order is unsupportedIdentifier"
}

uacme_does() { # WHAT WORDS [ARGUMENT ...]
    local what=$1 words=$2
    shift 2
    # shellcheck disable=SC2016 # the inner shell expands it
    unshare -rm sh -c 'mount --bind "$STI_TLS_CA" /etc/ssl/certs/ca-certificates.crt && exec "$@"' sh \
        uacme -v -y -t EC -a "$STI_CA_DIRECTORY" -c "$work/uacme" "$what" "$@" >"$work/uacme.out" 2>&1 || true
    grep -q "$words" "$work/uacme.out" || fail "uacme $what: $(tail -n 5 "$work/uacme.out")"
}
uacme_goes() {
    local before
    before=$(accounts_in_store deactivated)
    uacme_does new 'account created' a@example.com
    uacme_does update 'updated' b@example.com
    uacme_does newkey 'account key changed'
    uacme_does issue 'unsupportedIdentifier' example.com
    uacme_does deactivate 'deactivated'
    uacme_does update 'account of this key was deactivated'
    grows deactivated "$before"
    echo "uacme: account made, updated, key changed, deactivated; its order is unsupportedIdentifier"
}

for client in "${clients[@]}"; do "${client}_goes"; done
