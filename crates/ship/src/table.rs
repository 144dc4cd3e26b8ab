//! Tables for people.

use console::{Alignment, measure_text_width, pad_str, truncate_str};

/// Renders rows in lines of at most `width` columns. The first row is the header.
pub fn table(rows: &[Vec<String>], width: Option<usize>) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| measure_text_width(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| pad_str(cell, *width, Alignment::Left, None));
        let line = cells.collect::<Vec<_>>().join("  ");
        let line = line.trim_end();
        let line = width.map_or(line.into(), |width| truncate_str(line, width, "…"));
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Removes the columns in which no row but the header says anything.
pub fn without_empty(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let says = |cell: &String| !cell.is_empty() && cell != "-";
    let is_kept = |column: usize| rows.iter().skip(1).any(|row| row.get(column).is_some_and(says));
    let kept = |row: &Vec<String>| {
        let cells = row.iter().enumerate().filter(|(column, _)| is_kept(*column));
        cells.map(|(_, cell)| cell.clone()).collect()
    };
    rows.iter().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[&str; 3]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect()
    }

    #[test]
    fn columns_are_aligned_and_lines_are_cut() {
        let rows = rows(&[["", "NAME", "STATE"], ["*", "r1", "a long state"]]);
        assert_eq!(table(&rows, None), "   NAME  STATE\n*  r1    a long state\n");
        assert_eq!(table(&rows, Some(14)), "   NAME  STATE\n*  r1    a lo…\n");
    }

    #[test]
    fn a_column_that_says_nothing_is_left_out() {
        let rows = rows(&[["HOST", "ZONE", "STATE"], ["web1", "-", "healthy"]]);
        assert_eq!(without_empty(&rows), [["HOST", "STATE"], ["web1", "healthy"]]);
    }
}
