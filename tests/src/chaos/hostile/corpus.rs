//! Messages that have broken a NATS client, or might.

/// One or several messages, as bytes on the wire.
pub(super) struct Poison {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
}

const PING: &[u8] = b"victim.ping";
/// As nats-server's default `max_payload`, in bytes.
const MAX_PAYLOAD: usize = 1024 * 1024;

pub(super) fn all() -> Vec<Poison> {
    let long_value = |length: usize| [b"NATS/1.0\r\na: ".as_slice(), &vec![b'x'; length], b"\r\n\r\n"].concat();
    let many: Vec<u8> = (0..20_000).flat_map(|number| format!("h{number}: v\r\n").into_bytes()).collect();
    let deep = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
    vec![
        headers("bare CR in a header's value", b"NATS/1.0\r\na: b\rc\r\n\r\n"),
        headers("bare CR at a value's end", b"NATS/1.0\r\na: b\r\r\n\r\n"),
        headers("bare LF in a header's value", b"NATS/1.0\r\na: b\nc\r\n\r\n"),
        headers("NUL in a header's value", b"NATS/1.0\r\na: b\0c\r\n\r\n"),
        headers("headers without a version", b"a: b\r\n\r\n"),
        headers("headers of another version", b"NATS/9.9\r\na: b\r\n\r\n"),
        headers("a header without a colon", b"NATS/1.0\r\nabc\r\n\r\n"),
        headers("a value that is not UTF-8", b"NATS/1.0\r\na: \xff\xfe\r\n\r\n"),
        headers("a name that is not UTF-8", b"NATS/1.0\r\n\xff: a\r\n\r\n"),
        headers("a name with a space", b"NATS/1.0\r\na b: c\r\n\r\n"),
        headers("an empty name", b"NATS/1.0\r\n: c\r\n\r\n"),
        headers("a folded value", b"NATS/1.0\r\na: b\r\n c\r\n\r\n"),
        headers("headers that do not end", b"NATS/1.0\r\na: b"),
        headers("headers of nothing", b"\r\n\r\n"),
        headers("a status that is no number", b"NATS/1.0 abc\r\n\r\n"),
        headers("a status of 99999", b"NATS/1.0 99999\r\n\r\n"),
        headers("a forged 503", b"NATS/1.0 503\r\n\r\n"),
        headers("a forged 503 with a text", b"NATS/1.0 503 No Responders\r\n\r\n"),
        headers("a value of 64 KiB", &long_value(64 * 1024)),
        headers("a value of nearly 1 MiB", &long_value(MAX_PAYLOAD - 100)),
        headers("20,000 headers", &[b"NATS/1.0\r\n".as_slice(), &many, b"\r\n"].concat()),
        headers("deadlines that are no numbers", b"NATS/1.0\r\nRpc-Deadline: -1\r\nRpc-Timeout-Ms: 1e99\r\n\r\n"),
        headers(
            "deadlines of 64 bits and more",
            b"NATS/1.0\r\nRpc-Deadline: 18446744073709551615\r\nRpc-Timeout-Ms: 18446744073709551616\r\n\r\n",
        ),
        subject("a subject that is not UTF-8", b"victim.any.\xff"),
        subject("a no-break space in a subject", "victim.any.\u{a0}".as_bytes()),
        Poison {
            name: "a no-break space and headers",
            bytes: hpub("victim.any.\u{a0}".as_bytes(), b"", b"NATS/1.0\r\na: b\r\n\r\n", b"1"),
        },
        subject("NUL in a subject", b"victim.any.\0"),
        subject("a subject of 5,000 bytes", &[b"victim.any.".as_slice(), &[b'x'; 5_000]].concat()),
        subject("empty tokens", b"victim.any..x"),
        Poison { name: "no reply subject", bytes: repeated(&publish(PING, b"", b"{}"), 100) },
        Poison { name: "a reply subject that is not UTF-8", bytes: publish(PING, b"_INBOX.\xff", b"{}") },
        Poison { name: "a reply subject with wildcards", bytes: publish(PING, b"*.>", b"{}") },
        Poison { name: "a reply subject with empty tokens", bytes: publish(PING, b"..a..", b"{}") },
        Poison { name: "the service as its own reply subject", bytes: publish(PING, PING, b"{}") },
        Poison { name: "a reply to $SYS", bytes: publish(PING, b"$SYS.REQ.SERVER.PING", b"{}") },
        Poison { name: "a reply subject of 4,000 bytes", bytes: publish(PING, &[b'r'; 4_000], b"{}") },
        body("a body that is not JSON", b"{\"a\":"),
        body("a body that is not UTF-8", b"\"\xff\xfe\""),
        body("200,000 nested arrays", &deep),
        body("a body of max_payload", &vec![b'"'; MAX_PAYLOAD]),
        body("a NestJS envelope without its end", b"{\"pattern\":\"victim.any.a\",\"data\":{,\"id\":\"x\"}"),
        body("a NestJS envelope with an odd id", b"{\"pattern\":\"victim.any.a\",\"data\":1,\"id\":{\"a\":[]}}"),
        Poison { name: "a poison event", bytes: hpub(b"victim.event", b"", b"NATS/1.0\r\na: b\rc\r\n\r\n", b"{}") },
    ]
}

fn headers(name: &'static str, headers: &[u8]) -> Poison {
    Poison { name, bytes: hpub(PING, b"", headers, b"{}") }
}

fn subject(name: &'static str, subject: &[u8]) -> Poison {
    Poison { name, bytes: publish(subject, b"nobody.listens", b"1") }
}

fn body(name: &'static str, body: &[u8]) -> Poison {
    Poison { name, bytes: publish(b"victim.any.a", b"nobody.listens", body) }
}

/// `PUB <subject> [reply] <size>`
fn publish(subject: &[u8], reply: &[u8], body: &[u8]) -> Vec<u8> {
    let size = body.len().to_string();
    [b"PUB ", subject, b" ", reply, b" ", size.as_bytes(), b"\r\n", body, b"\r\n"].concat()
}

/// `HPUB <subject> [reply] <size of the headers> <size of all>`
fn hpub(subject: &[u8], reply: &[u8], headers: &[u8], body: &[u8]) -> Vec<u8> {
    let sizes = format!("{} {}", headers.len(), headers.len() + body.len());
    [b"HPUB ", subject, b" ", reply, b" ", sizes.as_bytes(), b"\r\n", headers, body, b"\r\n"].concat()
}

fn repeated(bytes: &[u8], times: usize) -> Vec<u8> {
    bytes.repeat(times)
}
