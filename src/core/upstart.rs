//! stub
use semver::Version;
pub struct Job;
#[derive(Debug)]
pub struct Mistake;
impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("x")
    }
}
pub fn check(_: &str, _: &Version) -> Result<Job, Vec<Mistake>> {
    Ok(Job)
}
