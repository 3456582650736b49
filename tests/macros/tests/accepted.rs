//! Accepted forms of handlers and attributes.

#[path = "accepted/attributes_in_any_order.rs"]
mod attributes_in_any_order;
#[path = "accepted/every_reply.rs"]
mod every_reply;
#[path = "accepted/imports_of_attributes.rs"]
mod imports_of_attributes;
#[path = "accepted/streams.rs"]
mod streams;
