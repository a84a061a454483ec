#!/usr/bin/env bash
# The web pages of the STI-CA in a real browser: from a CSR whose key is in a token, and the
# STI-PA's SPC token for it, to a chain that verifies; a refusal; the status page. Screenshots:
# BUILD/web-pages.
set -euo pipefail
source=$1 bin=$2 build=$3
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    echo "skipped: no chromium or no chromium-driver"
    exit 77
fi
work=$(mktemp -d /tmp/sti-web.XXXXXX)
dir=$work/one

cleanup() {
    status=$?
    if [ $status -ne 0 ]; then
        for log in "$dir"/log/*.log; do
            echo "--- $log" && tail -n 30 "$log"
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

# --- the operator enables the pages without a restart, and adds a user with a password
url=${STI_CA_DIRECTORY%/acme/directory}
code() { curl -sS --noproxy '*' --cacert "$STI_TLS_CA" -o "$work/page" -w '%{http_code}' "$url$1"; }
[ "$(code /web)" = 404 ] || fail "the pages are there before anybody wanted them"
printf '\n[web]\nenabled = yes\n' >>"$dir/ca/sti-ca.conf"
kill -HUP "$(cat "$dir/run/sti-ca.pid")"
for _ in $(seq 150); do
    [ "$(code /web)" != 200 ] || break
    sleep 0.1
done
[ "$(code /web)" = 200 ] || fail "no pages: $(cat "$work/page")"
[ "$(code /web/status)" = 401 ] || fail "the status is told to everybody"
echo alice >"$work/user"
openssl rand -hex 12 >"$work/password"
chmod 600 "$work/password"
ca() { "$bin/sti-ca" web user "$@" --config "$dir/ca/sti-ca.conf"; }
ca add --user alice --password-source "file:$work/password" >"$work/said" || fail "web user add"
ca list | grep -q '^alice' || fail "web user list"
if ca add --user alice --password-source "file:$work/password" 2>/dev/null; then fail "twice"; fi
if ca remove --user bob 2>/dev/null; then fail "a user that is not there"; fi

# --- the service provider: a key in its token, a CSR, an SPC token with that key's fingerprint
for key in manual other; do
    "$bin/sti-hsm" key generate --module "$STI_MODULE" --token "$STI_SP_TOKEN_URI" \
        --pin-source "file:$STI_PIN_FILE" --label "$key" >"$work/said" || fail "key generate"
    "$bin/sti-cert" csr --module "$STI_MODULE" --token "$STI_SP_TOKEN_URI" --key "$key" \
        --pin-source "file:$STI_PIN_FILE" --spc "$STI_SPC2" --out "$work/$key.pem" || fail "csr"
done
mv "$work/manual.pem" "$work/csr.pem"
url64() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
fingerprint() { # of the JWK (RFC 7638), in the form of RFC 9448 section 5.4
    local x y
    openssl req -in "$1" -noout -pubkey | openssl pkey -pubin -outform DER | tail -c 64 >"$work/point"
    x=$(head -c 32 "$work/point" | url64) y=$(tail -c 32 "$work/point" | url64)
    printf 'SHA256 %s' "$(printf '{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}' "$x" "$y" |
        openssl dgst -sha256 -c | sed 's/.*= //' | tr a-f A-F)"
}
[ ${#STI_SPC2} -eq 4 ] || fail "SPC $STI_SPC2"
jq -n --arg f "$(fingerprint "$work/csr.pem")" \
    --arg v "$(printf '\060\010\240\006\026\004%s' "$STI_SPC2" | openssl base64 -A)" \
    '{atc: {tktype: "TNAuthList", tkvalue: $v, ca: false, fingerprint: $f}}' >"$work/asks"
printf 'user = "%s:%s"\n' "$STI_PA_USER" "$(cat "$STI_PA_PASSWORD_FILE")" |
    curl -sS --noproxy '*' --cacert "$STI_TLS_CA" -K - -H 'Content-Type: application/json' \
        --data-binary "@$work/asks" "$STI_PA_URL/at/account/$STI_PA_ACCOUNT/token" >"$work/answer"
jq -er .token "$work/answer" >"$work/token" || fail "no SPC token: $(cat "$work/answer")"

# --- a user at the browser
mkdir -p "$build/web-pages"
spki=$(openssl x509 -in "$dir/ca/tls-chain.pem" -noout -pubkey | openssl pkey -pubin -outform DER |
    openssl dgst -sha256 -binary | openssl base64 -A)
timeout 120 python3 "$source/test-hsm/e2e/browser.py" "$(command -v chromium)" "$url" "$spki" "$STI_SPC2" "$work" \
    "$build/web-pages" || fail "the browser"

# --- the downloaded chain, judged by our verifier and by openssl; it has the CSR's key
pem=$work/downloads/sti-$STI_SPC2.pem
csplit -s -z -f "$work/cert" "$pem" '/-----BEGIN/' '{*}'
openssl verify -CAfile "$STI_TRUST_ANCHORS" -untrusted "$work/cert01" "$work/cert00" >"$work/verify" ||
    fail "openssl verify: $(cat "$work/verify")"
"$bin/sti-cert" verify --anchors "$STI_TRUST_ANCHORS" "$pem" >"$work/verify" 2>&1 ||
    fail "sti-cert verify: $(cat "$work/verify")"
[ "$(openssl x509 -in "$work/cert00" -noout -pubkey)" = "$(openssl req -in "$work/csr.pem" -noout -pubkey)" ] ||
    fail "another key"
openssl x509 -in "$work/cert00" -noout -subject | grep -q "SHAKEN $STI_SPC2" || fail "another subject"

# --- an operator can treat it like any other certificate
serial=$(openssl x509 -in "$work/cert00" -noout -serial | sed 's/.*=//' | tr A-F a-f)
"$bin/sti-ca" revoke --config "$dir/ca/sti-ca.conf" --serial "$serial" --reason 4 >"$work/said" ||
    fail "revoke: $(cat "$work/said")"
if grep -rqF -f "$work/password" "$dir/log" "$dir/ca"; then fail "the password is in a file"; fi
ca remove --user alice >"$work/said" || fail "web user remove"
echo "pasted, shown, certified; pages in $build/web-pages"
