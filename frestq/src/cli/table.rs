//! Tables that fit the terminal: long cells are cut or wrapped, and the least important columns
//! are left out.

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, Width};

use super::output::one_line;

/// A column may be cut to this many characters before a column is left out.
const NARROW: usize = 10;
/// The gap between two columns.
const GAP: usize = 2;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// The column with the largest rank is left out first.
    pub(super) rank: u8,
    /// Its cells are never cut.
    pub(super) whole: bool,
}

/// A column whose cells may be cut.
pub(super) const fn cut(name: &'static str, rank: u8) -> Column {
    Column {
        name,
        rank,
        whole: false,
    }
}

/// A column whose cells are shown whole.
pub(super) const fn whole(name: &'static str, rank: u8) -> Column {
    Column {
        name,
        rank,
        whole: true,
    }
}

/// How to show a cell that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Long {
    /// Cut it, so that a row is one line.
    Cut,
    /// Continue it in the next line, so that nothing is lost.
    Wrapped,
}

/// The width of the terminal on standard output; `None` for a file or a pipe, where nothing is
/// cut.
pub(super) fn terminal_width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

/// The height of the terminal on standard output, in lines.
pub(super) fn terminal_height() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(size.ws_row).filter(|rows| *rows > 0)
}

/// Renders a table, without a newline at its end. Columns that are empty in every row are left
/// out.
pub(super) fn render(
    columns: &[Column],
    rows: &[Vec<String>],
    width: Option<u16>,
    long: Long,
) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| one_line(cell)).collect())
        .collect();
    let shown = choose(columns, &rows, width.map(usize::from));
    let pick = |row: &[String]| -> Row {
        let mut row = Row::from(shown.iter().map(|&i| row[i].clone()).collect::<Vec<_>>());
        if long == Long::Cut {
            row.max_height(1);
        }
        row
    };
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let names: Vec<String> = columns.iter().map(|c| c.name.to_owned()).collect();
    table.set_header(pick(&names));
    for row in &rows {
        table.add_row(pick(row));
    }
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width);
    }
    let room = width.map_or(usize::MAX, usize::from);
    for (place, &index) in shown.iter().enumerate() {
        let Some(column) = table.column_mut(place) else {
            continue;
        };
        let last = place + 1 == shown.len();
        column.set_padding((0, if last { 0 } else { GAP as u16 }));
        let natural = natural_width(&columns[index], &rows, index);
        if columns[index].whole && natural + GAP <= room {
            column.set_constraint(ColumnConstraint::ContentWidth);
        } else if natural <= NARROW {
            let least = Width::Fixed((natural + GAP) as u16);
            column.set_constraint(ColumnConstraint::LowerBoundary(least));
        }
    }
    table.trim_fmt()
}

/// The indices of the columns that are not empty and fit.
fn choose(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len())
        .filter(|&i| rows.is_empty() || rows.iter().any(|row| !row[i].is_empty()))
        .collect();
    let least = |index: usize| {
        let natural = natural_width(&columns[index], rows, index);
        match columns[index].whole {
            true => natural,
            false => natural.min(NARROW),
        }
    };
    let Some(width) = width else { return shown };
    while shown.len() > 1 && shown.iter().map(|&i| least(i) + GAP).sum::<usize>() > width + GAP {
        let Some(place) = (0..shown.len()).max_by_key(|&place| columns[shown[place]].rank) else {
            break;
        };
        shown.remove(place);
    }
    shown
}

fn natural_width(column: &Column, rows: &[Vec<String>], index: usize) -> usize {
    let cells = rows.iter().map(|row| row[index].as_str());
    cells
        .chain([column.name])
        .map(|cell| cell.chars().count())
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        whole("id", 0),
        whole("status", 1),
        cut("action", 2),
        cut("label", 5),
        cut("peer", 4),
    ];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
        vec![
            row([
                "0198c0de-1111-7aaa",
                "finished",
                "generate_public_key_with_a_long_name",
                "",
                "https://auth1.example.org:5000/api/queues",
            ]),
            row([
                "0198c0de-2222-7bbb",
                "error",
                "hello_world and more of it, over many words",
                "",
                "x",
            ]),
        ]
    }

    #[test]
    fn a_table_fits_the_width_whatever_it_is() {
        for width in [20, 30, 40, 60, 80, 100, 120, 200] {
            let table = render(COLUMNS, &rows(), Some(width), Long::Cut);
            for line in table.lines() {
                assert!(line.chars().count() <= width.into(), "{width}:\n{table}");
            }
            assert_eq!(table.lines().count(), 3, "{width}:\n{table}");
            assert!(table.contains("0198c0de-1111-7aaa"), "{width}:\n{table}");
        }
    }

    #[test]
    fn long_cells_are_cut_before_columns_are_left_out() {
        let table = render(COLUMNS, &rows(), Some(80), Long::Cut);
        assert!(table.contains('…') && table.contains("peer"), "{table}");
        let table = render(COLUMNS, &rows(), Some(40), Long::Cut);
        assert!(
            table.contains("action") && !table.contains("peer"),
            "{table}"
        );
    }

    #[test]
    fn in_a_pipe_nothing_is_cut() {
        let table = render(COLUMNS, &rows(), None, Long::Cut);
        assert!(
            table.contains("https://auth1.example.org:5000/api/queues"),
            "{table}"
        );
        assert!(table.contains("over many words"), "{table}");
    }

    #[test]
    fn an_empty_column_takes_no_room() {
        assert!(!render(COLUMNS, &rows(), None, Long::Cut).contains("label"));
    }

    #[test]
    fn a_wrapped_table_loses_nothing() {
        let table = render(COLUMNS, &rows(), Some(60), Long::Wrapped);
        assert!(!table.contains('…') && table.lines().count() > 3, "{table}");
        assert!(
            table.lines().all(|line| line.chars().count() <= 60),
            "{table}"
        );
    }
}
