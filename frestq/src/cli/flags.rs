//! The flags, spelled like those of the original frestq.

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use clap::{ArgGroup, Parser};
use humantime_serde::re::humantime::parse_duration;

use crate::logging::LogLevel;

/// The default of `--limit`.
const LIMIT: u32 = 20;

/// A peer of a federated task queue. It serves until SIGTERM or Ctrl-C, unless a flag asks for
/// something else.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    version,
    disable_help_subcommand = true,
    group(ArgGroup::new("what").args(["createdb", "tasks", "messages", "audit", "verify_audit", "show_task", "show_message", "show_external", "tree", "watch", "check", "cancel", "finish", "deny", "retry", "prune", "peers", "add_peer", "remove_peer", "new_certificate"])),
    group(ArgGroup::new("listing").args(["tasks", "messages", "audit"])),
    // A group of one: a flag that conflicts with `tree` would otherwise lift this requirement.
    group(ArgGroup::new("drawing").args(["tree"])),
    group(ArgGroup::new("reading").args(["tasks", "messages", "audit", "show_task", "show_message", "show_external", "tree", "watch", "check", "peers"])),
    after_help = "Ids may be shortened as long as they are unique. Every key of frestq.toml can also be set in the \
        environment, as FRESTQ_ and its name in capitals; --check shows what is in effect."
)]
pub(super) struct Flags {
    /// Create the database or migrate its tables, and exit; safe to repeat
    #[arg(long)]
    pub(super) createdb: bool,
    /// List tasks, newest first
    #[arg(long)]
    pub(super) tasks: bool,
    /// List messages, newest first
    #[arg(long)]
    pub(super) messages: bool,
    /// List the audit: what each peer and operator asked for, with the answers, newest first
    #[arg(long)]
    pub(super) audit: bool,
    /// Verify that no row of the audit was changed, removed or moved, and print the head of each
    /// chain; exits with 1 on a fault. Heads printed earlier, if given, must still be in the
    /// audit
    #[arg(long, value_name = "CHAIN:SEQ:HASH", num_args = 0..)]
    pub(super) verify_audit: Option<Vec<String>>,
    /// Only list rows with these fields, such as status=error; a value that ends in * is a prefix
    #[arg(long, value_name = "KEY=VALUE", num_args = 1.., requires = "listing")]
    pub(super) filters: Vec<String>,
    /// The maximum number of rows to list [default: 20]
    #[arg(long, short = 'n', value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..), requires = "listing")]
    limit: Option<u32>,
    /// Show all fields of a task
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(super) show_task: Option<String>,
    /// Show all fields of a message
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(super) show_message: Option<String>,
    /// Show a task that waits for a person, and whether it waits now
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(super) show_external: Option<String>,
    /// Draw the tree of a task and its subtasks
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(super) tree: Option<String>,
    /// Draw the whole tree that contains the task
    #[arg(long, requires = "drawing")]
    pub(super) with_parents: bool,
    /// Cancel a task with its subtree
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(super) cancel: Option<String>,
    /// Finish a task that waits for a person, with this output
    #[arg(long, num_args = 2, value_names = ["ID", "JSON"], allow_hyphen_values = true)]
    pub(super) finish: Vec<String>,
    /// Deny a task that waits for a person: end it in error, with this reason
    #[arg(long, num_args = 2, value_names = ["ID", "REASON"])]
    pub(super) deny: Vec<String>,
    /// Retry a failed task as a new one
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(super) retry: Option<String>,
    /// Remove tasks that ended longer than AGE ago, such as 30d, and their messages
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(super) prune: Option<Duration>,
    /// Follow a task until it ends; exits with 0 if it finished, and with 1 otherwise
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(super) watch: Option<String>,
    /// List the other peers: certificates, grants, and whether each is reachable
    #[arg(long)]
    pub(super) peers: bool,
    /// Register a peer in the database, or change it. CERTIFICATE is a PEM file, sha256:..., or
    /// ca:FILE with the certificates of authorities; separate several by commas. GRANT is what it
    /// may send to this peer: queue/action, queue/* or *
    #[arg(long, num_args = 3.., value_names = ["NAME", "URL", "CERTIFICATE", "GRANT"])]
    pub(super) add_peer: Vec<String>,
    /// Allow the host name in the URL of the peer to resolve to a private address
    #[arg(long, requires = "add_peer")]
    pub(super) private: bool,
    /// Remove a peer that was added with --add-peer or by the application
    #[arg(long, value_name = "NAME")]
    pub(super) remove_peer: Option<String>,
    /// Create a key and a self-signed certificate, NAME.key and NAME.pem, and show its
    /// fingerprint
    #[arg(long, value_name = "NAME")]
    pub(super) new_certificate: Option<String>,
    /// Check configuration, handlers and database without serving; exits with 1 on a fault
    #[arg(long)]
    pub(super) check: bool,
    /// Print JSON
    #[arg(long, requires = "reading")]
    pub(super) json: bool,
    /// The log level: DEBUG, INFO, WARNING, ERROR, CRITICAL, or directives such as frestq=debug;
    /// also -ll, and FRESTQ_LOG [default: INFO]
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<LogLevel>,
    /// The port of the root URL and the listener, unless those are set
    #[arg(long)]
    port: Option<u16>,
    /// The address to listen on, such as 127.0.0.1:5000
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<SocketAddr>,
    /// This peer's root queues URL, such as `https://auth1.example.org:5000/api/queues`
    #[arg(long, value_name = "URL")]
    root_url: Option<String>,
    /// The database: sqlite:PATH or postgres://USER@HOST/NAME
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

impl Flags {
    /// Reads the arguments of the process, the first of which is its name.
    pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(spelled_out(arguments))
    }

    /// Whether to serve, since no flag asks for anything else.
    pub(super) fn serves(&self) -> bool {
        let reads = self.tasks
            || self.messages
            || self.audit
            || self.verify_audit.is_some()
            || self.check
            || self.peers;
        let ids = [
            &self.show_task,
            &self.show_message,
            &self.show_external,
            &self.tree,
            &self.watch,
            &self.cancel,
            &self.retry,
            &self.remove_peer,
            &self.new_certificate,
        ];
        let decides = self.prune.is_some()
            || [&self.finish, &self.deny, &self.add_peer]
                .iter()
                .any(|arguments| !arguments.is_empty());
        !reads && !self.createdb && !decides && ids.iter().all(|id| id.is_none())
    }

    /// The maximum number of rows to list.
    pub(super) fn limit(&self) -> i64 {
        self.limit.unwrap_or(LIMIT).into()
    }

    /// The keys of the configuration that flags set.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        [
            ("port", self.port.map(|port| port.to_string())),
            ("bind", self.bind.map(|address| address.to_string())),
            ("root_url", self.root_url.clone()),
            ("database", self.database.clone()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
    }
}

/// Spells out `-ll` of the original frestq, a short flag of two letters, which clap does not
/// support.
fn spelled_out(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let spell = |argument: OsString| match argument.to_str() {
        Some("-ll") => "--log-level".into(),
        Some(text) => match text.strip_prefix("-ll=") {
            Some(level) => format!("--log-level={level}").into(),
            None => argument,
        },
        None => argument,
    };
    arguments.into_iter().map(spell).collect()
}

/// Parses an id, or the beginning of one.
pub(super) fn id(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("an id is needed, or the beginning of one".to_owned()),
        text if text.contains('*') => Err("give the beginning of the id, without a *".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// Parses an age.
fn age(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .map_err(|why| format!("{why}; an age is a number and a unit, such as 30d or 12h"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn read(arguments: &[&str]) -> Result<Flags, clap::Error> {
        let arguments = ["peer"].iter().chain(arguments);
        Flags::read(arguments.map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn the_short_flag_of_two_letters_sets_the_log_level() {
        for arguments in [
            &["-ll", "DEBUG"][..],
            &["-ll=DEBUG"],
            &["--log-level", "debug"],
        ] {
            let flags = read(arguments).unwrap();
            assert_eq!(flags.log_level, Some("debug".parse().unwrap()));
        }
        assert_eq!(read(&["-ll", "loud"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn filters_take_several_values_up_to_the_next_flag() {
        let flags = read(&[
            "--tasks",
            "--filters",
            "status=error",
            "label=a=b",
            "-n",
            "5",
        ])
        .unwrap();
        assert_eq!(flags.filters, ["status=error", "label=a=b"]);
        assert_eq!(flags.limit(), 5);
        assert_eq!(read(&["--tasks"]).unwrap().limit(), 20);
    }

    #[test]
    fn contradictory_flags_are_rejected() {
        for arguments in [
            &["--tasks", "--messages"][..],
            &["--createdb", "--check"],
            &["--show-task", "1", "--watch", "1"],
            &["--filters", "a=b"],
            &["--limit", "3", "--check"],
            &["--json"],
            &["--json", "--createdb"],
            &["--tasks", "-n", "0"],
            &["--watch", ""],
            &["--finish", "1"],
            &["--deny", "1"],
            &["--cancel", "1", "--retry", "1"],
            &["--cancel", "1", "--json"],
            &["--add-peer", "b", "https://b/api/queues"],
            &["--add-peer", "b", "u", "c", "--remove-peer", "b"],
            &["--audit", "--verify-audit"],
            &["--verify-audit", "--json"],
            &["--verify-audit", "--filters", "a=b"],
            &["--prune", "30d", "--cancel", "1"],
            &["--prune"],
            &["--prune", "soon"],
            &["--with-parents", "--watch", "1"],
        ] {
            let error = read(arguments).expect_err(&arguments.join(" "));
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn an_audit_is_verified_with_as_many_heads_as_are_given() {
        let heads = |arguments: &[&str]| read(arguments).unwrap().verify_audit;
        assert_eq!(heads(&["--audit"]), None);
        assert_eq!(heads(&["--verify-audit"]), Some(vec![]));
        let given = heads(&["--verify-audit", "a:1:b", "c:2:d", "--port", "1"]);
        assert_eq!(given, Some(vec!["a:1:b".to_owned(), "c:2:d".to_owned()]));
    }

    #[test]
    fn flags_set_keys_of_the_configuration() {
        let flags = read(&["--port", "5001", "--database", "sqlite:x"]).unwrap();
        let expected = vec![
            ("port", "5001".to_owned()),
            ("database", "sqlite:x".to_owned()),
        ];
        assert_eq!(flags.settings(), expected);
    }
}
