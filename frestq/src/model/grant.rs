//! Grants.

use std::{fmt, str::FromStr};

/// A grant: what another peer may send to this one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Grant {
    Everything,
    Queue(String),
    Action(String, String),
}

impl Grant {
    pub(crate) fn covers(&self, queue: &str, action: &str) -> bool {
        match self {
            Grant::Everything => true,
            Grant::Queue(granted) => granted == queue,
            Grant::Action(granted, name) => granted == queue && name == action,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Everything => f.write_str("*"),
            Grant::Queue(queue) => write!(f, "{queue}/*"),
            Grant::Action(queue, action) => write!(f, "{queue}/{action}"),
        }
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            None if text == "*" => Ok(Grant::Everything),
            Some((queue, "*")) if !queue.is_empty() && !queue.contains('*') => {
                Ok(Grant::Queue(queue.to_owned()))
            }
            Some((queue, action))
                if !queue.is_empty() && !action.is_empty() && !text.contains('*') =>
            {
                Ok(Grant::Action(queue.to_owned(), action.to_owned()))
            }
            _ => Err(format!(
                "{text:?} is not one of \"queue/action\", \"queue/*\" and \"*\""
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_covers_what_it_names_and_nothing_else() {
        let covers =
            |grant: &str, queue, action| grant.parse::<Grant>().unwrap().covers(queue, action);
        assert!(covers("*", "any", "thing"));
        assert!(covers("work/*", "work", "echo"));
        assert!(!covers("work/*", "workshop", "echo"));
        assert!(covers("work/echo", "work", "echo"));
        assert!(!covers("work/echo", "work", "echo2"));
        for wrong in [
            "", "work", "/echo", "work/", "*/echo", "work/e*", "**", "w*/*",
        ] {
            assert!(wrong.parse::<Grant>().is_err(), "{wrong:?}");
        }
    }
}
