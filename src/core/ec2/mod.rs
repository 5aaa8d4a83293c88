//! What can be decided about EC2 without asking it: who leads, what images and tokens are called, which ports
//! are open, what a policy says, what an error means. No AWS type is known here; `world::cloud::ec2` calls.

pub mod console;
pub mod cure;
pub mod discover;
pub mod fleet;
pub mod images;
pub mod label;
pub mod policy;
pub mod ports;
pub mod token;
pub mod user_data;
