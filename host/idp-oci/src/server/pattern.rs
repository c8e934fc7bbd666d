//! Patterns over names of repositories: `team/*`, `team/**`, `home/{user}/**`.
//!
//! | in a pattern | stands for |
//! |---|---|
//! | `*` | any characters but `/` |
//! | `**` | any characters |
//! | `{user}` | the name of the user who asks; of somebody who is not logged in, nothing matches |
//!
//! Everything else stands for itself. Time is bounded by the product of both lengths, whatever the pattern.

use std::fmt;
use std::str::FromStr;

const USER: &str = "{user}";

/// What a pattern must not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a pattern of repositories: write names with `*` (within a component), `**` (across components) and \
     `{{user}}`, as in `team/**`"
)]
pub struct PatternError(String);

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    Star,
    DoubleStar,
    User,
}

impl Pattern {
    /// Whether a repository's name is one of those meant, when this user asks.
    pub fn matches(&self, name: &str, user: Option<&str>) -> bool {
        let name = name.as_bytes();
        // Every place in the name at which what was read of the pattern so far can end.
        let mut ends = vec![false; name.len() + 1];
        ends[0] = true;
        for piece in &self.pieces {
            let mut next = vec![false; name.len() + 1];
            match piece {
                Piece::Byte(byte) => {
                    for at in 0..name.len() {
                        next[at + 1] = ends[at] && name[at] == *byte;
                    }
                }
                Piece::Star | Piece::DoubleStar => {
                    next[0] = ends[0];
                    for at in 0..name.len() {
                        let passes = *piece == Piece::DoubleStar || name[at] != b'/';
                        next[at + 1] = ends[at + 1] || (next[at] && passes);
                    }
                }
                Piece::User => {
                    // A name with a slash in it would reach into what is others'.
                    let Some(user) = user.filter(|user| !user.is_empty() && !user.contains('/')) else {
                        return false;
                    };
                    for at in (0..name.len()).filter(|at| ends[*at]) {
                        if name[at..].starts_with(user.as_bytes()) {
                            next[at + user.len()] = true;
                        }
                    }
                }
            }
            ends = next;
        }
        ends[name.len()]
    }

    /// Whether it plainly matches every name: `**`.
    pub fn is_everything(&self) -> bool {
        !self.pieces.is_empty() && self.pieces.iter().all(|piece| *piece == Piece::DoubleStar)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let good = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'/')
        };
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(byte) = rest.bytes().next() {
            let (piece, length) = match byte {
                _ if rest.starts_with("**") => (Piece::DoubleStar, 2),
                b'*' => (Piece::Star, 1),
                b'{' if rest.starts_with(USER) => (Piece::User, USER.len()),
                byte if good(byte) => (Piece::Byte(byte), 1),
                _ => return Err(PatternError(text.chars().take(300).collect())),
            };
            pieces.push(piece);
            rest = &rest[length..];
        }
        // Longer ones cannot match any name.
        if pieces.is_empty() || text.len() > 512 {
            return Err(PatternError(text.chars().take(300).collect()));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn what_patterns_mean() {
        for (pattern, name, expect) in [
            ("team/app", "team/app", true),
            ("team/app", "team/app2", false),
            ("team/app", "team", false),
            ("team/*", "team/app", true),
            ("team/*", "team/a/b", false),
            ("team/*", "team", false),
            ("team/**", "team/a/b", true),
            ("team/**", "team", false),
            ("team**", "team", true),
            ("team**", "teams/x", true),
            ("**", "a/b/c", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**/app", "x/y/app", true),
            ("**/app", "app", false),
            ("*-cache/**", "x-cache/y", true),
            ("a*b*c", "aXbXc", true),
            ("a*b*c", "ab", false),
            ("***", "a/b", true),
        ] {
            let parsed: Pattern = pattern.parse().expect("a pattern");
            assert_eq!(parsed.matches(name, None), expect, "{pattern} {name}");
        }
        let long = "a*".repeat(120).parse::<Pattern>().expect("a pattern");
        assert!(!long.matches(&"a".repeat(119), None));
        assert!(long.matches(&"a".repeat(120), None));
    }

    #[test]
    fn a_user_has_a_place_of_their_own() {
        let pattern: Pattern = "home/{user}/**".parse().expect("a pattern");
        for (user, name, expect) in [
            (Some("alice"), "home/alice/app", true),
            (Some("alice"), "home/alice2/app", false),
            (Some("alice"), "home/bob/app", false),
            (None, "home/alice/app", false),
            (Some(""), "home//app", false),
            (Some("bob/app"), "home/bob/app/x", false),
            // A name cannot be a pattern.
            (Some("**"), "home/bob/app", false),
            (Some("a-name-longer-than-what-is-asked-for"), "home/a", false),
        ] {
            assert_eq!(pattern.matches(name, user), expect, "{user:?} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for bad in ["", "Team", "a b", "{group}", "{user", "a:b", "a\0", "é"] {
            let error = bad.parse::<Pattern>().expect_err(bad).to_string();
            assert!(error.contains("team/**") && error.contains("{user}"), "{error}");
        }
        for (text, everything) in [("**", true), ("***", false), ("*", false), ("**/**", false)] {
            assert_eq!(text.parse::<Pattern>().expect("a pattern").is_everything(), everything, "{text}");
        }
    }
}
