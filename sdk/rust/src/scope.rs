//! Scopes: what a grant is to cover, and how the token endpoints of the distribution specification write it.

use crate::contract::Scope;

impl Scope {
    /// A repository and verbs: `Scope::repository("team/app", ["pull", "push"])`.
    pub fn repository<A: Into<String>>(
        name: impl Into<String>,
        actions: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            kind: "repository".to_owned(),
            name: name.into(),
            actions: actions.into_iter().map(Into::into).collect(),
        }
    }

    /// The right to list the registry's repositories.
    pub fn catalog() -> Self {
        Self { kind: "registry".to_owned(), name: "catalog".to_owned(), actions: vec!["*".to_owned()] }
    }

    /// `kind:name:action,action`.
    pub fn wire(&self) -> String {
        format!("{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }

    /// Reads `kind:name:action,action`; a name may hold one `:` (a port), so the kind ends at the first and the actions
    /// start after the last.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        Some(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            actions: actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect(),
        })
    }
}

/// In words, for messages: `push to team/app`.
pub fn in_words(scopes: &[Scope]) -> String {
    let one = |scope: &Scope| match (scope.kind.as_str(), scope.actions.iter().any(|action| action == "push"))
    {
        ("registry", _) => "list the registry's repositories".to_owned(),
        (_, true) => format!("push to {}", scope.name),
        (_, false) => format!("{} {}", scope.actions.join("/"), scope.name),
    };
    scopes.iter().map(one).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_round_trips_with_a_port_in_the_name() {
        for text in ["repository:team/app:pull,push", "repository:host:5000/app:pull", "registry:catalog:*"] {
            assert_eq!(Scope::parse(text).expect("well formed").wire(), text);
        }
        assert_eq!(Scope::parse("repository:app"), None);
        assert_eq!(Scope::parse("repository:host:5000/app:pull").expect("well formed").name, "host:5000/app");
    }
}
