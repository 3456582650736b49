//! Reply subjects are input: a service and a client publish to inboxes, and to no other subject that a peer names.

mod attacks;
mod prefixes;
mod tokens;
