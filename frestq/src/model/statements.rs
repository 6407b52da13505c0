//! The SQL statements of a handler, buffered until its task completes.

/// The value of a placeholder.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Param {
    /// SQL `NULL`.
    Null,
    /// An integer.
    Integer(i64),
    /// A floating point number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A boolean.
    Bool(bool),
}

macro_rules! param {
    ($($type:ty => |$value:ident| $param:expr),+ $(,)?) => {
        $(impl From<$type> for Param {
            fn from($value: $type) -> Self {
                $param
            }
        })+
    };
}

param! {
    i64 => |v| Param::Integer(v),
    i32 => |v| Param::Integer(v.into()),
    u32 => |v| Param::Integer(v.into()),
    f64 => |v| Param::Real(v),
    bool => |v| Param::Bool(v),
    &str => |v| Param::Text(v.to_owned()),
    String => |v| Param::Text(v),
    &String => |v| Param::Text(v.clone()),
    Vec<u8> => |v| Param::Bytes(v),
    &[u8] => |v| Param::Bytes(v.to_owned()),
}

impl<T: Into<Param>> From<Option<T>> for Param {
    fn from(value: Option<T>) -> Self {
        value.map_or(Param::Null, Into::into)
    }
}

/// The values of a statement, in the order of `$1`, `$2`, ...: a tuple, `()`, or a `Vec<Param>`.
pub trait Params {
    /// Converts them into a list.
    fn into_params(self) -> Vec<Param>;
}

macro_rules! tuple_params {
    ($($name:ident)*) => {
        impl<$($name: Into<Param>),*> Params for ($($name,)*) {
            #[allow(non_snake_case, reason = "a variable per type")]
            fn into_params(self) -> Vec<Param> {
                let ($($name,)*) = self;
                vec![$($name.into()),*]
            }
        }
    };
}

tuple_params!();
tuple_params!(A);
tuple_params!(A B);
tuple_params!(A B C);
tuple_params!(A B C D);
tuple_params!(A B C D E);
tuple_params!(A B C D E F);
tuple_params!(A B C D E F G);
tuple_params!(A B C D E F G H);

impl Params for Vec<Param> {
    fn into_params(self) -> Vec<Param> {
        self
    }
}

/// Statements that are committed together with a task's completion (see
/// [`Task::transaction`](crate::Task::transaction)).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    pub(crate) statements: Vec<(String, Vec<Param>)>,
}

impl Transaction {
    /// Adds a statement. Placeholders are `$1`, `$2`, ... on SQLite and on Postgres.
    ///
    /// On Postgres, values are `bigint`, `double precision`, `text`, `bytea` and `boolean`; for a
    /// column of another type use a cast, such as `$1::jsonb` or `$1::timestamptz`. NULL fits any
    /// type.
    pub fn execute(&mut self, sql: impl Into<String>, params: impl Params) {
        self.statements.push((sql.into(), params.into_params()));
    }

    /// The first statement that begins or ends a transaction. A handler may not use these, since
    /// its statements share a transaction with others.
    pub(crate) fn meddling(&self) -> Option<&str> {
        let mut statements = self.statements.iter().flat_map(|(sql, _)| split(sql));
        statements.find(|sql| {
            let word: String = after_comments(sql)
                .chars()
                .take_while(char::is_ascii_alphabetic)
                .collect();
            TRANSACTION_CONTROL.contains(&word.to_ascii_uppercase().as_str())
        })
    }
}

/// The first words of statements that control transactions, in SQLite and Postgres.
const TRANSACTION_CONTROL: [&str; 9] = [
    "ABORT",
    "BEGIN",
    "COMMIT",
    "END",
    "PREPARE",
    "RELEASE",
    "ROLLBACK",
    "SAVEPOINT",
    "START",
];

/// Splits a text into its statements, which SQLite runs one after the other.
fn split(sql: &str) -> Vec<&str> {
    let (mut statements, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        // All of these are ASCII, so each index is a character boundary.
        let (opening, closing) = match rest.as_bytes() {
            [b'\'' | b'"' | b'`', ..] => (1, &rest[..1]),
            [b'[', ..] => (1, "]"),
            [b'-', b'-', ..] => (2, "\n"),
            [b'/', b'*', ..] => (2, "*/"),
            [b'$', ..] => match dollar_quote(rest) {
                Some(tag) => (tag.len(), tag),
                None => (1, ""),
            },
            [b';', ..] => {
                statements.push(&sql[start..at]);
                start = at + 1;
                (1, "")
            }
            _ => (rest.chars().next().map_or(1, char::len_utf8), ""),
        };
        at += opening;
        let inside = &sql[at..];
        at += match inside.find(closing) {
            Some(end) => end + closing.len(),
            None => inside.len(),
        };
    }
    statements.push(&sql[start..]);
    statements
}

/// `$$` or `$tag$`, if the text starts with one; `$1` is a placeholder.
fn dollar_quote(text: &str) -> Option<&str> {
    let end = 1 + text[1..].find('$')?;
    let tag = &text[1..end];
    let named = tag.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !tag.starts_with(|c: char| c.is_ascii_digit());
    named.then(|| &text[..=end])
}

/// The statement without leading comments, blanks and semicolons.
fn after_comments(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        let end = match sql.get(..2) {
            Some("--") => sql.find('\n').map(|at| at + 1),
            Some("/*") => sql.find("*/").map(|at| at + 2),
            _ => return sql,
        };
        sql = end.map_or("", |end| &sql[end..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_transactions_are_found() {
        let meddles = |sql: &str| {
            let mut transaction = Transaction::default();
            transaction.execute("INSERT INTO t VALUES ($1)", (1,));
            transaction.execute(sql, ());
            transaction.meddling().is_some()
        };
        for sql in [
            "COMMIT",
            " rollback;",
            "/* a */ -- b\n;END",
            "Savepoint x",
            "INSERT INTO t VALUES (1); COMMIT",
            "INSERT INTO t VALUES ('it''s; '); /* ; */ end",
        ] {
            assert!(meddles(sql), "{sql}");
        }
        for sql in [
            "",
            "-- COMMIT",
            "/* COMMIT",
            "INSERT INTO commits VALUES ('COMMIT')",
            "INSERT INTO t VALUES ('it''s; COMMIT', $1) -- ; COMMIT",
            "INSERT INTO [; END] VALUES ($1, $2); DELETE FROM \"; END\"",
            "DO $do$ BEGIN NULL; END $do$",
            "DO $$ BEGIN NULL; END $$",
            "SELECT 'unclosed; COMMIT",
            "é",
        ] {
            assert!(!meddles(sql), "{sql}");
        }
    }
}
