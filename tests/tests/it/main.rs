//! How the framework and the services behave, on real nats-servers.

mod admission;
mod bad_input;
mod calls;
mod connection;
mod deadlines;
mod demo;
mod events;
mod guards;
mod layering;
mod loss_free_stop;
mod nats_server;
mod nest;
mod renewal;
mod services;
mod sessions;
mod start;
mod support;
