//! What the leader of a bucket's stream says of it, and nobody else.
//!
//! In a cluster every server with a copy of a stream may be behind the leader. One whose group has lost its
//! leader answers `STREAM.INFO` all the same, from its own copy, for as long as it is cut off from the others.

use std::error::Error;

use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::{ClusterInfo, Info};

/// How the stream is, by its leader's word.
///
/// # Errors
/// If nobody answers, or somebody who knows of no leader.
pub async fn info(store: &Store) -> Result<Info, Box<dyn Error + Send + Sync>> {
    let info = store.stream.get_info().await?;
    if is_leaderless(info.cluster.as_ref()) {
        return Err("its stream has no leader".into());
    }
    Ok(info)
}

/// When the stream was created, in nanoseconds since 1970; by that it is told from another one of its name.
pub fn created(info: &Info) -> i64 {
    // Fits until 2262.
    i64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

/// Whether whoever answered belongs to a group that has no leader. A server without a cluster leads all it has.
fn is_leaderless(cluster: Option<&ClusterInfo>) -> bool {
    cluster.is_some_and(|cluster| cluster.leader.as_deref().is_none_or(str::is_empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_a_cluster_and_names_no_leader_has_none() {
        let read = |text: &str| serde_json::from_str::<ClusterInfo>(text).unwrap();
        let leaderless = |text| is_leaderless(Some(&read(text)));
        assert!(leaderless(r#"{"name":"c","replicas":[{"name":"n1","current":false,"offline":true,"active":1}]}"#));
        assert!(leaderless(r#"{"name":"c","leader":""}"#));
        assert!(!leaderless(r#"{"name":"c","leader":"n1"}"#));
        assert!(!leaderless(r#"{"leader":"alone"}"#));
        assert!(!is_leaderless(None));
    }
}
