//! Cases 52 and 53: waiting when asked to.
