//! The head of a request: rejects malformed heads and features that this server does not implement.

use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, HOST, HeaderName, TRANSFER_ENCODING};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Version};
use nats_rpc::RpcError;

use crate::failure::Failure;

/// Checks the head before any further processing.
///
/// A proxy in front and this server must parse the same request. Both reject ambiguous requests, so that they never
/// parse different ones (request smuggling).
///
/// # Errors
/// - 400: the host is missing, duplicated, or malformed (RFC 9112, section 3.2).
/// - 501: the body has a transfer coding other than `chunked` (RFC 9112, section 6.1).
/// - 415: the content is encoded (RFC 9110, section 8.4).
pub(crate) fn check(request: &Request) -> Result<(), Failure> {
    check_host(request.headers(), request.version())?;
    let headers = request.headers();
    if !all(headers, &TRANSFER_ENCODING, 1, "chunked") {
        let why = "the only transfer coding that this server reads is `chunked`";
        return Err(Failure::http(StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", why));
    }
    if !all(headers, &CONTENT_ENCODING, usize::MAX, "identity") {
        let why = "this server reads no encoded content: send it without `content-encoding`";
        return Err(Failure::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", why));
    }
    Ok(())
}

/// Checks that there is exactly one host; HTTP/1.0, which is older than the header, may omit it.
fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Failure> {
    let mut hosts = headers.get_all(HOST).iter();
    let is_good = match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => Authority::try_from(host.as_bytes()).is_ok_and(|host| !host.as_str().contains('@')),
        (Some(_), Some(_)) => false,
    };
    let refused = || RpcError::invalid_argument("a request has one header `host` with a host and, if need be, a port");
    if is_good { Ok(()) } else { Err(refused().into()) }
}

/// Returns `true` if the list in all lines of header `name` has at most `most` members, each of which is `allowed`.
fn all(headers: &HeaderMap, name: &HeaderName, most: usize, allowed: &str) -> bool {
    let mut members = 0;
    headers.get_all(name).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).all(|member| {
        members += 1;
        members <= most && member.trim_ascii().eq_ignore_ascii_case(allowed.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::response::IntoResponse;

    use super::*;

    fn status(version: Version, headers: &[(&'static str, &'static str)]) -> u16 {
        let mut request = Request::new(Body::empty());
        *request.version_mut() = version;
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        check(&request).map_or_else(|failure| failure.into_response().status().as_u16(), |()| 200)
    }

    #[test]
    fn request_has_exactly_one_host() {
        for good in ["a", "example.com", "example.com:8080", "[::1]:3000", "10.0.0.1", "my_host"] {
            assert_eq!(status(Version::HTTP_11, &[("host", good)]), 200, "{good}");
        }
        assert_eq!(status(Version::HTTP_10, &[]), 200);
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(status(version, &[("host", "a"), ("host", "a")]), 400);
            for wrong in ["", "a, b", "a b", "a/b", "eve@a", "a:b:c", "http://a"] {
                assert_eq!(status(version, &[("host", wrong)]), 400, "{wrong}");
            }
        }
        assert_eq!(status(Version::HTTP_11, &[]), 400);
    }

    #[test]
    fn chunked_is_the_only_transfer_coding() {
        let with = |values: &[&'static str]| {
            let lines = values.iter().map(|value| ("transfer-encoding", *value));
            status(Version::HTTP_11, &[("host", "a")].into_iter().chain(lines).collect::<Vec<_>>())
        };
        assert_eq!((with(&[]), with(&["chunked"]), with(&[" Chunked "])), (200, 200, 200));
        for wrong in
            [&["gzip, chunked"][..], &["gzip", "chunked"], &["chunked, chunked"], &["identity"], &["gzip"], &[""]]
        {
            assert_eq!(with(wrong), 501, "{wrong:?}");
        }
    }

    #[test]
    fn encoded_content_is_refused() {
        let with = |value| status(Version::HTTP_11, &[("host", "a"), ("content-encoding", value)]);
        assert_eq!(with("identity"), 200);
        for wrong in ["gzip", "identity, gzip", "br", ""] {
            assert_eq!(with(wrong), 415, "{wrong}");
        }
    }
}
