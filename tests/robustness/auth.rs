//! Cases 21 to 32: being let in.
