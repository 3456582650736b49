//! Graceful shutdown by counting, for a nats-server that does not end a subscription at once.
//!
//! As long as their connection has not broken, client and server count the same messages. A count slightly ahead of
//! the current one ends both sides after the same message, and nothing is lost. If too few messages arrive to reach
//! the count, or the connection has broken, only a drain is possible: it loses the messages in transit.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{BARRIER_LIMIT, Loops, Step, order};
use crate::service::dispatch::Endpoint;

/// The time over which the rate of messages is measured.
const WINDOW: Duration = Duration::from_millis(100);
/// The possible delay of an order, in this process and in the server.
const SLACK: Duration = Duration::from_millis(50);
/// The minimum number of further messages.
const LEAST_MARGIN: u64 = 2;
/// The time limit for the further messages to arrive.
const COUNT_LIMIT: Duration = Duration::from_secs(1);

impl Loops<'_> {
    /// Ends the intake of every loop, by count if possible.
    pub(super) async fn end_by_count(&self) {
        tracing::warn!("this nats-server does not end a subscription at once: its messages are counted instead");
        if self.unbroken && self.count_to_the_end().await {
            return;
        }
        tracing::warn!("requests may be lost: too few came to end the subscriptions behind one of them");
        self.order_all(Step::Drain).await;
        // After this echo, all messages from the server have arrived, and the subscriptions have ended.
        if let Err(error) = self.connection.round_trip(BARRIER_LIMIT).await {
            tracing::warn!(%error, "nats-server did not confirm that it sends no more");
        }
    }

    /// Returns `true` if every subscription reached its count in time.
    async fn count_to_the_end(&self) -> bool {
        let Ok(round_trip) = self.connection.round_trip(BARRIER_LIMIT).await else { return false };
        let before: Vec<_> = self.endpoints.iter().map(finished).collect();
        tokio::time::sleep(WINDOW).await;
        let each = self.endpoints.iter().zip(before).zip(self.orders);
        let ended: Vec<_> = each
            .map(|((endpoint, before), orders)| {
                let in_window = finished(endpoint).wrapping_sub(before);
                order(orders, Step::EndAfter(margin(in_window, round_trip)))
            })
            .collect();
        tokio::time::timeout(COUNT_LIMIT, join_all(ended)).await.is_ok()
    }
}

fn finished(endpoint: &Arc<Endpoint>) -> u64 {
    endpoint.counters.finished_so_far()
}

/// Returns how many messages may arrive before the server has read the count, at the measured rate.
fn margin(in_window: u64, round_trip: Duration) -> u64 {
    let windows = (round_trip + SLACK).as_secs_f64() / WINDOW.as_secs_f64();
    (in_window as f64 * windows).ceil() as u64 + LEAST_MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_grows_with_the_rate_and_the_round_trip() {
        assert_eq!(margin(0, Duration::from_secs(1)), LEAST_MARGIN);
        assert_eq!(margin(200, Duration::ZERO), 100 + LEAST_MARGIN);
        assert_eq!(margin(200, Duration::from_millis(50)), 200 + LEAST_MARGIN);
    }
}
