//! Entries as lines of aligned columns. A column that nobody fills is left out; a list of nothing but names is nothing but names, so
//! that scripts can read it. Columns and widths are those of the first page: later ones come when the first has been printed.

use std::fmt::Write as _;

use super::ui::size;
use crate::ops::entry::Entry;

/// Lines are not to break: a description ends here.
const LONGEST_TEXT: usize = 60;

type Cell = fn(&Entry) -> Option<String>;

/// Every column, in order.
const COLUMNS: [(&str, Cell); 11] = [
    ("NAME", |entry| Some(entry.name.clone())),
    ("DIGEST", |entry| entry.digest.as_deref().map(short)),
    ("SIZE", |entry| entry.facts.size.map(size)),
    ("TAGS", |entry| entry.facts.tags.map(|count| count.to_string())),
    ("PUSHED", |entry| entry.facts.pushed_at.as_deref().map(time)),
    ("UPDATED", |entry| entry.facts.updated_at.as_deref().map(time)),
    ("PULLED", |entry| entry.facts.pulled_at.as_deref().map(time)),
    ("PULLS", |entry| entry.facts.pulls.map(|count| count.to_string())),
    ("VISIBILITY", |entry| entry.facts.visibility.clone()),
    ("IMMUTABLE", |entry| entry.facts.immutable.filter(|immutable| *immutable).map(|_| "yes".to_owned())),
    ("DESCRIPTION", |entry| entry.facts.description.as_deref().map(clip)),
];

/// A table in the making.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Index into the columns, and width.
    columns: Vec<(usize, usize)>,
}

impl Table {
    /// The lines of one more page.
    pub(super) fn rows(&mut self, entries: &[Entry]) -> String {
        let cells: Vec<Vec<Option<String>>> =
            entries.iter().map(|entry| COLUMNS.iter().map(|(_, cell)| cell(entry)).collect()).collect();
        let mut text = String::new();
        if self.columns.is_empty() {
            let used = |column: &usize| *column == 0 || cells.iter().any(|row| row[*column].is_some());
            let used: Vec<usize> = (0..COLUMNS.len()).filter(used).collect();
            let titled = used.len() > 1;
            let width = |column: usize| {
                let title = if titled { COLUMNS[column].0.len() } else { 0 };
                cells
                    .iter()
                    .flat_map(|row| &row[column])
                    .map(|cell| cell.chars().count())
                    .fold(title, usize::max)
            };
            self.columns = used.into_iter().map(|column| (column, width(column))).collect();
            if titled {
                line(&mut text, self.columns.iter().map(|(column, width)| (COLUMNS[*column].0, *width)));
            }
        }
        for row in &cells {
            let of = |(column, width): &(usize, usize)| (row[*column].as_deref().unwrap_or("-"), *width);
            line(&mut text, self.columns.iter().map(of));
        }
        text
    }
}

fn line<'a>(text: &mut String, cells: impl Iterator<Item = (&'a str, usize)>) {
    let mut line = String::new();
    for (cell, width) in cells {
        let _ = write!(line, "{cell:<width$}  ");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// `sha256:` and twelve digits: enough to tell one from another, and to find the whole one in the JSON.
fn short(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) => format!("{algorithm}:{}", hex.get(..12).unwrap_or(hex)),
        None => digest.to_owned(),
    }
}

/// RFC 3339 to the minute: `2026-07-01T10:00Z`.
pub(super) fn time(text: &str) -> String {
    let Some((minute, rest)) = text.split_at_checked(16).filter(|(minute, _)| minute.as_bytes()[10] == b'T')
    else {
        return text.to_owned();
    };
    let zone = rest.find(['Z', 'z', '+', '-']).map_or("", |at| &rest[at..]);
    let zone = if matches!(zone, "z" | "+00:00" | "-00:00") { "Z" } else { zone };
    format!("{minute}{zone}")
}

/// The first line, not too long.
pub(super) fn clip(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if line.chars().count() <= LONGEST_TEXT {
        return line.to_owned();
    }
    let mut line: String = line.chars().take(LONGEST_TEXT - 1).collect();
    line.push('…');
    line
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::{Table, clip, time};
    use crate::ops::entry::{Entry, Facts};

    fn entry(name: &str, facts: Facts) -> Entry {
        Entry { name: name.to_owned(), digest: None, facts }
    }

    #[test]
    fn names_alone() {
        let rows = Table::default().rows(&[entry("a", Facts::default()), entry("long", Facts::default())]);
        assert_eq!(rows, "a\nlong\n");
    }

    #[test]
    fn columns_of_the_first_page() {
        let mut table = Table::default();
        let sized = |bytes| Facts { size: Some(bytes), ..Facts::default() };
        let mut tagged = entry("1.0", sized(2048));
        tagged.digest = Some(format!("sha256:{}", "ab".repeat(32)));
        let first = table.rows(&[tagged, entry("latest", Facts::default())]);
        let second = table.rows(&[entry("something longer", Facts { pulls: Some(3), ..sized(1) })]);
        assert_snapshot!(format!("{first}{second}"), @r"
        NAME    DIGEST               SIZE
        1.0     sha256:abababababab  2.0 KiB
        latest  -                    -
        something longer  -                    1 B
        ");
    }

    #[test]
    fn times_and_texts() {
        for (text, expect) in [
            ("2026-07-01T10:00:59Z", "2026-07-01T10:00Z"),
            ("2026-07-01T10:00:59.123456+00:00", "2026-07-01T10:00Z"),
            ("2026-07-01T10:00:59+02:00", "2026-07-01T10:00+02:00"),
            ("yesterday", "yesterday"),
            ("", ""),
        ] {
            assert_eq!(time(text), expect);
        }
        assert_eq!(clip("\n one \n two"), "one");
        assert_eq!(clip(&"x".repeat(100)).chars().count(), 60);
    }
}
