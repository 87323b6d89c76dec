//! Tests that `schemas/openapi/ingress.yaml` and `schemas/asyncapi.yaml` describe what the code does, and that records
//! match the schemas of their payloads. They need no servers; `services/ingress/tests/openapi.rs` compares the answers
//! of a process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod document;
mod ingress;
mod payloads;
#[path = "../../../../services/notify/tests/support/sample.rs"]
mod sample;
#[path = "../support/mod.rs"]
mod support;
mod topics;
