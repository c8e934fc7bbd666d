//! Versions of packages, constraints over them, and the tags that carry them.
