//! The application's own section, `[app]`.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Folder, entry, nowhere, variables};
use crate::config::{
    Config,
    layers::Source,
    load::{Environment, Loaded},
    section::{Section, Typed},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    greeting: String,
    copies: u8,
    smtp: Smtp,
    secrets: BTreeMap<String, u32>,
    api_key: Option<String>,
    #[serde(rename = "maxSize")]
    max_size: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Smtp {
    host: String,
    port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            greeting: "hello".into(),
            copies: 1,
            smtp: Smtp {
                host: "localhost".into(),
                port: 25,
            },
            secrets: BTreeMap::new(),
            api_key: None,
            max_size: None,
        }
    }
}

/// Loads the layers over these settings of the binary.
fn read(name: &str, compiled: Settings, toml: &str, pairs: &[(&str, &str)]) -> Loaded {
    let folder = Folder::new(name, toml);
    let environment = Environment {
        variables: variables(pairs),
        directory: folder.0.clone(),
        flags: Vec::new(),
    };
    let section: Arc<dyn Section> = Arc::new(Typed(Arc::new(compiled)));
    Loaded::read(&Config::default(), Some(&section), &environment).unwrap()
}

fn settings(loaded: Loaded) -> Settings {
    let (_, section) = loaded.into_parts().unwrap();
    let section = section.unwrap();
    let settings = section.as_any().downcast_ref::<Arc<Settings>>().unwrap();
    Settings::clone(settings)
}

#[test]
fn the_settings_of_an_application_come_from_the_same_layers() {
    let compiled = Settings {
        copies: 2,
        ..Settings::default()
    };
    let toml = "[app]\ngreeting = \"file\"\n[app.smtp]\nport = 465\n";
    let pairs = [
        ("FRESTQ_APP__GREETING", "variable"),
        ("FRESTQ_APP__MAXSIZE", "7"),
    ];
    let loaded = read("app-layers", compiled, toml, &pairs);
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    let entries = loaded.entries().unwrap();
    let source = |key| entry(&entries, key).source.clone();
    assert_eq!(source("app.copies"), Source::Binary);
    assert_eq!(source("app.smtp.host"), Source::Default);
    assert!(matches!(source("app.smtp.port"), Source::File(_, 4)));
    assert_eq!(
        source("app.greeting"),
        Source::Variable("FRESTQ_APP__GREETING".into())
    );
    let expected = Settings {
        greeting: "variable".into(),
        copies: 2,
        smtp: Smtp {
            host: "localhost".into(),
            port: 465,
        },
        max_size: Some(7),
        ..Settings::default()
    };
    assert_eq!(settings(loaded), expected);
}

#[test]
fn faults_of_the_settings_are_listed_with_all_others() {
    let toml = "port = \"x\"\n[app]\ngreting = \"hi\"\ncopies = 300\n";
    let pairs = [("FRESTQ_APP__SMTP__PRT", "1")];
    let loaded = read("app-faults", Settings::default(), toml, &pairs);
    let faults: Vec<_> = loaded
        .faults
        .iter()
        .map(|fault| fault.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(
        faults,
        [
            "frestq.toml:3: unknown key `app.greting`; did you mean `app.greeting`?",
            "FRESTQ_APP__SMTP__PRT: unknown key `FRESTQ_APP__SMTP__PRT`; \
             did you mean `FRESTQ_APP__SMTP__PORT`?",
            "frestq.toml:1: port: invalid type: string \"x\", expected a whole number up to 65535",
            "frestq.toml:4: app.copies: invalid value: integer `300`, \
             expected a whole number up to 255",
        ]
    );
}

#[test]
fn a_key_of_an_application_without_settings_says_how_to_declare_them() {
    let environment = Environment {
        variables: variables(&[("FRESTQ_APP__GREETING", "hi")]),
        directory: nowhere(),
        flags: Vec::new(),
    };
    let loaded = Loaded::read(&Config::default(), None, &environment).unwrap();
    assert_eq!(
        loaded.faults,
        [
            "FRESTQ_APP__GREETING: unknown key `FRESTQ_APP`: this application has no settings of \
             its own; declare them with `.settings::<T>()`"
        ]
    );
}

#[test]
fn secrets_by_name_are_never_shown() {
    let toml = "[app]\napi_key = \"hunter2\"\n[app.secrets]\npin = 4711\n";
    let loaded = read("app-secrets", Settings::default(), toml, &[]);
    let entries = loaded.entries().unwrap();
    assert_eq!(entry(&entries, "app.api_key").value, "***");
    assert_eq!(entry(&entries, "app.secrets.pin").value, "***");

    let toml = "[app]\napi_key = 4712\n[app.secrets]\npin = \"hunter2\"\n";
    let loaded = read("app-bad-secrets", Settings::default(), toml, &[]);
    assert_eq!(loaded.faults.len(), 2, "{:?}", loaded.faults);
    for fault in &loaded.faults {
        assert!(
            !fault.contains("hunter2") && !fault.contains("4712"),
            "{fault}"
        );
    }
}
