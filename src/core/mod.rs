//! core

pub mod release;
