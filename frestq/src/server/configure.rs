//! Where an application's configuration comes from, and its own settings.

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
    /// They come from the same layers as the rest: `T::default()`, the file, and the environment,
    /// where the variable of a key is `FRESTQ_APP__` and its name in capitals. No flag sets them.
    /// Unknown keys and values of another type are faults, which the start and `--check` list with
    /// all others; `--check` also shows each value with its source. A key with a word such as
    /// `password`, `secret`, `token` or `api_key` in its name, or in that of a table around it, is
    /// shown as `***`.
    ///
    /// Handlers take them as `State<T>` or `State<Arc<T>>`, and whoever has the peer by
    /// [`Frestq::settings`](crate::Frestq::settings). They are read once, at the start.
    ///
    /// `T` is a struct. An embedded peer has what [`settings_value`](Self::settings_value) says,
    /// and reads the layers only with [`load_config`](Self::load_config). An application has one
    /// type of settings; the last call counts.
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
    /// A view takes `State<Greeting>` as well, once axum knows how to get it from the peer:
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

    /// The same with this application's own defaults: the file and the environment override them.
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

    /// Reads the configuration as [`run`](Self::run) does, but for flags: what
    /// [`configure`](Self::configure) and [`settings`](Self::settings) have set is overridden by
    /// the file (`frestq.toml` in the working directory, or what `FRESTQ_SETTINGS` names) and that
    /// by the environment.
    ///
    /// It is for an embedded peer whose operator configures it like any other. Two peers of one
    /// process would read the same file and the same variables, so at most one of them can do so.
    /// What comes after it, such as another `configure`, overrides what was read. Reads a file,
    /// blocking.
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
    /// [`Error::Config`](crate::Error::Config) with every fault that was found.
    pub fn load_config(mut self) -> Result<Self> {
        let loaded = self.load(&Environment::of_process(Vec::new()))?;
        self.adopt(loaded)?;
        Ok(self)
    }

    /// Reads all layers over this application's defaults.
    pub(crate) fn load(&self, environment: &Environment) -> Result<Loaded> {
        Loaded::read(&self.config, self.section(), environment)
    }

    /// Takes over what was read.
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
