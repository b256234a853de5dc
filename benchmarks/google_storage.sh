#!/bin/sh
# Runs a folder from gs:// to gs:// with Ray, on a Google Cloud Storage server of this machine (gcp-storage-emulator),
# twice, and compares the results byte for byte with those of a run on disk. Exits with 1 where they differ.
# Needs deocclude with its extra [scale] and gcsfs for PYTHON; the server gets a virtual environment of its own.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
PORT=${PORT:-9023}
export STORAGE_EMULATOR_HOST=http://127.0.0.1:$PORT
# gcsfs would ask the server for the kind of its buckets by gRPC with TLS, for half a minute or more: see findings/
export GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false
work=$(mktemp -d)
python3 -m venv "$work/server"
"$work/server/bin/pip" install --quiet gcp-storage-emulator==2026.7.19
"$work/server/bin/gcp-storage-emulator" start --host 127.0.0.1 --port "$PORT" --in-memory >"$work/server.log" 2>&1 &
server=$!
trap 'kill $server; rm -rf "$work"' EXIT
for _ in $(seq 50); do curl -s "$STORAGE_EMULATOR_HOST" >/dev/null && break; sleep 0.2; done

run() { "$PYTHON" -m deocclude run "$@" --recursive -j 2; }

"$PYTHON" - src/deocclude/assets <<'UPLOAD'
import sys
from pathlib import Path
import gcsfs

store = gcsfs.GCSFileSystem(token="anon", project="trial")
store.mkdir("trial")
for file in Path(sys.argv[1]).glob("*.jpg"):
    store.pipe(f"trial/photos/{file.name}", file.read_bytes())
UPLOAD
run src/deocclude/assets/*.jpg -o "$work/alone" -q
run gs://trial/photos -o gs://trial/out --engine ray
run gs://trial/photos -o gs://trial/out --engine ray 2>&1 | tee "$work/second"
grep -q "2 photos: 2 skipped" "$work/second" || { echo "FAILS   the second run computed"; exit 1; }
"$PYTHON" - "$work/alone" <<'COMPARE'
import sys
from pathlib import Path
import gcsfs

store = gcsfs.GCSFileSystem(token="anon", project="trial")
alone = {file.name: file.read_bytes() for file in Path(sys.argv[1]).iterdir()}
there = {Path(name).name: store.cat_file(name) for name in store.find("trial/out")}
assert there.keys() == alone.keys(), (sorted(there), sorted(alone))
assert there == alone, "bytes differ"
print(f"{len(there)} files in the store, each equal to the one on disk")
COMPARE
