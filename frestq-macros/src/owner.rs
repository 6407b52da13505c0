//! The attributes: how each is written, what it goes on and which arguments it takes.

/// The attribute that arguments belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Task,
    Message,
    Director,
    /// The `#[action(...)]` of `derive(Action)`.
    Derive,
}

impl Owner {
    /// The attribute as the user writes it.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Owner::Task => "#[frestq::task]",
            Owner::Message => "#[frestq::message]",
            Owner::Director => "#[frestq::director]",
            Owner::Derive => "#[action]",
        }
    }

    /// The error for an attribute on an item that it doesn't support.
    pub(crate) fn misplaced(self) -> String {
        let (items, reason, example) = match self {
            Owner::Task => (
                "an async function or on `impl Handler for ...`",
                "it registers a handler",
                "`async fn name(input: Input) -> anyhow::Result<Output>` \
                 or `impl Handler for Name { ... }`",
            ),
            Owner::Message => (
                "an async function",
                "it registers a message handler",
                "`async fn name(message: frestq::Message) -> anyhow::Result<()>`",
            ),
            Owner::Director => (
                "`impl Director for ...`",
                "it registers a director",
                "`impl Director for Name { ... }`",
            ),
            Owner::Derive => ("a type", "it describes an input", "`struct Input { ... }`"),
        };
        let attribute = self.attribute();
        format!("`{attribute}` goes on {items}, because {reason}: write {example}")
    }

    /// The names of the arguments that the attribute takes.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Owner::Task => &[
                "queue",
                "action",
                "local",
                "retries",
                "max_attempts",
                "timeout",
                "at_most_once",
                "crate",
            ],
            Owner::Message => &["queue", "action", "crate"],
            Owner::Director => &["name", "crate"],
            Owner::Derive => &["queue", "action", "output", "crate"],
        }
    }

    /// The line of an error that lists [`Self::arguments`].
    pub(crate) fn supported_arguments(self) -> String {
        let quoted: Vec<_> = self.arguments().iter().map(|n| format!("`{n}`")).collect();
        format!("supported arguments: {}", quoted.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supported_arguments_are_listed_in_order() {
        assert_eq!(
            Owner::Message.supported_arguments(),
            "supported arguments: `queue`, `action`, `crate`"
        );
    }
}
