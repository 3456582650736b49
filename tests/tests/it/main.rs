//! The integration tests, as one binary: every test that needs a real nats-server is here.

mod nats_server;
