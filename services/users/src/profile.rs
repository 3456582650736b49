//! Profiles, and their store.

use std::fmt;
use std::sync::Arc;

use async_nats::jetstream;
use nats_rpc::{Connection, KvError};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::bucket::{self, Bucket, ProvisionError, RecordError};
use crate::config::Replicas;

const BUCKET: &str = "users";
/// The longest display name, in characters.
const MAX_NAME_CHARS: usize = 64;
/// The longest biography, in characters.
const MAX_BIO_CHARS: usize = 1_000;

/// A user's profile, visible to the user and to admins.
#[derive(Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The user's id.
    pub user_id: UserId,
    /// The address that the user signed up with, in canonical form.
    pub email: String,
    /// The name to address the user by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// A text about the user, written by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bio: Option<String>,
}

impl Profile {
    /// Returns the profile of a user who has just signed up.
    pub fn new(user_id: UserId, email: impl Into<String>) -> Self {
        Self { user_id, email: email.into(), display_name: None, bio: None }
    }
}

impl fmt::Debug for Profile {
    /// Omits personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

/// A user's id: a UUID in its usual form, lower case with hyphens.
///
/// No other text is accepted, so an id is safe in a subject and as a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct UserId(Uuid);

impl UserId {
    /// Generates a new id (UUID version 7), which sorts after all earlier ones.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// Parses the usual form; `None` for any other text.
    ///
    /// ```
    /// use users::UserId;
    ///
    /// let id = UserId::generate();
    /// assert_eq!(UserId::parse(&id.to_string()), Some(id));
    /// assert_eq!(UserId::parse(&id.to_string().to_uppercase()), None);
    /// assert_eq!(UserId::parse("a.b"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(Uuid::try_parse(text).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a user id"))
    }
}

/// The fields of a profile that a user may change; any other field is rejected.
///
/// An absent field stays unchanged; `null` removes it.
#[derive(Clone, Debug, Default, JsonSchema, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileChange {
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<String>")]
    display_name: Option<Option<Text<1, MAX_NAME_CHARS>>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<String>")]
    bio: Option<Option<Text<0, MAX_BIO_CHARS>>>,
}

impl ProfileChange {
    fn apply(&self, profile: &mut Profile) {
        if let Some(name) = &self.display_name {
            profile.display_name = name.as_ref().map(|Text(name)| name.clone());
        }
        if let Some(bio) = &self.bio {
            profile.bio = bio.as_ref().map(|Text(bio)| bio.clone());
        }
    }
}

/// Text of `MIN` to `MAX` characters, trimmed, without control characters other than line breaks.
#[derive(Clone, Debug)]
struct Text<const MIN: usize, const MAX: usize>(String);

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?.trim().to_owned();
        if !(MIN..=MAX).contains(&text.chars().count()) {
            return Err(serde::de::Error::custom(format_args!("text of {MIN} to {MAX} characters expected")));
        }
        if text.chars().any(|c| c.is_control() && c != '\n') {
            return Err(serde::de::Error::custom("control character in a text"));
        }
        Ok(Self(text))
    }
}

/// Distinguishes `null` from an absent field.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The profiles, stored in the bucket `users` under their users' ids. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Users(Arc<Bucket<Profile>>);

impl Users {
    /// Creates the bucket; an existing one keeps its profiles.
    ///
    /// # Errors
    /// Those of [`bucket::provision`].
    pub async fn provision(jetstream: &jetstream::Context, replicas: Replicas) -> Result<(), ProvisionError> {
        bucket::provision(jetstream, BUCKET, "profiles by user id", replicas).await
    }

    /// Opens the bucket.
    ///
    /// # Errors
    /// Those of [`Bucket::open`].
    pub async fn open(connection: &Connection) -> Result<Self, KvError> {
        Ok(Self(Arc::new(Bucket::open(connection, BUCKET).await?)))
    }

    /// Removes the profile of a user, if there is one.
    ///
    /// # Errors
    /// Those of [`Bucket::remove`].
    pub async fn remove(&self, id: UserId) -> Result<(), RecordError> {
        self.0.remove(&id.to_string()).await
    }

    /// Returns the profile of a user.
    ///
    /// # Errors
    /// Those of [`Bucket::get`].
    pub async fn find(&self, id: UserId) -> Result<Option<Profile>, RecordError> {
        self.0.get(&id.to_string()).await
    }

    /// Returns the ids of all users that have a profile, and of some removed ones, in no order.
    ///
    /// # Errors
    /// Those of [`Bucket::keys`].
    pub async fn ids(&self) -> Result<Vec<UserId>, RecordError> {
        Ok(self.0.keys().await?.iter().filter_map(|key| UserId::parse(key)).collect())
    }

    /// Stores a new user's profile; returns `false` if there is one, which stays as it is.
    ///
    /// # Errors
    /// Those of [`Bucket::create`].
    pub async fn create(&self, profile: &Profile) -> Result<bool, RecordError> {
        self.0.create(&profile.user_id.to_string(), profile).await
    }

    /// Changes a user's profile and returns the new one; `None` if there is no such user.
    ///
    /// # Errors
    /// Those of [`Bucket::change`].
    pub async fn change(&self, id: UserId, change: &ProfileChange) -> Result<Option<Profile>, RecordError> {
        let apply = |profile: &mut Profile| {
            change.apply(profile);
            Ok::<_, RecordError>(())
        };
        self.0.change(&id.to_string(), apply).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(json: &str) -> Result<ProfileChange, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn a_change_sets_removes_and_leaves_alone() {
        let mut profile = Profile::new(UserId::generate(), "ada@example.com");
        change(r#"{"displayName":" Ada ","bio":"first\nof all"}"#).unwrap().apply(&mut profile);
        assert_eq!(profile.display_name.as_deref(), Some("Ada"));
        change(r#"{"displayName":"Countess"}"#).unwrap().apply(&mut profile);
        assert_eq!(profile.bio.as_deref(), Some("first\nof all"));
        change(r#"{"bio":null}"#).unwrap().apply(&mut profile);
        assert_eq!((profile.display_name.as_deref(), profile.bio.as_deref()), (Some("Countess"), None));
    }

    #[test]
    fn only_the_fields_of_the_list_can_be_changed() {
        for refused in [
            r#"{"email":"eve@example.com"}"#,
            r#"{"userId":"x"}"#,
            r#"{"roles":["admin"]}"#,
            r#"{"displayName":""}"#,
            r#"{"displayName":"  "}"#,
            r#"{"displayName":"a\u0000b"}"#,
            r#"{"displayName":7}"#,
            r#"{"displayName":"a","displayName":"b"}"#,
        ] {
            assert!(change(refused).is_err(), "{refused}");
        }
        assert!(change(&format!(r#"{{"displayName":"{}"}}"#, "é".repeat(64))).is_ok());
        assert!(change(&format!(r#"{{"displayName":"{}"}}"#, "é".repeat(65))).is_err());
        assert!(change(&format!(r#"{{"bio":"{}"}}"#, "b".repeat(1_001))).is_err());
    }

    #[test]
    fn a_profile_is_camel_case_with_its_id_as_a_string() {
        let id = UserId::generate();
        let json = serde_json::to_string(&Profile::new(id, "ada@example.com")).unwrap();
        assert_eq!(json, format!(r#"{{"userId":"{id}","email":"ada@example.com"}}"#));
        assert!(!format!("{:?}", Profile::new(id, "ada@example.com")).contains("ada"));
    }

    #[test]
    fn only_the_usual_form_is_a_user_id() {
        let id = UserId::generate().to_string();
        for text in [
            id.to_uppercase(),
            id.replace('-', ""),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
            format!("{id}.get"),
            String::new(),
        ] {
            assert_eq!(UserId::parse(&text), None, "{text}");
        }
    }
}
