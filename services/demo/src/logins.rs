//! Credentials of each part of the system on nats-server.

use std::fmt;
use std::sync::Arc;

use nats_rpc::NatsConfig;

/// Credentials of each part, by the name of its user in `services/nats.conf`.
#[derive(Clone)]
pub struct Logins(Arc<dyn Fn(&str) -> NatsConfig + Send + Sync>);

impl Logins {
    /// Creates credentials for each user with `of`.
    pub fn each(of: impl Fn(&str) -> NatsConfig + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }

    /// Returns the credentials of `user`.
    pub(crate) fn of(&self, user: &str) -> NatsConfig {
        (self.0)(user)
    }
}

impl From<NatsConfig> for Logins {
    /// Uses one login for all users, on a server where all of them are in one account.
    fn from(config: NatsConfig) -> Self {
        Self::each(move |_| config.clone())
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logins")
    }
}
