"""What the ingestor puts on the wire is what the facility's program sends, recorded by a server of the test's."""

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from fastapi import FastAPI, Request, Response

from archiver.config.settings import GIBIBYTE
from archiver.local.ingestor.archiver_client import ArchiverClient
from archiver.local.ingestor.chunks import SMALLEST_CHUNK_BYTES as CHUNK
from archiver.local.ingestor.chunks import composite_checksum
from archiver.local.ingestor.errors import NoSpaceInTimeError, ServerRefusedError
from archiver.local.ingestor.listing import list_folder
from archiver.local.ingestor.service_token import ServiceToken
from archiver.local.ingestor.upload import FolderUpload
from support.backend_api import serve

PID = "20.500.12345/some-pid"
PREFIX = f"openem-network/datasets/{PID}/raw_files/"


class Recorder:
    """Answers as the API, the identity provider and the landing storage do, and remembers what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.puts: dict[str, tuple[dict[str, str], bytes]] = {}
        self.refreshes: list[dict[str, str]] = []
        self.space_answers: list[int] = []
        self.put_answers: list[int] = []

    def application(self) -> FastAPI:
        app = FastAPI()

        @app.post("/token", status_code=201)
        def token(request: Request) -> dict[str, Any]:
            assert request.headers["authorization"] == "Bearer scicat-token"
            return {"access_token": "first", "refresh_token": "r0", "expires_in": 300}

        @app.post("/refresh")
        async def refresh(request: Request) -> dict[str, Any]:
            assert request.headers["content-type"] == "application/x-www-form-urlencoded"
            self.refreshes.append(dict(parse_qsl((await request.body()).decode())))
            number = len(self.refreshes)
            return {"access_token": f"a{number}", "refresh_token": f"r{number}"}

        @app.post("/s3/{call}")
        async def call(call: str, request: Request, response: Response) -> dict[str, Any]:
            body = await request.json()
            assert request.headers["authorization"].startswith("Bearer a")
            self.calls.append((call, body))
            response.status_code = 201
            if call == "requestDatasetUpload" and self.space_answers:
                response.status_code = self.space_answers.pop(0)
                return {"message": "full"}
            if call == "presignedUrls":
                name = body["object_name"].removeprefix(PREFIX)
                urls = [f"{self.url}/put/{number}/{name}" for number in range(1, body["parts"] + 1)]
                upload_id = f"id of {name}" if body["parts"] > 1 else ""
                return {"upload_id": upload_id, "urls": [base64.b64encode(url.encode()).decode() for url in urls]}
            return {}

        @app.put("/put/{number}/{name:path}")
        async def put(number: int, name: str, request: Request, response: Response) -> None:
            body = await request.body()
            if self.put_answers:
                response.status_code = self.put_answers.pop(0)
                if response.status_code != 200:
                    return
            self.puts[f"{name}#{number}"] = (dict(request.headers), body)
            response.headers["ETag"] = f'"{hashlib.md5(body).hexdigest()}"'

        return app

    def bodies(self, call: str) -> list[dict[str, Any]]:
        """What was sent to one route of the API."""
        return [body for name, body in self.calls if name == call]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    with serve(recorder.application()) as recorder.url:
        yield recorder


@contextmanager
def _client(recorder: Recorder) -> Iterator[ArchiverClient]:
    token = ServiceToken(recorder.url, f"{recorder.url}/refresh", "public-client", "scicat-token")
    client = ArchiverClient(recorder.url, token)
    with closing(token), closing(client):
        yield client


def _send(recorder: Recorder, folder: Path) -> list[tuple[int, int]]:
    progress: list[tuple[int, int]] = []
    with (
        _client(recorder) as client,
        FolderUpload(client, PID, CHUNK, lambda count, files: progress.append((count, files))) as upload,
    ):
        upload.send(list_folder(folder))
    return progress


def test_every_call_refreshes_the_token_with_the_client_id_alone(recorder: Recorder) -> None:
    with _client(recorder) as client:
        client.request_upload(PID, 1, 10, 1)
        client.abort(PID)
    expected = [
        {"grant_type": "refresh_token", "refresh_token": f"r{number}", "client_id": "public-client"}
        for number in range(2)
    ]
    assert recorder.refreshes == expected


@pytest.mark.parametrize(("size", "gib"), [(0, 0), (GIBIBYTE - 1, 0), (GIBIBYTE, 1), (5 * GIBIBYTE + GIBIBYTE // 2, 5)])
def test_the_size_is_announced_in_gib_rounded_down(recorder: Recorder, size: int, gib: int) -> None:
    with _client(recorder) as client:
        client.request_upload(PID, size, 10, 1)
    assert recorder.bodies("requestDatasetUpload") == [{"dataset_id": PID, "dataset_size_gib": gib}]


def test_space_is_asked_for_until_there_is_some(recorder: Recorder) -> None:
    recorder.space_answers = [507, 507, 201]
    waited: list[str] = []
    with _client(recorder) as client:
        client.request_upload(PID, 1, 60, 0.01, waited.append)
    assert len(recorder.bodies("requestDatasetUpload")) == 3
    assert len(waited) == 2
    assert "full" in waited[0]


def test_waiting_for_space_has_an_end(recorder: Recorder) -> None:
    recorder.space_answers = [507] * 1000
    with _client(recorder) as client, pytest.raises(NoSpaceInTimeError, match="full"):
        client.request_upload(PID, 1, 0.05, 0.02)


def test_a_small_file_is_sent_whole(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "ünï file").write_bytes(b"content")

    progress = _send(recorder, tmp_path)

    key = f"{PREFIX}ünï file"
    assert recorder.bodies("presignedUrls") == [{"dataset_id": PID, "object_name": key, "parts": 1}]
    assert recorder.bodies("completeUpload") == []
    headers, body = recorder.puts["ünï file#1"]
    assert body == b"content"
    assert headers["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert headers["x-amz-storage-class"] == "GLACIER"
    assert headers["content-type"] == ""
    assert headers["content-length"] == "7"
    assert "transfer-encoding" not in headers
    assert progress == [(7, 0), (0, 1)]


def test_a_large_file_is_sent_in_parts_and_completed(recorder: Recorder, tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK + 3)
    (tmp_path / "large").write_bytes(content)

    _send(recorder, tmp_path)

    pieces = [content[:CHUNK], content[CHUNK : 2 * CHUNK], content[2 * CHUNK :]]
    assert [recorder.puts[f"large#{number}"][1] for number in (1, 2, 3)] == pieces
    digests = [hashlib.sha256(piece).digest() for piece in pieces]
    assert recorder.bodies("completeUpload") == [
        {
            "dataset_id": PID,
            "object_name": f"{PREFIX}large",
            "upload_id": "id of large",
            "parts": [
                {
                    "part_number": number,
                    "etag": hashlib.md5(piece).hexdigest(),
                    "checksum_sha256": base64.b64encode(digest).decode(),
                }
                for number, (piece, digest) in enumerate(zip(pieces, digests, strict=True), 1)
            ],
            "checksum_sha256": composite_checksum(digests),
        }
    ]


def test_a_file_of_exactly_one_chunk_is_completed_without_an_upload_id(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "exact").write_bytes(bytes(CHUNK))

    _send(recorder, tmp_path)

    assert [body["parts"] for body in recorder.bodies("presignedUrls")] == [1]
    completed = recorder.bodies("completeUpload")
    assert [body["upload_id"] for body in completed] == [""]
    assert [part["part_number"] for part in completed[0]["parts"]] == [1]


def test_an_empty_file_is_sent(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    _send(recorder, tmp_path)
    headers, body = recorder.puts["empty#1"]
    assert (headers["content-length"], body) == ("0", b"")


def test_a_put_is_tried_again_when_it_may_pass(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    recorder.put_answers = [503, 429]

    progress = _send(recorder, tmp_path)

    assert recorder.puts["file#1"][1] == b"content"
    assert sum(count for count, _ in progress) == len(b"content")


def test_a_refused_part_gives_the_object_up_without_naming_the_data_set(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(CHUNK + 1))
    recorder.put_answers = [403, 403]

    with pytest.raises(ServerRefusedError, match="large"):
        _send(recorder, tmp_path)

    assert recorder.bodies("abortMultipartUpload") == [
        {"dataset_id": "", "object_name": f"{PREFIX}large", "upload_id": "id of large"}
    ]
    assert recorder.bodies("completeUpload") == []


def test_a_refused_file_stops_the_others(recorder: Recorder, tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / f"{number:03}").write_bytes(b"x")
    recorder.put_answers = [200] * 20 + [403]

    with pytest.raises(ServerRefusedError):
        _send(recorder, tmp_path)

    assert len(recorder.puts) < 400
