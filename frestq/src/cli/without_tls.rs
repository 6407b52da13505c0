//! Stands in for `certificate` where the feature `tls` is off.

use std::io::Write;

use super::stop::Stop;
use crate::model::error::Error;

/// Refuses to make a certificate, for which this binary would have no use.
pub(super) fn make(_: &str, _: &mut dyn Write) -> Result<(), Stop> {
    let why = "--new-certificate needs the feature `tls` of the crate frestq, which this binary was built without";
    Err(Error::Invalid(why.to_owned()).into())
}
