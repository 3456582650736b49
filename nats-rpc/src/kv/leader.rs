//! The state of a bucket's stream, accepted only from the leader of the stream.
//!
//! In a cluster, every server with a copy of a stream may be behind the leader. A server whose group has lost its
//! leader still replies to `STREAM.INFO` from its own copy, for as long as it is cut off from the others.

use std::error::Error;

use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::{ClusterInfo, Info};

/// Returns the state of the stream as its leader reports it.
///
/// # Errors
/// If there is no reply, or the server that replies has no leader.
pub async fn info(store: &Store) -> Result<Info, Box<dyn Error + Send + Sync>> {
    let info = store.stream.get_info().await?;
    if is_leaderless(info.cluster.as_ref()) {
        return Err("its stream has no leader".into());
    }
    Ok(info)
}

/// Returns the creation time of the stream, in nanoseconds since 1970. It distinguishes the stream from a later one of
/// the same name.
pub fn created(info: &Info) -> i64 {
    // The number fits until 2262.
    i64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

/// Returns `true` if the replying server belongs to a group without a leader. A server without a cluster leads all its
/// streams.
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
