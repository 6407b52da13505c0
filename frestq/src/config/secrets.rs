//! Redaction: hides secrets in configuration that is shown.

use serde_json::Value;
use url::Url;

pub(super) const HIDDEN: &str = "***";

/// Whether a value with this name is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    [
        "password",
        "passphrase",
        "secret",
        "token",
        "api_key",
        "apikey",
        "credential",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// The value with secrets, and passwords in addresses, hidden.
pub(crate) fn masked(key: &str, value: &Value) -> Value {
    match value {
        _ if is_secret(key) => hidden(value),
        Value::String(text) => masked_address(text).into(),
        Value::Array(values) => values.iter().map(|v| masked(key, v)).collect(),
        Value::Object(table) => Value::Object(
            table
                .iter()
                .map(|(name, value)| (name.clone(), masked(name, value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The placeholder for a secret; a secret that is not set stays null.
pub(super) fn hidden(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        _ => HIDDEN.into(),
    }
}

/// Hides the password of an address, in the authority or the query. Other text is unchanged.
pub(crate) fn masked_address(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let parsed = Url::parse(text).ok().filter(|url| {
        // A password that contains a slash moves the `@` into the path or fragment.
        !url.path().contains('@') && url.fragment().is_none_or(|f| !f.contains('@'))
    });
    let Some(mut url) = parsed else {
        return match rest.contains('@') {
            true => format!("{scheme}://{HIDDEN}"),
            false => text.to_owned(),
        };
    };
    let hidden: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| match is_secret(&name) {
            true => (name.into_owned(), HIDDEN.to_owned()),
            false => (name.into_owned(), value.into_owned()),
        })
        .collect();
    let changed = hidden.iter().any(|(_, value)| value == HIDDEN);
    if url.password().is_none() && !changed {
        return text.to_owned();
    }
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return format!("{scheme}://{HIDDEN}");
    }
    if changed {
        url.query_pairs_mut().clear().extend_pairs(hidden);
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_database_is_never_shown() {
        for address in [
            "postgres://ana:hunter2@db.example.org/votes",
            "postgres://ana:hunt/er2@db.example.org/votes",
            "postgres://ana:12/hunter2@db.example.org/votes",
            "postgres://ana:hunt#er2@db.example.org/votes",
            "postgres://db.example.org/votes?user=ana&password=hunter2",
        ] {
            let shown = masked_address(address);
            assert!(!shown.contains("er2"), "{shown}");
            assert!(shown.starts_with("postgres://"), "{shown}");
        }
    }

    #[test]
    fn text_without_a_secret_is_unchanged() {
        for text in [
            "sqlite:peer.sqlite",
            "http://127.0.0.1:5000/api/queues",
            "postgres://ana@db/votes",
        ] {
            assert_eq!(masked_address(text), text);
        }
    }

    #[test]
    fn values_with_the_name_of_a_secret_are_hidden() {
        let hidden = masked("key_password", &"hunter2".into());
        assert_eq!(hidden, Value::from(HIDDEN));
    }
}
