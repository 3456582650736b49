//! Why a session is not there, or not any more.

use std::error::Error;

use nats_rpc::RpcError;

use super::Session;

/// Why a session was not prolonged, begun or ended.
///
/// As an [`RpcError`], the first three are the same 401: the caller does not learn which.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Malformed, forged, expired, logged out or never issued. Nothing was changed.
    #[error("invalid refresh token")]
    Invalid,
    /// A genuine token that was used before. The session has ended; its access tokens should too.
    #[error("refresh token reused")]
    Reused(Session),
    /// A good token, whose owner [may not go on](super::Sessions::refresh_with), or of a session that was refreshed
    /// as often as one may be, 16,384 times. The session has ended.
    #[error("the session may not go on")]
    Ended(Session),
    /// Lost five races in a row. The token is still good: try again.
    #[error("too many concurrent refreshes")]
    Contended,
    /// There was no answer in time. Whether the token was used is unknown; within the grace period trying
    /// again is safe.
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
