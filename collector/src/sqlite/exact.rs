//! Exact arithmetic inside SQL.

use rusqlite::Connection;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};

/// Why two texts were not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ExactError {
    /// Not a whole number of 128 bits.
    #[error("`{0}` is not a whole number of 128 bits")]
    NotANumber(String),
    /// The sum needs more than 128 bits.
    #[error("{0} + {1} needs more than 128 bits")]
    Overflow(i128, i128),
}

fn parse(text: &str) -> Result<i128, ExactError> {
    text.parse()
        .map_err(|_| ExactError::NotANumber(text.to_owned()))
}

fn larger(left: &str, right: &str) -> Result<String, ExactError> {
    Ok(parse(left)?.max(parse(right)?).to_string())
}

fn user<T>(result: Result<T, ExactError>) -> rusqlite::Result<T> {
    result.map_err(|error| rusqlite::Error::UserFunctionError(Box::new(error)))
}

fn add(left: &str, right: &str) -> Result<String, ExactError> {
    let (left, right) = (parse(left)?, parse(right)?);
    let sum = left
        .checked_add(right)
        .ok_or(ExactError::Overflow(left, right))?;
    Ok(sum.to_string())
}

/// Like [`add`], but what leaves the range stays at its end, where nobody takes it for an
/// amount: what agents send must not stop those who write it down.
fn added(left: &str, right: &str) -> Result<String, ExactError> {
    Ok(parse(left)?.saturating_add(parse(right)?).to_string())
}

fn text<'a>(context: &'a Context<'_>, index: usize) -> rusqlite::Result<&'a str> {
    context
        .get_raw(index)
        .as_str()
        .map_err(|error| rusqlite::Error::UserFunctionError(Box::new(error)))
}

fn exactly(left: &str, right: &str) -> rusqlite::Result<String> {
    user(add(left, right))
}

/// The aggregate form: `exact_sum(TEXT) -> TEXT`, `0` over no rows.
struct ExactSum;

impl Aggregate<String, String> for ExactSum {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<String> {
        Ok("0".to_owned())
    }

    fn step(&self, context: &mut Context<'_>, sum: &mut String) -> rusqlite::Result<()> {
        *sum = exactly(sum, text(context, 0)?)?;
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, sum: Option<String>) -> rusqlite::Result<String> {
        Ok(sum.unwrap_or_else(|| "0".to_owned()))
    }
}

/// Registers `exact_add(TEXT, TEXT)`, which stays at the end of 128 bits, `exact_max(TEXT, TEXT)`,
/// and the aggregate `exact_sum(TEXT)`, which fails the statement beyond 128 bits, as does what
/// is not a whole number.
pub(super) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("exact_add", 2, flags, |context| {
        user(added(text(context, 0)?, text(context, 1)?))
    })?;
    connection.create_scalar_function("exact_max", 2, flags, |context| {
        user(larger(text(context, 0)?, text(context, 1)?))
    })?;
    connection.create_aggregate_function("exact_sum", 1, flags, ExactSum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_beyond_64_bits_and_never_rounds() {
        let connection = Connection::open_in_memory().expect("in memory");
        register(&connection).expect("registers");
        let sum = |a: &str, b: &str| {
            connection.query_row("SELECT exact_add(?1, ?2)", [a, b], |row| {
                row.get::<_, String>(0)
            })
        };
        let max = i128::MAX.to_string();
        assert_eq!(
            sum("18446744073709551615", "1").expect("fits"),
            "18446744073709551616"
        );
        assert_eq!(sum(&max, "-1").expect("fits"), (i128::MAX - 1).to_string());
        assert_eq!(sum(&max, "1").expect("stays"), max);
        let all = connection.query_row(
            "SELECT exact_sum(column1) FROM (VALUES (?1), ('1'))",
            [&max],
            |row| row.get::<_, String>(0),
        );
        let error = all.expect_err("overflow");
        assert!(error.to_string().contains("128 bits"), "{error}");
        for bad in ["1.5", "1e3", "", "x"] {
            assert!(sum(bad, "1").is_err(), "{bad}");
        }
        let number =
            connection.query_row("SELECT exact_add(1, 2)", [], |row| row.get::<_, String>(0));
        assert!(number.is_err(), "numbers are not text");
    }
}
