"""Downloads: whatever the server does, the file is right or there is none."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from tenzoo.datasets import FetchError
from tenzoo.datasets.errors import DataError
from tenzoo.datasets.fetch import File, cache_dir, fetch, find

CONTENT = bytes(range(256)) * 5000  # several chunks
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


def get(*servers, checksum=MD5, timeout=5.0):
    return fetch("some", (File("data.bin", tuple(server.address for server in servers), checksum),), timeout=timeout)


def content(cache):
    return (cache / "some" / "data.bin").read_bytes()


def leftovers(cache):
    return {path.name for path in (cache / "some").iterdir()} - {"data.bin.lock"}


@pytest.mark.parametrize("checksum", [MD5, "sha256:" + hashlib.sha256(CONTENT).hexdigest(), None])
def test_a_file_is_downloaded_once(serve, cache, checksum):
    server = serve(CONTENT)
    assert get(server, checksum=checksum) == cache / "some"
    get(server, checksum=checksum)
    assert content(cache) == CONTENT and len(server.requests) == 1
    assert leftovers(cache) == {"data.bin"}


def test_a_broken_transfer_goes_on_where_it_stopped(serve, cache):
    server = serve(CONTENT, cuts=[HALF])
    get(server)
    assert content(cache) == CONTENT
    assert server.requests == [None, f"bytes={HALF}-"]


def test_what_another_process_left_is_continued(serve, cache):
    (cache / "some").mkdir(parents=True)
    (cache / "some" / "data.bin.part").write_bytes(CONTENT[:1000])
    server = serve(CONTENT)
    get(server)
    assert content(cache) == CONTENT and server.requests == ["bytes=1000-"]


@pytest.mark.parametrize("partial", [CONTENT, CONTENT + b"more", b"other" * 100])
def test_a_partial_file_that_cannot_be_continued_is_replaced(serve, cache, partial):
    (cache / "some").mkdir(parents=True)
    (cache / "some" / "data.bin.part").write_bytes(partial)
    get(serve(CONTENT))
    assert content(cache) == CONTENT and leftovers(cache) == {"data.bin"}


def test_a_server_without_ranges_starts_over(serve, cache):
    server = serve(CONTENT, cuts=[HALF], ranges=False)
    get(server)
    assert content(cache) == CONTENT and len(server.requests) == 2


def test_another_part_than_asked_for_is_not_appended(serve, cache):
    server = serve(CONTENT, cuts=[HALF], shift=7)
    with pytest.raises(FetchError, match="another part"):
        get(server)
    assert leftovers(cache) == set()


def test_an_interrupted_transfer_leaves_no_final_file(serve, cache):
    server = serve(CONTENT, cuts=[HALF, 0, 0, 0])
    with pytest.raises(FetchError, match="broke off"):
        get(server)
    assert leftovers(cache) == {"data.bin.part"}
    server.cuts = []
    get(server)
    assert content(cache) == CONTENT and server.requests[-1] == f"bytes={HALF}-"


def test_without_a_checksum_nothing_is_continued(serve, cache):
    server = serve(CONTENT, cuts=[HALF])
    with pytest.raises(FetchError, match="broke off"):
        get(server, checksum=None)
    get(server, checksum=None)
    assert content(cache) == CONTENT and server.requests == [None, None]


def test_a_wrong_file_is_refused_and_the_next_mirror_asked(serve, cache):
    get(serve(CONTENT[::-1]), serve(status=404), serve(CONTENT))
    assert content(cache) == CONTENT


def test_the_error_lists_what_was_wrong_with_each_address(serve, cache):
    first, second = serve(CONTENT[:-1]), serve(status=404)
    with pytest.raises(FetchError) as caught:
        get(first, second)
    message = str(caught.value)
    assert f"{first.address}: the {len(CONTENT) - 1} bytes received do not have the published checksum" in message
    assert f"{second.address}: the server answered 404" in message and "data_dir" in message
    assert leftovers(cache) == set()


@pytest.mark.parametrize(
    "page",
    [{"content_type": "text/html; charset=utf-8"}, {"content": b"\n <!DOCTYPE html><html>Log in</html>"}],
)
def test_an_html_page_is_called_one(serve, cache, page):
    with pytest.raises(FetchError, match="HTML page"):
        get(serve(**{"content": b"please log in", **page}), checksum=None)
    assert leftovers(cache) == set()


def test_a_server_that_hangs_is_given_up(serve, cache):
    with pytest.raises(FetchError, match="timed out"):
        get(serve(CONTENT, hang=threading.Event()), timeout=0.2)


def test_no_server_at_all(serve, cache):
    with pytest.raises(FetchError, match=r"broke off.*refused"):
        fetch("some", (File("data.bin", ("http://127.0.0.1:9/file",), MD5),), timeout=1)


def test_a_damaged_file_in_the_cache_is_fetched_again(serve, cache):
    server = serve(CONTENT)
    get(server)
    (cache / "some" / "data.bin").write_bytes(CONTENT[:-1])
    get(server)
    assert content(cache) == CONTENT and len(server.requests) == 2


def test_two_downloads_at_once_share_one_transfer(serve, cache):
    server = serve(CONTENT, hang=threading.Event())
    threads = [threading.Thread(target=get, args=(server,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    server.hang.set()
    for thread in threads:
        thread.join(10)
    assert content(cache) == CONTENT and len(server.requests) == 1


def test_a_folder_of_ones_own_is_used_without_a_network(tmp_path):
    assert fetch("some", (File("data.bin", ("http://127.0.0.1:9/",), MD5),), data_dir=tmp_path) == tmp_path
    with pytest.raises(DataError, match="data_dir must be the folder that holds some"):
        fetch("some", (), data_dir=tmp_path / "missing")


def test_find_says_what_is_there_instead(tmp_path):
    (tmp_path / "b").touch()
    assert find(tmp_path, "a", "b") == tmp_path / "b"
    with pytest.raises(DataError, match=r"Expected x or y in .* which holds b"):
        find(tmp_path, "x", "y")


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.delenv("TENZOO_DATA", raising=False)
    if os.name == "posix":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir().name == "tenzoo"
    monkeypatch.setenv("TENZOO_DATA", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
