//! The one integration-test binary: every module is linked once. See CONTRIBUTING.md, "Tests".

mod cli;
mod consul_template;
mod e2e;
mod ec2;
mod floors;
mod lab;
mod programs;
mod remote;
mod remote_way;
mod sandbox;
mod sshd;
mod support;
