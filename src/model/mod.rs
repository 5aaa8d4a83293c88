//! Plain, validated types that every other floor speaks. No logic beyond validation, no I/O.

pub mod artifact;
pub mod baked;
pub mod baking;
pub mod ec2;
pub mod event;
pub mod facts;
pub mod file;
pub mod fleet;
pub mod host;
pub mod image;
pub mod init;
pub mod jump;
pub mod lasting;
pub mod lease;
pub mod name;
pub mod plan;
pub mod report;
pub mod spec;
pub mod stream;
pub mod version;
