//! The application's own section of the configuration, `[app]`: a type that the application
//! defines, read from the same layers as the other keys.

use std::{any::Any, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::keys::Key;

/// The name of the section.
pub(super) const APP: &str = "app";

/// The error for a value that the section's type rejects.
pub(super) type ReadError = serde_path_to_error::Error<serde_json::Error>;

/// The settings of an application: a value whose type is erased.
pub(crate) trait Section: Send + Sync {
    /// The keys of the type.
    fn keys(&self) -> Key;

    /// The type's default, as a table.
    fn default(&self) -> serde_json::Result<Value>;

    /// The value, as a table.
    fn value(&self) -> serde_json::Result<Value>;

    /// Reads another value of the same type.
    fn read(&self, value: Value) -> Result<Arc<dyn Section>, ReadError>;

    /// The `Arc<T>` itself.
    fn as_any(&self) -> &dyn Any;
}

/// Settings of a known type.
pub(crate) struct Typed<T>(pub(crate) Arc<T>);

impl<T> Section for Typed<T>
where
    T: Serialize + DeserializeOwned + Default + Send + Sync + 'static,
{
    fn keys(&self) -> Key {
        Key::of::<T>()
    }

    fn default(&self) -> serde_json::Result<Value> {
        serde_json::to_value(T::default())
    }

    fn value(&self) -> serde_json::Result<Value> {
        serde_json::to_value(&*self.0)
    }

    fn read(&self, value: Value) -> Result<Arc<dyn Section>, ReadError> {
        let settings: T = serde_path_to_error::deserialize(value)?;
        Ok(Arc::new(Self(Arc::new(settings))))
    }

    fn as_any(&self) -> &dyn Any {
        &self.0
    }
}
