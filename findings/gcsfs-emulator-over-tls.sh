#!/bin/sh
# gcsfs 2026.10.1 speaks TLS to a storage emulator whose address begins with http://, and waits half a minute or more.
#
# Seen: with STORAGE_EMULATOR_HOST=http://127.0.0.1:PORT the first listing of a bucket opens a gRPC channel with TLS to that port, to ask
#   for the kind of the bucket, and tries again for 30 to 60 s. Then it goes on by plain HTTP, and succeeds.
# One would have guessed: the scheme of STORAGE_EMULATOR_HOST holds for all that the package sends, so that http:// means no TLS.
# Source: gcsfs/extended_gcsfs.py, the default class since GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT is on by default (gcsfs/__init__.py); with
#   that variable set to "false" all requests are plain HTTP, and the listing takes no time.
# For deocclude: docs/cluster.md says so, and benchmarks/google_storage.sh sets the variable.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gcsfs==2026.10.1
cat > "$folder/listing.py" <<'PYTHON'
"""A server on one port, which answers HTTP with a listing of one file and counts connections that begin with TLS."""
import json
import os
import socketserver
import sys
import threading
import time

ENTRY = {"kind": "storage#object", "name": "a.txt", "bucket": "bucket", "size": "1", "updated": "2026-01-01T00:00:00Z"}
PAGE = json.dumps({"kind": "storage#objects", "items": [ENTRY]}).encode()
seen = {"TLS": 0, "HTTP": 0}


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        first = self.request.recv(65536)
        if first[:2] == b"\x16\x03":  # a TLS handshake
            seen["TLS"] += 1
            return
        seen["HTTP"] += 1
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(PAGE)}\r\nConnection: close\r\n\r\n"
        self.request.sendall(head.encode() + PAGE)


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{server.server_address[1]}"
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = sys.argv[1]

import gcsfs

began = time.monotonic()
names = gcsfs.GCSFileSystem(token="anon", project="trial").ls("bucket")
seconds = time.monotonic() - began
print(f"{sys.argv[1]}: {names} after {seconds:.0f} s, connections {seen}")
assert names == ["bucket/a.txt"] and seen["HTTP"]
assert (seen["TLS"] > 0 and seconds > 10) if sys.argv[1] == "true" else (seen["TLS"] == 0 and seconds < 10)
PYTHON
"$folder/venv/bin/python" "$folder/listing.py" true 2>/dev/null
"$folder/venv/bin/python" "$folder/listing.py" false
