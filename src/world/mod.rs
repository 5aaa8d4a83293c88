//! The outside: clouds, SSH, the artifact cache, Consul's and Prometheus' APIs. Each behind a small
//! trait with its in-memory fake. Knows nothing of `ui`, and decides nothing.

pub mod artifacts;
pub mod cloud;
pub mod commit;
pub mod consul;
pub mod folder;
pub mod http;
pub mod prometheus;
pub mod remote;
pub mod trial;
