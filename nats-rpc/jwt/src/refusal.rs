//! Reasons of rejection: for logs and metrics, never for the caller.

use nats_rpc::RpcError;

/// The reason why a token or another proof of identity was rejected.
///
/// The caller does not learn it: every rejection becomes the same 401, with two exceptions. [`Expired`](Self::Expired)
/// is reported, because the caller can refresh the token. [`NoKeys`](Self::NoKeys),
/// [`StaleRevocations`](Self::StaleRevocations) and [`ReplaySetFull`](Self::ReplaySetFull) are a 503: the proof may be
/// valid, but this service cannot verify it now. The log contains the reason as the error's source.
///
/// ```
/// use nats_rpc::RpcError;
/// use nats_rpc_jwt::JwtRejection;
///
/// assert_eq!(RpcError::from(JwtRejection::Signature).message(), "unauthenticated");
/// assert_eq!(RpcError::from(JwtRejection::Expired).message(), "token expired");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum JwtRejection {
    /// No enabled source contains a proof.
    #[error("no token")]
    NoToken,
    /// More than one source contains a proof. Even if they agree, one of them is not the gateway's.
    #[error("more than one source of identity")]
    SeveralSources,
    /// The header occurs twice, in any spelling.
    #[error("more than one value of the header")]
    SeveralValues,
    /// The header is not `Bearer`, one space, and a token.
    #[error("the header is not `Bearer <token>`")]
    Scheme,
    /// The payload's token field is not a string, or occurs twice.
    #[error("the payload's token field is not one string")]
    PayloadToken,
    /// More than 4 KiB.
    #[error("token too large")]
    TooLarge,
    /// A character outside of `A-Z a-z 0-9 - _ .`.
    #[error("character outside of base64url")]
    Charset,
    /// Not exactly three parts.
    #[error("not three parts")]
    Parts,
    /// A header that is not base64url of one JSON object with `alg`, `typ`, `kid` and nothing else.
    #[error("malformed token header")]
    Header,
    /// A key id where none is allowed, none where one is required, or a malformed one.
    #[error("key id absent, unexpected or malformed")]
    KeyId,
    /// A well-formed key id that is not in the key ring.
    #[error("unknown key id")]
    UnknownKeyId,
    /// A key that is not in use now: before its `not_before` or after its `not_after`.
    #[error("key not in use now")]
    KeyNotInUse,
    /// The key ring has no key in use now for tokens of this type, so that no token can be verified. It is still
    /// empty, or all its keys have expired. 503 rather than 401, as the token may be valid.
    #[error("no key to verify tokens with")]
    NoKeys,
    /// An algorithm other than the key's.
    #[error("not the key's algorithm")]
    Algorithm,
    /// A media type other than the key's.
    #[error("not the key's token type")]
    Type,
    /// The signature is invalid, or is not canonical base64url.
    #[error("signature does not verify")]
    Signature,
    /// A standard claim has a wrong type, or occurs twice.
    #[error("malformed standard claims")]
    Claims,
    /// A wrong issuer, or none.
    #[error("wrong issuer")]
    Issuer,
    /// A wrong audience, or none.
    #[error("wrong audience")]
    Audience,
    /// Past its expiry; the only reason that the caller receives.
    #[error("token expired")]
    Expired,
    /// Before its `nbf`.
    #[error("not valid yet")]
    NotYetValid,
    /// Issued in the future, or without `iat`.
    #[error("issued in the future or at no time")]
    IssuedAt,
    /// Expires before it was issued, or lives longer than allowed.
    #[error("lifetime out of bounds")]
    Lifetime,
    /// A `sub` that is empty, over 256 characters, or holds control characters.
    #[error("malformed subject claim")]
    Subject,
    /// A `jti` or `sid` that is missing, empty, over 64 bytes, or not visible ASCII.
    #[error("malformed token id or session id")]
    Id,
    /// The token, its session, or its user's or all users' tokens of its epoch were revoked.
    #[error("revoked")]
    Revoked,
    /// The revocation list is stale; 503 rather than 401.
    #[error("whether the token was revoked cannot be told")]
    StaleRevocations,
    /// The token does not contain the application's own claims type.
    #[error("claims do not fit the claims type")]
    CustomClaims,
    /// The assertion was signed for another NATS subject.
    #[error("assertion for another subject")]
    AssertedSubject,
    /// The assertion was signed for another payload.
    #[error("assertion for another payload")]
    AssertedPayload,
    /// The assertion is past its ten seconds. The caller's token may be valid for longer, so the caller does not
    /// receive this reason.
    #[error("assertion expired")]
    AssertionExpired,
    /// This instance has already accepted the assertion since it started.
    #[error("assertion replayed")]
    Replayed,
    /// The set of used assertions is full (262,144 within their lifetime), so that replays can no longer be detected.
    /// Fails closed, with 503 rather than 401.
    #[error("too many assertions in flight")]
    ReplaySetFull,
    /// The forwarded `user` does not match the claims type, or contradicts the assertion.
    #[error("forwarded user malformed or contradicting the assertion")]
    ForwardedUser,
}

impl From<JwtRejection> for RpcError {
    fn from(refusal: JwtRejection) -> Self {
        #[derive(serde::Serialize)]
        struct Details {
            reason: &'static str,
        }

        match refusal {
            JwtRejection::Expired => Self::unauthenticated("token expired")
                .with_details(Details { reason: "token_expired" })
                .with_source(refusal),
            JwtRejection::StaleRevocations => {
                Self::unavailable("whether the token was revoked cannot be told now").with_source(refusal)
            }
            JwtRejection::NoKeys => {
                Self::unavailable("no key to verify tokens with is published at the moment").with_source(refusal)
            }
            JwtRejection::ReplaySetFull => Self::unavailable("too many calls are vouched for now").with_source(refusal),
            _ => Self::unauthenticated("unauthenticated").with_source(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use nats_rpc::Code;

    use super::*;

    #[test]
    fn all_refusals_look_the_same_except_expiry_and_not_knowing() {
        for refusal in [
            JwtRejection::NoToken,
            JwtRejection::Revoked,
            JwtRejection::Signature,
            JwtRejection::Replayed,
            JwtRejection::AssertionExpired,
        ] {
            let error = RpcError::from(refusal);
            assert_eq!((error.code(), error.message()), (Code::Unauthenticated, "unauthenticated"));
            assert!(error.details().is_none());
        }
        let error = RpcError::from(JwtRejection::Expired);
        assert_eq!(error.code(), Code::Unauthenticated);
        assert_eq!(error.details().unwrap().get(), r#"{"reason":"token_expired"}"#);
        for unknown in [JwtRejection::NoKeys, JwtRejection::StaleRevocations, JwtRejection::ReplaySetFull] {
            assert_eq!(RpcError::from(unknown).code(), Code::Unavailable, "{unknown}");
        }
    }
}
