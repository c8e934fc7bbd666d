//! Lines for the debug log; warnings and errors reach the user.

pub use crate::__bindings::host::idp::registry_provider::log::Level;
use crate::contract::Pairs;
use crate::sys;

/// A line with fields.
pub fn emit(level: Level, message: &str, fields: &Pairs) {
    sys::log(level, message, fields);
}

/// For whoever debugs the provider.
pub fn debug(message: &str) {
    emit(Level::Debug, message, &Vec::new());
}

/// For `--log-level info`.
pub fn info(message: &str) {
    emit(Level::Info, message, &Vec::new());
}

/// Reaches the user.
pub fn warn(message: &str) {
    emit(Level::Warn, message, &Vec::new());
}

/// Reaches the user.
pub fn error(message: &str) {
    emit(Level::Error, message, &Vec::new());
}
