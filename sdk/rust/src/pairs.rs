//! The open lists of the contract: short lists of keys and values.

use crate::contract::Pairs;

/// A list from literals: `pairs([("mount", "anonymous"), ("referrers", "no")])`.
pub fn pairs<K: Into<String>, V: Into<String>>(list: impl IntoIterator<Item = (K, V)>) -> Pairs {
    list.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

/// The first value of a key.
pub fn get<'a>(list: &'a [(String, String)], key: &str) -> Option<&'a str> {
    list.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// Whether a key is `true`.
pub fn flag(list: &[(String, String)], key: &str) -> bool {
    get(list, key) == Some("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts() {
        let list = pairs([("a", "1"), ("a", "2"), ("force", "true")]);
        assert_eq!(get(&list, "a"), Some("1"));
        assert_eq!(get(&list, "b"), None);
        assert!(flag(&list, "force") && !flag(&list, "a"));
    }
}
