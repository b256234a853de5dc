#!/bin/sh
# Builds the container image and runs what docs/container.md promises of it. Exits with 1 where something does not hold.
#
#   benchmarks/container.sh
#   ENGINE="podman --runtime runc" BUILD="buildah build" BASE=3.11 benchmarks/container.sh
#
# ENGINE: docker or a command that takes its options. BUILD: what builds. BASE: the tag of python:BASE-slim.
# RUN: more options of each run.
set -eu
cd "$(dirname "$0")/.."
ENGINE=${ENGINE:-docker}
BUILD=${BUILD:-$ENGINE build}
PORT=${PORT:-7871}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

holds() {  # holds TEXT COMMAND...: print whether the command succeeds, and end the script where it does not
    text=$1; shift
    if "$@" >"$work/said" 2>&1; then echo "holds   $text"; else echo "FAILS   $text"; cat "$work/said"; exit 1; fi
}
says() {  # says PATTERN: the last checked command printed it
    grep -q -e "$1" "$work/said" || { echo "FAILS   no $1 in:"; cat "$work/said"; exit 1; }
}
inside="$ENGINE run --rm --read-only --tmpfs /tmp ${RUN:-}"

holds "the image is built, and doctor passes in it" $BUILD --build-arg PYTHON="${BASE:-3.12}" -t deocclude .

mkdir "$work/photos"
cp src/deocclude/assets/*.jpg "$work/photos"
chown -R 1234:1234 "$work/photos" && chmod 755 "$work"
folder="$inside --network none --user 1234:1234 -v $work/photos:/data deocclude run /data -o /data/out --recursive -j 2"
holds "a folder: read-only file system, no network, any user" $folder --manifest /data/run.jsonl
says "2 photos: 2 done"
holds "its files belong to that user" test "$(stat -c %u "$work"/photos/out/*.png "$work/photos/run.jsonl" | uniq)" = 1234
holds "the same again computes nothing" $folder
says "2 photos: 2 skipped"
holds "no torch, no pip" sh -c "! $inside --entrypoint python deocclude -c 'import torch' && ! $inside --entrypoint python deocclude -m pip"
holds "a limit of one core is seen" $inside --network none --cpus 1 deocclude doctor --device cpu --offline
says ", 1 usable"

export DEOCCLUDE_TOKEN=a-token-of-this-check-alone-0123456789
$inside --name deocclude-check --cap-drop ALL --network host -e DEOCCLUDE_TOKEN \
    deocclude serve --host 127.0.0.1 --port "$PORT" >"$work/service" 2>&1 &
service=$!
url=http://127.0.0.1:$PORT
for _ in $(seq 60); do curl -sf "$url/readyz" >/dev/null && break; sleep 1; done
holds "the service is ready, without capabilities" curl -sf "$url/readyz"
post="curl -s -o $work/answer -w %{http_code} -F photo=@src/deocclude/assets/street.jpg"
holds "it refuses a request without the token" test "$($post "$url/v1/deocclude")" = 401
holds "it answers one with the token" test "$($post -H "Authorization: Bearer $DEOCCLUDE_TOKEN" "$url/v1/deocclude")" = 200
holds "its user is 10001" sh -c "$ENGINE top deocclude-check user | tail -n +2 | grep -q 10001"
holds "it stops when it is told to" $ENGINE stop deocclude-check
holds "with exit code 0" wait "$service"
