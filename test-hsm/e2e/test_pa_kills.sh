#!/usr/bin/env bash
# sti-pa is killed at random moments while it grants SPC tokens and accepts revocations. Afterwards
# each token that was handed out is in the store, each accepted revocation is on the CRL, and
# neither the number of the CRL nor the sequence of the list has ever decreased.
#
#   STI_PA_KILLS=200    number of kills, instead of 4
#   STI_PA_SEED=N       repeats the moments of that run, as far as the machine allows
set -euo pipefail
source=$1 bin=$2
work=$(mktemp -d /tmp/sti-pa-kills.XXXXXX)
cleanup() {
    status=$?
    if [ -f "$work/pid" ]; then kill -9 "$(cat "$work/pid")" 2>/dev/null || true; fi
    if [ $status -ne 0 ]; then tail -n 40 "$work/log" || true; fi
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }
quietly() { "$@" >"$work/said" 2>&1 || fail "$*: $(cat "$work/said")"; }

mkdir "$work/tokens"
cat >"$work/softhsm2.conf" <<END
directories.tokendir = $work/tokens
objectstore.backend = file
log.level = ERROR
library.reset_on_fork = true
END
export SOFTHSM2_CONF=$work/softhsm2.conf
export STI_MODULE=${STI_MODULE:-/usr/lib/softhsm/libsofthsm2.so}
umask 077
openssl rand -hex 8 >"$work/pin"
port=$((31000 + $$ % 1000))
while curl -sk -o /dev/null "https://127.0.0.1:$port/" || [ $? -ne 7 ]; do port=$((port + 1)); done
for token in sti-pa sti-ca; do
    quietly "$bin/sti-hsm" token init --label $token --pin-source "file:$work/pin" \
        --so-pin-source "file:$work/pin"
done
quietly "$bin/sti-pa" init --dir "$work/pa" --token pkcs11:token=sti-pa --module "$STI_MODULE" \
    --pin-source "file:$work/pin" --organization 'Example STI-PA' --country US \
    --address "127.0.0.1:$port" --base-url "https://127.0.0.1:$port"
sed -i -e 's/^\[server\]$/&\nworkers = 2/' -e 's/^\[pa\]$/&\ntokens-per-hour = 0/' "$work/pa/sti-pa.conf"

for label in root issuing; do
    quietly "$bin/sti-hsm" key generate --token pkcs11:token=sti-ca --label $label --pin-source "file:$work/pin"
done
issue() { # PROFILE NAME OUT MORE..
    quietly "$bin/sti-cert" issue --profile "$1" --key 'pkcs11:token=sti-ca;object=root' \
        --pin-source "file:$work/pin" --country US --organization 'Example STI-CA' \
        --common-name "$2" --out "$3" "${@:4}"
}
issue sti-root 'Example SHAKEN ROOT' "$work/root.pem"
quietly "$bin/sti-cert" csr --ca --key 'pkcs11:token=sti-ca;object=issuing' --pin-source "file:$work/pin" \
    --out "$work/issuing.csr"
issue sti-intermediate 'Example SHAKEN CA' "$work/issuing.pem" --csr "$work/issuing.csr" \
    --issuer "$work/root.pem" --crl-url "https://127.0.0.1:$port/download/v1/crl" \
    --crl-issuer "$work/pa/pa-crl-chain.pem"
cat "$work/issuing.pem" "$work/root.pem" >"$work/chain.pem"
pa() { quietly "$bin/sti-pa" "$@" --config "$work/pa/sti-pa.conf"; }
pa ca add --root "$work/root.pem"
pa ca account add --id ca --user ca --chain "$work/chain.pem" --generate-password "$work/ca.password"
pa account add --id 1234 --user sp --spc 1234 --generate-password "$work/sp.password"
pa account key add --id ca --file "$work/ca.key"
pa account key add --id 1234 --file "$work/sp.key"
openssl x509 -in "$work/issuing.pem" -outform DER -out "$work/issuing.der"

python3 "$source/test-hsm/e2e/pa_kills.py" "$bin/sti-pa" "$work" "https://127.0.0.1:$port" \
    "${STI_PA_KILLS:-4}" "${STI_PA_SEED:-$$}"
