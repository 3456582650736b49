use std::time::Duration;

use super::UnexpectedMessage;

#[derive(Debug)]
pub(crate) struct RouteMetrics;

impl RouteMetrics {
    pub(crate) fn new(_service: &str, _handler: &'static str) -> Self {
        Self
    }

    pub(crate) fn began(&self) {}

    pub(crate) fn finished(&self, _took: Duration, _outcome: &'static str) {}

    pub(crate) fn shed(&self) {}

    pub(crate) fn unexpected(&self, _reason: UnexpectedMessage) {}

    pub(crate) fn rejected_reply_subject(&self) {}
}

pub(crate) fn discovery_rejected(_service: &str) {}

pub(crate) fn call_finished(_took: Duration, _outcome: &'static str) {}

pub(crate) fn connection_is_up(_up: bool) {}

pub(crate) fn connection_lost() {}

pub(crate) fn messages_dropped() {}

pub(crate) fn message_unreadable() {}
