//! The merged layers, and the faults.

mod app;

use std::{path::PathBuf, time::Duration};

use super::{layers::Source, load::Entry};
use super::{
    load::{Environment, Loaded},
    *,
};

/// A folder of its own for one test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, toml: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("frestq-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("frestq.toml"), toml).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn nowhere() -> PathBuf {
    std::env::temp_dir().join("frestq-config-nowhere")
}

fn read_variables(pairs: &[(&str, &str)]) -> Loaded {
    let environment = Environment {
        variables: variables(pairs),
        directory: nowhere(),
        flags: Vec::new(),
    };
    Loaded::read(&Config::default(), None, &environment).unwrap()
}

fn read_file(name: &str, toml: &str) -> Loaded {
    let folder = Folder::new(name, toml);
    let environment = Environment {
        directory: folder.0.clone(),
        ..Environment::default()
    };
    Loaded::read(&Config::default(), None, &environment).unwrap()
}

#[track_caller]
fn the_fault(loaded: &Loaded) -> &str {
    assert_eq!(loaded.faults.len(), 1, "{:?}", loaded.faults);
    &loaded.faults[0]
}

fn entry<'a>(entries: &'a [Entry], key: &str) -> &'a Entry {
    entries.iter().find(|e| e.key == key).unwrap()
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let folder = Folder::new(
        "layers",
        "port = 2\nnode = \"file\"\nbody_limit = 7\n[delivery]\nbatch = 9\nparallel = 9\n",
    );
    let mut compiled = Config {
        port: 1,
        node: Some("binary".into()),
        ..Config::default()
    };
    compiled.delivery.timeout = Duration::from_secs(1);
    let environment = Environment {
        variables: variables(&[("FRESTQ_NODE", "variable"), ("FRESTQ_DELIVERY__BATCH", "5")]),
        directory: folder.0.clone(),
        flags: vec![("port", "3".into())],
    };
    let loaded = Loaded::read(&compiled, None, &environment).unwrap();
    let entries = loaded.entries().unwrap();
    assert_eq!(
        entry(&entries, "port").source,
        Source::Flag("--port".into())
    );
    assert_eq!(
        entry(&entries, "node").source,
        Source::Variable("FRESTQ_NODE".into())
    );
    assert_eq!(entry(&entries, "delivery.timeout").source, Source::Binary);
    assert_eq!(entry(&entries, "limits.free_disk").source, Source::Default);
    assert!(matches!(
        entry(&entries, "body_limit").source,
        Source::File(_, 3)
    ));
    let config = loaded.into_config().unwrap();
    assert_eq!((config.port, config.body_limit), (3, 7));
    assert_eq!(config.node.as_deref(), Some("variable"));
    assert_eq!((config.delivery.batch, config.delivery.parallel), (5, 9));
    assert_eq!(config.delivery.timeout, Duration::from_secs(1));
}

#[test]
fn root_url_and_bind_follow_from_the_port() {
    let loaded = read_variables(&[("FRESTQ_PORT", "5001")]);
    let entries = loaded.entries().unwrap();
    assert_eq!(entry(&entries, "bind").value, "127.0.0.1:5001");
    assert_eq!(
        entry(&entries, "root_url").value,
        "http://127.0.0.1:5001/api/queues"
    );
    assert_eq!(entry(&entries, "bind").source, Source::Follows("port"));
}

#[test]
fn a_named_file_that_is_missing_is_an_error_and_an_unnamed_one_is_not() {
    assert_eq!(read_variables(&[]).faults, Vec::<String>::new());
    let loaded = read_variables(&[("FRESTQ_SETTINGS", "absent.toml")]);
    let fault = the_fault(&loaded);
    assert!(
        fault.contains("absent.toml") && fault.contains("FRESTQ_SETTINGS"),
        "{fault}"
    );
}

#[test]
fn a_named_file_is_read_instead_of_the_one_in_the_folder() {
    let folder = Folder::new("named", "port = 1\n");
    std::fs::write(folder.0.join("other.toml"), "port = 2\n").unwrap();
    let environment = Environment {
        variables: variables(&[("FRESTQ_SETTINGS", "other.toml")]),
        directory: folder.0.clone(),
        flags: Vec::new(),
    };
    let config = Loaded::read(&Config::default(), None, &environment)
        .unwrap()
        .into_config()
        .unwrap();
    assert_eq!(config.port, 2);
}

#[test]
fn an_unknown_key_of_the_file_names_its_line_and_the_nearest_key() {
    let loaded = read_file("unknown", "port = 1\ndatabse = \"sqlite:x\"\n");
    let fault = the_fault(&loaded);
    assert!(
        fault.contains("frestq.toml:2: unknown key `databse`"),
        "{fault}"
    );
    assert!(fault.contains("`database`"), "{fault}");
}

#[test]
fn a_key_in_the_wrong_table_gets_the_right_one_suggested() {
    let loaded = read_file("wrong-table", "connect_timeout = \"1s\"\n");
    let fault = the_fault(&loaded);
    assert!(
        fault.contains("did you mean `delivery.connect_timeout`?"),
        "{fault}"
    );
}

#[test]
fn an_unknown_variable_names_the_nearest_one() {
    let loaded = read_variables(&[("FRESTQ_ROOTURL", "x")]);
    assert_eq!(
        the_fault(&loaded),
        "FRESTQ_ROOTURL: unknown key `FRESTQ_ROOTURL`; did you mean `FRESTQ_ROOT_URL`?"
    );
    let loaded = read_variables(&[("FRESTQ_DELIVERY_TIMEOUT", "1s")]);
    assert!(the_fault(&loaded).contains("`FRESTQ_DELIVERY__TIMEOUT`"));
}

#[test]
fn a_key_that_resembles_none_lists_those_of_its_table() {
    let loaded = read_file("far", "[queues.a]\ncolour = 1\n");
    assert!(the_fault(&loaded).contains("keys here: queues.a.concurrency"));
}

#[test]
fn variables_for_settings_logging_and_tests_are_no_keys() {
    let loaded = read_variables(&[
        ("FRESTQ_LOG", "debug"),
        ("FRESTQ_TEST_POSTGRES", "postgres://x"),
        ("PATH", "/bin"),
        ("FRESTQ_NODE", ""),
    ]);
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    assert_eq!(loaded.config.node, None);
}

#[test]
fn a_wrong_type_names_key_value_and_source() {
    let loaded = read_file("type", "port = \"many\"\n[delivery]\ntimeout = 30\n");
    assert_eq!(loaded.faults.len(), 2, "{:?}", loaded.faults);
    let fault = &loaded.faults[0];
    assert!(
        fault.contains("frestq.toml:1: port: ") && fault.contains("\"many\""),
        "{fault}"
    );
    let fault = &loaded.faults[1];
    assert!(
        fault.contains("frestq.toml:3: delivery.timeout: ") && fault.contains("30"),
        "{fault}"
    );
    let loaded = read_variables(&[("FRESTQ_BIND", "here")]);
    let fault = the_fault(&loaded);
    assert!(
        fault.contains("FRESTQ_BIND: ") && fault.contains("here"),
        "{fault}"
    );
    let loaded = read_variables(&[("FRESTQ_PORT", "70000")]);
    let fault = the_fault(&loaded);
    assert!(
        fault.starts_with("FRESTQ_PORT: ") && fault.contains("65535"),
        "{fault}"
    );
}

#[test]
fn a_fault_of_an_upper_layer_leaves_the_lower_one_in_place() {
    let folder = Folder::new("fallback", "port = 2\n");
    let environment = Environment {
        variables: variables(&[("FRESTQ_PORT", "x")]),
        directory: folder.0.clone(),
        flags: Vec::new(),
    };
    let loaded = Loaded::read(&Config::default(), None, &environment).unwrap();
    assert_eq!(loaded.config.port, 2);
    assert!(loaded.into_config().is_err());
}

#[test]
fn text_that_looks_like_a_number_stays_text_where_text_is_wanted() {
    let loaded = read_variables(&[("FRESTQ_NODE", "007"), ("FRESTQ_LOG_PAYLOADS", "1")]);
    assert_eq!(loaded.config.node.as_deref(), Some("007"));
    assert!(loaded.config.log_payloads);
}

#[test]
fn named_tables_are_reached_from_the_environment() {
    let loaded = read_variables(&[
        ("FRESTQ_QUEUES__SAY_QUEUE__CONCURRENCY", "3"),
        ("FRESTQ_QUEUES__mixNet__CONCURRENCY", "4"),
        ("FRESTQ_QUEUES", "{\"a.b\" = {concurrency = 5}, idle = {}}"),
    ]);
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    let concurrency = |queue| loaded.config.queues.get(queue).map(|q| q.concurrency);
    assert_eq!(concurrency("say_queue"), Some(3));
    assert_eq!(concurrency("mixNet"), Some(4));
    assert_eq!(concurrency("a.b"), Some(5));
    assert_eq!(concurrency("idle"), Some(100));
}

#[test]
fn every_key_is_reached_from_the_environment() {
    for path in keys::Key::of::<Config>().paths() {
        let name = layers::in_environment(&path);
        let loaded = read_variables(&[(&name, "x")]);
        let unknown = loaded.faults.iter().any(|f| f.contains("unknown"));
        assert!(!unknown, "{name}: {:?}", loaded.faults);
    }
}

#[test]
fn a_table_and_a_value_are_not_confused() {
    let loaded = read_file("table", "delivery = 5\n");
    assert!(the_fault(&loaded).contains("`delivery` is a table"));
    let loaded = read_variables(&[("FRESTQ_PORT__X", "5")]);
    assert!(the_fault(&loaded).contains("is a value"));
}

#[test]
fn text_that_is_not_toml_names_the_line() {
    let loaded = read_file("syntax", "port = 1\nnode = \n");
    assert!(the_fault(&loaded).contains("frestq.toml:2: "));
}

#[test]
fn all_faults_are_listed() {
    let mut config = Config {
        root_url: Some("ftp://x".into()),
        bind: Some(([0, 0, 0, 0], 1).into()),
        ..Config::default()
    };
    config.delivery.batch = 0;
    assert_eq!(config.faults().len(), 3);
}

#[test]
fn the_password_is_not_among_the_entries() {
    let loaded = read_variables(&[("FRESTQ_DATABASE", "postgres://ana:hunter2@db/votes")]);
    let entries = loaded.entries().unwrap();
    assert_eq!(
        entry(&entries, "database").value,
        "postgres://ana:***@db/votes"
    );
}

/// Removes the `#` before the settings of the example; a comment has a space behind it.
fn uncommented(example: &str) -> String {
    let setting = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()))
            .map(str::to_owned)
    };
    example
        .lines()
        .map(|line| setting(line).unwrap_or_else(|| line.to_owned()) + "\n")
        .collect()
}

#[test]
fn the_example_has_every_key_and_only_known_ones() {
    let example = uncommented(include_str!("../../frestq.example.toml"));
    let loaded = read_file("example", &example);
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    let given: Vec<String> = loaded
        .entries()
        .unwrap()
        .into_iter()
        .filter(|entry| matches!(entry.source, Source::File(..)))
        .map(|entry| entry.key)
        .collect();
    for path in keys::Key::of::<Config>().paths() {
        let fits = |key: &String| {
            let parts: Vec<_> = key.split('.').collect();
            parts.len() == path.len()
                && parts
                    .iter()
                    .zip(&path)
                    .all(|(part, known)| *known == keys::NAME || part == known)
        };
        assert!(
            given.iter().any(fits),
            "frestq.example.toml lacks {path:?}; it has {given:?}"
        );
    }
    assert!(loaded.config.faults().is_empty());
}

/// The faults of a file's text.
fn faults_of(name: &str, text: &str) -> Vec<String> {
    read_file(name, text).into_config().unwrap().faults()
}

const TLS: &str = "[tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";

fn peer(name: &str, url: &str, rest: &str) -> String {
    let pin = "1".repeat(64);
    format!("[peers.{name}]\nurl = \"{url}\"\ncertificates = [\"sha256:{pin}\"]\n{rest}\n")
}

#[test]
fn peers_and_tls_need_each_other() {
    let b = peer("b", "https://b/api/queues", "");
    // The peers may be registered in the database.
    assert_eq!(faults_of("tls-alone", TLS), Vec::<String>::new());
    assert_eq!(faults_of("peers-alone", &b).len(), 1);
    assert_eq!(
        faults_of("both", &format!("{TLS}{b}")),
        Vec::<String>::new()
    );
    let anywhere = format!("bind = \"0.0.0.0:1\"\n{TLS}{b}");
    assert_eq!(faults_of("anywhere", &anywhere), Vec::<String>::new());
    assert_eq!(faults_of("half", "[tls]\nkey = \"a.key\"\n").len(), 1);
}

#[test]
fn addresses_must_be_https_if_tls_is_set() {
    let text = format!(
        "root_url = \"http://a/api/queues\"\n{TLS}{}",
        peer("b", "http://b/api/queues", "")
    );
    let faults = faults_of("plain-urls", &text).join("\n");
    assert!(
        faults.contains("root_url") && faults.contains("peers.b.url"),
        "{faults}"
    );
    let config = read_file("follows", TLS).into_config().unwrap();
    assert!(config.root_url().unwrap().is_https());
}

#[test]
fn each_fault_of_a_peer_is_named() {
    let text = [
        TLS,
        "[peers.empty]\n",
        &peer("b", "https://b/api/queues", "allow = [\"work\", \"*/x\"]"),
        &peer("twice", "https://b/api/queues/", ""),
        &peer("me", "https://127.0.0.1:5000/api/queues", ""),
        "[peers.short]\nurl = \"https://short/api/queues\"\ncertificates = [\"sha256:12\"]\n",
    ];
    let faults = faults_of("faulty-peers", &text.concat());
    for expected in [
        "peers.empty.url is missing",
        "peers.empty.certificates: ",
        "peers.b.allow: \"work\"",
        "peers.b.allow: \"*/x\"",
        "peers.twice.url is the same as that of peers.b",
        "peers.me.url is this peer's own root_url",
        "peers.short.certificates: ",
    ] {
        let found = faults
            .iter()
            .filter(|fault| fault.contains(expected))
            .count();
        assert_eq!(found, 1, "{expected}: {faults:?}");
    }
    assert_eq!(faults.len(), 7, "{faults:?}");
}

#[test]
fn an_unknown_key_of_a_peer_names_the_nearest_one() {
    let loaded = read_file("peer-key", "[peers.b]\ncertificate = [\"x\"]\n");
    let fault = the_fault(&loaded);
    assert!(fault.contains("`peers.b.certificates`"), "{fault}");
}
