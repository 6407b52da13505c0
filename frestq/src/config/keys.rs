//! The keys of the configuration, derived from its type, so that no separate list is needed.
//!
//! A derived `Deserialize` requests a shape before it receives any value: "a struct with these
//! fields", "a map", "a number". [`Key::of`] follows every path through the type with a
//! deserializer that records the requested shape and stops.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IntoDeserializer, MapAccess, Visitor, value::StrDeserializer},
};

/// A key of the configuration: a table or a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    /// A table with these keys.
    Table(Vec<(&'static str, Key)>),
    /// A table whose keys the operator chooses: `[queues.NAME]`.
    Named(Box<Key>),
    /// A value.
    Value(Kind),
}

/// The kind of a value, by which untyped text (of variables and flags) is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Flag,
    Number,
    Text,
    List,
    /// The type accepts any value.
    Any,
}

/// A placeholder for a name that the operator chooses.
pub(super) const NAME: &str = "NAME";
/// The greatest depth: a recursive type would be followed without end.
const DEEPEST: usize = 8;

impl Key {
    /// The keys of `T`.
    pub(crate) fn of<T: for<'de> Deserialize<'de>>() -> Self {
        Self::at::<T>(&mut Vec::new())
    }

    fn at<T: for<'de> Deserialize<'de>>(path: &mut Vec<&'static str>) -> Self {
        if path.len() > DEEPEST {
            return Key::Value(Kind::Any);
        }
        let mut shape = None;
        // Always an error: the probe gives no values.
        let _ = T::deserialize(Probe {
            path,
            shape: &mut shape,
        });
        let mut below = |name| {
            path.push(name);
            let key = Self::at::<T>(path);
            path.pop();
            key
        };
        match shape {
            Some(Shape::Table(names)) => {
                Key::Table(names.iter().map(|name| (*name, below(name))).collect())
            }
            Some(Shape::Named) => Key::Named(Box::new(below(NAME))),
            Some(Shape::Value(kind)) => Key::Value(kind),
            None => Key::Value(Kind::Any),
        }
    }

    /// The key `name` below this one, if there can be one.
    pub(super) fn get(&self, name: &str) -> Option<&Key> {
        match self {
            Key::Table(keys) => keys.iter().find(|(known, _)| *known == name).map(|k| &k.1),
            Key::Named(key) => Some(key),
            Key::Value(_) => None,
        }
    }

    /// The path of every value, with `NAME` for what the operator chooses.
    pub(super) fn paths(&self) -> Vec<Vec<&'static str>> {
        let mut paths = Vec::new();
        self.walk(&mut Vec::new(), &mut paths);
        paths
    }

    fn walk(&self, path: &mut Vec<&'static str>, paths: &mut Vec<Vec<&'static str>>) {
        let mut below = |name, key: &Key| {
            path.push(name);
            key.walk(path, paths);
            path.pop();
        };
        match self {
            Key::Table(keys) => keys.iter().for_each(|(name, key)| below(name, key)),
            Key::Named(key) => below(NAME, key),
            Key::Value(_) => paths.push(path.clone()),
        }
    }
}

/// The shape that a type requested.
enum Shape {
    Table(&'static [&'static str]),
    Named,
    Value(Kind),
}

/// A deserializer that follows `path` and records the shape requested at its end.
struct Probe<'a> {
    path: &'a [&'static str],
    shape: &'a mut Option<Shape>,
}

impl Probe<'_> {
    fn end(self, shape: Shape) -> Stop {
        if self.path.is_empty() {
            *self.shape = Some(shape);
        }
        Stop
    }

    fn descend<'de, V: Visitor<'de>>(self, visitor: V, shape: Shape) -> Result<V::Value, Stop> {
        match self.path.split_first() {
            Some((name, rest)) => visitor.visit_map(OneEntry {
                name: Some(name),
                below: Some(Probe {
                    path: rest,
                    shape: self.shape,
                }),
            }),
            None => Err(self.end(shape)),
        }
    }
}

macro_rules! values {
    ($($kind:ident: $($method:ident)+;)+) => {$($(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            Err(self.end(Shape::Value(Kind::$kind)))
        }
    )+)+};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    values! {
        Flag: deserialize_bool;
        Number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
            deserialize_f32 deserialize_f64;
        Text: deserialize_char deserialize_str deserialize_string deserialize_bytes
            deserialize_byte_buf deserialize_identifier;
        List: deserialize_seq;
        Any: deserialize_any deserialize_ignored_any deserialize_unit;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.descend(visitor, Shape::Table(fields))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.descend(visitor, Shape::Named)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        Err(self.end(Shape::Value(Kind::Text)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Stop> {
        Err(self.end(Shape::Value(Kind::List)))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        _: V,
    ) -> Result<V::Value, Stop> {
        Err(self.end(Shape::Value(Kind::List)))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: V,
    ) -> Result<V::Value, Stop> {
        Err(self.end(Shape::Value(Kind::Any)))
    }
}

/// A map with a single entry, the one on the path.
struct OneEntry<'a> {
    name: Option<&'static str>,
    below: Option<Probe<'a>>,
}

impl<'de> MapAccess<'de> for OneEntry<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Stop> {
        let Some(name) = self.name.take() else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Stop> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(self.below.take().ok_or(Stop)?)
    }
}

/// The error that ends a probe.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("probed")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Stop
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Sample {
        flag: bool,
        bind: Option<SocketAddr>,
        #[serde(with = "humantime_serde")]
        wait: Duration,
        allow: Vec<String>,
        inner: Option<Inner>,
        named: BTreeMap<String, Inner>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Inner {
        size: u64,
    }

    #[test]
    fn the_keys_come_from_the_type_through_options_and_maps() {
        let inner = || Key::Table(vec![("size", Key::Value(Kind::Number))]);
        let Key::Table(keys) = Key::of::<Sample>() else {
            panic!("a struct is a table");
        };
        let find = |name| &keys.iter().find(|k| k.0 == name).unwrap().1;
        assert_eq!(find("flag"), &Key::Value(Kind::Flag));
        assert_eq!(find("bind"), &Key::Value(Kind::Text));
        assert_eq!(find("wait"), &Key::Value(Kind::Text));
        assert_eq!(find("allow"), &Key::Value(Kind::List));
        assert_eq!(find("inner"), &inner());
        assert_eq!(find("named"), &Key::Named(Box::new(inner())));
    }

    #[test]
    fn every_value_has_a_path() {
        let paths = Key::of::<Sample>().paths();
        assert!(paths.contains(&vec!["inner", "size"]), "{paths:?}");
        assert!(paths.contains(&vec!["named", NAME, "size"]), "{paths:?}");
    }
}
