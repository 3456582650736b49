//! How the framework and the services behave, on real nats-servers.
#![allow(clippy::unwrap_used, clippy::large_futures, reason = "a test that cannot go on should stop, and runs once")]

mod admission;
mod attacks;
mod bad_input;
mod buckets;
mod calls;
mod chaos;
mod connection;
mod deadlines;
mod demo;
mod deployed;
mod discovery;
mod events;
mod guards;
mod interop;
mod keys;
mod layering;
mod loss_free_stop;
mod nats_server;
mod nest;
mod nest_client;
mod observability;
mod permissions;
mod process;
mod renewal;
mod revocation;
mod security_doc;
mod seen_through;
mod services;
mod sessions;
mod shards;
mod start;
mod stop_orders;
mod streams;
mod support;
mod tls;
