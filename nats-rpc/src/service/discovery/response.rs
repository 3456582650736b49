//! The replies of ADR-32 as JSON, field for field.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::service::stats::{BUCKETS_MS, RouteStats};

#[derive(Serialize)]
pub(super) struct Head<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    pub(super) id: &'a str,
    pub(super) version: &'a str,
    pub(super) metadata: HashMap<&'a str, &'a str>,
}

#[derive(Serialize)]
pub(super) struct InfoResponse<'a> {
    #[serde(flatten)]
    pub(super) head: Head<'a>,
    pub(super) description: &'a str,
    pub(super) endpoints: Vec<EndpointInfo<'a>>,
}

#[derive(Serialize)]
pub(super) struct EndpointInfo<'a> {
    pub(super) name: &'a str,
    pub(super) subject: &'a str,
    pub(super) queue_group: &'a str,
    pub(super) metadata: HashMap<&'static str, String>,
}

#[derive(Serialize)]
pub(super) struct StatsResponse<'a> {
    #[serde(flatten)]
    pub(super) head: Head<'a>,
    pub(super) started: &'a str,
    pub(super) endpoints: Vec<EndpointStats<'a>>,
}

/// The statistics of one endpoint. Times are whole nanoseconds.
#[derive(Serialize)]
pub(super) struct EndpointStats<'a> {
    pub(super) name: &'a str,
    pub(super) subject: &'a str,
    pub(super) queue_group: &'a str,
    pub(super) num_requests: u64,
    pub(super) num_errors: u64,
    pub(super) last_error: String,
    pub(super) processing_time: u64,
    pub(super) average_processing_time: u64,
    pub(super) data: StatsData,
}

/// The service-specific part of the statistics, which ADR-32 leaves open.
#[derive(Serialize)]
pub(super) struct StatsData {
    pub(super) shed: u64,
    pub(super) expired: u64,
    pub(super) unexpected: u64,
    pub(super) rejected_reply_subjects: u64,
    /// Requests grouped by their time from arrival to reply.
    pub(super) latency: Vec<Bucket>,
}

#[derive(Serialize)]
pub(super) struct Bucket {
    /// The upper bound; `None` for the last bucket.
    pub(super) up_to_ms: Option<u64>,
    pub(super) requests: u64,
}

impl<'a> EndpointStats<'a> {
    pub(super) fn new(info: &EndpointInfo<'a>, stats: RouteStats) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let processing_time = nanos(stats.busy);
        let bounds = BUCKETS_MS.into_iter().map(Some).chain([None]);
        let latency = bounds.zip(stats.latency).map(|(up_to_ms, requests)| Bucket { up_to_ms, requests });
        Self {
            name: info.name,
            subject: info.subject,
            queue_group: info.queue_group,
            num_requests: stats.requests,
            num_errors: stats.errors,
            last_error: stats.last_error,
            processing_time,
            average_processing_time: processing_time.checked_div(stats.requests).unwrap_or_default(),
            data: StatsData {
                shed: stats.shed,
                expired: stats.expired,
                unexpected: stats.unexpected,
                rejected_reply_subjects: stats.rejected_reply_subjects,
                latency: latency.collect(),
            },
        }
    }
}
