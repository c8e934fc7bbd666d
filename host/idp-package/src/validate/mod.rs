//! Rules over the files of a package: each finding has a rule, a place, a severity and what to do.
