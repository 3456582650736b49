//! Password checks: cheap checks first, then a turn at the hashing pool, then the password; all failures cost the
//! same.

use std::sync::Arc;

use nats_rpc::RpcError;
use nats_rpc_auth::{AuditEvent, Device, HashPermit, PasswordHasher, PasswordMatch};
use zeroize::Zeroizing;

use super::Authority;
use crate::account::{Account, AccountKey};
use crate::caller::Caller;
use crate::login_throttle::Attempt;

/// An account whose password has been verified, and the state of its stored hash.
pub(super) struct Proven {
    pub(super) account: Account,
    /// `true` if another program stored the hash, or it costs less than new ones.
    pub(super) outdated: bool,
    /// The known device of the caller.
    pub(super) device: Option<Device>,
}

impl Authority {
    /// Returns the account at `key` if it exists, is not locked, and has `password`; otherwise `None`, at the same
    /// cost.
    ///
    /// The checks run in this order:
    /// 1. the device token and the length of the queue, both in memory
    /// 2. the counters of account, device and networks, which are reads
    /// 3. a turn at the pool
    /// 4. the record of the attempt
    /// 5. the password
    ///
    /// `name` is the key that counts attempts at the account, even if there is no such account.
    pub(super) async fn check_password(
        &self,
        name: &str,
        key: Option<&AccountKey>,
        password: &str,
        caller: &Caller,
    ) -> Result<Option<Proven>, RpcError> {
        let parts = &*self.0;
        let device = self.known_device(key, caller).await?;
        parts.passwords.check(&parts.throttle.request(caller, device.as_ref()))?;
        let attempt = Arc::new(parts.throttle.attempt(name, caller, device.as_ref()).await?);
        let device = device.filter(|_| attempt.is_of_known_device());
        loop {
            let permit = parts.passwords.admit(attempt.request()).await?;
            let password = Zeroizing::new(password.to_owned());
            let (attempt, key, name) = (Arc::clone(&attempt), key.cloned(), name.to_owned());
            let caller_of_work = caller.clone();
            let work = async move |authority: Self| {
                authority.try_password(permit, &attempt, &name, key.as_ref(), &password, &caller_of_work).await
            };
            // Runs detached to its end, so that an attempt whose caller has gone is counted with its outcome.
            let checked = self.0.service.spawn_detached("the check of a password", work(self.clone())).await??;
            if let Some(proven) = checked {
                return Ok(proven.map(|proven| Proven { device, ..proven }));
            }
            // Other attempts are being checked; their outcome decides whether this one has to wait.
            parts.throttle.wait_for_others(caller).await?;
        }
    }

    /// Tries once in a turn of the pool, which ends after the outcome is counted; `None` while other attempts at the
    /// account are being checked.
    async fn try_password(
        self,
        mut permit: HashPermit,
        attempt: &Attempt,
        name: &str,
        key: Option<&AccountKey>,
        password: &str,
        caller: &Caller,
    ) -> Result<Option<Option<Proven>>, RpcError> {
        let parts = &*self.0;
        let Some(begun) = parts.throttle.begin(attempt).await? else { return Ok(None) };
        let checked = async {
            let account = match key {
                Some(key) => parts.accounts.find(key).await?,
                None => None,
            };
            let known = account.as_ref().map(|account| account.user_id);
            // A locked account looks and costs like a missing one.
            let account = account.filter(|account| !account.locked);
            let stored = account.as_ref().map(|account| account.password_hash.as_str());
            if let (Some(user), Some(false)) = (known, stored.map(PasswordHasher::is_usable)) {
                parts.audit.emit(AuditEvent::PasswordHashUnusable { user: user.to_string() });
            }
            let matched = permit.verify(password, stored).await?;
            Ok::<_, RpcError>((known, account.filter(|_| matched != PasswordMatch::Wrong), matched))
        };
        let (known, account, matched) = match checked.await {
            Ok(checked) => checked,
            Err(error) => {
                parts.throttle.give_up(begun).await;
                return Err(error);
            }
        };
        let Some(account) = account else {
            parts.throttle.failed(attempt, begun).await;
            let user = known.map(|user| user.to_string());
            let (account, source) = (parts.throttle.account(name), parts.throttle.source(caller));
            parts.audit.emit(AuditEvent::LogInRefused { account, user, source });
            return Ok(Some(None));
        };
        parts.throttle.succeeded(begun).await;
        let outdated = matched == PasswordMatch::Migrated || parts.passwords.is_weak(&account.password_hash);
        Ok(Some(Some(Proven { account, outdated, device: None })))
    }

    /// Returns the device of the caller's device token, if the account at `key` knows it.
    ///
    /// A forged token, or one for another account, costs no read.
    async fn known_device(&self, key: Option<&AccountKey>, caller: &Caller) -> Result<Option<Device>, RpcError> {
        let parts = &*self.0;
        let (Some(key), Some(token)) = (key, &caller.device) else { return Ok(None) };
        let Some(device) = parts.devices.verify(token, key.as_str()) else { return Ok(None) };
        let Some(account) = parts.accounts.find(key).await? else { return Ok(None) };
        let user = account.user_id.to_string();
        let known = device.is_of(&user) && account.admits(&device.owner(user, key.as_str()), self.global_epoch()?);
        Ok(known.then_some(device))
    }
}
