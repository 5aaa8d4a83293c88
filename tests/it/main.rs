//! The one integration-test binary: every module is linked once. See CONTRIBUTING.md, "Tests".

mod boot;
mod ci;
mod ci_images;
mod cli;
mod consul_template;
mod docs;
mod e2e;
mod ec2;
mod ec2_images;
mod find_leader;
mod floors;
mod lab;
mod lab_join;
mod lease;
mod moto;
mod older;
mod programs;
mod reap;
mod remote;
mod remote_way;
mod render;
mod sandbox;
mod sshd;
mod support;
mod terraform;
mod upstart;
