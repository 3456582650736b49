//! Heads and bodies of requests that two readers could read as two things.

use tokio::net::TcpStream;

use super::*;

const BODY: &str = r#"{"email":"e","password":"p"}"#;

/// Sends `head` and `body` as they are and reads the status of the reply.
async fn status(front: &Front, head: &str, body: &[u8]) -> u16 {
    let mut socket = TcpStream::connect(front.address).await.unwrap();
    socket.write_all(&[head.as_bytes(), b"\r\n\r\n", body].concat()).await.unwrap();
    let mut start = [0; 12];
    soon(socket.read_exact(&mut start)).await.unwrap();
    std::str::from_utf8(&start[9..]).unwrap().parse().unwrap()
}

/// Logs in with these header lines behind the request line.
async fn log_in(front: &Front, lines: &[&str], body: &[u8]) -> u16 {
    let head = [&["POST /api/auth/login HTTP/1.1"], lines].concat().join("\r\n");
    status(front, &head, body).await
}

#[tokio::test]
async fn ambiguous_head_is_refused() {
    let server = server();
    let _service = start(&server, Service::new("auth", "1.0.0").handlers(handlers![fails])).await;
    let front = Front::start(&server).await;
    let (json, length) = ("content-type: application/json", format!("content-length: {}", BODY.len()));
    let length = length.as_str();
    let plain = BODY.as_bytes();
    let chunked = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());

    assert_eq!(log_in(&front, &["host: a", json, length], plain).await, 200, "the control");
    assert_eq!(log_in(&front, &["host: a", json, "transfer-encoding: chunked"], chunked.as_bytes()).await, 200);
    assert_eq!(log_in(&front, &["host: a", json, length, length], plain).await, 200, "the same length twice");
    for hosts in [&[][..], &["host: a", "host: a"], &["host: a", "Host: b"], &["host: a, b"], &["host: "]] {
        assert_eq!(log_in(&front, &[hosts, &[json, length]].concat(), plain).await, 400, "{hosts:?}");
    }
    for coding in ["gzip, chunked", "chunked, chunked", "identity, chunked"] {
        let line = format!("transfer-encoding: {coding}");
        assert_eq!(log_in(&front, &["host: a", json, &line], chunked.as_bytes()).await, 501, "{coding}");
    }
    // Read by hyper itself: the last coding is not `chunked`, or the lengths differ.
    assert_eq!(log_in(&front, &["host: a", json, "transfer-encoding: gzip"], chunked.as_bytes()).await, 400);
    assert_eq!(log_in(&front, &["host: a", json, length, "content-length: 1"], plain).await, 400);
    for line in ["x-request-id: a\rb", "x-request-id : a", "authorization: a\0b", " folded: a"] {
        assert_eq!(log_in(&front, &["host: a", json, length, line], plain).await, 400, "{line:?}");
    }
    for encoding in ["gzip", "br", "deflate, gzip"] {
        let line = format!("content-encoding: {encoding}");
        assert_eq!(log_in(&front, &["host: a", json, length, &line], plain).await, 415, "{encoding}");
    }
    assert_eq!(log_in(&front, &["host: a", json, length, "content-encoding: identity"], plain).await, 200);
}

#[tokio::test]
async fn content_type_and_body_are_one_json_object_in_utf_8() {
    let server = server();
    let _service = start(&server, Service::new("auth", "1.0.0").handlers(handlers![fails])).await;
    let front = Front::start(&server).await;
    let post = async |content_type: &str, body: &[u8]| {
        let length = format!("content-length: {}", body.len());
        log_in(&front, &["host: a", &format!("content-type: {content_type}"), &length], body).await
    };
    assert_eq!(post("application/json; charset=utf-8", BODY.as_bytes()).await, 200, "the control");
    let utf_16: Vec<u8> = BODY.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for content_type in ["application/json; charset=utf-16", "application/json; charset=\"UTF-16LE\"", "text/json"] {
        assert_eq!(post(content_type, &utf_16).await, 415, "{content_type}");
        assert_eq!(post(content_type, BODY.as_bytes()).await, 415, "{content_type}");
    }
    assert_eq!(post("application/json", &utf_16).await, 400);
    let array = br#"["e","p"]"#;
    let with_mark = ["\u{feff}", BODY].concat();
    let twice = br#"{"email":"e","password":"p","password":"q"}"#;
    for body in [&array[..], b"[[\"e\",\"p\"]]", with_mark.as_bytes(), twice, b"", b"null"] {
        assert_eq!(post("application/json", body).await, 400, "{}", String::from_utf8_lossy(body));
    }
    let request = front.post("/api/auth/login").json(&json!({ "email": "e", "password": 86_753_098_675_309_u64 }));
    let (status, said) = answer(request).await;
    assert_eq!((status, &said["code"]), (400, &json!("INVALID_ARGUMENT")));
    assert!(!said.to_string().contains("86753098675309"), "{said}");
}

#[tokio::test]
async fn other_forms_of_target_and_version_have_their_statuses() {
    let server = server();
    let front = Front::start(&server).await;
    for (head, expected) in [
        ("GET /healthz HTTP/1.1\r\nhost: a", 200),
        ("GET http://a/healthz HTTP/1.1\r\nhost: a", 200),
        ("GET http://a/healthz HTTP/1.1", 400),
        ("GET /healthz HTTP/1.0", 200),
        ("GET /healthz HTTP/1.0\r\nhost: a\r\nhost: a", 400),
        ("OPTIONS * HTTP/1.1\r\nhost: a", 404),
        ("GET healthz HTTP/1.1\r\nhost: a", 404),
    ] {
        assert_eq!(status(&front, head, b"").await, expected, "{head:?}");
    }
    assert!((400..500).contains(&status(&front, "CONNECT a:80 HTTP/1.1\r\nhost: a", b"").await));
}
