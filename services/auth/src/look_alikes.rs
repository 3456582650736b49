//! The command `auth users look-alikes`: lists accounts whose e-mail addresses look like each other.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;

use nats_rpc::Connection;
use nats_rpc_auth::Email;
use users::bucket::RecordError;
use users::{UserId, Users};

use crate::account::{AccountKey, Accounts};

/// Returns the accounts in groups of similar addresses, one account per line, with an empty line between groups.
///
/// Accounts are stored under a digest of their address, so the addresses come from profiles. Profiles are not trusted:
/// an address counts only if it leads to the account of the same user. Characters other than ASCII are escaped,
/// because an operator could not tell them apart either.
pub(crate) async fn list(connection: &Connection) -> Result<String, Box<dyn Error + Send + Sync>> {
    let (accounts, profiles) = (Accounts::open(connection).await?, Users::open(connection).await?);
    let mut groups: BTreeMap<String, Vec<(UserId, Email)>> = BTreeMap::new();
    for id in profiles.ids().await? {
        let profile = match profiles.find(id).await {
            Ok(profile) => profile,
            Err(RecordError::Malformed(error)) => {
                tracing::warn!(user = %id, %error, "a profile cannot be read; its account is left out");
                None
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(email) = profile.and_then(|profile| Email::parse(&profile.email).ok()) {
            groups.entry(email.skeleton()).or_default().push((id, email));
        }
    }
    let mut listed = String::new();
    for mut group in groups.into_values().filter(|group| group.len() > 1) {
        group.sort_by_key(|(id, _)| id.to_string());
        let mut lines = Vec::new();
        for (id, email) in group {
            let account = accounts.find(&AccountKey::of(&email)).await?;
            if account.is_some_and(|account| account.user_id == id) {
                lines.push(format!("{id} {}", escaped(&email)));
            }
        }
        if lines.len() > 1 {
            let gap = if listed.is_empty() { "" } else { "\n\n" };
            write!(listed, "{gap}{}", lines.join("\n"))?;
        }
    }
    Ok(if listed.is_empty() { "no accounts look alike".to_owned() } else { listed })
}

fn escaped(email: &Email) -> String {
    let show = |c: char| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() };
    email.as_str().chars().map(show).collect()
}
