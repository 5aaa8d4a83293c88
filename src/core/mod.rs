//! Decisions: what stands on a host, what must change, and why. Pure functions of values: no async, no
//! files, no clock, no environment. Knows only `model`.

pub mod bake;
pub mod dialect;
pub mod ec2;
pub mod fleet;
pub mod image;
pub mod imaged;
pub mod install;
pub mod judge;
pub mod names;
pub mod plan;
pub mod release;
pub mod render;
pub mod seal;
pub mod select;
pub mod specfile;
pub mod templates;
pub mod terraform;
pub mod upstart;
