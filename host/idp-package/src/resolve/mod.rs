//! From dependencies with ranges to one exact version a name.
