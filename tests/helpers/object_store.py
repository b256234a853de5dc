"""An S3 server in this process, on 127.0.0.1, with one empty bucket."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}


class Bucket:
    """What the tests see of the bucket, without a cache."""

    def __init__(self, client) -> None:
        self.client, self.url = client, "s3://bucket"

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket="bucket", Key=name, Body=content)

    def files(self, prefix: str = "") -> dict[str, bytes]:
        """Content by name below a prefix."""
        found = self.client.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])
        names = [one["Key"] for one in found]
        return {name[len(prefix) :]: self.client.get_object(Bucket="bucket", Key=name)["Body"].read() for name in names}


@contextlib.contextmanager
def s3_server() -> Iterator[Bucket]:
    """Serve until the end of the context; fsspec finds the server by its environment, in other processes too."""
    import boto3
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    monkeypatch = pytest.MonkeyPatch()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL_S3": f"http://{host}:{port}"}).items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        client.create_bucket(Bucket="bucket")
        yield Bucket(client)
    finally:
        monkeypatch.undo()
        server.stop()
        S3FileSystem.clear_instance_cache()  # fsspec keeps file systems, which would look for the next server here
