import csv
import io
import ntpath
import os
import tarfile
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kerasxfer_serving.errors import ImageError, UsageError
from kerasxfer_serving.images import load_image
from kerasxfer_serving.inputs.lists import read_list
from kerasxfer_serving.inputs.reader import Reader, _below_fixed_part
from kerasxfer_serving.inputs.walk import reason_left_out

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=12)


def paths(*sources, **options):
    return [item.path for item in Reader(sources, **options)]


def content(item):
    source = item.open()
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def code(item):
    with pytest.raises(ImageError) as caught:
        item.open()
    return caught.value.code


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("p/b.jpg", "p/a/2.PNG", "p/a/1.jpg", "p/a-z.jpg", "p/note.md", "p/a/README", "p/ü.webp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def test_a_folder_is_walked_in_the_order_of_its_paths(folder):
    found = paths("p")
    assert found == ["p/a-z.jpg", "p/a/1.jpg", "p/a/2.PNG", "p/b.jpg", "p/ü.webp"]
    assert found == sorted(found)


def test_paths_begin_as_the_folder_was_given(folder):
    assert paths("./p/")[0] == "./p/a-z.jpg"
    assert paths(str(folder / "p"))[0] == str(folder / "p" / "a-z.jpg")


def test_what_is_not_taken_is_counted(folder):
    reader = Reader(["p"])
    assert len(list(reader)) == 5
    assert reader.skipped == {".md": 1, "no suffix": 1}
    assert len(paths("p", all_files=True)) == 7


def test_a_folder_called_like_an_image_has_a_row_and_is_walked(folder):
    (folder / "p" / "x.jpg").mkdir()
    (folder / "p" / "x.jpg" / "in.jpg").touch()
    assert paths("p")[-3:] == ["p/x.jpg", "p/x.jpg/in.jpg", "p/ü.webp"]


def test_links_are_followed_but_not_in_circles(folder):
    (folder / "p" / "a" / "up").symlink_to("..")
    (folder / "p" / "c").symlink_to("a")
    (folder / "p" / "gone.jpg").symlink_to("nowhere")
    (folder / "p" / "self.jpg").symlink_to("self.jpg")
    assert paths("p") == [
        "p/a-z.jpg", "p/a/1.jpg", "p/a/2.PNG", "p/b.jpg",
        "p/gone.jpg", "p/self.jpg", "p/ü.webp",
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_that_cannot_be_listed_has_a_row(folder):
    (folder / "p" / "a").chmod(0)
    items = {item.path: item for item in Reader(["p"])}
    assert code(items["p/a"]) == "unreadable"


def test_globs(folder):
    assert paths("p/*.jpg") == ["p/a-z.jpg", "p/b.jpg"]
    assert paths("p/**/*.jpg") == ["p/a-z.jpg", "p/a/1.jpg", "p/b.jpg"]
    assert paths("p/[a]") == ["p/a/1.jpg", "p/a/2.PNG"]
    with pytest.raises(UsageError, match=r"nothing\*"):
        paths("nothing*")


def test_a_name_with_glob_characters_is_a_file_if_there_is_one(folder):
    (folder / "[1]*.jpg").touch()
    assert paths("[1]*.jpg") == ["[1]*.jpg"]


def test_a_path_that_leads_nowhere_is_an_input_all_the_same(folder):
    assert paths("nothing.jpg", "p/b.jpg") == ["nothing.jpg", "p/b.jpg"]


def test_lists(folder):
    Path("list.txt").write_text("p/b.jpg\r\n\nwith space .jpg\nhttps://example.org/a.jpg\n")
    assert paths("list.txt") == ["p/b.jpg", "with space .jpg", "https://example.org/a.jpg"]
    Path("list.csv").write_text('label,Path\ncat,"a, b.jpg"\ndog,c.jpg\n')
    assert paths("list.csv") == ["a, b.jpg", "c.jpg"]
    Path("plain.csv").write_text("a.jpg,1\nb.jpg,0\n")
    assert paths("plain.csv") == ["a.jpg", "b.jpg"]
    Path("list.tsv").write_text("image\tlabel\na b.jpg\tcat\n")
    assert paths("list.tsv") == ["a b.jpg"]


def test_relative_paths_of_a_list_start_at_root(folder):
    Path("list.txt").write_text("b.jpg\n")
    (item,) = Reader(["list.txt"], root="p")
    assert item.path == "b.jpg"
    assert content(item) == b"p/b.jpg"


def test_standard_input_lines_and_nul(folder):
    assert paths("-", stdin=io.BytesIO(b"p/b.jpg\nc.jpg")) == ["p/b.jpg", "c.jpg"]
    assert paths("-", stdin=io.BytesIO(b"new\nline.jpg\0c.jpg\0")) == ["new\nline.jpg", "c.jpg"]


@settings(max_examples=200)
@given(st.lists(NAMES), st.sampled_from(["txt", "nul", "csv", "tsv"]), st.booleans())
def test_every_list_comes_back_as_it_was_written(names, kind, header):
    if kind == "nul":
        file, kind = io.BytesIO(b"".join(name.encode() + b"\0" for name in names)), "txt"
    elif kind == "txt":
        names = [name for name in names if not {"\n", "\r"} & set(name) and not name.startswith("\ufeff")]
        file = io.BytesIO("\n".join(names).encode())
    else:
        text = io.StringIO(newline="")
        table = csv.writer(text, delimiter="," if kind == "csv" else "\t")
        table.writerows([["n", "path"]] + [[index, name] for index, name in enumerate(names)])
        file = io.BytesIO(text.getvalue().encode("utf-8-sig" if header else "utf-8"))
    assert list(read_list(file, kind)) == names


def test_names_that_are_not_utf_8_keep_their_bytes():
    for kind in ("txt", "csv"):
        (name,) = read_list(io.BytesIO(b"\xff\xfe.jpg\n"), kind)
        assert os.fsencode(name) == b"\xff\xfe.jpg"


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, unique_by=str.casefold, max_size=8))
def test_every_image_of_a_folder_comes_once_whatever_its_name(tmp_path, names):
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    expected = set()
    for index, name in enumerate(names):
        if reason_left_out(f"{name}.jpg"):
            continue
        place = root / ("folder" * (index % 2)) / f"{name}.jpg"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(name.encode())
        expected.add((str(place), name.encode()))
    items = list(Reader([str(root)]))
    assert {(item.path, content(item)) for item in items} == expected
    assert [item.path for item in items] == sorted(path for path, _ in expected)


def make_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)


def make_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


MEMBERS = [("z/1.jpg", b"one"), ("a.png", b"two"), ("notes.txt", b""), ("z/ü 3.jpg", b"three" * 1000)]


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2"])
def test_archives_in_their_own_order(folder, name):
    if name == "a.zip":
        make_zip(name, MEMBERS)
    else:
        make_tar(
            name, MEMBERS, {"tar": "w", "gz": "w:gz", "tgz": "w:gz", "xz": "w:xz", "bz2": "w:bz2"}[name.split(".")[-1]]
        )
    reader = Reader([name])
    items = list(reader)
    assert [item.path for item in items] == [f"{name}/z/1.jpg", f"{name}/a.png", f"{name}/z/ü 3.jpg"]
    assert [content(item) for item in items] == [b"one", b"two", b"three" * 1000]
    assert reader.skipped == {".txt": 1}


def test_archives_by_glob(folder):
    make_tar("s-1.tar", MEMBERS[:1])
    make_zip("s-2.zip", MEMBERS[:1])
    assert paths("s-*") == ["s-1.tar/z/1.jpg", "s-2.zip/z/1.jpg"]


def test_a_broken_archive_has_a_row(folder):
    Path("bad.zip").write_bytes(b"no zip")
    Path("bad.tar.gz").write_bytes(b"no tar")
    make_tar("cut.tar.gz", [(f"{n}.jpg", os.urandom(9000)) for n in range(9)], "w:gz")
    Path("cut.tar.gz").write_bytes(Path("cut.tar.gz").read_bytes()[:40_000])
    for name in ("bad.zip", "bad.tar.gz"):
        (item,) = Reader([name])
        assert (item.path, code(item)) == (name, "archive")
    *whole, last = Reader(["cut.tar.gz"])
    assert [item.path for item in whole] == [f"cut.tar.gz/{n}.jpg" for n in range(len(whole))]
    assert len(whole) >= 3
    assert (last.path, code(last)) == ("cut.tar.gz", "archive")


def test_a_broken_member_is_its_own_row(folder):
    make_zip("a.zip", MEMBERS, zipfile.ZIP_STORED)
    Path("a.zip").write_bytes(Path("a.zip").read_bytes().replace(b"two", b"owt"))
    first, second, third = Reader(["a.zip"])
    assert content(first) == b"one"
    assert code(second) == "corrupt"
    assert content(third) == b"three" * 1000


def test_links_in_a_tar_are_not_followed(folder):
    with tarfile.open("a.tar", "w") as archive:
        info = tarfile.TarInfo("link.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    (item,) = Reader(["a.tar"])
    assert code(item) == "not_a_file"


def test_encrypted_members_are_named(folder):
    make_zip("a.zip", MEMBERS[:1])
    data = bytearray(Path("a.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1
    Path("a.zip").write_bytes(data)
    (item,) = Reader(["a.zip"])
    assert code(item) == "unreadable"


def test_files_by_url(folder):
    root = f"file://{folder}/p"
    assert paths(root) == [f"{root}/{name}" for name in ("a-z.jpg", "a/1.jpg", "a/2.PNG", "b.jpg", "ü.webp")]
    assert [content(item) for item in Reader([f"{root}/b.jpg"])] == [b"p/b.jpg"]
    assert paths(f"{root}/*.jpg") == [f"{root}/a-z.jpg", f"{root}/b.jpg"]
    (item,) = Reader([f"{root}/none.jpg"])
    assert code(item) == "not_found"


def test_files_in_memory(folder):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/a/1.jpg": b"1", "/bucket/2.jpg": b"2", "/bucket/notes.txt": b""})
    make_zip("a.zip", MEMBERS)
    memory.pipe("/bucket/a.zip", Path("a.zip").read_bytes())
    try:
        items = list(Reader(["memory://bucket"]))
        assert [item.path for item in items] == ["memory://bucket/2.jpg", "memory://bucket/a/1.jpg"]
        assert [content(item) for item in items] == [b"2", b"1"]
        zipped = list(Reader(["memory://bucket/a.zip"]))
        assert [content(item) for item in zipped] == [b"one", b"two", b"three" * 1000]
        (glob,) = Reader(["memory://bucket/*.jpg"])
        assert content(glob) == b"2"
    finally:
        memory.rm("/bucket", recursive=True)


def test_an_unknown_protocol_is_an_error_and_in_a_list_a_row():
    with pytest.raises(UsageError, match="nosuch"):
        paths("nosuch://a/b.jpg")
    (item,) = Reader(["-"], stdin=io.BytesIO(b"nosuch://a/b.jpg"))
    assert code(item) == "unreadable"


def test_inputs_are_not_read_ahead(folder):
    items = iter(Reader(["p", "nothing*"]))
    assert next(items).path == "p/a-z.jpg"  # the glob that matches nothing has not been looked at


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("suffix", ["txt", "csv", "tsv"])
def test_lists_in_every_encoding(folder, encoding, line_end, suffix):
    names = ["photos/ü 1.jpg", "b.jpg", "猫.jpg", "https://example.org/a.jpg"]
    text = "".join(name + line_end for name in ([] if suffix == "txt" else ["path"]) + names)
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") and suffix == "csv" else ""
    Path(f"list.{suffix}").write_bytes((mark + text).encode(encoding))
    assert paths(f"list.{suffix}") == names


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    "header", ["path", "Image_Path", "file name", "FILEPATH", "filename", "img-path", "image", "file_name", "url"]
)
def test_tables_with_any_separator_and_header(folder, separator, header):
    rows = [["n", header, "label"], ["1", "a b.jpg", "cat"], ["2", "c,d;e.jpg", "dog"]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator).writerows(rows)
    Path("list.csv").write_text(text.getvalue())
    assert paths("list.csv") == ["a b.jpg", "c,d;e.jpg"]


def test_tables_without_header(folder):
    for text, expected in {
        "a.jpg;cat\nb.jpg;dog\n": ["a.jpg", "b.jpg"],
        "a;b.jpg\nc.jpg\n": ["a;b.jpg", "c.jpg"],
        "a;b.jpg\n": ["a;b.jpg"],
        "sep=;\nlabel;path\ncat;a.jpg\n": ["a.jpg"],
        "": [],
    }.items():
        Path("list.csv").write_text(text)
        assert paths("list.csv") == expected


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_name_beyond_all_measure_is_a_row(folder, separator):
    items = list(Reader(["-"], stdin=io.BytesIO(separator.join([b"a.jpg", b"x" * (5 << 20), b"b.jpg", b""]))))
    assert [item.path for item in items] == ["a.jpg", "x" * 100 + "…", "b.jpg"]
    assert code(items[1]) == "unreadable"


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [17 << 20, 200_000])
def test_a_table_beyond_all_measure_is_a_usage_error(folder, size):
    Path("list.csv").write_text("path\n" + "x" * size)
    with pytest.raises(UsageError, match="of the table"):
        paths("list.csv")


def test_an_argument_longer_than_a_path_can_be_is_a_row(folder):
    (item,) = Reader(["x" * 10_000 + ".jpg"])
    with pytest.raises(ImageError):
        load_image(item.open())


@pytest.mark.parametrize(
    ("pattern", "match", "below"),
    [
        (r"C:\photos\*.jpg", r"C:\photos\a.jpg", "/a.jpg"),
        (r"C:\@eaDir\**\*.jpg", r"C:\@eaDir\x\@eaDir\a.jpg", "/x/@eaDir/a.jpg"),
        ("p/[ab]/*.jpg", r"p\a\@eaDir.jpg", "/a/@eaDir.jpg"),
        (r"\\server\share\*\a.jpg", r"\\server\share\x\a.jpg", "x/a.jpg"),
    ],
)
def test_the_folders_below_a_glob_are_found_on_windows(pattern, match, below, monkeypatch):
    monkeypatch.setattr("kerasxfer_serving.inputs.reader.os", SimpleNamespace(path=ntpath, sep="\\"))
    assert _below_fixed_part(match, pattern) == below


def test_system_files_in_archives_globs_and_urls_are_left_out(folder):
    members = [("a.jpg", b"1"), ("__MACOSX/._a.jpg", b"2"), ("x/@eaDir/a.jpg", b"3"), (".b.jpg", b"4")]
    make_zip("a.zip", members)
    for name, data in members:
        path = Path("p", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert paths("a.zip") == ["a.zip/a.jpg"]
    reader = Reader([f"file://{folder}/p"])
    assert f"file://{folder}/p/a.jpg" in [item.path for item in reader]
    assert reader.skipped["system folders"] == 2
    assert "p/x/@eaDir/a.jpg" not in paths("p/**/*.jpg")
    assert paths("p/x/@eaDir/*.jpg") == ["p/x/@eaDir/a.jpg"]
    assert "p/x/@eaDir/a.jpg" in paths("p/**/*.jpg", all_files=True)


class TestHostileArchives:
    """Each is a row with the reason, and no traceback, hang or gigabyte."""

    @staticmethod
    def last(name):
        *_, item = Reader([name])
        return item

    def test_a_pipe(self, folder):
        os.mkfifo("a.zip")
        os.mkfifo("b.tar")
        for name in ("a.zip", "b.tar"):
            assert code(self.last(name)) == "archive"
        Path("c.zip").symlink_to("/dev/zero")
        assert code(self.last("c.zip")) == "archive"

    def test_a_zip_of_a_version_to_come(self, folder):
        make_zip("a.zip", MEMBERS)
        data = bytearray(Path("a.zip").read_bytes())
        data[data.index(b"PK\x01\x02") + 6] = 99
        Path("a.zip").write_bytes(data)
        assert code(self.last("a.zip")) == "archive"

    def test_a_tar_of_nested_long_links(self, folder):
        with tarfile.open("a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
            info = tarfile.TarInfo("x")
            info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4
            for _ in range(5000):
                archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT) + b"name" + bytes(508))
        assert code(self.last("a.tar")) == "archive"

    @pytest.mark.parametrize(
        "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE]
    )
    def test_a_tar_with_a_name_of_gigabytes(self, folder, kind):
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, 3 << 30
        with tarfile.open("a.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo("a.jpg"))
        Path("a.tar").write_bytes(Path("a.tar").read_bytes()[:512] + info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
        first, last = Reader(["a.tar"])
        assert first.path == "a.tar/a.jpg"
        assert code(last) == "archive"

    def test_members_that_share_their_bytes(self, folder):
        make_zip("a.zip", [(f"{number}.jpg", bytes(1 << 20)) for number in range(5)])
        data = Path("a.zip").read_bytes()
        start = data.index(b"PK\x01\x02")
        directory = bytearray(data[start:])
        at = directory.find(b"PK\x01\x02")
        while at >= 0:
            directory[at + 42 : at + 46] = bytes(4)  # where the member begins
            at = directory.find(b"PK\x01\x02", at + 4)
        Path("a.zip").write_bytes(data[:start] + directory)
        assert {code(item) for item in Reader(["a.zip"])} == {"decompression_bomb"}

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data(), name=st.sampled_from(["a.zip", "a.tar", "a.tar.gz"]))
    def test_whatever_is_done_to_the_bytes_there_are_rows(self, folder, data, name):
        if name == "a.zip":
            make_zip(name, MEMBERS)
        else:
            make_tar(name, MEMBERS, "w:gz" if name.endswith("gz") else "w")
        changed = bytearray(Path(name).read_bytes())
        for _ in range(data.draw(st.integers(1, 6))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        Path(name).write_bytes(bytes(changed))
        for item in Reader([name]):
            with suppress(ImageError):
                content(item)


def test_a_url_to_an_archive_that_is_not_there_is_a_row(folder):
    (item,) = Reader([f"file://{folder}/none.zip"])
    assert code(item) == "archive"


def test_a_file_by_url_is_read_up_to_a_limit(folder, monkeypatch):
    monkeypatch.setattr("kerasxfer_serving.inputs.reader.MAX_BYTES", 4)
    from_a_listing = Reader([f"file://{folder}/p/a"])
    from_a_list = Reader(["-"], stdin=io.BytesIO(f"file://{folder}/p/b.jpg".encode()))
    assert {code(item) for item in [*from_a_listing, *from_a_list]} == {"decompression_bomb"}
