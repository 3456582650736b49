//! Tests of the attribute macros: `tests/accepted` compiles, and each file of `ui` is rejected.
