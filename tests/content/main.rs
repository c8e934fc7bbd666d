//! Images from one form into another, without a registry: what sources read is what sinks write, byte for byte.

mod archives;
mod daemon;
mod directories;
mod drive;
mod layouts;
