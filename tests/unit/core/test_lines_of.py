"""The lines of runs, joined."""

from maze.core import Decoder, lines_of


def test_the_lines_of_runs_come_in_order_as_they_were_read() -> None:
    runs, _ = Decoder().feed(b"3|B\r\n1|S|007\n002|F|1|2\r\n9|P|1|2\n7|X\n")
    assert [run.void for run in runs] == [False, False, True]
    assert lines_of(runs) == b"1|S|007\n002|F|1|2\r\n3|B\r\n9|P|1|2\n"
    assert lines_of(runs[1:]) == b"9|P|1|2\n"
    assert lines_of([runs[0].clip(2, 4)]) == b"002|F|1|2\r\n3|B\r\n"
    assert lines_of(runs[2:]) == lines_of([]) == b""
