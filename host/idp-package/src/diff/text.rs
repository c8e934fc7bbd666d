//! A diff as plain text: what came with `+`, what went with `-`, what changed with `~`.

use std::fmt;

use super::{Change, Diff, FieldChange};

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "no differences");
        }
        let mut first = true;
        let mut heading = |f: &mut fmt::Formatter<'_>, title: &str, count: usize| {
            let gap = if std::mem::take(&mut first) { "" } else { "\n" };
            writeln!(f, "{gap}{title} ({count})")
        };
        if !self.metadata.is_empty() {
            heading(f, "metadata", self.metadata.len())?;
            for field in &self.metadata {
                write_field(f, "  ", field)?;
            }
        }
        if !self.objects.is_empty() {
            heading(f, "objects", self.objects.len())?;
            for object in &self.objects {
                writeln!(f, "  {} {}", object.change.sign(), object.object)?;
                for field in &object.fields {
                    write_field(f, "      ", field)?;
                }
            }
        }
        if !self.images.is_empty() {
            heading(f, "images", self.images.len())?;
            for image in &self.images {
                let (old, new) = (image.old.as_deref(), image.new.as_deref());
                match (old, new) {
                    (Some(old), Some(new)) => writeln!(f, "  ~ {old} -> {new}")?,
                    (one, other) => {
                        writeln!(f, "  {} {}", image.change.sign(), one.or(other).unwrap_or_default())?;
                    }
                }
            }
        }
        if !self.files.is_empty() {
            heading(f, "files", self.files.len())?;
            for file in &self.files {
                write!(f, "  {} {}", file.change.sign(), file.path)?;
                match (file.change, file.old_size, file.new_size) {
                    (Change::Changed, Some(old), Some(new)) if old != new => {
                        write!(f, " ({old} -> {new} bytes)")?
                    }
                    _ => {}
                }
                match file.executable {
                    Some(true) => write!(f, ", executable now")?,
                    Some(false) => write!(f, ", not executable any more")?,
                    None => {}
                }
                match file.not_shown {
                    Some(why) => writeln!(f, ", lines not shown: {why}")?,
                    None => writeln!(f)?,
                }
            }
            for text in self.files.iter().filter_map(|file| file.text.as_deref()) {
                write!(f, "\n{text}")?;
                if !text.ends_with('\n') {
                    writeln!(f)?;
                }
            }
        }
        Ok(())
    }
}

fn write_field(f: &mut fmt::Formatter<'_>, indent: &str, field: &FieldChange) -> fmt::Result {
    // A text of several lines is one line here; the files show it as it is.
    let show = |text: &Option<String>| text.as_deref().map(|text| text.replace('\n', "\\n"));
    match (show(&field.old), show(&field.new)) {
        (Some(old), Some(new)) => writeln!(f, "{indent}~ {}: {old} -> {new}", field.path),
        (Some(old), None) => writeln!(f, "{indent}- {}: {old}", field.path),
        (None, new) => writeln!(f, "{indent}+ {}: {}", field.path, new.unwrap_or_default()),
    }
}
