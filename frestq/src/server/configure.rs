//! The sources of an application's configuration, and its own settings.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::{app::App, settings::AppSettings};
use crate::{
    config::{
        load::{Environment, Loaded},
        section::Section,
    },
    model::error::Result,
};

impl App {
    /// Declares the application's own settings: the section `[app]` of the configuration.
    ///
    /// They come from the same layers as the other keys: `T::default()`, the file, and the
    /// environment, where the variable of a key is `FRESTQ_APP__` and its name in capitals. No
    /// flag sets them. Unknown keys and invalid values are errors, which the start and `--check`
    /// list with all others; `--check` also shows each value with its source. A key is shown as
    /// `***` if its name, or that of a table around it, contains a word such as `password`,
    /// `secret`, `token` or `api_key`.
    ///
    /// Handlers take them as `State<T>` or `State<Arc<T>>`; elsewhere
    /// [`Frestq::settings`](crate::Frestq::settings) returns them. They are read once, at start.
    ///
    /// `T` is a struct. An embedded peer uses the values of
    /// [`settings_value`](Self::settings_value), and reads the layers only with
    /// [`load_config`](Self::load_config). An application has one type of settings; the last call
    /// counts.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use frestq::prelude::*;
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Greeting {
    ///     /// `greeting = "good morning"` below `[app]`, or `FRESTQ_APP__GREETING`.
    ///     greeting: String,
    /// }
    ///
    /// impl Default for Greeting {
    ///     fn default() -> Self {
    ///         Self { greeting: "hello".into() }
    ///     }
    /// }
    ///
    /// #[frestq::task(queue = "say_queue", action = "hello_world")]
    /// async fn hello(name: String, State(own): State<Greeting>) -> anyhow::Result<String> {
    ///     Ok(format!("{} {name}!", own.greeting))
    /// }
    ///
    /// async fn greeting(State(peer): State<Frestq>) -> String {
    ///     peer.settings::<Greeting>().greeting.clone()
    /// }
    ///
    /// frestq::main!(|app| app.settings::<Greeting>().route("/greeting", get(greeting)));
    /// ```
    ///
    /// A view can take `State<Greeting>` as well if axum can get it from the peer:
    ///
    /// ```
    /// # use frestq::{Frestq, prelude::*};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Greeting { greeting: String }
    /// impl axum::extract::FromRef<Frestq> for Greeting {
    ///     fn from_ref(peer: &Frestq) -> Self {
    ///         Greeting::clone(&peer.settings())
    ///     }
    /// }
    /// ```
    pub fn settings<T>(self) -> Self
    where
        T: Serialize + DeserializeOwned + Default + Clone + Send + Sync + 'static,
    {
        self.settings_value(T::default())
    }

    /// Like [`settings`](Self::settings), with the application's own defaults, which the file and
    /// the environment override.
    ///
    /// ```
    /// # use frestq::{App, prelude::*};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Greeting { greeting: String }
    /// let app = App::new().settings_value(Greeting { greeting: "ahoy".into() });
    /// ```
    pub fn settings_value<T>(mut self, value: T) -> Self
    where
        T: Serialize + DeserializeOwned + Default + Clone + Send + Sync + 'static,
    {
        let settings = AppSettings::new(value);
        settings.provide(&mut self.states);
        self.settings = Some(settings);
        self
    }

    /// Reads the configuration from the file and the environment, as [`run`](Self::run) does, but
    /// without flags.
    ///
    /// The file (`frestq.toml` in the working directory, or the one that `FRESTQ_SETTINGS` names)
    /// overrides what [`configure`](Self::configure) and [`settings`](Self::settings) have set;
    /// the environment overrides the file.
    ///
    /// It is for an embedded peer that is configured like any other. Only one peer of a process
    /// can use it, since all would read the same file and variables. Later calls, such as another
    /// `configure`, override the values read. It reads a file and blocks.
    ///
    /// ```no_run
    /// # async fn example() -> frestq::Result<()> {
    /// let app = frestq::App::new().configure(|c| c.port = 5001).load_config()?;
    /// let running = app.start().await?;
    /// # running.stop().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) with all errors that were found.
    pub fn load_config(mut self) -> Result<Self> {
        let loaded = self.load(&Environment::of_process(Vec::new()))?;
        self.adopt(loaded)?;
        Ok(self)
    }

    /// Reads all layers over this application's defaults.
    pub(crate) fn load(&self, environment: &Environment) -> Result<Loaded> {
        Loaded::read(&self.config, self.section(), environment)
    }

    /// Applies the configuration that was read.
    pub(crate) fn adopt(&mut self, loaded: Loaded) -> Result<()> {
        let (config, section) = loaded.into_parts()?;
        config.validate()?;
        self.config = config;
        if let (Some(section), Some(settings)) = (section, &mut self.settings) {
            settings.replace(section);
            settings.provide(&mut self.states);
        }
        Ok(())
    }

    /// The application's own section, if it has one.
    pub(crate) fn section(&self) -> Option<&Arc<dyn Section>> {
        self.settings.as_ref().map(AppSettings::section)
    }
}
