//! The numbers that stand for enums in the database.

/// Gives each variant of an enum its number, written once: `code` and `from_code`.
macro_rules! codes {
    ($type:ident { $($variant:ident = $code:literal),+ $(,)? }) => {
        impl $type {
            /// The number that stands for it in the database.
            pub(crate) const fn code(self) -> i64 {
                match self { $($type::$variant => $code),+ }
            }

            /// Reads the number back.
            pub(crate) const fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some($type::$variant),)+ _ => None }
            }
        }
    };
}
pub(crate) use codes;
