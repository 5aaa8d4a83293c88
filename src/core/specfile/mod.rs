//! cluster.toml (being written).
use crate::model::{name::ClusterName, spec::Spec};
#[derive(Debug, Clone, thiserror::Error)]
#[error("x")]
pub struct SpecErrors;
pub fn parse(_text: &str, _file: &str) -> Result<Spec, SpecErrors> {
    Err(SpecErrors)
}
pub fn starter(_name: &ClusterName) -> String {
    String::new()
}
