//! The keys that sign access tokens, and the commands `auth keys list|rotate|retire <kid>`.

use std::collections::HashSet;
use std::error::Error;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nats_rpc::{Connection, ServiceContext};
use nats_rpc_auth::{Audit, AuditEvent, TokenIssuer};
use nats_rpc_jwt::SecretKey;
use nats_rpc_jwt::{
    ChangeSigner, JwkSet, JwksBucket, KeyEvent, KeyPurpose, KeysError, PublishedKey, SigningKeyConfig, SigningKeys,
};

const USAGE: &str = "usage: auth keys list | rotate | retire <kid>";
/// Maximum time that `rotate` waits for the first new key.
const ROTATE_LIMIT: Duration = Duration::from_secs(5);
const PURPOSES: [KeyPurpose; 2] = [KeyPurpose::AccessTokens, KeyPurpose::Assertions];

/// The keys that sign access tokens, in one of two modes, never both.
#[derive(Clone, Debug)]
pub(crate) enum AccessKeys {
    /// A secret that every verifier shares.
    Secret(SecretKey),
    /// Key pairs of this instance; their public halves are in the key ring.
    Ring(SigningKeys),
}

impl AccessKeys {
    /// Opens the key pairs of this instance, which report to `audit`.
    pub(crate) async fn ring(connection: &Connection, keys: SigningKeyConfig, audit: Audit) -> Result<Self, KeysError> {
        let tell = move |event| {
            audit.emit(match event {
                KeyEvent::Published { kid } => AuditEvent::KeyPublished { kid },
                KeyEvent::Signing { kid } => AuditEvent::KeyRotated { kid },
                KeyEvent::Lost { kid } => AuditEvent::KeyLost { kid },
                _ => return,
            });
        };
        SigningKeys::open(connection, keys.on_event(tell)).await.map(Self::Ring)
    }

    pub(crate) fn issuer(&self, issuer: String) -> TokenIssuer {
        match self {
            Self::Secret(secret) => TokenIssuer::hs256(secret).issuer(issuer),
            Self::Ring(keys) => TokenIssuer::ring(keys),
        }
    }

    /// Returns the signer of revocations and beacons.
    pub(crate) fn change_signer(&self) -> ChangeSigner {
        match self {
            Self::Secret(secret) => ChangeSigner::secret(secret),
            Self::Ring(keys) => ChangeSigner::keys(keys),
        }
    }

    /// Returns the public keys; a secret has none.
    pub(crate) fn public(&self) -> JwkSet {
        match self {
            Self::Secret(_) => JwkSet::default(),
            Self::Ring(keys) => keys.ring().jwk_set(now()),
        }
    }
}

fn now() -> u64 {
    // Before 1970 no key is in use.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Runs the command with the arguments after `keys`.
#[allow(clippy::print_stdout, reason = "the outcome is what the command is for")]
pub(crate) async fn run(config: ServiceContext, words: Vec<String>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => {
            let (mut keys, mut unusable) = (Vec::new(), Vec::new());
            for purpose in PURPOSES {
                match JwksBucket::open(config.connection(), purpose).await?.list().await {
                    Ok(of_purpose) => keys.extend(of_purpose),
                    Err(error @ KeysError::Document { .. }) => unusable.push(error),
                    Err(error) => return Err(error.into()),
                }
            }
            print!("{}", table(&keys, now()));
            for error in unusable {
                println!("{error}");
            }
        }
        ["rotate"] => {
            for kid in rotate(&config).await? {
                println!("{kid} is published and signs in some seconds");
            }
        }
        ["retire", kid] => {
            let gone = retire(&config, kid).await?;
            println!("{kid} is retired: nothing that it signed is taken any more");
            for kid in gone {
                println!("{kid} is retired with it: it came in a document that nobody believes");
            }
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

/// Requests new keys from the instances of auth, and returns the first ones.
async fn rotate(config: &ServiceContext) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
    let ring = JwksBucket::open(config.connection(), KeyPurpose::AccessTokens).await?;
    let before: HashSet<String> = ring.list().await?.into_iter().map(|key| key.kid).collect();
    ring.rotate().await?;
    let give_up = Instant::now() + ROTATE_LIMIT;
    loop {
        let keys = ring.list().await?.into_iter().map(|key| key.kid);
        let new: Vec<String> = keys.filter(|kid| !before.contains(kid)).collect();
        if !new.is_empty() {
            return Ok(new);
        }
        if Instant::now() >= give_up {
            return Err("no instance of auth published a new key: does one run, without JWT_SECRET?".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Removes the key from the ring that contains it, and returns the keys removed with it.
async fn retire(config: &ServiceContext, kid: &str) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
    let mut unusable = None;
    for purpose in PURPOSES {
        match JwksBucket::open(config.connection(), purpose).await?.retire(kid).await {
            Ok(gone) => {
                for kid in std::iter::once(kid).chain(gone.iter().map(String::as_str)) {
                    Audit::tell(config.connection(), AuditEvent::KeyRetired { kid: kid.to_owned() }).await;
                }
                return Ok(gone);
            }
            // The other ring may contain the key.
            Err(KeysError::UnknownKey { .. }) => {}
            Err(error @ KeysError::Document { .. }) => unusable = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(unusable.unwrap_or_else(|| KeysError::unknown_key(kid)).into())
}

/// Formats one line per key.
fn table(keys: &[PublishedKey], now: u64) -> String {
    let header = ["KID", "ALG", "TYP", "ISS", "INSTANCE", "USED"].map(str::to_owned);
    let rows = keys.iter().map(|key| {
        let used = match (key.not_before > now, key.not_after.checked_sub(now)) {
            (true, _) => "not yet".to_owned(),
            (false, None | Some(0)) => "no more".to_owned(),
            (false, Some(_)) if key.not_after == u64::MAX => "for ever".to_owned(),
            (false, Some(left)) => format!("for {left} s"),
        };
        let instance = key.instance.clone().unwrap_or_else(|| "-".to_owned());
        [key.kid.clone(), key.alg.clone(), key.typ.clone(), key.iss.clone(), instance, used]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_keys_has_its_header() {
        assert_eq!(table(&[], 0), "KID  ALG  TYP  ISS  INSTANCE  USED\n");
    }
}
