//! Colours and lines made of coloured pieces. Everything is composed with colours; the stream that takes
//! it removes them where they are not wanted.

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub const NONE: Style = Style::new();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const WARN: Style = AnsiColor::Yellow.on_default();
pub const INFO: Style = AnsiColor::Cyan.on_default();
pub const DIM: Style = Style::new().dimmed();
pub const BOLD: Style = Style::new().bold();

/// `text` in `style`; text without a style stays as it is.
pub fn paint(style: Style, text: &str) -> String {
    if style == NONE || text.is_empty() { text.to_owned() } else { format!("{style}{text}{style:#}") }
}

/// How many columns of a terminal `text` takes. For text without colours.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// `text` without its colours.
pub fn strip(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// The beginning of `text` that fits in `room` columns, with `…` where something was cut.
pub fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let mut out = String::new();
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if w > left {
            break;
        }
        left -= w;
        out.push(c);
    }
    if room > 0 {
        out.push('…');
    }
    out
}

/// One line in pieces, so that it can be cut to a width before it is coloured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(Vec<(Style, String)>);

impl Line {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn push(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// Fills up with spaces until the line takes `columns`.
    #[must_use]
    pub fn pad_to(self, columns: usize) -> Self {
        let missing = columns.saturating_sub(self.width());
        self.push(NONE, " ".repeat(missing))
    }

    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| width(text)).sum()
    }

    /// The line with its colours, cut to `room` columns, without spaces at its end.
    pub fn paint(&self, room: Option<usize>) -> String {
        let mut left = room.unwrap_or(usize::MAX);
        let mut out = String::new();
        let last = self.0.iter().rposition(|(_, text)| !text.trim_end().is_empty());
        for (at, (style, text)) in self.0.iter().enumerate().take(last.map_or(0, |l| l + 1)) {
            let text = if Some(at) == last { text.trim_end() } else { text };
            let piece = cut(text, left);
            left -= width(&piece).min(left);
            out.push_str(&paint(*style, &piece));
            if piece != text || left == 0 {
                break;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_counts_columns_not_characters() {
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn a_line_is_cut_across_its_pieces_and_keeps_its_colours() {
        let line = Line::new().push(GOOD, "✓").push(NONE, " host-1 ").push(DIM, "12 changes").push(NONE, "   ");
        assert_eq!(strip(&line.paint(None)), "✓ host-1 12 changes");
        assert_eq!(strip(&line.paint(Some(12))), "✓ host-1 12…");
        assert!(line.paint(None).contains("\x1b[32m✓\x1b[0m"));
        assert_eq!(Line::new().push(NONE, "  ").paint(None), "");
    }
}
