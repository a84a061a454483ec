#!/usr/bin/env bash
# The manual pages agree with --help, and are well-formed according to the installed tools.
set -euo pipefail
source=$1 bin=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$source/scripts/manual" --check "$bin"

# Every option, found in a different way than by scripts/manual.
has_options() { # PAGE, the help on standard input
    { grep -oE -- '--[a-z0-9-]+' || true; } | sort -u | while read -r option; do
        grep -qE -- "Fl -${option#--}( |\$)" "$1" || {
            echo "$1 does not have $option"
            exit 1
        }
    done
}
has_keys() { # PAGE, the help on standard input: the keys of a configuration file
    sed -n 's/^    \([a-z][a-z-]*\) .*/\1/p; s/^  \[[^]]*\] \([a-z-]*\).*/\1/p' | sort -u | while read -r key; do
        grep -qE "^\.It Cm .*$key" "$1" || {
            echo "$1 does not have $key"
            exit 1
        }
    done
}
pages=0
for page in "$source"/docs/man/*.[18]; do
    program=$(basename "$page" | sed 's/\.[18]$//')
    "$bin/$program" --help | has_options "$page"
    "$bin/$program" --help | has_keys "$page"
    pages=$((pages + 1))
    if command -v mandoc >/dev/null; then
        mandoc -Tlint -W warning "$page"
    fi
    if command -v groff >/dev/null; then
        groff -mdoc -ww -z -Tutf8 "$page" 2>"$work/said"
        cat "$work/said"
        [ ! -s "$work/said" ]
    fi
done
[ "$pages" -eq 6 ]
"$bin/sti-cert" issue --help | has_options "$source/docs/man/sti-cert.1"
"$bin/sti-hsm" audit --help | has_options "$source/docs/man/sti-hsm.1"

# A page that is out of date is reported.
mkdir -p "$work/scripts" "$work/docs"
cp "$source/scripts/manual" "$work/scripts"
cp -r "$source/docs/man" "$work/docs"
sed -i '/^\.Fl -generate-password/d' "$work/docs/man/sti-pa.8"
if "$work/scripts/manual" --check "$bin" >"$work/said" 2>&1; then
    echo 'an option is missing, and nobody noticed'
    exit 1
fi
grep -q '^+\.Fl -generate-password' "$work/said"
"$work/scripts/manual" "$bin"
cmp "$work/docs/man/sti-pa.8" "$source/docs/man/sti-pa.8"
echo "$pages pages"
