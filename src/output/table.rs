//! Columns that line up.

use super::{line, plain};
use serde_json::Value;

/// A table: a heading and rows. Wide columns are kept only where asked for.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    wide: bool,
}

struct Column {
    name: &'static str,
    wide: bool,
}

impl Table {
    /// A table with these columns; a name in parentheses stands only in the wide form.
    pub(crate) fn new(names: &[&'static str], wide: bool) -> Self {
        let column = |name: &&'static str| match name.strip_prefix('(').and_then(|name| name.strip_suffix(')')) {
            Some(name) => Column { name, wide: true },
            None => Column { name, wide: false },
        };
        Self { columns: names.iter().map(column).collect(), rows: Vec::new(), wide }
    }

    /// Adds a row: a cell for each column, wide ones included.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells.iter().map(|cell| plain(cell)).collect());
    }

    /// Prints it; without rows, only the heading.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let heading: Vec<String> = self.columns.iter().map(|column| column.name.to_owned()).collect();
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| self.width(&heading, at)).collect();
        std::iter::once(&heading).chain(&self.rows).try_for_each(|row| line(&self.render(row, &widths)))
    }

    /// Prints the rows without the heading, each behind `indent`.
    pub(crate) fn print_rows(&self, indent: &str) -> anyhow::Result<()> {
        let heading = vec![String::new(); self.columns.len()];
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| self.width(&heading, at)).collect();
        self.rows.iter().try_for_each(|row| line(&format!("{indent}{}", self.render(row, &widths))))
    }

    fn width(&self, heading: &[String], at: usize) -> usize {
        let cells = std::iter::once(&heading[at]).chain(self.rows.iter().map(|row| &row[at]));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    }

    fn render(&self, row: &[String], widths: &[usize]) -> String {
        let shown = self.columns.iter().zip(row).zip(widths).filter(|((column, _), _)| self.wide || !column.wide);
        let padded: Vec<String> = shown.map(|((_, cell), width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    }
}

/// A JSON value as a cell: texts without quotes, `-` for what is not there.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells() {
        assert_eq!(cell(&json!(["a", 1])), "a,1");
        assert_eq!(cell(&json!("")), "-");
        assert_eq!(cell(&Value::Null), "-");
    }

    #[test]
    fn wide_columns_are_dropped() {
        let mut table = Table::new(&["NAME", "(ID)", "AGE"], false);
        table.row(vec!["a\u{1b}b".to_owned(), "7".to_owned(), cell(&Value::Null)]);
        let widths = [4, 2, 3];
        assert_eq!(table.render(&table.rows[0], &widths), "a b   -");
    }
}
