"""Unpacking: everything or nothing, and nowhere else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile

import pytest

from tenzoo.datasets import DataError
from tenzoo.datasets.archives import unpack


def make_tar(path, members, mode="w:gz"):
    """``members``: names with bytes, or with a TarInfo type and a link target."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    return path


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FILES = [("a.txt", b"one"), ("sub/b.txt", b"two")]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar(tmp_path, mode):
    archive = make_tar(tmp_path / "x.tar", FILES, mode)
    assert contents(unpack(archive, tmp_path / "out")) == {"a.txt": b"one", "sub/b.txt": b"two"}


def test_zip(tmp_path):
    archive = make_zip(tmp_path / "x.zip", [*FILES, ("empty/", b"")])
    assert contents(unpack(archive, tmp_path / "out")) == {"a.txt": b"one", "sub/b.txt": b"two"}
    assert (tmp_path / "out" / "empty").is_dir()


@pytest.mark.parametrize("suffix, compress", [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_a_single_file(tmp_path, suffix, compress):
    (tmp_path / f"data.csv{suffix}").write_bytes(compress(b"1,2"))
    assert contents(unpack(tmp_path / f"data.csv{suffix}", tmp_path / "out")) == {"data.csv": b"1,2"}


def test_what_is_unpacked_stays(tmp_path):
    archive = make_zip(tmp_path / "x.zip", FILES)
    unpack(archive, tmp_path / "out")
    archive.write_bytes(b"not looked at again")
    assert "a.txt" in contents(unpack(archive, tmp_path / "out"))


OUTSIDE = ["../evil", "/tmp/evil", "a/../../evil", "c:/evil", "..\\evil"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_no_way_out(tmp_path, make, name):
    archive = make(tmp_path / "x", [("good", b"1"), (name, b"2")])
    refused(archive, tmp_path, "outside")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_no_links_or_devices_in_tar(tmp_path, kind):
    refused(make_tar(tmp_path / "x", [("good", b"1"), ("bad", (kind, "good"))]), tmp_path, "link or a device")


def test_no_links_in_zip(tmp_path):
    link = zipfile.ZipInfo("bad")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(make_zip(tmp_path / "x", [(link, "/etc")]), tmp_path, "link or a device")


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_bombs(tmp_path, make):
    archive = make(tmp_path / "x", [("zeros", bytes(300_000))])
    assert archive.stat().st_size < 3000
    refused(archive, tmp_path, "more than the 100000 bytes", max_bytes=100_000)
    unpack(archive, tmp_path / "out", max_bytes=400_000)


def test_a_bomb_of_empty_files(tmp_path):
    refused(
        make_tar(tmp_path / "x", [(f"{i}", b"") for i in range(500)]),
        tmp_path,
        "more than",
        max_bytes=100_000,
    )


def test_a_compressed_file_that_grows(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(300_000)))
    refused(tmp_path / "x.gz", tmp_path, "more than", max_bytes=100_000)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_a_name_twice(tmp_path, make):
    refused(make(tmp_path / "x", [("a", b"1"), ("a", b"2")]), tmp_path, "'a' twice")


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_damage(tmp_path, make):
    archive = make(tmp_path / "x", [("a", bytes(range(256)) * 4000)])
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    refused(archive, tmp_path, "not unpacked|damaged")


def test_no_archive(tmp_path):
    (tmp_path / "x").write_bytes(b"hello")
    refused(tmp_path / "x", tmp_path, "neither a zip nor a tar")


def refused(archive, tmp_path, reason, **options):
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=reason) as caught:
        unpack(archive, tmp_path / "out", **options)
    assert str(archive) in str(caught.value)
    assert set(tmp_path.rglob("*")) == before
