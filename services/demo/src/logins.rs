//! Credentials of each part of the system on nats-server.

use std::fmt;
use std::sync::Arc;

use nats_rpc::NatsConfig;

/// Credentials of each part, by the name of its user in `services/nats.conf`.
#[derive(Clone)]
pub struct Logins(Arc<dyn Fn(&str) -> NatsConfig + Send + Sync>);

impl Logins {
    /// A login for each user.
    pub fn each(of: impl Fn(&str) -> NatsConfig + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }

    /// Credentials of `user`.
    pub(crate) fn of(&self, user: &str) -> NatsConfig {
        (self.0)(user)
    }
}

impl From<NatsConfig> for Logins {
    /// One login for all, on a server where all users are in one account.
    fn from(config: NatsConfig) -> Self {
        Self::each(move |_| config.clone())
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logins")
    }
}
