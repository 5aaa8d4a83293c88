//! Durations as people read them. How a spec writes them is `spec::Span`'s matter.

use std::fmt;
use std::time::Duration;

/// A duration as people read it: `0.9 s`, `60 s`, `2 min 05 s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting(pub Duration);

impl fmt::Display for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded once, so that 9.96 s is not shown as 10.0 s.
        let tenths = (self.0.as_millis() + 50) / 100;
        let seconds = (self.0.as_millis() + 500) / 1000;
        match (tenths, seconds) {
            (0..100, _) if !tenths.is_multiple_of(10) => write!(f, "{}.{} s", tenths / 10, tenths % 10),
            (_, 0..100) => write!(f, "{seconds} s"),
            _ => write!(f, "{} min {:02} s", seconds / 60, seconds % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_read_them() {
        let shown = [0, 40, 900, 1000, 1240, 9_960, 10_400, 59_921, 60_000, 99_400, 125_000, 600_000]
            .map(|ms| Lasting(Duration::from_millis(ms)).to_string());
        let read = [
            "0 s",
            "0 s",
            "0.9 s",
            "1 s",
            "1.2 s",
            "10 s",
            "10 s",
            "60 s",
            "60 s",
            "99 s",
            "2 min 05 s",
            "10 min 00 s",
        ];
        assert_eq!(shown, read);
        assert_eq!(Lasting(Duration::from_nanos(1)).to_string(), "0 s");
    }
}
