"""Faults in the HTTP proxy, its error pages and passwords."""

from __future__ import annotations

from mutants.mutant import Mutant

HTTP = " ".join(
    f"tests/conformance/proxy/test_http_{part}.py" for part in ("exchanges", "leaving", "messages", "targets")
)
PAGES = "tests/unit/proxy/test_pages.py tests/conformance/proxy/test_error_pages.py"

MUTANTS = (
    Mutant("proxy/wire/http1.py", "if head.minor == 0 or codings", "if codings", "tests/unit/proxy/test_http1.py"),
    Mutant("proxy/wire/http1.py", "if len(lengths) > 1 or not", "if not", "tests/unit/proxy/test_http1.py"),
    Mutant(
        "proxy/wire/http1.py",
        ' - {b"transfer-encoding", b"content-length", b"host"}',
        "",
        "tests/unit/proxy/test_http1.py",
    ),
    Mutant("proxy/wire/chunked.py", 'if b"\\r" in line:', "if False:", "tests/unit/proxy/test_chunked.py"),
    Mutant("proxy/wire/chunked.py", "left -= len(line)", "left -= 0", "tests/unit/proxy/test_chunked.py"),
    Mutant("proxy/wire/http1.py", 'rb"):([^', 'rb")[ \\t]*:([^', "tests/unit/proxy/test_http1.py"),
    Mutant(
        "proxy/wire/http1.py",
        '_end_to_end(head.fields, {b"host"})',
        "_end_to_end(head.fields, set())",
        HTTP,
    ),
    Mutant("proxy/wire/http1.py", '        b"proxy-authorization",\n', "", "tests/unit/proxy/test_http1.py"),
    Mutant(
        "proxy/http.py",
        "upstream = await door.dial(target, session)\n",
        'await client.channel.send(b"HTTP/1.1 200 OK\\r\\n\\r\\n"); upstream = await door.dial(target, session)\n',
        HTTP,
    ),
    Mutant(
        "proxy/http.py",
        "status, sentence = error.failure.value.http_status, str(error)",
        "status, sentence = 502, str(error)",
        HTTP,
    ),
    Mutant(
        "proxy/http.py",
        "        if client.buffer:\n            await upstream.send(client.buffer)",
        "        if client.buffer and False:\n            await upstream.send(client.buffer)",
        HTTP,
    ),
    Mutant(
        "proxy/http.py",
        "asked is None or asked.host not in ours",
        "asked is None",
        HTTP,
    ),
    # A kept connection serves only the host it was opened for, and only while the name leads there.
    Mutant(
        "proxy/upstreams.py",
        "stream = self._idle.pop(target, None)",
        "stream = self._idle.pop(next(iter(self._idle), None), None)",
        HTTP,
    ),
    Mutant(
        "proxy/upstreams.py",
        " and (target is None or await self._dial.still_right(target, stream.channel))",
        "",
        "tests/unit/proxy/test_dial.py",
    ),
    Mutant("proxy/exchange.py", " and head.method in _IDEMPOTENT", "", HTTP),
    Mutant(
        "proxy/exchange.py",
        "            client.reset()\n",
        "            client.finish()\n",
        HTTP,
    ),
    Mutant(
        "proxy/exchange.py",
        "            upstream.reset()  #",
        "            upstream.finish()  #",
        HTTP,
    ),
    # Error pages: for people, escaped, bounded, and true about what listens.
    Mutant(
        "proxy/pages.py", "safe = html.escape(character)", "safe = character", f"{PAGES} tests/fuzz/test_fuzz_pages.py"
    ),
    Mutant("proxy/pages.py", "if character.isprintable()", "if True", PAGES),
    Mutant("proxy/pages.py", "        if room < 0:\n", "        if False:\n", PAGES),
    Mutant("proxy/pages.py", "for port in ports[:PAGE_PORTS]:", "for port in ports:", PAGES),
    Mutant("proxy/pages.py", "(found.silent if tried else found.untried)", "found.listens", PAGES),
    Mutant("proxy/http.py", "if head is None or not http1.prefers_html(head.fields):", "if head is None:", PAGES),
    Mutant("proxy/wire/http1.py", 'weights[b"text/html"] > 0 and ', "", PAGES),
    Mutant(
        "proxy/auth.py",
        "bool(colon) and accepts(user, password)",
        "bool(colon)",
        "tests/conformance/proxy/test_http_auth.py",
    ),
    Mutant("proxy/auth.py", "if len(given) == 1 else", "if given else", "tests/conformance/proxy/test_http_auth.py"),
    Mutant(
        "proxy/auth.py",
        'head.target.partition(b"?")[0] in PUBLIC',
        "any(each in head.target for each in PUBLIC)",
        "tests/conformance/proxy/test_http_auth.py",
    ),
    Mutant(
        "proxy/auth.py",
        " and http1.request_body(head)[0] is http1.Body.NONE",
        "",
        "tests/conformance/proxy/test_http_auth.py",
    ),
    Mutant(
        "proxy/http.py",
        "            auth.check_proxied(head, door.accepts)\n            await _tunnel",
        "            await _tunnel",
        "tests/conformance/proxy/test_http_auth.py",
    ),
    Mutant(
        "proxy/wire/http1.py",
        '        b"proxy-authorization",\n        b"proxy-authenticate",\n',
        "",
        "tests/conformance/proxy/test_http_auth.py",
    ),
    # A kept connection goes with its client, also when that leaves during the lookup.
    Mutant(
        "proxy/upstreams.py",
        "            if not right:\n                stream.close()\n",
        "            pass\n",
        "tests/conformance/proxy/test_leaving.py",
    ),
)
