"""However a client's bytes are cut into pieces, the same bytes come back.

The connection runs on a transport that only records, so that thousands of splits are cheap. Some
answers are repeatable, so the short path is walked wherever a split allows it.
"""

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from httpd.recording import talk

SAME = b"GET /same HTTP/1.1\r\nHost: a\r\n\r\n"
REQUESTS = st.sampled_from(
    [
        b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 100 + b"\r\n\r\n",
        b"\r\nGET /later HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nExpect: nonsense\r\nContent-Length: 2\r\n\r\nhe",
        b"GET /close HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /" + b"a" * 90 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300 + b"\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /../x HTTP/1.1\r\nHost: a\r\n\r\n",
        SAME,
        SAME + SAME,
        b"HEAD /same HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\n\r\n" + SAME,
        b"GET /promised HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
)
STREAMS = st.one_of(
    st.lists(REQUESTS, max_size=6).map(b"".join),
    st.tuples(st.lists(REQUESTS, max_size=3).map(b"".join), st.binary(max_size=400)).map(b"".join),
    st.lists(
        st.sampled_from(
            [
                b"\r\n",
                b"\n",
                b"\r",
                b" ",
                b":",
                b"\0",
                b"GET /",
                b"Host: a",
                b" HTTP/1.1",
                b"a" * 70,
            ]
        ),
        max_size=20,
    ).map(b"".join),
)


@given(STREAMS, st.lists(st.integers(0, 700), max_size=12))
@example(b"GET /" + b"a" * 95 + b"\n HTTP/1.1\r\nHost: a\r\n\r\n", [80, 98, 101])
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 9, list(range(1, 200, 7)))
@example(SAME * 3, [31, 62])
@settings(max_examples=300)
def test_any_split_of_the_bytes_gives_the_same_answer(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges) if a < b]
    whole = talk([stream] if stream else [])
    assert talk(pieces) == whole
    assert talk([bytes([byte]) for byte in stream]) == whole
