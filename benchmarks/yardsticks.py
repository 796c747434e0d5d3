"""What else could be done with the same bytes: rclone, and archiving by hand."""

import os
import resource
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archiver.workflow.names import dataset_prefix
from benchmarks.processes import timed
from benchmarks.sites import Site

_REMOTE = "bench"
_CHUNK = 8 * 1024**2
_PATIENCE_S = 3600


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Seconds that others took for the same objects."""

    copy: float
    """`rclone copy` to the disk, made durable."""
    read: float
    """One sequential read of as many bytes, not from the cache."""
    by_hand: float
    """`rclone copy`, `tar`, `sha256sum` of the files, `cmp` of the tar as it is on the disk with a second one."""
    cpu: float
    """Processor seconds of the copy and of the read."""
    cpu_by_hand: float
    """Processor seconds of all that is done by hand."""

    @property
    def y(self) -> float:
        """What it takes at least to have the bytes on the disk and to have read them back."""
        return self.copy + self.read


def rclone_version() -> str:
    """What rclone says of itself."""
    return _output([_rclone(), "version"], {}).split()[1]


def _rclone() -> str:
    return str(Path(sysconfig.get_path("scripts")) / "rclone")


def _remote(site: Site) -> dict[str, str]:
    settings = site.store_settings
    values = {
        "TYPE": "s3",
        "PROVIDER": "Minio" if site.server == "minio" else "Other",
        "ENDPOINT": settings.s3_endpoint,
        "REGION": settings.s3_region,
        "ACCESS_KEY_ID": settings.s3_user.get_secret_value(),
        "SECRET_ACCESS_KEY": settings.s3_password.get_secret_value(),
        "FORCE_PATH_STYLE": "true",
    }
    return {f"RCLONE_CONFIG_{_REMOTE.upper()}_{name}": value for name, value in values.items()} | {
        "RCLONE_CONFIG": "/dev/null"
    }


def _output(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def settle(folder: Path) -> None:
    """Write out what others have left to be written: it must not count as ours."""
    _output(["sync", "--file-system", str(folder)], {})


def drop_cache(file: Path) -> None:
    """Let the kernel forget the file's bytes; they must be on the disk already."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _read_through(file: Path) -> None:
    buffer = bytearray(_CHUNK)
    with file.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def _processor_seconds() -> float:
    """Of this process and of all programs it has waited for, so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path)


def measure(site: Site, pid: str) -> Yardstick:
    """Everything with the data set as it lies in the landing zone, which stays as it is."""
    source = f"{_REMOTE}:{site.store_settings.s3_landingzone_bucket}/{dataset_prefix(pid)}"
    tar = site.folder / "by-hand.tar"
    with _folder(site.folder / "copy") as copy:
        settle(site.folder)
        before = _processor_seconds()
        with timed() as copied:
            _output([_rclone(), "copy", source, str(copy)], _remote(site))
        with timed() as synced:
            settle(copy)
        after_copy = _processor_seconds()
        with timed() as packed:
            _output(["tar", "--create", "--file", str(tar), "--sort=name", "--directory", str(copy), "."], {})
            _output(["sync", str(tar)], {})
        with timed() as hashed:
            _sums(copy, site.folder / "sha256sum.txt")
        drop_cache(tar)
        before_read = _processor_seconds()
        with timed() as read:
            _read_through(tar)
        after_read = _processor_seconds()
        drop_cache(tar)
        with timed() as compared:
            _compare(copy, tar)
        after = _processor_seconds()
    tar.unlink()
    read_cpu = after_read - before_read
    return Yardstick(
        copy=copied[0] + synced[0],
        read=read[0],
        by_hand=copied[0] + packed[0] + hashed[0] + compared[0],
        cpu=after_copy - before + read_cpu,
        cpu_by_hand=after - before - read_cpu,
    )


def _sums(folder: Path, target: Path) -> None:
    with target.open("wb") as output:
        found = subprocess.Popen(["find", ".", "-type", "f", "-print0"], cwd=folder, stdout=subprocess.PIPE)
        subprocess.run(
            ["xargs", "--null", "sha256sum"],
            cwd=folder,
            stdin=found.stdout,
            stdout=output,
            timeout=_PATIENCE_S,
            check=True,
        )
        if found.wait(60):
            raise subprocess.CalledProcessError(found.returncode, "find")


def _compare(folder: Path, tar: Path) -> None:
    again = subprocess.Popen(
        ["tar", "--create", "--file", "-", "--sort=name", "--directory", str(folder), "."], stdout=subprocess.PIPE
    )
    subprocess.run(["cmp", "-", str(tar)], stdin=again.stdout, timeout=_PATIENCE_S, check=True)
    if again.wait(60):
        raise subprocess.CalledProcessError(again.returncode, "tar")


def measure_retrieval(site: Site, archive_ids: Mapping[str, int]) -> float:
    """Seconds that `rclone copy` of the tars to the retrieval bucket takes, from the disk rather than the cache."""
    bucket, prefix = site.store_settings.s3_retrieval_bucket, "yardstick/"
    for archive_id in archive_ids:
        drop_cache(site.share / archive_id)
    with timed() as taken:
        for archive_id in archive_ids:
            _output([_rclone(), "copy", str(site.share / archive_id), f"{_REMOTE}:{bucket}/{prefix}"], _remote(site))
    empty(site, bucket, prefix)
    return taken[0]


def empty(site: Site, bucket: str, prefix: str) -> None:
    """Delete all objects under a prefix."""
    site.store.delete(bucket, list(site.store.list(bucket, prefix)))
