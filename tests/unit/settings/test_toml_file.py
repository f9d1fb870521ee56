"""What is wrong with a configuration file, and where."""

from pathlib import Path

import pytest

from ..reading import Write, refusal


@pytest.mark.parametrize(
    "key", ["nope", "source_port", "Source-Port", "config", "help", '"--source-port"', '"a\\nb"']
)
def test_an_unknown_key_in_the_file_is_refused_and_named(
    key: str, capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    file = write(f"backlog = 1\n{key} = 1\n")
    line = refusal(capsys, "--config", file)
    assert line.startswith(f"{file}: there is no option '{key.strip(chr(34))}'")


def test_an_unknown_key_gets_a_hint_at_the_most_similar_one(
    capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    for key, hint in [
        ("reorder-limits", "did you mean reorder-limit? see --help"),
        ("source_port", "did you mean source-port? see --help"),
        ("nope", "see --help for all options"),
    ]:
        file = write(f"{key} = 1\n")
        line = refusal(capsys, "--config", file)
        assert line == f"{file}: there is no option '{key}'; {hint}"


@pytest.mark.parametrize("value", ["true", "1.5", "[1]", "{a = 1}", "1979-05-27", "inf"])
def test_a_value_of_another_kind_in_the_file_is_refused_and_named(
    value: str, capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    file = write(f"source-port = {value}\n")
    line = refusal(capsys, "--config", file)
    assert line.startswith(f"{file}: source-port must be a string or a whole number")


def test_a_section_in_the_file_is_refused(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    file = write("[maze]\nsource-port = 1\n")
    told = f"{file}: 'maze' is a section: write options without a section header"
    assert refusal(capsys, "--config", file) == told


@pytest.mark.parametrize("text", ["= 1", "source-port", "source-port = 1\nsource-port = 2", "\x00"])
def test_a_file_that_is_not_toml_is_refused(
    text: str, capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    file = write(text)
    refused = refusal(capsys, "--config", file)
    assert refused.startswith(f"{file}: not a TOML file: ")
    assert "quotes" not in refused
    assert refused.endswith("; a key occurs twice") == ("= 2" in text)


@pytest.mark.parametrize("value", ["45s", "10 s", "debug", "1MiB", "127.0.0.1", "any"])
def test_a_value_that_lacks_its_quotes_is_told_so(
    value: str, capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    refused = refusal(capsys, "--config", write(f"peer-timeout = {value}\n"))
    assert refused.endswith('in quotes, for example peer-timeout = "45s"')


def test_a_file_that_is_not_text_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "maze.toml"
    path.write_bytes(b"\xff\xfe")
    told = f"{path}: not a TOML file: it is not UTF-8 text"
    assert refusal(capsys, "--config", str(path)) == told


@pytest.mark.parametrize("text", ["", "backlog = 1\n"])
def test_a_byte_order_mark_is_told_as_such(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "maze.toml"
    path.write_text(text, encoding="utf-8-sig")
    told = (
        f"{path}: not a TOML file: it begins with a byte order mark (BOM); save it as UTF-8 "
        "without one"
    )
    assert refusal(capsys, "--config", str(path)) == told


def test_a_file_that_cannot_be_read_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    absent = str(tmp_path / "absent.toml")
    told = f"--config (or MAZE_CONFIG): cannot read {absent}: No such file or directory"
    assert refusal(capsys, "--config", absent) == told
    assert refusal(capsys, MAZE_CONFIG=absent) == told
    assert refusal(capsys, "--config", str(tmp_path)).endswith("Is a directory")
