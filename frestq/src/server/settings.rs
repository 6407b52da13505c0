//! The application's own settings, as its handlers get them.

use std::{any::Any, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::states::{Settings, States},
    config::section::{Section, Typed},
};

/// The settings of an application, as far as they are known.
pub(crate) struct AppSettings {
    section: Arc<dyn Section>,
    /// Hands them to the handlers; it alone knows their type.
    provide: fn(&mut States, &dyn Any),
}

impl AppSettings {
    pub(super) fn new<T>(value: T) -> Self
    where
        T: Serialize + DeserializeOwned + Default + Clone + Send + Sync + 'static,
    {
        Self {
            section: Arc::new(Typed(Arc::new(value))),
            provide: provide::<T>,
        }
    }

    /// Other values of the same type.
    pub(super) fn replace(&mut self, section: Arc<dyn Section>) {
        self.section = section;
    }

    pub(super) fn section(&self) -> &Arc<dyn Section> {
        &self.section
    }

    /// Puts them among the values that handlers take.
    pub(super) fn provide(&self, states: &mut States) {
        (self.provide)(states, self.section.as_any());
    }
}

fn provide<T: Clone + Send + Sync + 'static>(states: &mut States, settings: &dyn Any) {
    // A section gives settings of the type that it was made with.
    if let Some(settings) = settings.downcast_ref::<Arc<T>>() {
        states.insert(T::clone(settings));
        states.insert(settings.clone());
        states.insert(Settings(settings.clone()));
    }
}
