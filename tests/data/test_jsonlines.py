import bz2
import gzip
import lzma
from collections import Counter

import fsspec
import pytest

from prmkit.data import jsonlines
from prmkit.data.jsonlines import iter_json_lines, matching_files

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:d6b4b5a0c0b0f6a8a0a6b0d6b4b5a0c0b0f6a8a0a6b0d6b4b5a0c0b0f6a8a0a6\n"
    "size 456135365\n"
)


@pytest.fixture
def write(tmp_path):
    def write(content, name="lines.jsonl"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_lines_are_numbered_from_1_and_blank_ones_are_passed_over(write):
    path = write('{"a": 1}\n\n  \n[2]\n"é"')
    assert list(iter_json_lines(path)) == [(1, {"a": 1}), (4, [2]), (5, "é")]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["lines.jsonl.gz", "compressed_under_a_plain_name.jsonl"])
def test_compression_is_recognised_by_content(write, name, compress):
    assert list(iter_json_lines(write(compress(b"1\n2\n"), name))) == [(1, 1), (2, 2)]


def test_zstandard_is_read(write):
    zstandard = pytest.importorskip("zstandard")
    frames = [zstandard.compress(b"1\n2\n"), zstandard.compress(b"3\n")]
    assert list(iter_json_lines(write(b"".join(frames), "lines.jsonl.zst"))) == [(1, 1), (2, 2), (3, 3)]
    large = write(zstandard.compress(b"".join(b"%d\n" % i for i in range(100_000))), "large.jsonl")
    assert [value for _, value in iter_json_lines(large)] == list(range(100_000))
    cut = write(large.read_bytes()[:-100], "cut.jsonl.zst")
    with pytest.raises(ValueError, match=r"cut\.jsonl\.zst: the data are damaged or cut off"):
        list(iter_json_lines(cut))


def test_the_package_for_zstandard_is_named(write, monkeypatch):
    monkeypatch.setattr(jsonlines, "compr", {})
    path = write(b"\x28\xb5\x2f\xfd\0\0", "lines.jsonl.zst")
    for error in (ImportError, ValueError):
        with pytest.raises(error, match=r"lines\.jsonl\.zst is compressed by zstd: pip install zstandard"):
            list(iter_json_lines(path))


@pytest.mark.parametrize("content", [b"1\n2\n", bz2.compress(b"1\n2\n")])
def test_urls_are_read_by_fsspec(content):
    with fsspec.open("memory://prmkit_test/lines.jsonl", "wb") as file:
        file.write(content)
    assert list(iter_json_lines("memory://prmkit_test/lines.jsonl")) == [(1, 1), (2, 2)]
    [match] = matching_files("memory://prmkit_test/*.jsonl")
    assert list(iter_json_lines(match)) == [(1, 1), (2, 2)]
    with pytest.raises(FileNotFoundError):
        list(iter_json_lines("memory://prmkit_test/other.jsonl"))


def test_patterns_name_files_in_their_order(write, tmp_path):
    b, a = write("2\n", "part_b.jsonl"), write("1\n", "part_a.jsonl")
    write("3\n", "other.jsonl")
    assert matching_files(tmp_path / "part_*.jsonl") == [str(a), str(b)]
    assert matching_files(tmp_path / "none_*.jsonl") == matching_files(a) == []
    literal = write("4\n", "part_[a].jsonl")
    assert matching_files(literal) == []
    assert list(iter_json_lines(literal)) == [(1, 4)]


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(write):
    assert list(iter_json_lines(write(b"\xef\xbb\xbf1\r\n2\r\n"))) == [(1, 1), (2, 2)]


def test_a_broken_line_is_named_only_when_it_is_reached(write):
    path = write('{"a": 1}\n{"a": \n{"a": 3}\n')
    lines = iter_json_lines(path)
    assert next(lines) == (1, {"a": 1})
    with pytest.raises(ValueError, match=r"lines\.jsonl, line 2: not JSON .*Expected one JSON object per line"):
        next(lines)


def test_broken_lines_are_skipped_and_counted_on_request(write):
    counts = Counter()
    path = write(b'{"a": 1}\n{"a": \n\xff\xfe\n{"a": 3}\n')
    assert [number for number, _ in iter_json_lines(path, on_error="skip", counts=counts)] == [1, 4]
    assert counts == {"malformed: not JSON": 2}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_git_lfs_pointer_is_no_data(write, on_error):
    path = write(POINTER, "phase2_train.jsonl")
    with pytest.raises(ValueError, match=r"phase2_train\.jsonl.*456,135,365 bytes.*'size 456135365'.*git lfs pull"):
        list(iter_json_lines(path, on_error=on_error))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, pytest.param(lzma.compress, marks=pytest.mark.slow)])
def test_cut_off_data_are_an_error_after_the_lines_that_are_whole(write, on_error, compress):
    packed = compress("\n".join(str(i) for i in range(400_000)).encode())
    lines = iter_json_lines(write(packed[: 2 * len(packed) // 3], "cut.jsonl.gz"), on_error=on_error)
    assert next(lines) == (1, 0)
    with pytest.raises(ValueError, match=r"cut\.jsonl\.gz: the data are damaged or cut off after line \d+"):
        list(lines)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(iter_json_lines(tmp_path / "nowhere.jsonl"))
