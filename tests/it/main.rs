//! The one integration-test binary: every module is linked once. See CONTRIBUTING.md, "Tests".

mod floors;
