"""Forms are read the same however the connection cuts them."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.gateway.forms import Form, Part

BOUNDARY = b"-b-"
PARTS = st.lists(
    st.tuples(
        st.text("abc", min_size=1, max_size=5),
        st.none() | st.text("xyzé ", min_size=1, max_size=5),
        # What looks like the beginning of a boundary is the hard part.
        st.lists(
            st.sampled_from([b"\r\n", b"\r", b"--", b"-b-", b"\r\n---b-"[:-1], b"a", b"\x00\xff"])
        )
        .map(b"".join)
        .filter(lambda content: b"--" + BOUNDARY not in content),
    ),
    max_size=5,
)


def encoded(parts: list[tuple[str, str | None, bytes]]) -> bytes:
    body = b""
    for name, filename, content in parts:
        body += b'--%s\r\nContent-Disposition: form-data; name="%s"' % (BOUNDARY, name.encode())
        if filename is not None:
            body += b'; filename="%s"\r\nContent-Type: a/b' % filename.encode()
        body += b"\r\n\r\n" + content + b"\r\n"
    return body + b"--%s--\r\n" % BOUNDARY


@given(PARTS, st.lists(st.integers(1, 40)))
def test_parts_come_out_as_they_went_in(
    parts: list[tuple[str, str | None, bytes]], cuts: list[int]
) -> None:
    body = encoded(parts)
    form = Form(b"multipart/form-data; boundary=%s" % BOUNDARY)
    found: list[tuple[str, str | None, bytes]] = []
    for size in [*cuts, len(body)]:
        piece, body = body[:size], body[size:]
        for event in form.feed(piece):
            if isinstance(event, Part):
                found.append((event.name, event.filename, b""))
            else:
                name, filename, content = found.pop()
                found.append((name, filename, content + event))
    form.finish()
    assert found == parts
