//! Parses the command line and turns what comes back into an exit code.

fn main() {}
