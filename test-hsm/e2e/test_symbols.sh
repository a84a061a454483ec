#!/usr/bin/env bash
# The installed static libraries: every global symbol starts with its floor's prefix, so that it
# does not collide with a program's own names.
set -euo pipefail

build=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work" >"$work/install.log"

for floor in hsm certs acme sks; do
    library=$(find "$work" -name "libsti-$floor.a")
    [ -n "$library" ] || { echo "libsti-$floor.a is not installed"; exit 1; }
    # Names that start with "_" belong to the compiler; sanitizers add some.
    nm --defined-only --extern-only --format=posix "$library" >"$work/symbols"
    awk 'NF > 1 && $1 !~ /^_/ { print $1 }' "$work/symbols" | sort -u >"$work/names"
    [ "$(grep -c "^${floor}_" "$work/names")" -gt 50 ] || { echo "$library has no symbols"; exit 1; }
    if grep -v "^${floor}_" "$work/names" >"$work/strange"; then
        echo "libsti-$floor.a: global symbols without the prefix ${floor}_:"
        cat "$work/strange"
        exit 1
    fi
done
echo "every global symbol has its floor's prefix"
