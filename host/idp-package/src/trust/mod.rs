//! Who made a package, what is in it and how it came about: signatures, SBOMs and provenance, each a referrer.
