//! cluster.toml (being written).
