//! The application's own settings.

use std::{any::Any, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::states::{Settings, States},
    config::section::{Section, Typed},
};

/// The settings of an application, without their type.
pub(crate) struct AppSettings {
    section: Arc<dyn Section>,
    /// Provides them as states; only this function knows their type.
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

    /// Replaces the values by others of the same type.
    pub(super) fn replace(&mut self, section: Arc<dyn Section>) {
        self.section = section;
    }

    pub(super) fn section(&self) -> &Arc<dyn Section> {
        &self.section
    }

    /// Adds them to the states of the handlers.
    pub(super) fn provide(&self, states: &mut States) {
        (self.provide)(states, self.section.as_any());
    }
}

fn provide<T: Clone + Send + Sync + 'static>(states: &mut States, settings: &dyn Any) {
    // A section returns settings of the type that it was made with.
    if let Some(settings) = settings.downcast_ref::<Arc<T>>() {
        states.insert(T::clone(settings));
        states.insert(settings.clone());
        states.insert(Settings(settings.clone()));
    }
}
