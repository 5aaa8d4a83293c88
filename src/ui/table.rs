//! A table without borders, made for reading and for `awk`: columns two spaces apart, the last one wrapped
//! under itself when the terminal is narrow. Cells are escaped here, so no renderer can forget it.

use anstyle::Style;

use super::escape::plain;
use super::style::{DIM, Line, NONE, width};

const GAP: usize = 2;
/// A last column narrower than this is not worth wrapping into.
const NARROWEST: usize = 16;

pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub fn new(style: Style, text: impl AsRef<str>) -> Self {
        Self { text: plain(text.as_ref()), style }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(NONE, text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(NONE, text)
    }
}

pub struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|h| Cell::new(DIM, h)).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table, a line feed after every line. `room`: the terminal's columns; `None` never wraps.
    pub fn render(&self, room: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for row in &self.rows {
            for (cell, w) in row.iter().zip(&mut widths) {
                *w = width(&cell.text).max(*w);
            }
        }
        let before_last: usize = widths.iter().rev().skip(1).map(|w| w + GAP).sum();
        let last_room = room.map(|r| r.saturating_sub(before_last).max(NARROWEST));
        let mut out = String::new();
        for row in &self.rows {
            render_row(row, &widths, last_room, before_last, &mut out);
        }
        out
    }
}

fn render_row(row: &[Cell], widths: &[usize], last_room: Option<usize>, before_last: usize, out: &mut String) {
    let Some((last, others)) = row.split_last() else { return };
    let mut line = Line::new();
    let mut end = 0;
    for (cell, w) in others.iter().zip(widths) {
        end += w + GAP;
        line = line.push(cell.style, cell.text.as_str()).pad_to(end);
    }
    for (at, piece) in wrap(&last.text, last_room).into_iter().enumerate() {
        let line = if at == 0 { line.clone() } else { Line::new().pad_to(before_last) };
        out.push_str(&line.push(last.style, piece).paint(None));
        out.push('\n');
    }
}

/// `text` in pieces of at most `room` columns, broken at spaces; a longer word stays whole.
pub fn wrap(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else { return vec![text.to_owned()] };
    let mut pieces = vec![String::new()];
    for word in text.split(' ') {
        let now = pieces.last_mut().expect("there is one from the start");
        if now.is_empty() {
            now.push_str(word);
        } else if width(now) + 1 + width(word) <= room {
            now.push(' ');
            now.push_str(word);
        } else {
            pieces.push(word.to_owned());
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::style::{GOOD, strip};
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["HOST", "SAYS"]);
        table.row(["日本".into(), Cell::new(GOOD, "one two three four five")]);
        table.row(["b\x1b[2J".into(), "".into()]);
        table
    }

    #[test]
    fn columns_align_by_width_and_cells_are_escaped() {
        insta::assert_snapshot!(strip(&table().render(None)), @r"
        HOST        SAYS
        日本        one two three four five
        b\u{1b}[2J
        ");
    }

    #[test]
    fn a_narrow_terminal_wraps_the_last_column_under_itself() {
        insta::assert_snapshot!(strip(&table().render(Some(20))), @r"
        HOST        SAYS
        日本        one two three
                    four five
        b\u{1b}[2J
        ");
    }
}
