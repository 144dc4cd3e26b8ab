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

/// The columns that the last cell of a row needs at least beside the others.
const NARROWEST: usize = 30;

/// Renders rows as [`table`] does, whose last cells are sentences: these go on below, or where
/// there is no room beside the others, stand below them.
pub fn with_sentences(rows: &[Vec<String>], width: Option<usize>) -> String {
    let Some(width) = width else { return table(rows, None) };
    let last = rows.first().map_or(0, Vec::len).saturating_sub(1);
    let others: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().take(last).cloned().collect()).collect();
    let heads = table(&others, None);
    let column = heads.lines().map(measure_text_width).max().unwrap_or(0) + 2;
    let (column, is_beside) = if column + NARROWEST <= width { (column, true) } else { (2, false) };
    let mut text = String::new();
    for (row, head) in rows.iter().zip(heads.lines()) {
        let sentence = row.get(last).map(String::as_str).unwrap_or_default();
        let mut lines = wrapped(sentence, width.saturating_sub(column).max(1)).into_iter();
        let first = if is_beside { lines.next().unwrap_or_default() } else { String::new() };
        let head = pad_str(head, if is_beside { column } else { 0 }, Alignment::Left, None);
        text.push_str(&truncate_str(format!("{head}{first}").trim_end(), width, "…"));
        text.push('\n');
        lines.for_each(|line| text.push_str(&format!("{:column$}{line}\n", "")));
    }
    text
}

/// Splits a sentence into lines of at most `width` columns, at its spaces.
fn wrapped(sentence: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in sentence.split_whitespace() {
        let word = truncate_str(word, width, "…");
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(&word) <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word.into_owned()),
        }
    }
    lines
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
    fn a_sentence_goes_on_below_its_beginning_or_below_its_row() {
        let rows = [["ID", "OUTCOME"], ["5b1f", "r8 failed on web3: it did not become healthy"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).into()).collect();
        let beside = "ID    OUTCOME\n5b1f  r8 failed on web3: it did not\n      become healthy\n";
        assert_eq!(with_sentences(&rows, Some(38)), beside);
        let below =
            "ID\n  OUTCOME\n5b1f\n  r8 failed on\n  web3: it did\n  not become\n  healthy\n";
        assert_eq!(with_sentences(&rows, Some(15)), below);
        let whole = "ID    OUTCOME\n5b1f  r8 failed on web3: it did not become healthy\n";
        assert_eq!(with_sentences(&rows, None), whole);
        for width in 0..40 {
            let text = with_sentences(&rows, Some(width));
            let widest = text.lines().map(measure_text_width).max();
            assert!(widest <= Some(width.max(3)), "{width}: {text}");
        }
    }

    #[test]
    fn a_column_that_says_nothing_is_left_out() {
        let rows = rows(&[["HOST", "ZONE", "STATE"], ["web1", "-", "healthy"]]);
        assert_eq!(without_empty(&rows), [["HOST", "STATE"], ["web1", "healthy"]]);
    }
}
