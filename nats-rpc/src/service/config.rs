use async_nats::jetstream;

use crate::connection::Connection;

/// What a service knows when its parts are made: its connection, and its name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Config {
    connection: Connection,
    service: String,
}

impl Config {
    pub(super) fn new(connection: Connection, service: &str) -> Self {
        Self { connection, service: service.to_owned() }
    }

    /// The service's connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// JetStream on that connection.
    pub fn jetstream(&self) -> jetstream::Context {
        self.connection.jetstream()
    }

    /// The service's name.
    pub fn service(&self) -> &str {
        &self.service
    }
}
