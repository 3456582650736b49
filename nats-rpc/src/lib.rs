//! A NATS-native microservice framework.

#[cfg(feature = "testing")]
pub mod testing;
