use std::path::PathBuf;

use async_nats::ConnectOptions;

use super::NatsConfigError;

/// The credentials of a connection.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    User { name: String, password: String },
    Token(String),
    Nkey { seed: String },
    CredentialsFile(PathBuf),
}

impl Login {
    /// Adds these credentials to the options.
    ///
    /// # Errors
    /// If the seed is invalid, or the credentials file cannot be used. This check names the cause immediately;
    /// async-nats would only fail to sign.
    pub(super) fn apply(&self, options: ConnectOptions) -> Result<ConnectOptions, NatsConfigError> {
        Ok(match self {
            Self::User { name, password } => options.user_and_password(name.clone(), password.clone()),
            Self::Token(token) => options.token(token.clone()),
            Self::Nkey { seed } => {
                let is_users = nkeys::KeyPair::from_seed(seed)
                    .is_ok_and(|pair| matches!(pair.key_pair_type(), nkeys::KeyPairType::User));
                if !is_users {
                    let wanted = "the seed of a user's nkey, which begins with SU";
                    return Err(NatsConfigError::Variable { name: "NATS_NKEY_SEED", wanted });
                }
                options.nkey(seed.clone())
            }
            Self::CredentialsFile(path) => {
                let unreadable =
                    |source: std::io::Error| NatsConfigError::Credentials { path: path.clone(), source: source.into() };
                let text = std::fs::read_to_string(path).map_err(unreadable)?;
                options.credentials(&text).map_err(unreadable)?
            }
        })
    }
}
