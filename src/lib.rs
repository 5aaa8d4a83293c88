//! `clusterctl` bootstraps and runs a Consul cluster that Prometheus monitors.
//!
//! The floors, from the top (imports point down only; `tests/it/floors.rs` checks it):
//! [`cli`] wires, [`engine`] runs plans, [`world`] and [`ui`] are the outside, [`core`] decides,
//! [`model`] holds the plain types that all of them speak. docs/architecture.md has the picture.

pub mod cli;
pub mod core;
pub mod engine;
pub mod model;
pub mod ui;
pub mod world;
