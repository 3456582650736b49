//! Errors of sessions.

use std::error::Error;

use nats_rpc::RpcError;

use super::Session;

/// The reason why a session was not refreshed, created or ended.
///
/// As an [`RpcError`], the first three are the same 401: the caller cannot distinguish them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The token is malformed, forged, expired, logged out or was never issued. Nothing was changed.
    #[error("invalid refresh token")]
    Invalid,
    /// A genuine token was reused. The session has ended; the caller should revoke its access tokens too.
    #[error("refresh token reused")]
    Reused(Session),
    /// A valid token whose owner [may not continue](super::Sessions::refresh_with), or of a session that reached the
    /// maximum of 16,384 refreshes. The session has ended.
    #[error("the session may not go on")]
    Ended(Session),
    /// Lost five races in a row. The token is still valid: retry.
    #[error("too many concurrent refreshes")]
    Contended,
    /// No reply arrived in time. It is unknown whether the token was used; a retry within the grace period is safe.
    #[error("sessions are unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

impl From<SessionError> for RpcError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Invalid | SessionError::Reused(_) | SessionError::Ended(_) => {
                Self::unauthenticated("invalid refresh token").with_source(error)
            }
            SessionError::Contended | SessionError::Unavailable(_) => {
                Self::unavailable("sessions are unavailable").with_source(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nats_rpc::Code;

    use super::super::Owner;
    use super::*;

    #[test]
    fn the_caller_does_not_learn_whether_a_token_was_forged_or_reused_or_its_owner_may_not_go_on() {
        let session = Session { id: "s".to_owned(), owner: Owner::new("u", "a") };
        let refusals = [SessionError::Invalid, SessionError::Reused(session.clone()), SessionError::Ended(session)];
        let [invalid, reused, ended] = refusals.map(RpcError::from);
        for other in [reused, ended] {
            assert_eq!((invalid.code(), invalid.message()), (other.code(), other.message()));
        }
        assert_eq!(invalid.code(), Code::Unauthenticated);
        assert_eq!(RpcError::from(SessionError::Contended).code(), Code::Unavailable);
    }
}
