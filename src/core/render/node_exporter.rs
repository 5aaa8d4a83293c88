//! node_exporter: a program and its unit.

use std::net::SocketAddr;

use super::context::Values;
use super::place::{unit, user};
use super::{Making, NODE_EXPORTER_PORT, RenderError, Unit};
use crate::model::version::Program;

impl Making<'_> {
    pub(super) fn node_exporter(&mut self) -> Result<(), RenderError> {
        let listen = self.listen(NODE_EXPORTER_PORT);
        self.wanted.users.push(user("node_exporter", "/nonexistent"));
        self.programs(Program::NodeExporter, &unit("node_exporter"))?;
        let args = self.node_exporter_arguments(&listen);
        let of = Unit { name: "node_exporter", program: Program::NodeExporter, user: "node_exporter", args };
        self.unit_file(of, Values::new())
    }

    /// `address:port` on the host's private address, or the port on all of them where nobody knows it yet.
    pub(super) fn listen(&self, port: u16) -> String {
        match self.subject.address {
            Some(address) => SocketAddr::new(address, port).to_string(),
            None => format!(":{port}"),
        }
    }
}
