//! The one integration-test binary: every module is linked once. See CONTRIBUTING.md, "Tests".

mod ci;
mod cli;
mod consul_template;
mod e2e;
mod ec2;
mod find_leader;
mod floors;
mod lab;
mod lab_join;
mod moto;
mod older;
mod programs;
mod remote;
mod remote_way;
mod render;
mod sandbox;
mod sandbox_image;
mod sshd;
mod support;
mod upstart;
