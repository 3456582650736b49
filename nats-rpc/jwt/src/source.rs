//! The possible sources of a request's proof of identity: a closed list, of which the guard accepts exactly one.

use std::borrow::Cow;
use std::sync::LazyLock;

use nats_rpc::Request;
use serde_json::value::RawValue;

use super::refusal::JwtRejection;
use super::top_level::{self, Field};

/// The header of access tokens.
const AUTHORIZATION: &str = "authorization";
/// The scheme before a token in that header.
const SCHEME: &str = "Bearer ";
/// The header of a gateway's assertion.
pub(crate) const ASSERTION: &str = "nrpc-assert";
/// The payload field of a forwarded user.
pub(crate) static USER: LazyLock<Field> = LazyLock::new(|| Field::new("user"));

/// The enabled sources. The `authorization` header always is.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) payload_field: Option<Field>,
    pub(crate) assertion: bool,
    pub(crate) forwarded_user: bool,
}

/// A proof, not verified yet.
#[derive(Debug)]
pub(crate) enum Proof<'a> {
    Token(Cow<'a, str>),
    Assertion(&'a str),
    ForwardedUser(&'a RawValue),
}

impl Sources {
    /// Returns the single proof of the request.
    ///
    /// Two proofs are rejected even if they are equal: a request has one sender, and a second proof may target a
    /// service that reads that one instead.
    pub(crate) fn find<'a>(&self, request: &'a Request) -> Result<Proof<'a>, JwtRejection> {
        let header = sole_value(request, AUTHORIZATION)?;
        let assertion = if self.assertion { sole_value(request, ASSERTION)? } else { None };
        let payload = match &self.payload_field {
            Some(field) => payload_token(request, field)?,
            None => None,
        };
        let user = if self.forwarded_user { forwarded_user(request)? } else { None };

        match (header, assertion, payload, user) {
            (None, None, None, None) => Err(JwtRejection::NoToken),
            (Some(value), None, None, None) => Ok(Proof::Token(Cow::Borrowed(bearer(value)?))),
            (None, Some(value), None, None) => Ok(Proof::Assertion(value)),
            (None, None, Some(token), None) => Ok(Proof::Token(token)),
            (None, None, None, Some(user)) => Ok(Proof::ForwardedUser(user)),
            _ => Err(JwtRejection::SeveralSources),
        }
    }
}

/// Returns the value of header `name`. NATS compares names exactly, so a second value may hide behind another
/// spelling. All spellings count, and two equal values are two values.
pub(crate) fn sole_value<'a>(request: &'a Request, name: &'static str) -> Result<Option<&'a str>, JwtRejection> {
    let mut values = request.header_values(name);
    let sole = values.next();
    match values.next() {
        None => Ok(sole),
        Some(_) => Err(JwtRejection::SeveralValues),
    }
}

/// Returns the token of `Bearer <token>`: the scheme in any case, exactly one space.
///
/// The verifier detects extra characters around the token, because it reads every byte once; a check here would read
/// each request twice.
fn bearer(value: &str) -> Result<&str, JwtRejection> {
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty() => Ok(token),
        _ => Err(JwtRejection::Scheme),
    }
}

fn payload_token<'a>(request: &'a Request, field: &Field) -> Result<Option<Cow<'a, str>>, JwtRejection> {
    #[derive(serde::Deserialize)]
    struct Token<'a>(#[serde(borrow)] Cow<'a, str>);

    let found = top_level::values(request.data().unwrap_or_default(), field).map_err(|_| JwtRejection::PayloadToken)?;
    match found.as_slice() {
        [] => Ok(None),
        [one] => {
            serde_json::from_str(one.get()).map(|Token(token)| Some(token)).map_err(|_| JwtRejection::PayloadToken)
        }
        _ => Err(JwtRejection::PayloadToken),
    }
}

/// Returns the payload's `user`, which may occur at most once.
pub(crate) fn forwarded_user(request: &Request) -> Result<Option<&RawValue>, JwtRejection> {
    let found =
        top_level::values(request.data().unwrap_or_default(), &USER).map_err(|_| JwtRejection::ForwardedUser)?;
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(JwtRejection::ForwardedUser),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::request;
    use super::*;

    fn found(sources: &Sources, headers: &[(&'static str, &str)], data: &str) -> Result<String, JwtRejection> {
        let request = request("users.get", headers, data);
        sources.find(&request).map(|proof| format!("{proof:?}"))
    }

    fn token(headers: &[(&'static str, &str)]) -> Result<String, JwtRejection> {
        found(&Sources::default(), headers, "{}")
    }

    #[test]
    fn source_01_the_scheme_is_taken_in_any_case() {
        for scheme in ["Bearer", "bearer", "BEARER", "BeArEr"] {
            for name in ["authorization", "Authorization", "AUTHORIZATION"] {
                assert!(token(&[(name, &format!("{scheme} a.b.c"))]).is_ok(), "{name}: {scheme}");
            }
        }
    }

    #[test]
    fn source_02_another_scheme_or_separator_is_refused() {
        for value in [
            "Bearer\ta.b.c",
            "Bearer\u{a0}a.b.c",
            " Bearer a.b.c",
            "Bearera.b.c",
            "Bearer",
            "Bearer ",
            "Basic a.b.c",
            "a.b.c",
            "",
        ] {
            assert_eq!(token(&[("authorization", value)]).unwrap_err(), JwtRejection::Scheme, "{value:?}");
        }
        assert!(token(&[("authorization", "Bearer a.b.c")]).is_ok());
    }

    #[test]
    fn source_04_two_values_are_refused_even_if_equal() {
        for second in ["Bearer a.b.c", "Bearer d.e.f", ""] {
            let twice = [("authorization", "Bearer a.b.c"), ("authorization", second)];
            assert_eq!(token(&twice).unwrap_err(), JwtRejection::SeveralValues, "{second:?}");
        }
    }

    #[test]
    fn source_05_two_spellings_of_the_header_are_two_values() {
        for twin in ["authorization", "AUTHORIZATION", "aUTHORIZATION"] {
            let both = [("Authorization", "Bearer a.b.c"), (twin, "Bearer a.b.c")];
            assert_eq!(token(&both).unwrap_err(), JwtRejection::SeveralValues, "{twin}");
        }
    }

    #[test]
    fn a_request_without_a_proof_is_refused() {
        assert_eq!(token(&[]).unwrap_err(), JwtRejection::NoToken);
        assert_eq!(token(&[("x-authorization", "Bearer a.b.c")]).unwrap_err(), JwtRejection::NoToken);
        // Disabled sources do not count, whatever they contain.
        let all = found(&Sources::default(), &[("nrpc-assert", "a.b.c")], r#"{"token":"a.b.c","user":{"sub":"a"}}"#);
        assert_eq!(all.unwrap_err(), JwtRejection::NoToken);
    }

    #[test]
    fn source_07_header_and_payload_token_together_are_refused() {
        let open = Sources { payload_field: Some(Field::new("token")), ..Sources::default() };
        let data = r#"{"token":"a.b.c"}"#;
        assert!(found(&open, &[], data).is_ok());
        assert!(found(&open, &[("authorization", "Bearer a.b.c")], "{}").is_ok());
        for header in ["Bearer a.b.c", "Bearer d.e.f"] {
            let both = found(&open, &[("authorization", header)], data);
            assert_eq!(both.unwrap_err(), JwtRejection::SeveralSources);
        }
    }

    #[test]
    fn a_payload_token_is_one_string() {
        let open = Sources { payload_field: Some(Field::new("token")), ..Sources::default() };
        for data in [r#"{"token":1}"#, r#"{"token":null}"#, r#"{"token":"a","tok\u0065n":"a"}"#, r#"{"token":"a""#] {
            assert_eq!(found(&open, &[], data).unwrap_err(), JwtRejection::PayloadToken, "{data}");
        }
        assert_eq!(found(&open, &[], r#"{"a":{"token":"a.b.c"}}"#).unwrap_err(), JwtRejection::NoToken);
        assert!(found(&open, &[], r#"{"token":"a.b\u002ec"}"#).unwrap().contains("a.b.c"));
    }

    #[test]
    fn every_pair_of_open_sources_is_refused() {
        let open = Sources { payload_field: Some(Field::new("token")), assertion: true, forwarded_user: true };
        let headers = [("authorization", "Bearer a.b.c"), ("nrpc-assert", "a.b.c")];
        assert!(found(&open, &headers[1..], "{}").is_ok());
        assert!(found(&open, &[], r#"{"user":{}}"#).is_ok());
        for (headers, data) in [
            (&headers[..], "{}"),
            (&headers[1..], r#"{"token":"a.b.c"}"#),
            (&headers[..1], r#"{"user":{}}"#),
            (&[], r#"{"user":{},"token":"a.b.c"}"#),
        ] {
            assert_eq!(found(&open, headers, data).unwrap_err(), JwtRejection::SeveralSources, "{data}");
        }
    }
}
