//! Decisions: what stands on a host, what must change, and why. Pure functions of values: no async, no
//! files, no clock, no environment. Knows only `model`.

pub mod dialect;
pub mod names;
pub mod plan;
pub mod render;
pub mod select;
pub mod templates;
