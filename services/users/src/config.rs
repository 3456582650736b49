//! Deployment settings.

/// Number of replicas of a bucket in a NATS cluster.
///
/// ```
/// use users::Replicas;
///
/// assert_eq!(Replicas::from_vars(|_| None)?, Replicas::ONE);
/// assert!(Replicas::from_vars(|_| Some("2".to_owned())).is_err());
/// # Ok::<_, users::ReplicasError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas(usize);

/// `KV_REPLICAS` is not 1, 3 or 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("KV_REPLICAS must be 1, 3 or 5: how many servers of the cluster keep a bucket")]
pub struct ReplicasError;

impl Replicas {
    /// One replica, for a single server.
    pub const ONE: Self = Self(1);

    /// Reads `KV_REPLICAS` through `vars`. Default: 1.
    ///
    /// # Errors
    /// [`ReplicasError`] if the value is not 1, 3 or 5.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, ReplicasError> {
        match vars("KV_REPLICAS").as_deref() {
            None | Some("" | "1") => Ok(Self::ONE),
            Some("3") => Ok(Self(3)),
            Some("5") => Ok(Self(5)),
            Some(_) => Err(ReplicasError),
        }
    }

    /// Returns the number.
    pub fn get(self) -> usize {
        self.0
    }
}
